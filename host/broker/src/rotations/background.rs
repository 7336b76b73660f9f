//! Write-backs that are due, in the background: those that failed temporarily, those whose process
//! ended in the middle, those that failed with settings which their connection no longer has, and
//! from time to time those that have failed for good.
//!
//! The task begins when the broker opens and ends with it. Each attempt is recorded as the broker's
//! own; while it cannot be recorded, none is made. The task polls the database and keeps no
//! schedule of its own, so it also finds what another process (the command line) has left undone.
//!
//! A rotation whose sealed password no longer opens, because the database is damaged, becomes
//! `write_back_failed`. Anything else that prevents an attempt is logged once, and not at every
//! poll.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use keyway_audit::{Operation, Shortfall, Trail};
use keyway_clock::CLOCK_TOLERANCE;
use keyway_keys::EnvelopeError;
use keyway_storage::{RotationId, RotationRecord, RotationState};
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::write_back::{describe, to_its_end};
use super::{Rotation, Rotations};
use crate::background::{at_most, every};
use crate::error::{BrokerError, Thing};

/// How often to poll. A poll reads one index, which is nearly always empty.
const INTERVAL: Duration = Duration::from_secs(5);

/// How often a failed rotation is retried: its cause may be mended in the secret manager, and this
/// host is not told. That makes 24 attempts a day.
const FAILED_AGAIN: Duration = Duration::from_secs(60 * 60);

/// How many are written at the same time, and how many a poll takes.
const AT_A_TIME: usize = 8;
const BATCH: u32 = 256;

/// Starts polling for write-backs that are due. Attempts that are running when it is stopped run to
/// their end, or are repeated when their claim has expired.
pub(crate) fn start(tasks: &mut JoinSet<()>, rotations: Weak<Rotations>) {
    every(INTERVAL, tasks, rotations, |rotations| async move {
        if let Err(error) = rotations.write_back_due().await {
            warn!(%error, "cannot look for passwords to write back");
        }
    });
}

impl Rotations {
    /// Makes every attempt that is due, in all workspaces, and returns how many there were. An open
    /// broker does this every few seconds, unless its background work is turned off
    /// ([`BrokerBuilder::background_work`](crate::BrokerBuilder::background_work)).
    ///
    /// # Errors
    /// Those of the database. The outcome of an attempt is in its rotation.
    pub async fn write_back_due(&self) -> Result<usize, BrokerError> {
        self.core.ensure_open()?;
        let now = self.core.timestamp();
        let future = now.checked_add(CLOCK_TOLERANCE).unwrap_or(now);
        let failed_before = now.checked_sub(FAILED_AGAIN).unwrap_or(now);
        let due = self.core.storage.due_rotations(now, future, failed_before, BATCH).await?;
        let (mut made, mut failed) = (0, BTreeMap::new());
        let write = |record: RotationRecord| {
            let (rotations, id) = (self.clone(), record.id);
            let write = to_its_end(async move { rotations.write_back(&record).await });
            async move { (id, write.await) }
        };
        at_most(AT_A_TIME, due.into_iter().map(write), |ended| match ended {
            Ok((_, Ok(_))) => made += 1,
            // Another process was first.
            Ok((_, Err(BrokerError::Changed(_)))) => {}
            Ok((id, Err(error))) => drop(failed.insert(id, error.to_string())),
            Err(error) => warn!(%error, "a write-back ended without a result; the host retries"),
        })
        .await;
        for (rotation, error) in self.told.lock().news(failed) {
            warn!(%rotation, error, "a new password could not be written back; the host retries");
        }
        Ok(made)
    }

    async fn write_back(&self, record: &RotationRecord) -> Result<Rotation, BrokerError> {
        let trail = Trail::rotation(record.id);
        trail.note(|subject| describe(record, subject));
        match self.journal.open(record).await {
            Err(BrokerError::Envelope(damage)) if damage.is_damage() => {
                let give_up = self.give_up_damaged(record, &damage, &trail);
                return self.core.audited_of_its_own(record.workspace_id, Operation::WriteBack, &trail, give_up).await;
            }
            // One that cannot be opened now is not attempted: endless attempts would fill the
            // audit log.
            opened => drop(opened?),
        }
        let attempt = async {
            let rotation = self.claim_and_write(record, &trail).await?;
            rotation.ok_or(BrokerError::Changed(Thing::Rotation))
        };
        self.core.audited_of_its_own(record.workspace_id, Operation::WriteBack, &trail, attempt).await
    }

    /// Marks a rotation whose password can no longer be read as `write_back_failed`. After its row
    /// is restored from a backup, it can be retried.
    async fn give_up_damaged(
        &self,
        record: &RotationRecord,
        damage: &EnvelopeError,
        trail: &Trail,
    ) -> Result<Rotation, BrokerError> {
        let failed = RotationRecord {
            state: RotationState::WriteBackFailed,
            reason: Some("damaged".to_owned()),
            message: Some(format!("the new password can no longer be read: {damage}")),
            attempt_until: None,
            next_attempt_at: None,
            failed_settings: None,
            updated_at: self.core.timestamp(),
            ..record.clone()
        };
        trail.begin().await?;
        if !self.core.storage.fail_rotation(&failed).await? {
            return Err(BrokerError::Changed(Thing::Rotation));
        }
        self.journal.forget_item(&failed).await;
        trail.fell_short(Shortfall::WriteBackFailed);
        error!(
            rotation = %failed.id, entry = %failed.entry_id, %damage,
            "a new password is set on the site and can no longer be read; restore it from a backup, or change it on the site and abandon the rotation"
        );
        Ok(failed.into())
    }
}

/// What was logged about rotations that could not be attempted.
#[derive(Debug, Default)]
pub(crate) struct Told(BTreeMap<RotationId, String>);

impl Told {
    /// The failures that are new or different since the last poll.
    fn news(&mut self, failed: BTreeMap<RotationId, String>) -> Vec<(RotationId, String)> {
        let is_new = |(id, error): &(&RotationId, &String)| self.0.get(*id) != Some(*error);
        let news = failed.iter().filter(is_new).map(|(id, error)| (*id, error.clone())).collect();
        self.0 = failed;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_rotation_from_being_attempted_is_told_once_and_again_when_it_changes() {
        let (one, other) = (RotationId::generate(), RotationId::generate());
        let failed = |all: &[(RotationId, &str)]| all.iter().map(|(id, error)| (*id, (*error).to_owned())).collect();
        let mut told = Told::default();
        assert_eq!(told.news(failed(&[(one, "a")])).len(), 1);
        assert_eq!(told.news(failed(&[(one, "a"), (other, "a")])), [(other, "a".to_owned())]);
        assert_eq!(told.news(failed(&[(one, "b"), (other, "a")])), [(one, "b".to_owned())]);
        assert!(told.news(failed(&[(one, "b")])).is_empty());
        assert_eq!(told.news(failed(&[(other, "a")])).len(), 1, "it was well in between");
    }
}
