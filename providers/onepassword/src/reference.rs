//! References: `op://<vaultId>/<itemId>`.
//!
//! Only ids are accepted; the list of items gives them. Names would cost two more requests for each
//! resolve, and a binding by name breaks, or silently moves to another item, after a rename.

use keyway_sdk::{Error, reference::Reference};

use crate::model::is_id;

/// The scheme, without `://`.
pub(crate) const SCHEME: &str = "op";
/// The format, for messages.
pub(crate) const FORMAT: &str = "op://<vaultId>/<itemId>";

/// Identifies an item. Both ids are checked, so they are safe in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ItemReference<'a> {
    pub(crate) vault: &'a str,
    pub(crate) item: &'a str,
}

impl<'a> ItemReference<'a> {
    /// Parses a reference. No message repeats it, because the pasted text may be a secret.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Error> {
        let reference = Reference::parse(text, SCHEME, FORMAT)?;
        if matches!(reference.iter().count(), 3 | 4) || reference.query().is_some() {
            return Err(Error::invalid_reference(format!(
                "This reference names a field. Keyway uses the built-in fields of a whole item: leave out what \
                 follows the item, as in {FORMAT}."
            )));
        }
        let [vault, item] = reference.segments()?;
        if is_id(vault) && is_id(item) {
            return Ok(Self { vault, item });
        }
        Err(Error::invalid_reference(format!(
            "This reference does not consist of ids, which have 26 lower-case letters and digits. Choose the item \
             from the list of items, or copy its ids from 1Password; names are not used because they can change. A \
             reference looks like {FORMAT}."
        )))
    }
}

/// The reference to an item.
pub(crate) fn reference_to(vault_id: &str, item_id: &str) -> String {
    format!("{SCHEME}://{vault_id}/{item_id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyway_sdk::ErrorCode;

    const VAULT: &str = "mhlxx5y45opqk7p7prulriztqq";
    const ITEM: &str = "ch4arxhoemrdclbxyixyesgyt4";

    #[test]
    fn two_ids_make_a_reference() {
        let text = reference_to(VAULT, ITEM);
        assert_eq!(ItemReference::parse(&text).unwrap(), ItemReference { vault: VAULT, item: ITEM });
    }

    #[test]
    fn everything_else_says_what_is_wrong_without_repeating_it() {
        for (text, why) in [
            (format!("op://{VAULT}/{ITEM}/password"), "names a field"),
            (format!("op://{VAULT}/{ITEM}/section/hunter2"), "names a field"),
            (format!("op://{VAULT}/{ITEM}?attribute=otp"), "names a field"),
            (format!("op://{VAULT}"), "1 part where 2 are needed"),
            ("op://Automation/hunter2".to_owned(), "ids"),
            (format!("op://{VAULT}/hunter2"), "ids"),
            (format!("op://{}/{ITEM}", VAULT.to_uppercase()), "ids"),
            (format!("op://{VAULT}/{}", "../keysets".repeat(2)), ""),
            ("hunter2".to_owned(), "not a reference"),
            (String::new(), "empty"),
        ] {
            let Err(Error { code: ErrorCode::InvalidReference, message, .. }) = ItemReference::parse(&text) else {
                panic!("{text} was accepted")
            };
            assert!(message.contains(why), "{text}: {message}");
            assert!(message.contains(FORMAT) && !message.contains("hunter2"), "{message}");
        }
    }
}
