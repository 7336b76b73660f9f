//! Vault entries: a user's credentials for a site, either bound to a provider's item or the entry's own.
//!
//! **Invariant:** an entry has a whole binding or none, and never both a binding and credentials; its connection
//! belongs to its workspace. The type [`CredentialSource`] cannot express anything else, [`EntryChanges`] turns what a
//! client sent into it, and the database's constraints hold it against requests that race. A bound entry uses no passkey.
//! A change is made to the version of the entry that it was computed from, or anew; so no concurrent change is lost.
//!
//! An entry's own credentials arrive encrypted under the client encryption key and are returned as they came. At rest
//! they are sealed once more, because the clients' format says nothing about where a value belongs.

mod attributes;
mod changes;
mod expiry;
mod json;
mod new;
mod operations;
mod own;
mod resolvable;
mod sealed;
mod tfa;

use std::fmt;

use jiff::Timestamp;
use keyway_storage::{ConnectionId, EntryId, EntryRecord, TfaMethod, WorkspaceId};

pub use attributes::{AttributeChanges, AttributeKind, Attributes};
pub(crate) use attributes::{PROXY_SETTING, PROXY_VALUE};
pub use changes::{Change, EntryChanges};
pub use new::NewEntry;
pub use operations::ENTRIES_PER_PAGE;
pub(crate) use resolvable::{BoundItem, ORDINARY_BYTES, ResolvableEntry};
pub use tfa::TfaCode;

use crate::cache_ttl::CacheTtl;

/// An item of a connection, whose values are an entry's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Binding {
    /// The connection; `secret_provider_id` in the HTTP API.
    pub connection_id: ConnectionId,
    /// The item's reference; `secret_ref` in the HTTP API.
    pub reference: String,
    /// The entry's own cache duration; `None` for the connection's.
    pub cache_ttl: Option<CacheTtl>,
}

impl Binding {
    /// That of an entry, if it has one.
    pub(crate) fn of(record: &EntryRecord) -> Option<Self> {
        let (connection_id, reference) = record.connection_id.zip(record.secret_ref.clone())?;
        Some(Self { connection_id, reference, cache_ttl: record.cache_ttl_seconds.map(CacheTtl::from_seconds) })
    }
}

/// An entry's own credentials, each as the client encrypted it.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// Ciphertext of the user name.
    pub user_name: Option<String>,
    /// Ciphertext of the password.
    pub password: Option<String>,
    /// Ciphertext of the secret from which one-time codes are made.
    pub tfa_secret: Option<String>,
}

impl Credentials {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let placeholder = |value: &Option<String>| value.as_ref().map(|_| "[REDACTED]");
        f.debug_struct("Credentials")
            .field("user_name", &placeholder(&self.user_name))
            .field("password", &placeholder(&self.password))
            .field("tfa_secret", &placeholder(&self.tfa_secret))
            .finish()
    }
}

/// Where an entry's credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// From a provider's item.
    Bound(Binding),
    /// From the entry itself; any of them may be missing.
    Own(Credentials),
}

impl Default for CredentialSource {
    /// No credentials.
    fn default() -> Self {
        Self::Own(Credentials::default())
    }
}

/// A vault entry.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VaultEntry {
    /// Its id.
    pub id: EntryId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The user it belongs to, as the platform calls them.
    pub permissioned_user_id: String,
    /// The site, exactly as it was given.
    pub domain: String,
    /// What people call it.
    pub user_alias: Option<String>,
    /// How the second factor arrives.
    pub tfa_method: Option<TfaMethod>,
    /// Whether it uses a passkey. Never together with a binding.
    pub passkey: bool,
    /// Where its credentials come from.
    pub credentials: CredentialSource,
    /// What it carries along for whoever drives the browser.
    pub attributes: Attributes,
    /// When cookies or browser storages were last set; `None` when there are none.
    pub session_data_set_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl VaultEntry {
    /// The item that it is bound to, if it is.
    pub fn binding(&self) -> Option<&Binding> {
        match &self.credentials {
            CredentialSource::Bound(binding) => Some(binding),
            CredentialSource::Own(_) => None,
        }
    }

    pub(crate) fn binding_mut(&mut self) -> Option<&mut Binding> {
        match &mut self.credentials {
            CredentialSource::Bound(binding) => Some(binding),
            CredentialSource::Own(_) => None,
        }
    }

    /// When its session data expires by its own intervals; `None` for never.
    pub fn effective_expires_at(&self) -> Option<Timestamp> {
        expiry::effective(&self.attributes, self.session_data_set_at)
    }
}

/// A page of entries.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EntryPage {
    /// The entries in the order of their creation.
    pub entries: Vec<VaultEntry>,
    /// What to pass for the next page; `None` on the last.
    pub next: Option<EntryId>,
    /// Which of the workspace's keys clients' values in it are under. When it is another one on the next page, the key was rotated in between.
    pub key_term: u32,
}
