//! `list-items`: the login and password items of all readable vaults.
//!
//! Invariants: nothing is omitted silently (an incomplete answer is completed; items that cannot be
//! read or decrypted are counted in the log). A bad item does not affect the others. Items are
//! ordered by id, so a page begins where the previous one ended even if items were added or removed
//! in between.
//!
//! A page costs one request for the vaults and one for each vault on it.

use std::collections::BTreeMap;

use keyway_sdk::{Error, Item, ItemPage, url::Url};
use serde_json::value::RawValue;

use crate::{
    category,
    client::Client,
    envelope::Envelope,
    errors::{Asked, Failure, Refusal},
    model::{ItemOverview, MAX_TEXT_CHARS, Overview, Overviews, Place, cut, is_id},
    reference::reference_to,
    vaults::{self, OpenVault},
    wire,
};

/// How many vaults a page covers: at 200 ms a request, this takes five of a call's 30 seconds.
const VAULTS_PER_PAGE: usize = 25;
/// The most items on a page; the contract allows 10,000.
const ITEMS_PER_PAGE: usize = 2_000;
/// The most bytes of text on a page, give or take an item: half of the 8 MiB that a call may
/// return.
const BYTES_PER_PAGE: usize = 4 << 20;

/// The most parts a vault may come in. More would exceed the time of a call.
const MAX_PARTS: usize = 100;

/// Where a page begins: at a vault, or at an item in it. Written as `<vaultId>` or
/// `<vaultId>/<itemId>`.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    vault: &'a str,
    item: &'a str,
}

/// One page.
pub(crate) fn list(client: &mut Client<'_>, page: Option<&str>) -> Result<ItemPage, Error> {
    let cursor = page.map(Cursor::parse).transpose()?;
    let mut vaults = vaults::fetch_all(client)?;
    if vaults.readable.is_empty() && vaults.unopened > 0 {
        return Err(vaults::cannot_open());
    }
    vaults.readable.retain(|vault| cursor.is_none_or(|cursor| vault.id.as_str() >= cursor.vault));
    let (mut items, mut bytes) = (Vec::new(), 0);
    for (n, vault) in vaults.readable.iter().enumerate() {
        if n == VAULTS_PER_PAGE {
            return Ok(ItemPage { items, next: Some(vault.id.clone()), ..ItemPage::default() });
        }
        let from = cursor.filter(|cursor| cursor.vault == vault.id).map_or("", |cursor| cursor.item);
        for item in logins_of(client, vault)? {
            if item.id.as_str() < from {
                continue;
            }
            if items.len() == ITEMS_PER_PAGE || bytes >= BYTES_PER_PAGE {
                return Ok(ItemPage { items, next: Some(format!("{}/{}", vault.id, item.id)), ..ItemPage::default() });
            }
            bytes += size(&item);
            items.push(item);
        }
    }
    Ok(ItemPage { items, ..ItemPage::default() })
}

/// The active login items of a vault, by id.
fn logins_of(client: &mut Client<'_>, vault: &OpenVault) -> Result<Vec<Item>, Error> {
    let Listed { items, unreadable } = match overviews(client, &vault.id) {
        Ok(listed) => listed,
        // Access was revoked after the vaults were listed.
        Err(Failure::Refused(Refusal::Forbidden | Refusal::NotFound)) => {
            eprintln!("skipped the vault {}: its items can no longer be read", vault.id);
            return Ok(Vec::new());
        }
        Err(failure) => return Err(client.error(failure, Asked::Vault(Some(&vault.name)))),
    };
    let mut logins: Vec<ItemOverview> = items
        .into_iter()
        .filter(|item| {
            item.place() == Place::Active && category::listed_as(&item.template_uuid).is_some() && is_id(&item.uuid)
        })
        .collect();
    logins.sort_by(|one, other| one.uuid.cmp(&other.uuid));
    let total = logins.len() + unreadable;
    let mut items = Vec::with_capacity(total);
    for login in logins {
        if let Some(overview) = login.enc_overview.as_ref().and_then(|envelope| open(client, vault, envelope)) {
            items.push(to_item(vault, &login, overview));
        }
    }
    if items.len() < total {
        eprintln!(
            "skipped {} of {total} items of the vault {}: they cannot be read or decrypted",
            total - items.len(),
            vault.id
        );
    }
    Ok(items)
}

/// The items of a vault.
#[derive(Default)]
pub(crate) struct Listed {
    pub(crate) items: Vec<ItemOverview>,
    /// How many more items there are whose form is unknown.
    pub(crate) unreadable: usize,
}

impl Listed {
    pub(crate) fn read(&mut self, elements: &[&RawValue]) {
        for element in elements {
            match serde_json::from_str(element.get()) {
                Ok(item) => self.items.push(item),
                Err(_) => self.unreadable += 1,
            }
        }
    }
}

/// All items of a vault. This endpoint is not known to send partial lists, and the official client
/// takes a partial list for the whole. If it does send one, the older endpoint, which is known to
/// page, is read from the beginning, each part starting where the previous one ended.
fn overviews(client: &mut Client<'_>, vault_id: &str) -> Result<Listed, Failure> {
    let body = client.get(&format!("/api/v1/vault/{vault_id}/items/overviews"))?;
    let answer: Overviews<'_> = wire::read(&body)?;
    let mut listed = Listed::default();
    if answer.batch_complete {
        listed.read(&answer.items);
        return Ok(listed);
    }
    let mut from = 0;
    for _ in 0..MAX_PARTS {
        let body = client.get(&format!("/api/v1/vault/{vault_id}/{from}/items"))?;
        let answer: Overviews<'_> = wire::read(&body)?;
        listed.read(&answer.items);
        if answer.batch_complete {
            // An item that was changed in between appears again.
            let latest: BTreeMap<_, _> = listed.items.into_iter().map(|item| (item.uuid.clone(), item)).collect();
            return Ok(Listed { items: latest.into_values().collect(), ..listed });
        }
        if answer.content_version <= from {
            break;
        }
        from = answer.content_version;
    }
    Err(Failure::Garbled("with a list that does not end"))
}

fn open(client: &mut Client<'_>, vault: &OpenVault, envelope: &Envelope) -> Option<Overview> {
    let plaintext = client.session().ok()?.vault(&vault.id)?.key.open(envelope).ok()?;
    serde_json::from_slice(&plaintext).ok()
}

pub(crate) fn to_item(vault: &OpenVault, item: &ItemOverview, overview: Overview) -> Item {
    let url = overview.url.as_deref().and_then(public_part);
    // A truncated address would lead elsewhere.
    let url = url.filter(|url| url.chars().count() <= MAX_TEXT_CHARS);
    Item {
        id: item.uuid.clone(),
        title: cut(overview.title.unwrap_or_default()),
        vault_id: Some(vault.id.clone()),
        vault_name: Some(vault.name.clone()),
        reference: reference_to(&vault.id, &item.uuid),
        category: category::listed_as(&item.template_uuid).unwrap_or_default().to_owned(),
        urls: url.into_iter().collect(),
        attributes: Vec::new(),
    }
}

/// Its approximate size in the answer.
fn size(item: &Item) -> usize {
    let vault = item.vault_name.as_ref().map_or(0, String::len);
    item.title.len() + vault + item.reference.len() + item.urls.iter().map(String::len).sum::<usize>()
}

/// An address without the parts that may be secret: user name, password, query and fragment.
fn public_part(address: &str) -> Option<String> {
    let mut url = Url::parse(address).or_else(|_| Url::parse(&format!("https://{address}"))).ok()?;
    if !matches!(url.scheme(), "https" | "http") {
        return None;
    }
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    Some(url.into())
}

impl<'a> Cursor<'a> {
    fn parse(page: &'a str) -> Result<Self, Error> {
        let (vault, item) = page.split_once('/').unwrap_or((page, ""));
        if is_id(vault) && (item.is_empty() || is_id(item)) {
            Ok(Self { vault, item })
        } else {
            Err(Error::other("invalid-page", "This page does not exist. List the items from the beginning."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyway_sdk::ErrorCode;

    #[test]
    fn an_address_is_listed_without_what_may_be_secret_in_it() {
        for (address, listed) in [
            ("https://example.com/login", Some("https://example.com/login")),
            ("https://user:hunter2@example.com/a?token=hunter2#hunter2", Some("https://example.com/a")),
            ("example.com", Some("https://example.com/")),
            ("androidapp://hash@com.example", None),
            ("", None),
        ] {
            assert_eq!(public_part(address).as_deref(), listed, "{address}");
        }
    }

    #[test]
    fn an_item_of_an_unknown_form_costs_only_itself() {
        let envelope = r#"{"cty":"b5+jwk+json","kid":"k","enc":"A256GCM","iv":"AAAAAAAAAAAAAAAA","data":"AAAA"}"#;
        let answer = format!(
            r#"{{"contentVersion":1,"items":[7,null,{{"uuid":"a"}},
                {{"uuid":"b","templateUuid":"001","encOverview":null}},
                {{"uuid":"c","templateUuid":"001","encOverview":{envelope}}}]}}"#
        );
        let answer: Overviews<'_> = wire::read(answer.as_bytes()).unwrap();
        let mut listed = Listed::default();
        listed.read(&answer.items);
        assert_eq!(listed.unreadable, 3);
        let read: Vec<_> = listed.items.iter().map(|item| (item.uuid.as_str(), item.enc_overview.is_some())).collect();
        assert_eq!(read, [("b", false), ("c", true)]);
    }

    #[test]
    fn a_page_that_nobody_gave_out_is_refused() {
        for page in ["", "x", "a/b", "mhlxx5y45opqk7p7prulriztqq/x", "/mhlxx5y45opqk7p7prulriztqq"] {
            assert!(matches!(Cursor::parse(page), Err(Error { code: ErrorCode::Other(_), .. })), "{page}");
        }
        assert!(Cursor::parse("mhlxx5y45opqk7p7prulriztqq").is_ok());
        assert!(Cursor::parse("mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4").is_ok());
    }
}
