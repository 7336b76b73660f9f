//! A vault entry to be created.

use std::fmt;

use keyway_storage::{ConnectionId, TfaMethod};

use super::AttributeChanges;

/// A vault entry to be created: what a client sent, not yet checked. The fields are named as in the HTTP API; the rules
/// are those of [`EntryChanges`](super::EntryChanges).
#[derive(Clone, Default)]
pub struct NewEntry {
    /// The user it belongs to, as the platform calls them. Not empty.
    pub permissioned_user_id: String,
    /// The site: a URL, kept exactly as it is.
    pub domain: String,
    /// What people call it.
    pub user_alias: Option<String>,
    /// How the second factor arrives.
    pub tfa_method: Option<TfaMethod>,
    /// Whether it uses a passkey; not with a binding.
    pub passkey: bool,
    /// The connection to bind to, with `secret_ref`.
    pub secret_provider_id: Option<ConnectionId>,
    /// The item to bind to, with `secret_provider_id`.
    pub secret_ref: Option<String>,
    /// The entry's own cache duration; needs a binding. 0 is off. `None` for the connection's.
    pub secret_cache_ttl_seconds: Option<i64>,
    /// The user name, encrypted by the client; not with a binding.
    pub user_name: Option<String>,
    /// The password, encrypted by the client; not with a binding.
    pub password: Option<String>,
    /// The secret of one-time codes, encrypted by the client; not with a binding.
    pub tfa_secret: Option<String>,
    /// What the entry carries along.
    pub attributes: AttributeChanges,
}

impl fmt::Debug for NewEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewEntry")
            .field("permissioned_user_id", &self.permissioned_user_id)
            .field("domain", &self.domain)
            .field("secret_provider_id", &self.secret_provider_id)
            .field("secret_ref", &self.secret_ref)
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}

impl NewEntry {
    /// An entry that is bound to an item.
    pub fn bound(
        permissioned_user_id: impl Into<String>,
        domain: impl Into<String>,
        connection: ConnectionId,
        reference: impl Into<String>,
    ) -> Self {
        Self {
            permissioned_user_id: permissioned_user_id.into(),
            domain: domain.into(),
            secret_provider_id: Some(connection),
            secret_ref: Some(reference.into()),
            ..Self::default()
        }
    }
}
