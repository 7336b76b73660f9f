//! The breaker of one token, in memory and in the database. There is one for each token, whichever
//! tiers its connections have.
//!
//! **Invariant:** a change is stored before the call that caused it returns. If two hosts change it
//! at the same time, the second applies its change to the state that the first has stored.

use std::sync::Arc;

use jiff::Timestamp;
use keyway_clock::Clock;
use keyway_storage::{BreakerRecord, PauseReason, Storage, StorageError};
use parking_lot::{Mutex, MutexGuard};

use crate::breaker::{Answer, State};
use crate::identity::Subject;
use crate::limits::BreakerOptions;

/// How often a change of the breaker is attempted while other hosts keep changing it.
const ATTEMPTS: u32 = 8;

pub(crate) struct TokenBreaker {
    pub(crate) subject: Subject,
    pub(crate) options: BreakerOptions,
    clock: Arc<dyn Clock>,
    storage: Arc<dyn Storage>,
    state: Mutex<State>,
    /// The stored version, if any. Every change holds this lock, so changes happen one at a time.
    stored: tokio::sync::Mutex<Option<u64>>,
}

impl TokenBreaker {
    /// A breaker that knows nothing before it is [refreshed](Self::refresh).
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        subject: Subject,
        options: BreakerOptions,
    ) -> Self {
        Self { subject, options, clock, storage, state: Mutex::default(), stored: tokio::sync::Mutex::default() }
    }

    /// Whether a call may go out; see [`State::ask`].
    pub(crate) fn ask(&self, entered: bool) -> Answer {
        self.state().ask(self.now(), entered)
    }

    /// The reason and the end of the current pause.
    pub(crate) fn resting(&self) -> Option<(PauseReason, Timestamp)> {
        let state = *self.state();
        let pause = state.pause?;
        matches!(state.ask(self.now(), false), Answer::Wait { .. }).then_some((pause.reason, pause.until))
    }

    /// Claims the right to probe, which only one call of one host holds. Another one may have
    /// probed while this one waited, and be done.
    pub(crate) async fn claim(&self, entered: bool) -> Result<Answer, StorageError> {
        let mut stored = self.stored.lock().await;
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let mut state = *self.state();
            match state.ask(now, entered) {
                Answer::Probe => state.claim(now, &self.options),
                answer => return Ok(answer),
            }
            if self.save(&mut stored, state, now).await? {
                return Ok(Answer::Probe);
            }
            // Another host was first.
            self.reload(&mut stored).await?;
        }
        Err(contended())
    }

    /// Changes the breaker, in the database and in memory. Returns the state before and after.
    pub(crate) async fn change(&self, change: impl Fn(&mut State, Timestamp)) -> Result<(State, State), StorageError> {
        let changed = |state: State, now| {
            let mut after = state;
            change(&mut after, now);
            after
        };
        // The common case: a success after a success.
        let present = *self.state();
        if changed(present, self.now()) == present {
            return Ok((present, present));
        }
        let mut stored = self.stored.lock().await;
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let before = *self.state();
            let after = changed(before, now);
            if before == after {
                return Ok((before, after));
            }
            match self.save(&mut stored, after, now).await {
                Ok(true) => return Ok((before, after)),
                Ok(false) => self.reload(&mut stored).await?,
                Err(error) => {
                    // Keep the new state in memory even though it could not be stored: a pause must
                    // still take effect.
                    *self.state() = after;
                    return Err(error);
                }
            }
        }
        Err(contended())
    }

    /// Loads the state that another process has stored since.
    pub(crate) async fn refresh(&self) -> Result<(), StorageError> {
        let mut stored = self.stored.lock().await;
        self.reload(&mut stored).await
    }

    async fn save(&self, stored: &mut Option<u64>, state: State, now: Timestamp) -> Result<bool, StorageError> {
        let record = BreakerRecord {
            subject: self.subject,
            failures: state.failures,
            pause: state.pause,
            version: stored.map_or(1, |version| version + 1),
            updated_at: now,
        };
        let saved = self.storage.save_breaker(&record, *stored).await?;
        if saved {
            *stored = Some(record.version);
            *self.state() = state;
        }
        Ok(saved)
    }

    async fn reload(&self, stored: &mut Option<u64>) -> Result<(), StorageError> {
        let record = self.storage.breaker(&self.subject).await?;
        *stored = record.as_ref().map(|record| record.version);
        *self.state() =
            record.map_or_else(State::default, |record| State { failures: record.failures, pause: record.pause });
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.clock.now().timestamp()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code under this lock can panic half-way through a change.
        self.state.lock()
    }
}

fn contended() -> StorageError {
    StorageError::Failed("concurrent changes of a connection's breaker by other hosts continue".into())
}
