//! Write-backs that are due, in the background: those that failed for now, and those whose process ended in the middle.
//!
//! The task begins when the broker opens and ends with it. Each attempt is recorded as the broker's own; while that cannot be
//! recorded, none is made. The task looks into the database instead of keeping a schedule of its
//! own, so it also sees what another process (the command line) has left undone.

use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tracing::warn;

use super::write_back::to_its_end;
use super::{ROTATIONS_PER_PAGE, Rotation, RotationFilter, RotationState};
use crate::audit::{Operation, Trail};
use crate::broker::{Broker, WeakBroker};
use crate::error::{BrokerError, Thing};
use crate::id::{ConnectionId, WorkspaceId};
use crate::storage::RotationRecord;

/// How often to look. One read of an index that is empty nearly always.
const INTERVAL: Duration = Duration::from_secs(5);

/// How many are written at the same time, and how many are taken at once.
const AT_A_TIME: usize = 8;
const BATCH: u32 = 256;

/// What was changed further in the future than this, was so before the clock was set back. More than the clocks of hosts
/// that share a database differ by; a clock that is set back by less puts an attempt off by less.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(15 * 60);

/// Ends the task when the broker is gone.
#[derive(Debug)]
pub(crate) struct WriteBacks(AbortHandle);

impl WriteBacks {
    /// Begins no more attempts. Those that were begun run to their end, or are made anew when their claim has run out.
    pub(crate) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for WriteBacks {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Begins to look for write-backs that are due. `broker` does not keep it alive.
pub(crate) fn start(broker: WeakBroker) -> WriteBacks {
    let task = tokio::spawn(async move {
        loop {
            let Some(broker) = broker.upgrade() else { return };
            if let Err(error) = broker.write_back_due().await {
                warn!(%error, "looking for passwords to write back failed");
            }
            drop(broker);
            tokio::time::sleep(INTERVAL).await;
        }
    });
    WriteBacks(task.abort_handle())
}

impl Broker {
    /// Makes every attempt that is due, in all workspaces, and returns how many there were. An open broker does this by
    /// itself every few seconds, unless it was told not to
    /// ([`BrokerBuilder::background_write_back`](crate::BrokerBuilder::background_write_back)).
    ///
    /// # Errors
    /// Those of the database. What comes of an attempt is in its rotation.
    pub async fn write_back_due(&self) -> Result<usize, BrokerError> {
        let now = self.timestamp();
        let future = now.checked_add(CLOCK_TOLERANCE).unwrap_or(now);
        let due = self.storage().due_rotations(now, future, BATCH).await?;
        let mut running = JoinSet::new();
        let mut made = 0;
        for record in due {
            if running.len() >= AT_A_TIME {
                made += ended(running.join_next().await);
            }
            let broker = self.clone();
            running.spawn(to_its_end(async move { broker.write_back(&record).await }));
        }
        while !running.is_empty() {
            made += ended(running.join_next().await);
        }
        Ok(made)
    }

    /// Takes up again what could not be written with the settings that a connection had until now: the next look of the
    /// background finds it due.
    pub(crate) async fn write_back_with_new_settings(
        &self,
        workspace: WorkspaceId,
        connection: ConnectionId,
    ) -> Result<(), BrokerError> {
        let failed = RotationFilter { states: vec![RotationState::WriteBackFailed], entry: None };
        let mut after = None;
        loop {
            let page = self.storage().rotations(workspace, &failed, after, ROTATIONS_PER_PAGE).await?;
            for record in page.iter().filter(|record| record.connection_id == Some(connection)) {
                let contents = self.open_rotation(record).await?;
                let now = self.timestamp();
                let due = |record: &mut RotationRecord| {
                    record.state = RotationState::Committing;
                    record.next_attempt_at = Some(now);
                };
                // When somebody else was first, they are at it.
                self.advance_rotation(record, &contents, due).await?;
            }
            after = page.last().map(|record| record.id);
            if page.len() < ROTATIONS_PER_PAGE as usize {
                return Ok(());
            }
        }
    }

    async fn write_back(&self, record: &RotationRecord) -> Result<Rotation, BrokerError> {
        // One that cannot be opened is not attempted, and must not fill the audit log by being tried for ever.
        self.open_rotation(record).await?;
        let trail = Trail::rotation(record.id);
        trail.note(|subject| record.describe(subject));
        let attempt = async {
            let rotation = self.claim_and_write(record, &trail).await?;
            rotation.ok_or(BrokerError::Changed(Thing::Rotation))
        };
        self.audited_of_its_own(record.workspace_id, Operation::WriteBack, &trail, attempt).await
    }
}

type Ended = Option<Result<Result<Rotation, BrokerError>, tokio::task::JoinError>>;

/// Whether it was an attempt: not if another process was first.
fn ended(result: Ended) -> usize {
    match result {
        Some(Ok(Ok(_))) => 1,
        Some(Ok(Err(BrokerError::Changed(_)))) | None => 0,
        Some(Ok(Err(error))) => {
            warn!(%error, "a new password could not be written back; it is tried again");
            0
        }
        Some(Err(error)) => {
            warn!(%error, "a write-back ended without a result; it is tried again");
            0
        }
    }
}
