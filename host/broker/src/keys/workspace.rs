//! Rotating a workspace's key.
//!
//! **Invariants**
//!
//! 1. *For clients the rotation is one moment:* the one at which the row of the new key is durable.
//!    From then on the new client encryption key is the workspace's: what was encrypted under the
//!    old one is refused, and whatever is read is encrypted under the new one, wherever its row
//!    stands ([`WorkspaceKeys::open`](crate::keyring::WorkspaceKeys::open) translates what has not
//!    been sealed anew yet). Before that moment every value is opened once, so that a damaged one
//!    stops the rotation while nothing has changed.
//! 2. *At every moment everything opens:* the key that a row is sealed under is in the database.
//!    Rows are sealed anew in batches; each is replaced only if it is still the one that was read.
//!    The old key is deleted in the transaction that finds no row under it.
//! 3. *The old key gets no new rows:* the database accepts sealed values under the current key only
//!    ([`Constraint::KeyTerm`](keyway_storage::Constraint::KeyTerm)), checked in the transaction of
//!    the write. So the rows under the old key only become fewer, whatever is written meanwhile,
//!    and by whichever process.
//!
//! **How it can fail:** whoever is killed before the moment of (1) has changed nothing. After it
//! the rotation stands, and what remains is work that any process can go on with:
//! [`Keys::rotate_workspace`] finishes what it finds, and so does a server at its start
//! ([`Keys::finish_rotations`]). Memory is bounded by the size of a batch.
//!
//! Rows keep their versions and times: nothing that anybody can see of them has changed but the
//! ciphertext. Cached secrets are dropped, because their key is another one. A process keeps the
//! old key in memory for [`RETIRED_FOR`](crate::keyring::RETIRED_FOR) after it was deleted, for
//! readers that hold rows from before.

use keyway_audit::{Operation, Trail};
use keyway_storage::{Constraint, SealedColumn, SealedValue, StorageError, WorkspaceId};
use secrecy::SecretString;
use tracing::{info, warn};
use uuid::Uuid;

use super::Keys;
use crate::access::Access;
use crate::error::{BrokerError, Thing};
use crate::keyring::{WorkspaceKeys, place};

/// A batch is at most so many rows, and about so many bytes: little enough to hold, and to write
/// while others wait.
const BATCH_ROWS: u32 = 256;
const BATCH_BYTES: u64 = 4 << 20;

/// The key of a workspace was rotated.
#[derive(Debug)]
#[non_exhaustive]
pub struct RotatedWorkspaceKey {
    /// The key that clients encrypt under from now on: 64 hexadecimal digits.
    pub encryption_key: SecretString,
    /// Counts the workspace's keys from 1.
    pub term: u32,
    /// How many values were sealed anew.
    pub values: u64,
    /// Whether this finished a rotation that was cut off, in place of beginning one.
    pub resumed: bool,
}

impl Keys {
    /// Rotates the workspace's key: everything that is sealed is sealed anew under a new key, and
    /// the old one is destroyed. Clients need the new encryption key from now on; what they encrypt
    /// under the old one is refused. Needs [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// Requests are served meanwhile. A rotation that was cut off before is finished in place of
    /// beginning another.
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`], [`BrokerError::NotFound`]; [`BrokerError::Envelope`] when a
    /// value is damaged. See the head of the module for what stands after an error.
    pub async fn rotate_workspace(&self, access: &Access) -> Result<RotatedWorkspaceKey, BrokerError> {
        let trail = Trail::new();
        let rotate = async {
            let workspace = access.workspace();
            let begun = self.begin_rotation_of(workspace).await?;
            let values = self.finish_rotation_of(workspace).await?;
            trail.note(|subject| subject.count = Some(values));
            let keys = self.core.keyring.get(workspace).await?;
            info!(%workspace, term = keys.current_term(), values, resumed = !begun, "workspace key rotated");
            Ok(RotatedWorkspaceKey {
                encryption_key: keys.client().to_hex(),
                term: keys.current_term(),
                values,
                resumed: !begun,
            })
        };
        self.core.audited(access, Operation::RotateWorkspaceKey, &trail, rotate).await
    }

    /// Finishes the rotations of workspace keys that were cut off. A server calls it at its start
    /// and every minute; it may run beside everything else, and in several processes. Returns how
    /// many it has finished.
    ///
    /// One that cannot be finished is in nobody's way, and is left out by the next calls for a time
    /// that grows to an hour. What keys that were replaced have left in the files of the database
    /// is overwritten, if somebody's reading was in the way until now.
    ///
    /// # Errors
    /// As [`rotate_workspace`](Self::rotate_workspace): the first one, after all others
    /// were finished.
    pub async fn finish_rotations(&self) -> Result<u64, BrokerError> {
        let unfinished = self.core.storage.unfinished_key_rotations().await?;
        let (mut finished, mut first_error) = (0, None);
        for workspace in self.attempts.due(unfinished, self.core.now()) {
            match self.finish_cut_off_rotation_of(workspace).await {
                Ok(()) => finished += 1,
                Err(error) => {
                    warn!(%workspace, %error, "a rotation of the workspace key that was cut off cannot be finished; nothing is lost");
                    // What the whole host lacks is no reason to leave this workspace out.
                    if !matches!(error, BrokerError::Storage(_) | BrokerError::Audit(_)) {
                        self.attempts.failed(workspace, self.core.now());
                    }
                    first_error.get_or_insert(error);
                }
            }
        }
        if let Err(error) = self.core.storage.erase_traces().await {
            first_error.get_or_insert(error.into());
        }
        first_error.map_or(Ok(finished), Err)
    }

    async fn finish_cut_off_rotation_of(&self, workspace: WorkspaceId) -> Result<(), BrokerError> {
        let trail = Trail::new();
        let finish = async {
            let values = self.finish_rotation_of(workspace).await?;
            trail.note(|subject| subject.count = Some(values));
            info!(%workspace, values, "finished a rotation of the workspace key that was cut off");
            Ok(())
        };
        self.core.audited_of_its_own(workspace, Operation::RotateWorkspaceKey, &trail, finish).await
    }

    /// Puts a new key in force, unless that has happened and is not finished. Returns whether it
    /// did.
    async fn begin_rotation_of(&self, workspace: WorkspaceId) -> Result<bool, BrokerError> {
        loop {
            self.core.keyring.forget(workspace);
            let keys = self.core.keyring.get(workspace).await?;
            if keys.is_being_rotated() {
                return Ok(false);
            }
            self.every_value_opens(&keys).await?;
            let (record, _) =
                self.core.keyring.generate(workspace, keys.current_term() + 1, self.core.timestamp()).await?;
            let inserted = self.core.storage.insert_workspace_key(&record).await;
            self.core.keyring.forget(workspace);
            match inserted {
                Ok(()) => return Ok(true),
                // Somebody else rotates this key, or has replaced the master key, at the same time.
                Err(StorageError::Conflict(Constraint::Unique | Constraint::KeyTerm)) => {}
                Err(StorageError::Conflict(Constraint::Reference)) => {
                    return Err(BrokerError::NotFound(Thing::Workspace));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Seals everything under the current key, and deletes the older ones. Returns how many values
    /// that were.
    async fn finish_rotation_of(&self, workspace: WorkspaceId) -> Result<u64, BrokerError> {
        let mut values = 0;
        loop {
            self.core.keyring.forget(workspace);
            let keys = self.core.keyring.get(workspace).await?;
            let term = keys.current_term();
            for column in SealedColumn::ALL {
                values += self.seal_anew(&keys, column).await?;
            }
            let deleted = self.core.storage.delete_replaced_workspace_keys(workspace, term).await?;
            self.core.keyring.forget(workspace);
            if deleted {
                return Ok(values);
            }
        }
    }

    /// Whether everything could be sealed anew.
    async fn every_value_opens(&self, keys: &WorkspaceKeys) -> Result<(), BrokerError> {
        // No value is under a key that does not exist yet.
        let next = keys.current_term() + 1;
        for column in SealedColumn::ALL {
            let mut after = Uuid::nil();
            while let Some(batch) = self.batch(keys, column, next, &mut after).await? {
                for value in batch {
                    keys.check(&place(keys.workspace(), column, value.id.as_bytes(), value.version), &value.envelope)?;
                }
            }
        }
        Ok(())
    }

    /// Seals what a column has under older keys under the current one. Returns how many values that
    /// were.
    async fn seal_anew(&self, keys: &WorkspaceKeys, column: SealedColumn) -> Result<u64, BrokerError> {
        let (mut after, mut replaced) = (Uuid::nil(), 0);
        while let Some(batch) = self.batch(keys, column, keys.current_term(), &mut after).await? {
            let mut sealed = Vec::with_capacity(batch.len());
            for value in batch {
                let place = place(keys.workspace(), column, value.id.as_bytes(), value.version);
                let plaintext = keys.open_plaintext(&place, &value.envelope)?;
                let envelope = self.core.keyring.seal(keys, &place, &plaintext).await?;
                sealed.push((value, envelope));
            }
            replaced += self.core.storage.replace_sealed_values(keys.workspace(), column, &sealed).await?;
        }
        Ok(replaced)
    }

    /// The next values that are not under the key of this term; `None` when there are no more.
    async fn batch(
        &self,
        keys: &WorkspaceKeys,
        column: SealedColumn,
        term: u32,
        after: &mut Uuid,
    ) -> Result<Option<Vec<SealedValue>>, StorageError> {
        let storage = &self.core.storage;
        let batch = storage.sealed_values(keys.workspace(), column, term, *after, BATCH_ROWS, BATCH_BYTES).await?;
        *after = batch.last().map_or(*after, |last| last.id);
        Ok(Some(batch).filter(|batch| !batch.is_empty()))
    }
}
