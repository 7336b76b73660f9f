//! Vault entries.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::names;
use crate::{ConnectionId, EntryId, StorageError, UnknownName, WorkspaceId};

names! {
    /// How the second factor of an entry arrives.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    pub enum TfaMethod or UnknownName::TfaMethod {
        /// One-time codes from a secret that the entry holds. Not for bound entries: their item has
        /// the code.
        Authenticator = "AUTHENTICATOR",
        /// A code in an e-mail.
        Email = "EMAIL",
        /// A code in a text message.
        Sms = "SMS",
        /// A link in an e-mail.
        MagicLink = "MAGIC_LINK",
    }
}

/// A vault entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRecord {
    /// Its id.
    pub id: EntryId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The user it belongs to, by the platform's name.
    pub user: String,
    /// The site, exactly as given.
    pub domain: String,
    /// Its display name.
    pub alias: Option<String>,
    /// How the second factor arrives.
    pub tfa_method: Option<TfaMethod>,
    /// Whether it uses a passkey; never while it is bound.
    pub passkey: bool,
    /// The connection it is bound to. Present if and only if `secret_ref` is.
    pub connection_id: Option<ConnectionId>,
    /// The item it is bound to.
    pub secret_ref: Option<String>,
    /// Its own cache duration in seconds, in place of the connection's.
    pub cache_ttl_seconds: Option<u32>,
    /// Envelope with the credentials of an entry that is not bound.
    pub sealed_credentials: Option<Vec<u8>>,
    /// Envelope with the attributes, if there are any.
    pub sealed_attributes: Option<Vec<u8>>,
    /// When cookies or browser storages were last set.
    pub session_data_set_at: Option<Timestamp>,
    /// The row's version, part of what the envelopes are bound to.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A page of a workspace's vault entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRecords {
    /// The entries in the order of their creation.
    pub entries: Vec<EntryRecord>,
    /// The last entry of this page when more follow; `None` otherwise.
    pub next: Option<EntryId>,
}

/// Selects a vault entry of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EntrySelector {
    /// By its id.
    Id(EntryId),
    /// By user and domain, which together are unique in a workspace. Both are compared exactly.
    Pair {
        /// The user.
        user: String,
        /// The site.
        domain: String,
    },
}

impl From<EntryId> for EntrySelector {
    fn from(id: EntryId) -> Self {
        Self::Id(id)
    }
}

/// Vault entries.
#[async_trait]
pub trait EntryStorage: Send + Sync + 'static {
    /// Adds a vault entry. Fails with [`Constraint::Unique`](crate::Constraint::Unique) when its
    /// pair of user and domain exists, with [`Constraint::Reference`](crate::Constraint::Reference)
    /// when its connection is not in its workspace, and with
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm) unless its sealed values are sealed
    /// under the workspace's current key.
    async fn insert_entry(&self, entry: &EntryRecord) -> Result<(), StorageError>;

    /// Replaces a vault entry whose version is `expected`. Returns whether it did; it also refuses
    /// to change the binding while a rotation of the entry is open. `created_at` stays. When the
    /// binding changes, 1 is added to the generations of the old and the new item.
    /// [`Constraint`](crate::Constraint)s as in [`insert_entry`](Self::insert_entry).
    async fn update_entry(&self, entry: &EntryRecord, expected: u64) -> Result<bool, StorageError>;

    /// Deletes a vault entry and returns it; `None` when there is none. Adds 1 to the generation of
    /// the item that it was bound to. Fails with
    /// [`Constraint::Reference`](crate::Constraint::Reference) while a rotation of the entry is
    /// open.
    async fn delete_entry(
        &self,
        workspace: WorkspaceId,
        entry: &EntrySelector,
    ) -> Result<Option<EntryRecord>, StorageError>;

    /// The total size of a vault entry's sealed values, in bytes; `None` when there is no such
    /// entry.
    async fn entry_size(&self, workspace: WorkspaceId, entry: &EntrySelector) -> Result<Option<u64>, StorageError>;

    /// A vault entry.
    async fn entry(&self, workspace: WorkspaceId, entry: &EntrySelector) -> Result<Option<EntryRecord>, StorageError>;

    /// A workspace's vault entries after `after`, in the order of their creation: at most `rows`,
    /// with at most `bytes` of sealed values in total, but always at least the first one.
    async fn entries(
        &self,
        workspace: WorkspaceId,
        after: Option<EntryId>,
        rows: u32,
        bytes: u64,
    ) -> Result<EntryRecords, StorageError>;
}
