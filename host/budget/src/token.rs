//! The breaker of one token, in memory and in the database. There is one for each token, whichever
//! tiers its connections have.
//!
//! **Invariants:** a change is stored before the call that caused it returns. If two hosts change
//! it at the same time, the second applies its change to the state that the first has stored. What
//! another process has stored (that a person has ended the pause, for one) is known within
//! [`LOOKS`] to the calls that a pause refuses.
//!
//! **The clock** of a pause cannot be set back: while there is a pause, time passes as the longer
//! of wall clock and monotonic clock says. A pause that another process, or one before a restart,
//! has stored at a time that is still to come is as long as it was then.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyway_clock::{Clock, Moment};
use keyway_storage::{BreakerRecord, PauseReason, PauseRecord, Storage, StorageError};
use parking_lot::{Mutex, MutexGuard};

use crate::breaker::{Answer, Lease, State, after};
use crate::identity::Subject;
use crate::limits::BreakerOptions;

/// How often a change of the breaker is attempted while other hosts keep changing it.
const ATTEMPTS: u32 = 8;

/// How often the calls that a pause refuses look into the database for its end: a cheap read, and
/// no slower than any other change is noticed.
const LOOKS: Duration = Duration::from_secs(1);

/// How long such a look may take: a busy database must not delay a refusal noticeably.
const PATIENCE: Duration = Duration::from_millis(200);

pub(crate) struct TokenBreaker {
    pub(crate) subject: Subject,
    pub(crate) options: BreakerOptions,
    clock: Arc<dyn Clock>,
    storage: Arc<dyn Storage>,
    held: Mutex<Held>,
    /// The stored version, if any. Every change holds this lock, so changes happen one at a time.
    stored: tokio::sync::Mutex<Option<u64>>,
}

/// The state, and what it needs to know of the clock.
struct Held {
    state: State,
    /// When the breaker was closed for the last time, as far as this process knows.
    closed: Moment,
    /// When the database was last read.
    looked: Option<Moment>,
}

impl Held {
    /// The time, which is not set back during a pause.
    fn time(&mut self, now: Moment) -> Timestamp {
        if self.state.pause.is_none() {
            self.closed = now;
        }
        let then = self.closed.timestamp();
        then.checked_add(now.since(self.closed)).unwrap_or(then)
    }
}

impl TokenBreaker {
    /// A breaker that knows nothing before it is [refreshed](Self::refresh).
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        subject: Subject,
        options: BreakerOptions,
    ) -> Self {
        let held = Mutex::new(Held { state: State::default(), closed: clock.now(), looked: None });
        Self { subject, options, clock, storage, held, stored: tokio::sync::Mutex::default() }
    }

    /// Whether a call may go out; see [`State::ask`].
    pub(crate) fn ask(&self, entered: bool) -> Answer {
        let (state, now) = self.read();
        state.ask(now, entered)
    }

    /// The same; a call that would be refused looks into the database first, unless one has done so
    /// a moment ago or is doing so now. A database that cannot be read changes nothing.
    pub(crate) async fn ask_again(&self, entered: bool) -> Answer {
        let answer = self.ask(entered);
        if !matches!(answer, Answer::Wait { .. }) {
            return answer;
        }
        let now = self.clock.now();
        let is_due = self.held().looked.is_none_or(|looked| now.since(looked) >= LOOKS);
        if let (true, Ok(mut stored)) = (is_due, self.stored.try_lock())
            && let Ok(Err(error)) = tokio::time::timeout(PATIENCE, self.reload(&mut stored)).await
        {
            tracing::debug!(%error, "the state of a connection's breaker could not be read");
        }
        self.ask(entered)
    }

    /// The reason and the end of the current pause.
    pub(crate) fn resting(&self) -> Option<(PauseReason, Timestamp)> {
        let (state, now) = self.read();
        let pause = state.pause?;
        matches!(state.ask(now, false), Answer::Wait { .. }).then_some((pause.reason, pause.until))
    }

    /// Claims the right to probe, which only one call of one host holds. Another one may have
    /// probed while this one waited, and be done.
    ///
    /// Returns the answer, and with the right its lease.
    pub(crate) async fn claim(&self, entered: bool) -> Result<(Answer, Option<Lease>), StorageError> {
        let mut stored = self.stored.lock().await;
        for _ in 0..ATTEMPTS {
            let (mut state, now) = self.read();
            let lease = match state.ask(now, entered) {
                Answer::Probe => state.claim(now, &self.options),
                answer => return Ok((answer, None)),
            };
            if self.save(&mut stored, state, now).await? {
                return Ok((Answer::Probe, Some(lease)));
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
        let (present, now) = self.read();
        if changed(present, now) == present {
            return Ok((present, present));
        }
        let mut stored = self.stored.lock().await;
        for _ in 0..ATTEMPTS {
            let (before, now) = self.read();
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
                    self.held().state = after;
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
            self.held().state = state;
        }
        Ok(saved)
    }

    async fn reload(&self, stored: &mut Option<u64>) -> Result<(), StorageError> {
        let looked = Some(self.clock.now());
        let record = self.storage.breaker(&self.subject).await?;
        let (_, now) = self.read();
        let (known, version) = (*stored, record.as_ref().map(|record| record.version));
        *stored = version;
        let mut held = self.held();
        held.looked = looked;
        if known == version {
            return Ok(());
        }
        held.state = record.map_or_else(State::default, |record| State {
            failures: record.failures,
            pause: record.pause.map(|pause| in_this_time(pause, record.updated_at, now)),
        });
        Ok(())
    }

    /// The state, and the time by which to read it.
    fn read(&self) -> (State, Timestamp) {
        let now = self.clock.now();
        let mut held = self.held();
        let time = held.time(now);
        (held.state, time)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // No code under this lock can panic half-way through a change.
        self.held.lock()
    }
}

/// A stored pause. One that was stored in the future, before the clock was set back, begins now.
fn in_this_time(pause: PauseRecord, stored: Timestamp, now: Timestamp) -> PauseRecord {
    if stored <= now {
        return pause;
    }
    let length = Duration::try_from(pause.until.duration_since(stored)).unwrap_or_default();
    PauseRecord { until: after(now, length), ..pause }
}

fn contended() -> StorageError {
    StorageError::Failed("concurrent changes of a connection's breaker by other hosts continue".into())
}
