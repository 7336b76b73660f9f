//! Password rotations: how far each is, and which may be open beside each other.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::names::names;
use crate::{ConnectionId, EntryId, EntryRecord, ItemId, RotationId, StorageError, UnknownName, WorkspaceId};

names! {
    /// How far a rotation is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum RotationState or UnknownName::RotationState {
        /// It was not begun; [`RotationRecord::reason`] says why. The site must not be touched.
        Skipped = "skipped",
        /// The new password is stored, and the site is the caller's to change.
        Prepared = "prepared",
        /// The site has the new password; the item gets it now or at the next attempt.
        Committing = "committing",
        /// The site has the new password, and the item cannot get it until a person has done
        /// something about it.
        WriteBackFailed = "write_back_failed",
        /// The site has the new password, and somebody has given the item another one meanwhile.
        Conflicted = "conflicted",
        /// Both have the new password.
        Done = "done",
        /// It was given up.
        Abandoned = "abandoned",
    }
}

impl RotationState {
    /// The states of a rotation that is not over.
    pub const OPEN: [Self; 4] = [Self::Prepared, Self::Committing, Self::WriteBackFailed, Self::Conflicted];

    /// Whether the rotation is not over: its new password is kept, and its item cannot be rotated
    /// again.
    pub fn is_open(self) -> bool {
        Self::OPEN.contains(&self)
    }

    /// Whether what was cached of the item before may not be used any more: its new password was
    /// written, or the site has another one than the item had when the rotation began, and it is
    /// the item's that counts again.
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
    /// The entry whose password it is. It need not exist any more when the rotation is over.
    pub entry_id: EntryId,
    /// The connection through which the item is written. Present if and only if `secret_ref` is.
    pub connection_id: Option<ConnectionId>,
    /// The item that is written; `None` for an entry that is not bound.
    pub secret_ref: Option<String>,
    /// The [id](crate::account_id) of the account that the item is in. Present while the rotation
    /// is open if and only if `secret_ref` is.
    pub account_id: Option<Arc<str>>,
    /// How far it is.
    pub state: RotationState,
    /// Why it was skipped, failed or has to be tried again, for programs.
    pub reason: Option<String>,
    /// The same for a person.
    pub message: Option<String>,
    /// Envelope with the new password. Present if and only if the rotation is open.
    pub sealed_password: Option<Vec<u8>>,
    /// The revision at which the item may be written.
    pub expected_revision: Option<String>,
    /// How often writing was begun.
    pub attempts: u32,
    /// Until when the attempt that is under way may take.
    pub attempt_until: Option<Timestamp>,
    /// When the next attempt is due. Present if and only if the rotation is committing.
    pub next_attempt_at: Option<Timestamp>,
    /// The [version](crate::ConnectionRecord::settings_version) of the settings that it could not
    /// be written with. Not unless writing it has failed, and not when it is hopeless with any.
    pub failed_settings: Option<u64>,
    /// The row's version, part of what the password is bound to.
    pub version: u64,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl RotationRecord {
    /// What is rotated, as the database keeps it unique among open rotations: the item of a bound
    /// entry, else the entry itself.
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

    /// The reference of [`item`](Self::item), which is unique among open rotations of its account.
    pub fn open_item(&self) -> Option<Arc<str>> {
        self.state.is_open().then(|| self.item().reference)
    }
}

/// Which rotations to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RotationFilter {
    /// Those in one of these states; in any when there is none.
    pub states: Vec<RotationState>,
    /// Those of this entry.
    pub entry: Option<EntryId>,
}

/// Password rotations, and the state of the items that they write.
#[async_trait]
pub trait RotationStorage: Send + Sync + 'static {
    /// Adds a rotation, if its entry is at the version `entry_version`. Returns whether it did.
    /// [`Constraint::Unique`](crate::Constraint::Unique) when it is open and another one of the
    /// same item (or of the same entry, if that is not bound) is, too;
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm) unless its password is sealed under the
    /// workspace's current key.
    async fn insert_rotation(&self, rotation: &RotationRecord, entry_version: u64) -> Result<bool, StorageError>;

    /// Replaces a rotation whose version is `expected`. Returns whether it did. What it is a
    /// rotation of stays, and so does `created_at`. When it has an item and is done, conflicted or
    /// abandoned, 1 is added to the item's generation.
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm) as in
    /// [`insert_rotation`](Self::insert_rotation).
    async fn update_rotation(&self, rotation: &RotationRecord, expected: u64) -> Result<bool, StorageError>;

    /// Makes a committing rotation of this version, which still keeps these very bytes, one whose
    /// write-back has failed, with this reason and message. What it keeps and its version stay.
    /// Returns whether it did.
    async fn fail_rotation(&self, rotation: &RotationRecord) -> Result<bool, StorageError>;

    /// Replaces a rotation whose version is `expected` and a vault entry whose version is
    /// `entry_expected`: both or none. Returns whether it did.
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

    /// A workspace's rotations that pass the filter, in the order of their beginning, at most
    /// `limit` of those after `after`.
    async fn rotations(
        &self,
        workspace: WorkspaceId,
        filter: &RotationFilter,
        after: Option<RotationId>,
        limit: u32,
    ) -> Result<Vec<RotationRecord>, StorageError>;

    /// The open rotation of an item, or of an entry that is not bound.
    async fn open_rotation_of_item(
        &self,
        workspace: WorkspaceId,
        item: &ItemId,
    ) -> Result<Option<RotationRecord>, StorageError>;

    /// The rotations of all workspaces whose next attempt is due, or that are committing and were
    /// changed after `future`: the clock was set back since, and says nothing about when they are
    /// due; and those that could not be written with settings that their connection does not have
    /// any more. The longest due first, at most `limit`.
    async fn due_rotations(
        &self,
        now: Timestamp,
        future: Timestamp,
        limit: u32,
    ) -> Result<Vec<RotationRecord>, StorageError>;

    /// Adds 1 to an item's generation: what was cached of it is not used any more.
    async fn outdate_item(&self, workspace: WorkspaceId, item: &ItemId) -> Result<(), StorageError>;

    /// An item's generation, which grows when a rotation has written it and when an entry that is
    /// bound to it is bound otherwise or deleted, and the open rotation whose password the site has
    /// and the item has not ([`RotationState::Committing`] or [`RotationState::WriteBackFailed`]),
    /// both as of the same moment.
    async fn item_state(
        &self,
        workspace: WorkspaceId,
        item: &ItemId,
    ) -> Result<(u64, Option<RotationRecord>), StorageError>;
}
