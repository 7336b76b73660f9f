//! Password rotations: their states, and which may be open at the same time.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::names::names;
use crate::{ConnectionId, EntryId, EntryRecord, ItemId, RotationId, StorageError, UnknownName, WorkspaceId};

names! {
    /// The state of a rotation.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum RotationState or UnknownName::RotationState {
        /// It was not begun; [`RotationRecord::reason`] says why. The site must not be touched.
        Skipped = "skipped",
        /// The new password is stored; the caller is to change it at the site.
        Prepared = "prepared",
        /// The site has the new password; the item gets it now or at the next attempt.
        Committing = "committing",
        /// The site has the new password, and the item cannot get it until a person has acted.
        WriteBackFailed = "write_back_failed",
        /// The site has the new password, and the item was given another one meanwhile.
        Conflicted = "conflicted",
        /// Both have the new password.
        Done = "done",
        /// It was abandoned.
        Abandoned = "abandoned",
    }
}

impl RotationState {
    /// The states of an open rotation.
    pub const OPEN: [Self; 4] = [Self::Prepared, Self::Committing, Self::WriteBackFailed, Self::Conflicted];

    /// Whether the rotation is open: its new password is kept, and its item cannot be rotated
    /// again.
    pub fn is_open(self) -> bool {
        Self::OPEN.contains(&self)
    }

    /// Whether the item's cached values are invalid: the new password was written, or the site has
    /// another password than the item had when the rotation began, and the item's own counts again.
    pub fn outdates_the_item(self) -> bool {
        matches!(self, Self::Done | Self::Conflicted | Self::Abandoned)
    }
}

/// A password rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRecord {
    /// Its id.
    pub id: RotationId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The entry whose password it is. It may be gone once the rotation is over.
    pub entry_id: EntryId,
    /// The connection through which the item is written. Present if and only if `secret_ref` is.
    pub connection_id: Option<ConnectionId>,
    /// The item that is written; `None` for an unbound entry.
    pub secret_ref: Option<String>,
    /// The [id](crate::account_id) of the account that the item is in. Present while the rotation
    /// is open if and only if `secret_ref` is.
    pub account_id: Option<Arc<str>>,
    /// Who began it: an API key's id, or the name of an operator. `None` for a rotation from before
    /// that was recorded.
    pub begun_by: Option<String>,
    /// Its state.
    pub state: RotationState,
    /// Why it was skipped, failed or is retried, for programs.
    pub reason: Option<String>,
    /// The same for a person.
    pub message: Option<String>,
    /// Envelope with the new password. Present if and only if the rotation is open.
    pub sealed_password: Option<Vec<u8>>,
    /// The revision at which the item may be written.
    pub expected_revision: Option<String>,
    /// How many writes were begun.
    pub attempts: u32,
    /// The deadline of the attempt in flight.
    pub attempt_until: Option<Timestamp>,
    /// When the next attempt is due. Present if and only if the rotation is committing.
    pub next_attempt_at: Option<Timestamp>,
    /// The [version](crate::ConnectionRecord::settings_version) of the settings with which the last
    /// write failed. Absent unless a write has failed, while one is in flight, and when no settings
    /// could help.
    pub failed_settings: Option<u64>,
    /// The row's version, part of what the password is bound to.
    pub version: u64,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl RotationRecord {
    /// The key that is unique among open rotations: the item of a bound entry, otherwise the entry
    /// itself.
    pub fn item(&self) -> ItemId {
        match self.account_id.clone().zip(self.secret_ref.as_deref()) {
            Some((account, reference)) => ItemId { account, reference: reference.into() },
            None => ItemId::of_entry(self.entry_id),
        }
    }

    /// The entry, which is kept while the rotation is open.
    pub fn open_entry_id(&self) -> Option<EntryId> {
        self.state.is_open().then_some(self.entry_id)
    }

    /// The reference of [`item`](Self::item), unique among the open rotations of its account.
    pub fn open_item(&self) -> Option<Arc<str>> {
        self.state.is_open().then(|| self.item().reference)
    }
}

/// Which rotations to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RotationFilter {
    /// Those in one of these states; empty matches every state.
    pub states: Vec<RotationState>,
    /// Those of this entry.
    pub entry: Option<EntryId>,
}

/// Password rotations, and the state of their items.
#[async_trait]
pub trait RotationStorage: Send + Sync + 'static {
    /// Adds a rotation if its entry is at the version `entry_version`. Returns whether it did.
    /// Fails with [`Constraint::Unique`](crate::Constraint::Unique) when it is open and another
    /// rotation of the same item (or of the same unbound entry) is open too, and with
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm) unless its password is sealed under the
    /// workspace's current key.
    async fn insert_rotation(&self, rotation: &RotationRecord, entry_version: u64) -> Result<bool, StorageError>;

    /// Replaces a rotation whose version is `expected`. Returns whether it did. Its subject and
    /// `created_at` stay. When it has an item and is done, conflicted or abandoned, 1 is added to
    /// the item's generation. Fails with [`Constraint::KeyTerm`](crate::Constraint::KeyTerm) as
    /// [`insert_rotation`](Self::insert_rotation) does.
    async fn update_rotation(&self, rotation: &RotationRecord, expected: u64) -> Result<bool, StorageError>;

    /// Marks the write-back of a committing rotation as failed, with this reason and message, if it
    /// is at this version and still has these very bytes. The envelope and the version stay.
    /// Returns whether it did.
    async fn fail_rotation(&self, rotation: &RotationRecord) -> Result<bool, StorageError>;

    /// Replaces both a rotation whose version is `expected` and a vault entry whose version is
    /// `entry_expected`, or neither. Returns whether it did. Fails with
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm) as for each of them.
    async fn finish_own_rotation(
        &self,
        rotation: &RotationRecord,
        expected: u64,
        entry: &EntryRecord,
        entry_expected: u64,
    ) -> Result<bool, StorageError>;

    /// A rotation.
    async fn rotation(&self, workspace: WorkspaceId, id: RotationId) -> Result<Option<RotationRecord>, StorageError>;

    /// The workspace's rotations after `after` that pass the filter, oldest first, at most `limit`.
    async fn rotations(
        &self,
        workspace: WorkspaceId,
        filter: &RotationFilter,
        after: Option<RotationId>,
        limit: u32,
    ) -> Result<Vec<RotationRecord>, StorageError>;

    /// The open rotation of an item, or of an unbound entry.
    async fn open_rotation_of_item(
        &self,
        workspace: WorkspaceId,
        item: &ItemId,
    ) -> Result<Option<RotationRecord>, StorageError>;

    /// The rotations, in all workspaces, whose next attempt is due; the longest overdue first, at
    /// most `limit`. They include:
    ///
    /// * committing rotations that were changed after `future`: the clock has been set back since,
    ///   so their due times mean nothing;
    /// * rotations whose write failed with settings that their connection no longer has;
    /// * rotations of items that failed and were not changed since `failed_before`.
    async fn due_rotations(
        &self,
        now: Timestamp,
        future: Timestamp,
        failed_before: Timestamp,
        limit: u32,
    ) -> Result<Vec<RotationRecord>, StorageError>;

    /// Adds 1 to an item's generation, which invalidates its cached values.
    async fn outdate_item(&self, workspace: WorkspaceId, item: &ItemId) -> Result<(), StorageError>;

    /// The generation of an item, and the open rotation whose password the site has but the item
    /// does not ([`RotationState::Committing`] or [`RotationState::WriteBackFailed`]), both from
    /// the same moment. The generation grows when a rotation has written the item, and when an
    /// entry bound to the item is rebound or deleted.
    async fn item_state(
        &self,
        workspace: WorkspaceId,
        item: &ItemId,
    ) -> Result<(u64, Option<RotationRecord>), StorageError>;
}
