//! The operations on a rotation that was begun. Each may be repeated: it finds what the first one
//! did.
//!
//! An operation that may write an item runs to its end even if its caller is cancelled, so that
//! journal and audit log have its outcome.

use keyway_audit::{Operation, Shortfall, Trail};
use keyway_budget::ProviderOperation;
use keyway_storage::{RotationFilter, RotationId, RotationRecord, RotationState};
use secrecy::SecretString;
use tracing::{info, warn};

use super::journal::{Fingerprint, over, same};
use super::write_back::{describe, reference, to_its_end};
use super::{Rotation, RotationPage, Rotations, item, not_in};
use crate::access::Access;
use crate::error::{BrokerError, Thing};

/// The most rotations on a page of [`Rotations::list`].
pub const ROTATIONS_PER_PAGE: u32 = 1_000;

/// How often an operation is attempted against concurrent changes of the rotation.
const ATTEMPTS: u32 = 8;

impl Rotations {
    /// Records that the site has the new password, and writes it to the item. Needs
    /// [`Scope::Rotate`](crate::Scope::Rotate).
    ///
    /// Returns the rotation as it is after the first attempt to write: done; or committing, and
    /// retried in the background; or failed or conflicted, and waiting for a person. A failed
    /// attempt to write is not an error, because the password is safe. Committing again changes
    /// nothing and returns the rotation as it is.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`]; [`BrokerError::RotationState`] when it was skipped or abandoned.
    pub async fn commit(&self, access: &Access, id: RotationId) -> Result<Rotation, BrokerError> {
        let (rotations, access) = (self.clone(), access.clone());
        to_its_end(async move {
            let trail = Trail::rotation(id);
            rotations
                .core
                .audited(&access, Operation::CommitRotation, &trail, rotations.commit_open(&access, id, &trail))
                .await
        })
        .await
    }

    async fn commit_open(&self, access: &Access, id: RotationId, trail: &Trail) -> Result<Rotation, BrokerError> {
        for _ in 0..ATTEMPTS {
            let record = self.journal.record(access.workspace(), id).await?;
            trail.note(|subject| describe(&record, subject));
            match record.state {
                RotationState::Prepared => {}
                RotationState::Skipped => {
                    return Err(not_in(record.state, "the site's password must stay unchanged; begin again"));
                }
                RotationState::Abandoned => {
                    return Err(not_in(record.state, "its password has been erased; begin again"));
                }
                // The operation that is working on it records its outcome.
                _ => return Ok(record.into()),
            }
            if let Some(rotation) = self.claim_and_write(&record, trail).await? {
                return Ok(rotation);
            }
        }
        Err(BrokerError::Changed(Thing::Rotation))
    }

    /// Retries at once to write a password that is not written yet. Needs
    /// [`Scope::Rotate`](crate::Scope::Rotate).
    ///
    /// A pause of the connection's calls is ended first; only a used-up request limit is not.
    ///
    /// `overwrite` is for a conflicted rotation: it replaces the password that the item has now.
    ///
    /// # Errors
    /// As [`commit`](Self::commit); [`BrokerError::RotationState`] also when it was not committed.
    pub async fn retry(&self, access: &Access, id: RotationId, overwrite: bool) -> Result<Rotation, BrokerError> {
        let (rotations, access) = (self.clone(), access.clone());
        to_its_end(async move {
            let trail = Trail::rotation(id);
            let retry = rotations.retry_open(&access, id, overwrite, &trail);
            rotations.core.audited(&access, Operation::RetryRotation, &trail, retry).await
        })
        .await
    }

    async fn retry_open(
        &self,
        access: &Access,
        id: RotationId,
        overwrite: bool,
        trail: &Trail,
    ) -> Result<Rotation, BrokerError> {
        for _ in 0..ATTEMPTS {
            let mut record = self.journal.record(access.workspace(), id).await?;
            trail.note(|subject| describe(&record, subject));
            if is_waiting(record.state) {
                self.journal.open(&record).await?;
                trail.begin().await?;
                self.end_pauses(&record).await;
            }
            match record.state {
                RotationState::Prepared => {
                    return Err(not_in(record.state, "change the password on the site, then commit it"));
                }
                RotationState::Skipped | RotationState::Abandoned => {
                    return Err(not_in(record.state, "there is nothing to write; begin again"));
                }
                RotationState::Done => return Ok(record.into()),
                RotationState::Conflicted if overwrite => match self.accept_current(record, trail).await? {
                    Some(accepted) => record = accepted,
                    None => continue,
                },
                // From the claim on, resolves would return the rotation's password as the site's,
                // which is uncertain in a conflict.
                RotationState::Conflicted if self.is_still_conflicted(&record, trail).await? => {
                    trail.fell_short(Shortfall::WriteBackConflict);
                    return Ok(record.into());
                }
                _ => {}
            }
            if let Some(rotation) = self.claim_and_write(&record, trail).await? {
                return Ok(rotation);
            }
        }
        Err(BrokerError::Changed(Thing::Rotation))
    }

    /// Abandons a rotation and erases its password, because the site did not take it. Needs
    /// [`Scope::Rotate`](crate::Scope::Rotate).
    ///
    /// A committed rotation is the only place that has the site's password, so abandoning one
    /// requires `discard_password`.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`]; [`BrokerError::RotationState`] when it is done, was skipped, is
    /// being written at this moment, or was committed and `discard_password` is not set.
    pub async fn abandon(
        &self,
        access: &Access,
        id: RotationId,
        discard_password: bool,
    ) -> Result<Rotation, BrokerError> {
        let trail = Trail::rotation(id);
        let abandon = self.abandon_open(access, id, discard_password, &trail);
        self.core.audited(access, Operation::AbandonRotation, &trail, abandon).await
    }

    async fn abandon_open(
        &self,
        access: &Access,
        id: RotationId,
        discard_password: bool,
        trail: &Trail,
    ) -> Result<Rotation, BrokerError> {
        for _ in 0..ATTEMPTS {
            let record = self.journal.record(access.workspace(), id).await?;
            trail.note(|subject| describe(&record, subject));
            match record.state {
                RotationState::Prepared => {}
                RotationState::Abandoned => return Ok(record.into()),
                RotationState::Skipped | RotationState::Done => return Err(over(record.state)),
                _ if !discard_password => {
                    return Err(not_in(
                        record.state,
                        "only this rotation keeps the site's new password; abandon it with the password discarded only after the site has another password",
                    ));
                }
                _ if record.attempt_until.is_some_and(|until| until > self.core.timestamp()) => {
                    return Err(not_in(record.state, "the password is being written; try again later"));
                }
                _ => {}
            }
            trail.begin().await?;
            if let Some(abandoned) = self.journal.abandon(&record).await? {
                if record.state == RotationState::Prepared {
                    info!(rotation = %id, entry = %record.entry_id, "password rotation abandoned");
                } else {
                    warn!(rotation = %id, entry = %record.entry_id, "a committed password rotation was abandoned and its password erased");
                }
                return Ok(abandoned.into());
            }
        }
        Err(BrokerError::Changed(Thing::Rotation))
    }

    /// A rotation. Needs [`Scope::Rotate`](crate::Scope::Rotate).
    ///
    /// # Errors
    /// [`BrokerError::NotFound`].
    pub async fn get(&self, access: &Access, id: RotationId) -> Result<Rotation, BrokerError> {
        let read = async { Ok(self.journal.record(access.workspace(), id).await?.into()) };
        self.core.audited(access, Operation::Rotation, &Trail::rotation(id), read).await
    }

    /// A page of a workspace's rotations: those after `after`, at most [`ROTATIONS_PER_PAGE`].
    /// Needs [`Scope::Rotate`](crate::Scope::Rotate).
    ///
    /// # Errors
    /// Only those of the host itself.
    pub async fn list(
        &self,
        access: &Access,
        filter: &RotationFilter,
        after: Option<RotationId>,
    ) -> Result<RotationPage, BrokerError> {
        let list = async {
            let records = self.core.storage.rotations(access.workspace(), filter, after, ROTATIONS_PER_PAGE).await?;
            let is_full = records.len() == ROTATIONS_PER_PAGE as usize;
            let next = records.last().filter(|_| is_full).map(|rotation| rotation.id);
            Ok(RotationPage { rotations: records.into_iter().map(Rotation::from).collect(), next })
        };
        self.core.audited(access, Operation::ListRotations, &Trail::new(), list).await
    }

    /// The new password of an open rotation, for a person who repairs a failed one. Needs
    /// [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// # Errors
    /// [`BrokerError::NotFound`]; [`BrokerError::RotationState`] when it has ended.
    pub async fn reveal(&self, access: &Access, id: RotationId) -> Result<SecretString, BrokerError> {
        let trail = Trail::rotation(id);
        let reveal = async {
            let record = self.journal.record(access.workspace(), id).await?;
            trail.note(|subject| describe(&record, subject));
            let password = self.journal.open(&record).await?.password;
            trail.note(|subject| subject.released_new_password());
            Ok(password)
        };
        self.core.audited(access, Operation::RevealRotation, &trail, reveal).await
    }

    /// Ends the pauses of the rotation's connection. An error shows again in what follows.
    async fn end_pauses(&self, record: &RotationRecord) {
        if record.secret_ref.is_none() {
            return;
        }
        if let Ok(connection) = self.connection_of(record).await
            && let Err(error) = self.connections.end_pauses(&connection).await
        {
            warn!(rotation = %record.id, %error, "the pauses of a rotation's connection could not be ended");
        }
    }

    /// Makes the item's current password the one to replace.
    async fn accept_current(
        &self,
        record: RotationRecord,
        trail: &Trail,
    ) -> Result<Option<RotationRecord>, BrokerError> {
        let mut contents = self.journal.open(&record).await?;
        let (current, revision) = self.current_password(&record, trail).await?;
        contents.replaces = Fingerprint::of(&current)?;
        self.journal.advance(&record, &contents, |record| record.expected_revision = revision).await
    }

    /// Whether the item has neither the new password nor the one to replace.
    async fn is_still_conflicted(&self, record: &RotationRecord, trail: &Trail) -> Result<bool, BrokerError> {
        let contents = self.journal.open(record).await?;
        let (current, _) = self.current_password(record, trail).await?;
        Ok(!same(&current, &contents.password) && !contents.replaces.fits(&current))
    }

    /// The current password of the item (or the entry), empty when it has none, and the item's
    /// revision.
    async fn current_password(
        &self,
        record: &RotationRecord,
        trail: &Trail,
    ) -> Result<(SecretString, Option<String>), BrokerError> {
        let (current, revision) = if record.secret_ref.is_some() {
            let opened = self.open_for(record, &*self.connection_of(record).await?, trail).await?;
            let (current, revision) =
                item::read_password(&opened, reference(record), ProviderOperation::ReadBack).await?;
            (current, Some(revision))
        } else {
            self.core.hold_keys(record.workspace_id).await?;
            let entry = self.core.storage.entry(record.workspace_id, &record.entry_id.into()).await?;
            (self.own_password(&entry.ok_or(BrokerError::NotFound(Thing::Entry))?).await?, None)
        };
        Ok((current.unwrap_or_default(), revision))
    }
}

/// Whether a rotation in this state waits for its password to be written.
fn is_waiting(state: RotationState) -> bool {
    matches!(state, RotationState::Committing | RotationState::WriteBackFailed | RotationState::Conflicted)
}
