//! What every operation of the broker shares. The services of the domains hold it beside what they
//! need of each other: see [`crate::broker`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use keyway_audit::Recorder;
use keyway_clock::{Clock, Moment};
use keyway_storage::{Storage, StorageError, WorkspaceId};
use parking_lot::Mutex;

use crate::error::BrokerError;
use crate::keyring::Keyring;

/// The database, the clock, the keys, the audit log and the operator's name.
pub(crate) struct Core {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keyring: Keyring,
    pub(crate) recorder: Arc<Recorder>,
    /// The name under which the code that embeds the broker acts in operations that take no
    /// [`Access`](crate::Access).
    pub(crate) operator: String,
    /// What operations have seen of the database's damage.
    pub(crate) damage: Damage,
    /// Whether the broker was closed: operations are refused.
    pub(crate) closed: AtomicBool,
}

/// The last damage of the database that an operation has met.
#[derive(Default)]
pub(crate) struct Damage(Mutex<Option<(Moment, String)>>);

impl Damage {
    /// Notes what an operation's error says about the database. A row with an impossible value is
    /// one row's damage, and says nothing about the others.
    pub(crate) fn note(&self, now: Moment, error: &BrokerError) {
        if let BrokerError::Storage(error @ StorageError::Failed(_)) = error {
            *self.0.lock() = Some((now, error.to_string()));
        }
    }

    /// The damage that was met within this time.
    pub(crate) fn lately(&self, now: Moment, within: Duration) -> Option<String> {
        let met = self.0.lock();
        met.as_ref().filter(|(at, _)| now.since(*at) < within).map(|(_, cause)| cause.clone())
    }
}

impl Core {
    /// Refuses if the broker was closed.
    pub(crate) fn ensure_open(&self) -> Result<(), BrokerError> {
        if self.closed.load(Ordering::Acquire) { Err(BrokerError::Closed) } else { Ok(()) }
    }

    /// Loads the workspace's current keys into memory. Call it before reading sealed rows from the
    /// database, so that they open even if the key is rotated in between.
    pub(crate) async fn hold_keys(&self, workspace: WorkspaceId) -> Result<(), BrokerError> {
        self.keyring.get(workspace).await.map(drop)
    }

    /// The current moment, for measuring durations.
    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// The time for a record: in milliseconds, as it is stored, so that a record is equal before
    /// and after storing it.
    pub(crate) fn timestamp(&self) -> Timestamp {
        let now = self.clock.now().timestamp();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}

/// Converts a time of the contract. A time beyond the calendar's range becomes the last one in it.
pub(crate) fn timestamp_of(seconds: u64) -> Timestamp {
    i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_that_a_provider_names_is_a_time() {
        assert_eq!(timestamp_of(1_000), Timestamp::from_second(1_000).unwrap());
        assert_eq!((timestamp_of(u64::MAX), timestamp_of(i64::MAX as u64)), (Timestamp::MAX, Timestamp::MAX));
    }
}
