//! The server's answers, reduced to what is needed. Unknown members are ignored, and members that
//! are not needed may be missing, so that a server that omits one can still be used.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::{envelope::Envelope, keys::Keyset};

/// The longest title, vault name or address that the host accepts, in characters.
pub(crate) const MAX_TEXT_CHARS: usize = 2_000;

/// `combinedAccess.acl`: may see the items of the vault.
pub(crate) const READ_ITEMS: u32 = 32;
/// `combinedAccess.acl`: may change the items of the vault.
pub(crate) const UPDATE_ITEMS: u32 = 64;

/// `GET /api/v2/account/keysets`.
#[derive(Deserialize)]
pub(crate) struct Keysets {
    pub(crate) keysets: Vec<Keyset>,
}

/// A vault: an element of `GET /api/v1/vaults`, or the answer of `GET /api/v3/vault/<id>`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Vault {
    pub(crate) uuid: String,
    /// Incremented by every change to any of its items.
    pub(crate) content_version: u64,
    /// [`VaultAttributes`] under the vault key.
    pub(crate) enc_attrs: Envelope,
    pub(crate) combined_access: Access,
}

/// An account's access to a vault.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Access {
    /// [`READ_ITEMS`], [`UPDATE_ITEMS`] and others.
    pub(crate) acl: u32,
    /// The vault key, encrypted for one of the account's keysets.
    pub(crate) enc_vault_key: Envelope,
}

#[derive(Deserialize)]
pub(crate) struct VaultAttributes {
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) name: Option<String>,
}

/// `GET /api/v1/vault/<id>/items/overviews`, and the older `GET
/// /api/v1/vault/<id>/<contentVersion>/items`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Overviews<'a> {
    /// Where to continue with the older endpoint.
    pub(crate) content_version: u64,
    /// False if the server sent only a part.
    #[serde(default = "yes")]
    pub(crate) batch_complete: bool,
    /// [`ItemOverview`]s, parsed one by one: an unreadable one must not affect the others.
    #[serde(borrow)]
    pub(crate) items: Vec<&'a RawValue>,
}

/// An item in a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemOverview {
    pub(crate) uuid: String,
    pub(crate) template_uuid: String,
    #[serde(default)]
    trashed: Option<String>,
    /// [`Overview`] under the vault key; `None` if it is not an envelope.
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) enc_overview: Option<Envelope>,
}

/// The part of an item that lists show.
#[derive(Deserialize)]
pub(crate) struct Overview {
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) title: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) url: Option<String>,
}

/// `GET /api/v1/vault/<id>/item/<id>`.
#[derive(Deserialize)]
pub(crate) struct ItemAnswer {
    pub(crate) item: Item,
}

/// An item with its details.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    pub(crate) uuid: String,
    pub(crate) template_uuid: String,
    #[serde(default)]
    trashed: Option<String>,
    pub(crate) created_at: String,
    pub(crate) item_version: u64,
    pub(crate) enc_overview: Envelope,
    pub(crate) enc_details: Envelope,
    #[serde(default)]
    pub(crate) file_references: Option<Box<RawValue>>,
}

/// The state of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Active,
    Archived,
    Deleted,
}

impl Place {
    /// Like the official client, treats every unknown `trashed` as active.
    fn of(trashed: Option<&str>) -> Self {
        match trashed {
            Some("Y") => Self::Archived,
            Some("D") => Self::Deleted,
            _ => Self::Active,
        }
    }
}

impl Item {
    pub(crate) fn place(&self) -> Place {
        Place::of(self.trashed.as_deref())
    }
}

impl ItemOverview {
    pub(crate) fn place(&self) -> Place {
        Place::of(self.trashed.as_deref())
    }
}

/// One element of the body of `PATCH /api/v3/vault/<id>/<contentVersion>/items`, its members in the
/// official client's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemPatch<'a> {
    pub(crate) uuid: &'a str,
    /// The version that was read; the server stores the next one.
    pub(crate) item_version: u64,
    pub(crate) enc_overview: Envelope,
    pub(crate) enc_details: Envelope,
    /// `N`: the item is not moved.
    pub(crate) trashed: &'static str,
    pub(crate) template_uuid: &'a str,
    pub(crate) created_at: &'a str,
    pub(crate) updated_at: String,
    /// The id of the vault key, which both envelopes name.
    pub(crate) encrypted_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file_references: Option<&'a RawValue>,
}

/// The answer to the change. An item is in one of the two members.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PatchAnswer {
    /// New versions by item id.
    #[serde(default)]
    pub(crate) updated_items: Option<std::collections::HashMap<String, u64>>,
    /// Codes by item id.
    #[serde(default)]
    pub(crate) failed_items: Option<std::collections::HashMap<String, i64>>,
}

/// Whether the text is the id of a vault or item: 26 characters of lower-case base32. Ids are
/// checked before they become part of a path.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 26 && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
}

/// Cuts a text to the host's limit (2,000 characters): a longer one would make the whole list fail.
pub(crate) fn cut(mut text: String) -> String {
    let end = text.char_indices().nth(MAX_TEXT_CHARS).map_or(text.len(), |(end, _)| end);
    text.truncate(end);
    text
}

/// `None` for a member of an unexpected type.
fn lenient<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_known_marks_take_an_item_out_of_use() {
        for (trashed, place) in [
            (Some("N"), Place::Active),
            (None, Place::Active),
            (Some(""), Place::Active),
            (Some("X"), Place::Active),
            (Some("Y"), Place::Archived),
            (Some("D"), Place::Deleted),
        ] {
            assert_eq!(Place::of(trashed), place, "{trashed:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!(cut("short".to_owned()), "short");
        let longest = "\u{1f511}".repeat(MAX_TEXT_CHARS);
        assert_eq!(cut(longest.clone()), longest);
        assert_eq!(cut(format!("{longest}x")), longest);
    }

    #[test]
    fn a_vault_whose_name_is_no_text_has_none() {
        for attributes in ["{}", r#"{"name":null}"#, r#"{"name":7}"#] {
            assert_eq!(serde_json::from_str::<VaultAttributes>(attributes).unwrap().name, None);
        }
    }

    #[test]
    fn an_id_has_26_characters_of_lower_case_base32() {
        assert!(is_id("mhlxx5y45opqk7p7prulriztqq"));
        for text in [
            "",
            "mhlxx5y45opqk7p7prulriztq",
            "MHLXX5Y45OPQK7P7PRULRIZTQQ",
            "mhlxx5y45opqk7p7prulriztq1",
            "../..5y45opqk7p7prulriztqq",
        ] {
            assert!(!is_id(text), "{text}");
        }
    }
}
