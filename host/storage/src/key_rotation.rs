//! Replacing keys: the columns that hold envelopes, which a rotation of the workspace's key seals
//! again.

use async_trait::async_trait;
use uuid::Uuid;

use crate::names::names;
use crate::{HostKeyRecord, MasterKeyRecord, StorageError, WorkspaceId, WorkspaceKeyRecord};

names! {
    /// A column of values that are sealed under a workspace's key. Its table has the columns
    /// `workspace_id`, `id` and `version`, to which its envelopes are bound.
    ///
    /// A test compares this list with all BLOB columns of the database.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum SealedColumn {
        /// The settings of connections.
        ConnectionSettings = "sealed_settings",
        /// The durable states of providers.
        ConnectionState = "sealed_state",
        /// The credentials of vault entries, already encrypted by clients.
        EntryCredentials = "sealed_credentials",
        /// The attributes of vault entries; clients have encrypted one of them.
        EntryAttributes = "sealed_attributes",
        /// The new passwords of rotations that are not over.
        RotationPassword = "sealed_password",
    }
}

impl SealedColumn {
    /// Its table.
    pub fn table(self) -> &'static str {
        match self {
            Self::ConnectionSettings => "connections",
            Self::ConnectionState => "connection_states",
            Self::EntryCredentials | Self::EntryAttributes => "vault_entries",
            Self::RotationPassword => "rotations",
        }
    }
}

/// A sealed value and its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedValue {
    /// Its row.
    pub id: Uuid,
    /// The version of the row.
    pub version: u64,
    /// The envelope.
    pub envelope: Vec<u8>,
}

/// Replaces keys, and seals values again.
#[async_trait]
pub trait KeyRotationStorage: Send + Sync + 'static {
    /// Adds the next master key, used `uses` times so far, and replaces all wrapped keys of
    /// workspaces and of the host by those given, whose versions are the next ones. Fails with
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm), without any change, unless the given
    /// keys are all keys of the database, at the previous version, and the master key is the next
    /// one.
    async fn replace_master_key(
        &self,
        master_key: &MasterKeyRecord,
        uses: u64,
        workspace_keys: &[WorkspaceKeyRecord],
        host_keys: &[HostKeyRecord],
    ) -> Result<(), StorageError>;

    /// Adds a workspace's next key. From then on the database accepts the workspace's values only
    /// if they are sealed under it. Fails with [`Constraint::Unique`](crate::Constraint::Unique)
    /// unless the workspace has one key and this is the next one, and with
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm) unless it is wrapped by the current
    /// master key.
    async fn insert_workspace_key(&self, key: &WorkspaceKeyRecord) -> Result<(), StorageError>;

    /// The workspaces with more than one key.
    async fn unfinished_key_rotations(&self) -> Result<Vec<WorkspaceId>, StorageError>;

    /// Values of a column that are not sealed under `term`, after `after`, in the order of their
    /// rows' ids: at most `rows`, with at most `bytes` in total, but always at least the first one.
    async fn sealed_values(
        &self,
        workspace: WorkspaceId,
        column: SealedColumn,
        term: u32,
        after: Uuid,
        rows: u32,
        bytes: u64,
    ) -> Result<Vec<SealedValue>, StorageError>;

    /// Replaces each of these values by the envelope beside it, if it has not changed since it was
    /// read. Versions stay. Returns how many were replaced.
    async fn replace_sealed_values(
        &self,
        workspace: WorkspaceId,
        column: SealedColumn,
        values: &[(SealedValue, Vec<u8>)],
    ) -> Result<u64, StorageError>;

    /// Deletes a workspace's keys before `term` if all values of the workspace are sealed under the
    /// key of `term`. Returns whether it did. Nothing of the deleted keys stays in the database's
    /// files.
    async fn delete_replaced_workspace_keys(&self, workspace: WorkspaceId, term: u32) -> Result<bool, StorageError>;

    /// Overwrites what remains of deleted or replaced keys in the database's files. `false` when a
    /// reader was in the way; call it again later.
    async fn erase_traces(&self) -> Result<bool, StorageError>;
}
