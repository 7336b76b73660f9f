//! The identity of an item, independent of the connection that reaches it.

use std::sync::Arc;

use crate::{ConnectionId, EntryId};

/// An item of an account. The state of an item (its open rotation, its generation, its rejected
/// values) is keyed by this and not by the reference alone: two accounts may have items of the same
/// reference, and two connections may lead to one account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ItemId {
    /// The [id](account_id) of its account.
    pub account: Arc<str>,
    /// Its reference, in the normal form of its provider.
    pub reference: Arc<str>,
}

impl ItemId {
    /// The item of an unbound entry: the entry itself. No account has an empty id.
    pub fn of_entry(entry: EntryId) -> Self {
        Self { account: "".into(), reference: format!("entry:{entry}").into() }
    }
}

/// The id of the account that a connection's items are in: the provider's type, and the key by
/// which the provider names the account. Without such a key, the connection counts as its own
/// account. A provider's type contains neither `/` nor `:`, so providers cannot reach each other's
/// items.
pub fn account_id(provider_type: &str, account_key: Option<&str>, connection: ConnectionId) -> Arc<str> {
    match account_key {
        Some(key) => format!("{provider_type}/{key}"),
        None => format!("{provider_type}:{}", connection.as_uuid().simple()),
    }
    .into()
}
