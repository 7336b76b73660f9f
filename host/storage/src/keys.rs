//! Stored keys: wrapped, with the term of the wrapping key.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{RowSealer, StorageError, WorkspaceId};

/// A master key that wrapped keys of this database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeyRecord {
    /// Numbers the master keys from 1.
    pub term: u32,
    /// Identifies the key.
    pub key_id: [u8; 16],
    /// When it was first used.
    pub created_at: Timestamp,
}

/// A key of the host itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKeyRecord {
    /// Its name.
    pub name: String,
    /// The wrapped key.
    pub wrapped_key: Vec<u8>,
    /// The term of the master key that wrapped it.
    pub master_term: u32,
    /// Whether the rows of the database are sealed, part of what the wrapped key is bound to.
    /// `false` only until a database from before the seals is opened.
    pub rows_sealed: bool,
    /// Whether the audit log has a root, likewise. `false` until the first one is stored.
    pub has_audit_root: bool,
    /// The row's version, part of what the wrapped key is bound to.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A workspace key. The one with the highest term is in use; older ones only open values that are
/// not sealed again yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceKeyRecord {
    /// The workspace it belongs to.
    pub workspace_id: WorkspaceId,
    /// Numbers the workspace's keys from 1.
    pub term: u32,
    /// The wrapped key.
    pub wrapped_key: Vec<u8>,
    /// The term of the master key that wrapped it.
    pub master_term: u32,
    /// The row's version, part of what the wrapped key is bound to.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Keys: the ids of the master keys, the wrapped keys of the host and of workspaces, and how often
/// each was used.
#[async_trait]
pub trait KeyStorage: Send + Sync + 'static {
    /// The master keys in the order of their terms. The last one is current; those before it were
    /// replaced. Empty in a new database.
    async fn master_keys(&self) -> Result<Vec<MasterKeyRecord>, StorageError>;

    /// Adds the first master key. Fails with [`Constraint::Unique`](crate::Constraint::Unique) when
    /// that term exists.
    async fn insert_master_key(&self, key: &MasterKeyRecord) -> Result<(), StorageError>;

    /// Adds to the count of a master key's uses, and returns the new count.
    async fn count_master_key_uses(&self, term: u32, uses: u64) -> Result<u64, StorageError>;

    /// A key of the host itself.
    async fn host_key(&self, name: &str) -> Result<Option<HostKeyRecord>, StorageError>;

    /// All keys of the host itself.
    async fn host_keys(&self) -> Result<Vec<HostKeyRecord>, StorageError>;

    /// Adds a key of the host itself. Fails with [`Constraint::Unique`](crate::Constraint::Unique)
    /// when one of that name exists, and with [`Constraint::KeyTerm`](crate::Constraint::KeyTerm)
    /// unless it is wrapped by the current master key.
    async fn insert_host_key(&self, key: &HostKeyRecord) -> Result<(), StorageError>;

    /// Gives the key of the seals of rows. Until then, records with seals can be neither read nor
    /// written. The key of a database never changes; a second call does nothing.
    fn unlock_rows(&self, sealer: Arc<dyn RowSealer>);

    /// Seals all rows of a database from before the seals, and replaces the host key's record by
    /// this one, whose version is the next one. Fails with
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm), without any change, when the host key
    /// has changed meanwhile, and with [`StorageError::AlreadySealed`] when a row has a seal: the
    /// host key's record is then an earlier copy.
    async fn seal_rows(&self, host_key: &HostKeyRecord) -> Result<(), StorageError>;

    /// Replaces the host key's record by this one, whose version is the next one, and which differs
    /// in how the key is wrapped. Fails with [`Constraint::KeyTerm`](crate::Constraint::KeyTerm),
    /// without any change, when the host key has changed meanwhile.
    async fn replace_host_key(&self, host_key: &HostKeyRecord) -> Result<(), StorageError>;

    /// A workspace's keys in the order of their terms; empty when there is no such workspace.
    async fn workspace_keys(&self, workspace: WorkspaceId) -> Result<Vec<WorkspaceKeyRecord>, StorageError>;

    /// The terms of a workspace's keys in order; empty when there is no such workspace.
    async fn workspace_key_terms(&self, workspace: WorkspaceId) -> Result<Vec<u32>, StorageError>;

    /// The keys of all workspaces.
    async fn all_workspace_keys(&self) -> Result<Vec<WorkspaceKeyRecord>, StorageError>;

    /// Adds to the count of a workspace key's uses, and returns the new count; `None` when there is
    /// no such key.
    async fn count_workspace_key_uses(
        &self,
        workspace: WorkspaceId,
        term: u32,
        uses: u64,
    ) -> Result<Option<u64>, StorageError>;
}
