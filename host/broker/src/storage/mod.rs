//! Storage: what the broker needs of a database, and the records that it keeps there (`records.rs`).
//!
//! **Invariant:** every method of [`Storage`] happens as a whole or not at all, and when it returns, its effect is
//! durable. The broker never needs a transaction over two calls: where two requests could race, the database's own
//! constraints decide (a unique pair of user and domain; an entry's connection exists and is of the same workspace),
//! and the loser gets [`StorageError::Conflict`].
//!
//! No record contains a secret: what is secret arrives here sealed. Implementations know nothing of keys, except where
//! in an envelope the term of its key is ([`KEY_TERM`]): **a sealed value is accepted only under the workspace's current
//! key**, which is checked in the transaction that writes it, so that no value is written under a key that is being
//! replaced ([`Constraint::KeyTerm`]).

mod budgets;
mod error;
mod records;
mod sealed_column;
mod sqlite;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

pub use budgets::{
    BreakerRecord, PauseReason, PauseRecord, RequestCount, RequestKind, RequestReservation, ReservedRequests,
};
pub use error::{Constraint, StorageError};
pub use records::{
    ApiKeyRecord, AuditAnchorRecord, ConnectionRecord, EntryRecord, EntryRecords, HostKeyRecord, MasterKeyRecord,
    RotationRecord, WorkspaceKeyRecord, WorkspaceRecord,
};
pub use sealed_column::{SealedColumn, SealedValue};
pub use sqlite::SqliteStorage;

use crate::connection::DependentEntries;
use crate::id::{ApiKeyId, ConnectionId, EntryId, RotationId, WorkspaceId};
use crate::rotation::RotationFilter;

/// The bytes of an envelope that are its key's term, in network order.
pub const KEY_TERM: std::ops::Range<usize> = 1..5;

/// Which vault entry of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EntrySelector {
    /// By its id.
    Id(EntryId),
    /// By user and domain, which together are unique in a workspace. Both are compared exactly.
    Pair {
        /// The user.
        permissioned_user_id: String,
        /// The site.
        domain: String,
    },
}

impl From<EntryId> for EntrySelector {
    fn from(id: EntryId) -> Self {
        Self::Id(id)
    }
}

/// A database.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// The master keys in the order of their terms: the last one wraps, those before were replaced. Empty in a new
    /// database.
    async fn master_keys(&self) -> Result<Vec<MasterKeyRecord>, StorageError>;

    /// Adds the first master key. [`Constraint::Unique`] when that term exists.
    async fn insert_master_key(&self, key: &MasterKeyRecord) -> Result<(), StorageError>;

    /// Adds to the count of a master key's uses, and returns the new count.
    async fn count_master_key_uses(&self, term: u32, uses: u64) -> Result<u64, StorageError>;

    /// Adds a workspace with its first key and its first API key. [`Constraint::KeyTerm`] unless that key is wrapped by
    /// the current master key.
    async fn insert_workspace(
        &self,
        workspace: &WorkspaceRecord,
        key: &WorkspaceKeyRecord,
        api_key: &ApiKeyRecord,
    ) -> Result<(), StorageError>;

    /// A workspace.
    async fn workspace(&self, id: WorkspaceId) -> Result<Option<WorkspaceRecord>, StorageError>;

    /// All workspaces in the order of their creation.
    async fn workspaces(&self) -> Result<Vec<WorkspaceRecord>, StorageError>;

    /// A workspace's keys in the order of their terms; empty when there is no such workspace.
    async fn workspace_keys(&self, workspace: WorkspaceId) -> Result<Vec<WorkspaceKeyRecord>, StorageError>;

    /// The terms of a workspace's keys in order; empty when there is no such workspace.
    async fn workspace_key_terms(&self, workspace: WorkspaceId) -> Result<Vec<u32>, StorageError>;

    /// The keys of all workspaces.
    async fn all_workspace_keys(&self) -> Result<Vec<WorkspaceKeyRecord>, StorageError>;

    /// The workspaces that have more than one key.
    async fn unfinished_key_rotations(&self) -> Result<Vec<WorkspaceId>, StorageError>;

    /// Adds to the count of a workspace key's uses, and returns the new count; `None` when there is no such key.
    async fn count_workspace_key_uses(
        &self,
        workspace: WorkspaceId,
        term: u32,
        uses: u64,
    ) -> Result<Option<u64>, StorageError>;

    /// Adds the next master key, which has been used so many times, and replaces the wrapped keys of all workspaces and
    /// of the host by those given, whose versions are the next ones. [`Constraint::KeyTerm`], and no change, unless these
    /// are all keys there are, at the version before, and the master key is the next one.
    async fn replace_master_key(
        &self,
        master_key: &MasterKeyRecord,
        uses: u64,
        workspace_keys: &[WorkspaceKeyRecord],
        host_keys: &[HostKeyRecord],
    ) -> Result<(), StorageError>;

    /// Adds a workspace's next key. From then on the database accepts values of the workspace only if they are sealed
    /// under it. [`Constraint::Unique`] unless the workspace has one key, and this is the next one;
    /// [`Constraint::KeyTerm`] unless it is wrapped by the current master key.
    async fn insert_workspace_key(&self, key: &WorkspaceKeyRecord) -> Result<(), StorageError>;

    /// Values of a column that are not sealed under `term`, in the order of their rows' ids, those after `after`: at most
    /// `rows` of them, and after the first no more than `bytes` altogether.
    async fn sealed_values(
        &self,
        workspace: WorkspaceId,
        column: SealedColumn,
        term: u32,
        after: Uuid,
        rows: u32,
        bytes: u64,
    ) -> Result<Vec<SealedValue>, StorageError>;

    /// Replaces each of these values by the envelope beside it if it is still there as it was read; versions stay.
    /// Returns how many were replaced.
    async fn replace_sealed_values(
        &self,
        workspace: WorkspaceId,
        column: SealedColumn,
        values: &[(SealedValue, Vec<u8>)],
    ) -> Result<u64, StorageError>;

    /// Deletes a workspace's keys before `term` if no value of the workspace is sealed under another key than that of
    /// `term`, so that nothing of them stays in the database's files. Returns whether it did.
    async fn delete_replaced_workspace_keys(&self, workspace: WorkspaceId, term: u32) -> Result<bool, StorageError>;

    /// Overwrites what keys that were deleted or replaced have left in the database's files, as far as deleting them has not. `false` when
    /// somebody who reads was in the way; to be called again later.
    async fn erase_traces(&self) -> Result<bool, StorageError>;

    /// Adds an API key. [`Constraint::Reference`] when there is no such workspace.
    async fn insert_api_key(&self, key: &ApiKeyRecord) -> Result<(), StorageError>;

    /// The API key that is found by `lookup`, revoked or not.
    async fn api_key(&self, lookup: &str) -> Result<Option<ApiKeyRecord>, StorageError>;

    /// A workspace's API keys in the order of their creation.
    async fn api_keys(&self, workspace: WorkspaceId) -> Result<Vec<ApiKeyRecord>, StorageError>;

    /// Revokes an API key. Returns it as it is now; a key that was revoked before keeps its time. `None` when there is
    /// none.
    async fn revoke_api_key(
        &self,
        workspace: WorkspaceId,
        id: ApiKeyId,
        at: Timestamp,
    ) -> Result<Option<ApiKeyRecord>, StorageError>;

    /// Adds a connection. [`Constraint::KeyTerm`] unless its settings are sealed under the workspace's current key.
    async fn insert_connection(&self, connection: &ConnectionRecord) -> Result<(), StorageError>;

    /// Replaces a connection whose version is `expected`, and adds 1 to its cache generation if `clear_cached_secrets`.
    /// Returns whether it did. `created_at` stays, and the record's own `cache_generation` does not count.
    /// [`Constraint::KeyTerm`] as in [`insert_connection`](Self::insert_connection).
    async fn update_connection(
        &self,
        connection: &ConnectionRecord,
        expected: u64,
        clear_cached_secrets: bool,
    ) -> Result<bool, StorageError>;

    /// Adds 1 to a connection's cache generation. Returns whether there is such a connection.
    async fn clear_cached_secrets(&self, workspace: WorkspaceId, id: ConnectionId) -> Result<bool, StorageError>;

    /// A connection.
    async fn connection(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
    ) -> Result<Option<ConnectionRecord>, StorageError>;

    /// A workspace's connections in the order of their creation.
    async fn connections(&self, workspace: WorkspaceId) -> Result<Vec<ConnectionRecord>, StorageError>;

    /// The provider types that there are connections of, in any workspace.
    async fn provider_types(&self) -> Result<Vec<String>, StorageError>;

    /// Removes a connection. Returns whether there was one. [`Constraint::Reference`] while entries are bound to it: the
    /// database decides, so that an entry that is bound at the same time never loses its connection.
    async fn delete_connection(&self, workspace: WorkspaceId, id: ConnectionId) -> Result<bool, StorageError>;

    /// The first `limit` entries that are bound to a connection, in the order of their creation, and how many there are
    /// in all.
    async fn entries_of_connection(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
        limit: u32,
    ) -> Result<DependentEntries, StorageError>;

    /// The connections over which a workspace's entries are bound to an item, each once.
    async fn connections_of_item(
        &self,
        workspace: WorkspaceId,
        secret_ref: &str,
    ) -> Result<Vec<ConnectionId>, StorageError>;

    /// Adds a vault entry. [`Constraint::Unique`] when its pair of user and domain exists, [`Constraint::Reference`]
    /// when its connection is not one of its workspace, [`Constraint::KeyTerm`] unless what is sealed of it is sealed
    /// under the workspace's current key.
    async fn insert_entry(&self, entry: &EntryRecord) -> Result<(), StorageError>;

    /// Replaces a vault entry whose version is `expected`. Returns whether it did: not either if it would be bound to
    /// something else while a rotation of it is open. `created_at` stays. When its binding changes, 1 is added to the
    /// generations of the items that it was and is bound to.
    /// [`Constraint`]s as in [`insert_entry`](Self::insert_entry).
    async fn update_entry(&self, entry: &EntryRecord, expected: u64) -> Result<bool, StorageError>;

    /// Deletes a vault entry, and returns what it was; `None` when there is none. 1 is added to the generation of the item
    /// that it was bound to. [`Constraint::Reference`] while a rotation of it is open.
    async fn delete_entry(
        &self,
        workspace: WorkspaceId,
        entry: &EntrySelector,
    ) -> Result<Option<EntryRecord>, StorageError>;

    /// How many bytes of sealed values a vault entry has; `None` when there is none.
    async fn entry_size(&self, workspace: WorkspaceId, entry: &EntrySelector) -> Result<Option<u64>, StorageError>;

    /// A vault entry.
    async fn entry(&self, workspace: WorkspaceId, entry: &EntrySelector) -> Result<Option<EntryRecord>, StorageError>;

    /// A workspace's vault entries in the order of their creation, those after `after`: at most `rows` of them, and after the
    /// first no more than `bytes` of sealed values altogether.
    async fn entries(
        &self,
        workspace: WorkspaceId,
        after: Option<EntryId>,
        rows: u32,
        bytes: u64,
    ) -> Result<EntryRecords, StorageError>;

    /// A number that is another one after each change of an API key, a connection, an entry, a rotation, an item's state or
    /// which keys a workspace has. Adding an API key, a connection or an entry need not change it.
    async fn record_changes(&self) -> Result<u64, StorageError>;

    /// A key of the host itself.
    async fn host_key(&self, name: &str) -> Result<Option<HostKeyRecord>, StorageError>;

    /// All keys of the host itself.
    async fn host_keys(&self) -> Result<Vec<HostKeyRecord>, StorageError>;

    /// Adds a key of the host itself. [`Constraint::Unique`] when one of that name exists; [`Constraint::KeyTerm`] unless
    /// it is wrapped by the current master key.
    async fn insert_host_key(&self, key: &HostKeyRecord) -> Result<(), StorageError>;

    /// Reserves requests, as many as there are left below the limit; see [`RequestReservation`]. Counts that are too
    /// old to matter are dropped.
    async fn reserve_requests(&self, reservation: &RequestReservation) -> Result<ReservedRequests, StorageError>;

    /// The counts of a subject's slots from `from` on, in ascending order.
    async fn request_counts(
        &self,
        subject: &[u8; 16],
        kind: RequestKind,
        from: Timestamp,
    ) -> Result<Vec<RequestCount>, StorageError>;

    /// A token's breaker; `None` when it has never failed.
    async fn breaker(&self, subject: &[u8; 16]) -> Result<Option<BreakerRecord>, StorageError>;

    /// Stores a breaker in place of the one of version `expected`, or as the first when there is none expected. Returns
    /// whether it did: another host may have been first.
    async fn save_breaker(&self, breaker: &BreakerRecord, expected: Option<u64>) -> Result<bool, StorageError>;

    /// Drops counts of slots, and breakers last changed, before this time.
    async fn forget_budgets(&self, before: Timestamp) -> Result<(), StorageError>;

    /// The anchors of the audit log in the order of their series.
    async fn audit_anchors(&self) -> Result<Vec<AuditAnchorRecord>, StorageError>;

    /// Adds an anchor, or replaces that of its series if it has a lower number. One with a higher number stays.
    async fn put_audit_anchor(&self, anchor: &AuditAnchorRecord) -> Result<(), StorageError>;

    /// Adds a rotation, if its entry is at the version `entry_version`. Returns whether it did. [`Constraint::Unique`]
    /// when it is open and another one of the same item (or of the same entry, if that is not bound) is, too;
    /// [`Constraint::KeyTerm`] unless its password is sealed under the workspace's current key.
    async fn insert_rotation(&self, rotation: &RotationRecord, entry_version: u64) -> Result<bool, StorageError>;

    /// Replaces a rotation whose version is `expected`. Returns whether it did. What it is a rotation of stays, and so
    /// does `created_at`. When it has an item and is done, conflicted or abandoned, 1 is added to the item's generation. [`Constraint::KeyTerm`] as
    /// in [`insert_rotation`](Self::insert_rotation).
    async fn update_rotation(&self, rotation: &RotationRecord, expected: u64) -> Result<bool, StorageError>;

    /// Makes a committing rotation of this version, which still keeps these very bytes, one whose write-back has failed, with
    /// this reason and message. What it keeps and its version stay. Returns whether it did.
    async fn fail_rotation(&self, rotation: &RotationRecord) -> Result<bool, StorageError>;

    /// Replaces a rotation whose version is `expected` and a vault entry whose version is `entry_expected`: both or
    /// none. Returns whether it did. [`Constraint::KeyTerm`] as for each of them.
    async fn finish_own_rotation(
        &self,
        rotation: &RotationRecord,
        expected: u64,
        entry: &EntryRecord,
        entry_expected: u64,
    ) -> Result<bool, StorageError>;

    /// A rotation.
    async fn rotation(&self, workspace: WorkspaceId, id: RotationId) -> Result<Option<RotationRecord>, StorageError>;

    /// A workspace's rotations that pass the filter, in the order of their beginning, at most `limit` of those after
    /// `after`.
    async fn rotations(
        &self,
        workspace: WorkspaceId,
        filter: &RotationFilter,
        after: Option<RotationId>,
        limit: u32,
    ) -> Result<Vec<RotationRecord>, StorageError>;

    /// The open rotation of an item (its reference), or of an entry that is not bound (`entry:` and its id).
    async fn open_rotation_of_item(
        &self,
        workspace: WorkspaceId,
        item: &str,
    ) -> Result<Option<RotationRecord>, StorageError>;

    /// The rotations of all workspaces whose next attempt is due, or that are committing and were changed after `future`:
    /// the clock was set back since, and says nothing about when they are due; and those that could not be written with settings that their connection
    /// does not have any more. The longest due first, at most `limit`.
    async fn due_rotations(
        &self,
        now: Timestamp,
        future: Timestamp,
        limit: u32,
    ) -> Result<Vec<RotationRecord>, StorageError>;

    /// An item's generation, which grows when a rotation has written it and when an entry that is bound to it is bound
    /// otherwise or deleted, and the open rotation whose password the site has and the item has not
    /// ([`RotationState::Committing`] or [`RotationState::WriteBackFailed`]), both as of the same moment.
    ///
    /// [`RotationState::Committing`]: crate::RotationState::Committing
    /// [`RotationState::WriteBackFailed`]: crate::RotationState::WriteBackFailed
    async fn item_state(
        &self,
        workspace: WorkspaceId,
        item: &str,
    ) -> Result<(u64, Option<RotationRecord>), StorageError>;
}

#[cfg(all(test, unix))]
mod full_disk_tests;
#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod tests;
