//! Rotating a workspace's key.
//!
//! **Invariants**
//!
//! 1. *For clients the rotation is atomic:* it happens when the row of the new key is durable. From
//!    then on, values under the old client encryption key are refused, and every value is returned
//!    under the new one, whichever key its row is sealed under
//!    ([`WorkspaceKeys::open`](crate::keyring::WorkspaceKeys::open) re-encrypts those that are not
//!    sealed again yet). Before that, every value is opened once, so that a damaged one stops the
//!    rotation before anything has changed.
//! 2. *Every row opens at any time:* the key that it is sealed under is in the database. Rows are
//!    sealed again in batches; each is replaced only if it has not changed since it was read. The
//!    old key is deleted in the transaction that finds no row under it.
//! 3. *The old key gets no new rows:* the database accepts sealed values under the current key only
//!    ([`Constraint::KeyTerm`](keyway_storage::Constraint::KeyTerm)), checked in the transaction of
//!    the write. So the rows under the old key only decrease, whatever any process writes.
//!
//! **How it can fail:** a process that is killed before the moment of (1) has changed nothing.
//! After it the rotation stands, and any process can continue the remaining work:
//! [`Keys::rotate_workspace`] finishes an interrupted rotation, and so does a server at its start
//! ([`Keys::finish_rotations`]). Memory is bounded by the size of a batch.
//!
//! Rows keep their versions and times: only their ciphertext changes. Cached secrets are dropped,
//! because their key changes. A process keeps the old key in memory for
//! [`RETIRED_FOR`](crate::keyring::RETIRED_FOR) after it was deleted, for readers that hold older
//! rows.

use keyway_audit::{Operation, Trail};
use keyway_keys::{EnvelopeError, KeyError};
use keyway_storage::{Constraint, SealedColumn, SealedValue, StorageError, WorkspaceId};
use secrecy::SecretString;
use tracing::{info, warn};
use uuid::Uuid;

use super::Keys;
use crate::access::Access;
use crate::core::Core;
use crate::error::{BrokerError, Thing};
use crate::keyring::{WorkspaceKeys, place};

/// The limits of a batch, in rows and approximately in bytes: small enough for memory, and for a
/// transaction that others wait for.
const BATCH_ROWS: u32 = 256;
const BATCH_BYTES: u64 = 4 << 20;

/// How often everything is looked through. One round suffices, unless values are written meanwhile
/// by a process that has not noticed the new key.
const ROUNDS: usize = 100;

/// The key of a workspace was rotated.
#[derive(Debug)]
#[non_exhaustive]
pub struct RotatedWorkspaceKey {
    /// The key that clients encrypt under from now on: 64 hexadecimal digits.
    pub encryption_key: SecretString,
    /// Counts the workspace's keys from 1.
    pub term: u32,
    /// How many values were sealed again.
    pub values: u64,
    /// Whether this finished an interrupted rotation instead of beginning one.
    pub resumed: bool,
}

impl Keys {
    /// Rotates the workspace's key: everything that is sealed is sealed again under a new key, and
    /// the old one is destroyed. Clients need the new encryption key from now on; values under the
    /// old one are refused. Needs [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// Requests are served meanwhile. If an earlier rotation was interrupted, this finishes it and
    /// begins no new one.
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`], [`BrokerError::NotFound`]; [`StorageError::Damaged`] with the
    /// row of a value that does not open. After an error, the rotation either has not begun or can
    /// be finished later, see the head of the module.
    pub async fn rotate_workspace(&self, access: &Access) -> Result<RotatedWorkspaceKey, BrokerError> {
        let trail = Trail::new();
        let rotate = async {
            let workspace = access.workspace();
            let begun = self.begin_rotation_of(workspace, &trail).await?;
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

    /// Finishes interrupted rotations of workspace keys. A server calls it at its start and every
    /// minute; it may run concurrently with everything else, and in several processes. Returns how
    /// many it has finished.
    ///
    /// A rotation that cannot be finished does not block the others, and is skipped by the next
    /// calls for a time that grows to an hour. Traces of replaced keys in the files of the database
    /// are overwritten, if a concurrent read has prevented it so far.
    ///
    /// # Errors
    /// As [`rotate_workspace`](Self::rotate_workspace): the first error, after all other rotations
    /// were attempted.
    pub async fn finish_rotations(&self) -> Result<u64, BrokerError> {
        self.core.ensure_open()?;
        let unfinished = self.core.storage.unfinished_key_rotations().await?;
        let (mut finished, mut first_error) = (0, None);
        for workspace in self.attempts.due(unfinished, self.core.now()) {
            match self.finish_cut_off_rotation_of(workspace).await {
                Ok(()) => finished += 1,
                Err(error) => {
                    warn!(%workspace, %error, "an interrupted rotation of the workspace key cannot be finished; no data is lost");
                    match error {
                        BrokerError::Storage(ref error) if error.is_of_one_row() => {
                            self.attempts.failed(workspace, self.core.now());
                        }
                        // A failure of the whole host is no reason to skip this workspace.
                        BrokerError::Storage(_) | BrokerError::Audit(_) => {}
                        _ => self.attempts.failed(workspace, self.core.now()),
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
            trail.begin().await?;
            let values = self.finish_rotation_of(workspace).await?;
            trail.note(|subject| subject.count = Some(values));
            info!(%workspace, values, "finished an interrupted rotation of the workspace key");
            Ok(())
        };
        self.core.audited_of_its_own(workspace, Operation::RotateWorkspaceKey, &trail, finish).await
    }

    /// Puts a new key in force, unless a rotation is unfinished. Returns whether it did.
    async fn begin_rotation_of(&self, workspace: WorkspaceId, trail: &Trail) -> Result<bool, BrokerError> {
        loop {
            self.core.keyring.forget(workspace);
            let keys = self.core.keyring.get(workspace).await?;
            if keys.is_being_rotated() {
                trail.begin().await?;
                return Ok(false);
            }
            self.every_value_opens(&keys).await?;
            trail.begin().await?;
            let (record, _) =
                self.core.keyring.generate(workspace, keys.current_term() + 1, self.core.timestamp()).await?;
            let inserted = self.core.storage.insert_workspace_key(&record).await;
            self.core.keyring.forget(workspace);
            match inserted {
                Ok(()) => return Ok(true),
                // Concurrently, this key is being rotated or the master key was replaced.
                Err(StorageError::Conflict(Constraint::Unique | Constraint::KeyTerm)) => {}
                Err(StorageError::Conflict(Constraint::Reference)) => {
                    return Err(BrokerError::NotFound(Thing::Workspace));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Seals everything under the current key, and deletes the older keys. Returns the number of
    /// values that were sealed.
    async fn finish_rotation_of(&self, workspace: WorkspaceId) -> Result<u64, BrokerError> {
        let mut values = 0;
        for _ in 0..ROUNDS {
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
        Err(StorageError::Busy.into())
    }

    /// Checks that every value could be sealed again.
    async fn every_value_opens(&self, keys: &WorkspaceKeys) -> Result<(), BrokerError> {
        match damaged_values(&self.core, keys, 1).await?.pop() {
            Some((column, id)) => Err(damaged(column, id)),
            None => Ok(()),
        }
    }

    /// Seals a column's values that are under older keys under the current one. Returns their
    /// number.
    async fn seal_anew(&self, keys: &WorkspaceKeys, column: SealedColumn) -> Result<u64, BrokerError> {
        let (mut after, mut replaced) = (Uuid::nil(), 0);
        while let Some(batch) = batch(&self.core, keys, column, keys.current_term(), &mut after).await? {
            let mut sealed = Vec::with_capacity(batch.len());
            for value in batch {
                let place = place(keys.workspace(), column, value.id.as_bytes(), value.version);
                let plaintext = keys.open_plaintext(&place, &value.envelope).map_err(|_| damaged(column, value.id))?;
                let envelope = self.core.keyring.seal(keys, &place, &plaintext).await?;
                sealed.push((value, envelope));
            }
            replaced += self.core.storage.replace_sealed_values(keys.workspace(), column, &sealed).await?;
        }
        Ok(replaced)
    }
}

/// The values of a workspace that cannot be sealed again, at most `limit`.
pub(crate) async fn damaged_values(
    core: &Core,
    keys: &WorkspaceKeys,
    limit: usize,
) -> Result<Vec<(SealedColumn, Uuid)>, BrokerError> {
    // No value is under a future key, so this selects all values.
    let next = keys.current_term() + 1;
    let mut found = Vec::new();
    for column in SealedColumn::ALL {
        let mut after = Uuid::nil();
        while let Some(batch) = batch(core, keys, column, next, &mut after).await? {
            for value in batch {
                let place = place(keys.workspace(), column, value.id.as_bytes(), value.version);
                let opens = match keys.check(&place, &value.envelope) {
                    // Another process may have rotated the key meanwhile.
                    Err(EnvelopeError::UnknownTerm(_)) => {
                        match core.keyring.get_for(keys.workspace(), [&*value.envelope]).await {
                            Ok(keys) => keys.check(&place, &value.envelope).is_ok(),
                            Err(BrokerError::Envelope(_) | BrokerError::Key(KeyError::Envelope(_))) => false,
                            Err(BrokerError::Storage(error)) if error.is_of_one_row() => false,
                            Err(error) => return Err(error),
                        }
                    }
                    opens => opens.is_ok(),
                };
                if !opens {
                    found.push((column, value.id));
                }
                if found.len() >= limit {
                    return Ok(found);
                }
            }
        }
    }
    Ok(found)
}

fn damaged(column: SealedColumn, id: Uuid) -> BrokerError {
    StorageError::Damaged { table: column.table(), id }.into()
}

/// The next values that are not under the key of this term; `None` when there are no more.
async fn batch(
    core: &Core,
    keys: &WorkspaceKeys,
    column: SealedColumn,
    term: u32,
    after: &mut Uuid,
) -> Result<Option<Vec<SealedValue>>, StorageError> {
    let batch = core.storage.sealed_values(keys.workspace(), column, term, *after, BATCH_ROWS, BATCH_BYTES).await?;
    *after = batch.last().map_or(*after, |last| last.id);
    Ok(Some(batch).filter(|batch| !batch.is_empty()))
}
