//! `list-items`: the login items of all vaults that can be read.
//!
//! Invariants: nothing is left out silently (an incomplete answer is completed; what cannot be decrypted is counted in
//! the log); the order is that of the ids, so a page begins where the one before ended also when something was added or
//! removed in between.
//!
//! A page costs one request for the vaults and one for each vault on it.

use std::collections::BTreeMap;

use keyway_sdk::{Attribute, Error, Item, ItemPage, url::Url};

use crate::{
    client::Client,
    envelope::Envelope,
    errors::{Asked, Failure, Refusal},
    login_fields::LOGIN,
    model::{ItemOverview, Overview, Overviews, Place, is_id},
    reference::reference_to,
    vaults::{self, OpenVault},
    wire,
};

/// How many vaults a page covers: at 200 ms for a request this takes five of the 30 seconds that a call has.
const VAULTS_PER_PAGE: usize = 25;
/// How many items a page has at most; the contract allows 10,000.
const ITEMS_PER_PAGE: usize = 2_000;

/// How many parts a vault may come in. More would not be done within the time of a call.
const MAX_PARTS: usize = 100;

/// Where a page begins: at a vault, or at an item in it. Written as `<vaultId>` or `<vaultId>/<itemId>`.
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
    let mut items = Vec::new();
    for (n, vault) in vaults.readable.iter().enumerate() {
        if n == VAULTS_PER_PAGE {
            return Ok(ItemPage { items, next: Some(vault.id.clone()) });
        }
        let from = cursor.filter(|cursor| cursor.vault == vault.id).map_or("", |cursor| cursor.item);
        for item in logins_of(client, vault)? {
            if item.id.as_str() < from {
                continue;
            }
            if items.len() == ITEMS_PER_PAGE {
                return Ok(ItemPage { items, next: Some(format!("{}/{}", vault.id, item.id)) });
            }
            items.push(item);
        }
    }
    Ok(ItemPage { items, next: None })
}

/// The active login items of a vault, by id.
fn logins_of(client: &mut Client<'_>, vault: &OpenVault) -> Result<Vec<Item>, Error> {
    let items = match overviews(client, &vault.id) {
        Ok(items) => items,
        // Access was taken away since the vaults were listed.
        Err(Failure::Refused(Refusal::Forbidden | Refusal::NotFound)) => {
            eprintln!("left out the vault {}: its items cannot be read any more", vault.id);
            return Ok(Vec::new());
        }
        Err(failure) => return Err(client.error(failure, Asked::Vault(Some(&vault.name)))),
    };
    let mut logins: Vec<ItemOverview> = items
        .into_iter()
        .filter(|item| item.place() == Place::Active && item.template_uuid == LOGIN && is_id(&item.uuid))
        .collect();
    logins.sort_by(|one, other| one.uuid.cmp(&other.uuid));
    let total = logins.len();
    let mut items = Vec::with_capacity(total);
    for login in logins {
        if let Some(overview) = open(client, vault, &login.enc_overview) {
            items.push(to_item(vault, &login.uuid, overview));
        }
    }
    if items.len() < total {
        eprintln!(
            "left out {} of {total} items of the vault {}: they cannot be decrypted",
            total - items.len(),
            vault.id
        );
    }
    Ok(items)
}

/// All items of a vault. The endpoint is not known to send a part only, and the official client takes a part for the
/// whole. Should it happen, the older endpoint is asked, which is known to: from the beginning, and on from where each
/// part ends.
fn overviews(client: &mut Client<'_>, vault_id: &str) -> Result<Vec<ItemOverview>, Failure> {
    let body = client.get(&format!("/api/v1/vault/{vault_id}/items/overviews"))?;
    let answer: Overviews = wire::read(&body)?;
    if answer.batch_complete {
        return Ok(answer.items);
    }
    let mut items = BTreeMap::new();
    let mut from = 0;
    for _ in 0..MAX_PARTS {
        let body = client.get(&format!("/api/v1/vault/{vault_id}/{from}/items"))?;
        let answer: Overviews = wire::read(&body)?;
        // An item that was changed in between comes again.
        items.extend(answer.items.into_iter().map(|item| (item.uuid.clone(), item)));
        if answer.batch_complete {
            return Ok(items.into_values().collect());
        }
        if answer.content_version <= from {
            break;
        }
        from = answer.content_version;
    }
    Err(Failure::Garbled("with parts of a list that has no end"))
}

fn open(client: &mut Client<'_>, vault: &OpenVault, envelope: &Envelope) -> Option<Overview> {
    let plaintext = client.session().ok()?.vault(&vault.id)?.key.open(envelope).ok()?;
    serde_json::from_slice(&plaintext).ok()
}

fn to_item(vault: &OpenVault, id: &str, overview: Overview) -> Item {
    let url = overview.url.as_deref().and_then(public_part).map(|url| Attribute::new("url", url));
    Item {
        id: id.to_owned(),
        title: overview.title,
        vault_id: vault.id.clone(),
        vault_name: vault.name.clone(),
        reference: reference_to(&vault.id, id),
        category: "login".to_owned(),
        attributes: url.into_iter().collect(),
    }
}

/// An address without what may be secret in it: user name, password, query and fragment.
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
    fn a_page_that_nobody_gave_out_is_refused() {
        for page in ["", "x", "a/b", "mhlxx5y45opqk7p7prulriztqq/x", "/mhlxx5y45opqk7p7prulriztqq"] {
            assert!(matches!(Cursor::parse(page), Err(Error::Other { .. })), "{page}");
        }
        assert!(Cursor::parse("mhlxx5y45opqk7p7prulriztqq").is_ok());
        assert!(Cursor::parse("mhlxx5y45opqk7p7prulriztqq/ch4arxhoemrdclbxyixyesgyt4").is_ok());
    }
}
