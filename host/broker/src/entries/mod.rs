//! Vault entries: a user's credentials for a site, either bound to a provider's item or the entry's
//! own.
//!
//! **Invariant:** an entry has either a binding or credentials of its own; its connection belongs
//! to its workspace. The type [`CredentialSource`] cannot express anything else, and the database's
//! constraints enforce it against races. The other rules (`rules.rs`) are checked whenever an entry
//! is created or changed. A change applies to the version of the entry that it was computed from,
//! or is computed again; so no concurrent change is lost.
//!
//! An entry's own credentials arrive encrypted under the client encryption key and are returned
//! unchanged. At rest they are sealed again, because the clients' format does not say where a value
//! belongs.

mod attributes;
pub(crate) mod further;
mod json;
mod leases;
mod operations;
mod own;
mod resolvable;
mod rules;
mod sealed;
mod store;
mod tfa;

use std::fmt;
use std::ops::Deref;

use jiff::Timestamp;
use keyway_storage::{ConnectionId, EntryId, EntryRecord, WorkspaceId};

pub use attributes::{AttributeKind, Attributes};
pub use keyway_storage::TfaMethod;
pub use operations::{ENTRIES_PER_PAGE, Entries};
pub(crate) use resolvable::{BoundItem, ORDINARY_BYTES, ResolvableEntry};
pub(crate) use store::EntryStore;
pub use tfa::TfaCode;

use crate::cache_ttl::CacheTtl;
pub use crate::error::NoTfaCode;
pub use crate::lease::EntryLease;

/// An item of a connection, whose values are an entry's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Binding {
    /// The connection.
    pub connection_id: ConnectionId,
    /// The item's reference.
    pub reference: String,
    /// The entry's own cache duration; `None` for the connection's.
    pub cache_ttl: Option<CacheTtl>,
}

impl Binding {
    /// A binding to an item, with the cache duration of its connection.
    pub fn new(connection_id: ConnectionId, reference: impl Into<String>) -> Self {
        Self { connection_id, reference: reference.into(), cache_ttl: None }
    }

    /// The binding of an entry, if it has one.
    pub(crate) fn of(record: &EntryRecord) -> Option<Self> {
        let (connection_id, reference) = record.connection_id.zip(record.secret_ref.clone())?;
        Some(Self { connection_id, reference, cache_ttl: record.cache_ttl_seconds.map(CacheTtl::from_seconds) })
    }
}

/// An entry's own credentials, each as the client encrypted it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Ciphertext of the user name.
    pub user_name: Option<String>,
    /// Ciphertext of the password.
    pub password: Option<String>,
    /// Ciphertext of the secret that one-time codes are made from.
    pub tfa_secret: Option<String>,
}

impl Credentials {
    /// All fields, with their names.
    pub fn fields(&self) -> [(&'static str, &Option<String>); 3] {
        [("user_name", &self.user_name), ("password", &self.password), ("tfa_secret", &self.tfa_secret)]
    }

    /// All fields, with their names, for changing them.
    pub fn fields_mut(&mut self) -> [(&'static str, &mut Option<String>); 3] {
        [("user_name", &mut self.user_name), ("password", &mut self.password), ("tfa_secret", &mut self.tfa_secret)]
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let placeholder = |(name, value): (_, &Option<String>)| (name, value.as_ref().map(|_| "[REDACTED]"));
        f.debug_map().entries(self.fields().map(placeholder)).finish()
    }
}

/// Where an entry's credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
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

/// The content of a vault entry: everything that its owner decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryContent {
    /// The user it belongs to, as the platform calls them. Not empty.
    pub user: String,
    /// The site: a URL, stored and found exactly as it is written.
    pub domain: String,
    /// Its name for people.
    pub alias: Option<String>,
    /// How the second factor arrives. [`TfaMethod::Authenticator`] needs the secret among the
    /// entry's own credentials; binding the entry clears it.
    pub tfa_method: Option<TfaMethod>,
    /// Whether it uses a passkey, which a bound entry cannot.
    pub passkey: bool,
    /// Where its credentials come from.
    pub credentials: CredentialSource,
    /// What it carries along for the code that drives the browser.
    pub attributes: Attributes,
}

impl EntryContent {
    /// An entry without credentials.
    pub fn new(user: impl Into<String>, domain: impl Into<String>) -> Self {
        Self { user: user.into(), domain: domain.into(), ..Self::default() }
    }

    /// An entry that is bound to an item.
    pub fn bound(
        user: impl Into<String>,
        domain: impl Into<String>,
        connection: ConnectionId,
        reference: impl Into<String>,
    ) -> Self {
        let credentials = CredentialSource::Bound(Binding::new(connection, reference));
        Self { credentials, ..Self::new(user, domain) }
    }

    /// An entry with credentials of its own.
    pub fn own(user: impl Into<String>, domain: impl Into<String>, credentials: Credentials) -> Self {
        Self { credentials: CredentialSource::Own(credentials), ..Self::new(user, domain) }
    }

    /// Sets its name for people.
    #[must_use]
    pub fn alias(self, alias: impl Into<String>) -> Self {
        Self { alias: Some(alias.into()), ..self }
    }

    /// Sets how the second factor arrives.
    #[must_use]
    pub fn tfa_method(self, method: impl Into<Option<TfaMethod>>) -> Self {
        Self { tfa_method: method.into(), ..self }
    }

    /// Sets whether it uses a passkey.
    #[must_use]
    pub fn passkey(self, passkey: bool) -> Self {
        Self { passkey, ..self }
    }

    /// Sets what it carries along.
    #[must_use]
    pub fn attributes(self, attributes: Attributes) -> Self {
        Self { attributes, ..self }
    }

    /// The item that it is bound to, if any.
    pub fn binding(&self) -> Option<&Binding> {
        let CredentialSource::Bound(binding) = &self.credentials else { return None };
        Some(binding)
    }

    /// The same, to be changed.
    pub fn binding_mut(&mut self) -> Option<&mut Binding> {
        let CredentialSource::Bound(binding) = &mut self.credentials else { return None };
        Some(binding)
    }

    /// Its own credentials, if it is not bound.
    pub fn own_credentials(&self) -> Option<&Credentials> {
        let CredentialSource::Own(own) = &self.credentials else { return None };
        Some(own)
    }

    /// The same, to be changed.
    pub fn own_credentials_mut(&mut self) -> Option<&mut Credentials> {
        let CredentialSource::Own(own) = &mut self.credentials else { return None };
        Some(own)
    }
}

/// A vault entry as it is stored. It dereferences to its [content](EntryContent).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VaultEntry {
    /// Its id.
    pub id: EntryId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Its content.
    pub content: EntryContent,
    /// When its browser state was last set; `None` when there is none.
    pub session_data_set_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Deref for VaultEntry {
    type Target = EntryContent;

    fn deref(&self) -> &EntryContent {
        &self.content
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
    /// The term of the workspace key that clients' values on this page are under. A different term
    /// on the next page means that the key was rotated in between.
    pub key_term: u32,
}
