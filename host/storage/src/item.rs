//! Whose item: by what it is known what belongs to an item, whichever connection it is reached by.

use std::sync::Arc;

use crate::{ConnectionId, EntryId};

/// An item of an account. What is kept about an item (its open rotation, its generation, what was
/// rejected of it) is kept by this and not by the reference alone: two accounts may have items of
/// the same reference, and two connections may lead to one account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ItemId {
    /// The [id](account_id) of its account.
    pub account: Arc<str>,
    /// Its reference, in the normal form of its provider.
    pub reference: Arc<str>,
}

impl ItemId {
    /// The item of an entry that is not bound: the entry itself. No account has an empty id.
    pub fn of_entry(entry: EntryId) -> Self {
        Self { account: "".into(), reference: format!("entry:{entry}").into() }
    }
}

/// The id of the account that a connection's items are in: the provider's type and the key that the
/// provider names the account by. Where it names none, the connection counts as an account of its
/// own. A provider's type has neither `/` nor `:` in it, so that none reaches another one's items.
pub fn account_id(provider_type: &str, account_key: Option<&str>, connection: ConnectionId) -> Arc<str> {
    match account_key {
        Some(key) => format!("{provider_type}/{key}"),
        None => format!("{provider_type}:{}", connection.as_uuid().simple()),
    }
    .into()
}
