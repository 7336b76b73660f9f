//! Replacing keys: which columns hold envelopes, and so have to be sealed anew when a workspace's
//! key is rotated.

use async_trait::async_trait;
use uuid::Uuid;

use crate::names::names;
use crate::{HostKeyRecord, MasterKeyRecord, StorageError, WorkspaceId, WorkspaceKeyRecord};

names! {
    /// A column of values that are sealed under a workspace's key. Its table has the columns
    /// `workspace_id`, `id` and `version`, to which its envelopes are bound.
    ///
    /// A test compares this list with all columns of bytes in the database.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum SealedColumn {
        /// The settings of connections.
        ConnectionSettings = "sealed_settings",
        /// What providers keep for good.
        ConnectionState = "sealed_state",
        /// The credentials of vault entries, which clients have encrypted before.
        EntryCredentials = "sealed_credentials",
        /// The attributes of vault entries, of which clients have encrypted one.
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

/// A sealed value, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedValue {
    /// Its row.
    pub id: Uuid,
    /// The version of the row.
    pub version: u64,
    /// The envelope.
    pub envelope: Vec<u8>,
}

/// What replaces keys, and seals values anew.
#[async_trait]
pub trait KeyRotationStorage: Send + Sync + 'static {
    /// Adds the next master key, which has been used so many times, and replaces the wrapped keys
    /// of all workspaces and of the host by those given, whose versions are the next ones.
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm), and no change, unless these are all
    /// keys there are, at the version before, and the master key is the next one.
    async fn replace_master_key(
        &self,
        master_key: &MasterKeyRecord,
        uses: u64,
        workspace_keys: &[WorkspaceKeyRecord],
        host_keys: &[HostKeyRecord],
    ) -> Result<(), StorageError>;

    /// Adds a workspace's next key. From then on the database accepts values of the workspace only
    /// if they are sealed under it. [`Constraint::Unique`](crate::Constraint::Unique) unless the
    /// workspace has one key, and this is the next one;
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm) unless it is wrapped by the current
    /// master key.
    async fn insert_workspace_key(&self, key: &WorkspaceKeyRecord) -> Result<(), StorageError>;

    /// The workspaces that have more than one key.
    async fn unfinished_key_rotations(&self) -> Result<Vec<WorkspaceId>, StorageError>;

    /// Values of a column that are not sealed under `term`, in the order of their rows' ids, those
    /// after `after`: at most `rows` of them, and after the first no more than `bytes` altogether.
    async fn sealed_values(
        &self,
        workspace: WorkspaceId,
        column: SealedColumn,
        term: u32,
        after: Uuid,
        rows: u32,
        bytes: u64,
    ) -> Result<Vec<SealedValue>, StorageError>;

    /// Replaces each of these values by the envelope beside it if it is still there as it was read;
    /// versions stay. Returns how many were replaced.
    async fn replace_sealed_values(
        &self,
        workspace: WorkspaceId,
        column: SealedColumn,
        values: &[(SealedValue, Vec<u8>)],
    ) -> Result<u64, StorageError>;

    /// Deletes a workspace's keys before `term` if no value of the workspace is sealed under
    /// another key than that of `term`, so that nothing of them stays in the database's files.
    /// Returns whether it did.
    async fn delete_replaced_workspace_keys(&self, workspace: WorkspaceId, term: u32) -> Result<bool, StorageError>;

    /// Overwrites what keys that were deleted or replaced have left in the database's files, as far
    /// as deleting them has not. `false` when somebody who reads was in the way; to be called again
    /// later.
    async fn erase_traces(&self) -> Result<bool, StorageError>;
}
