//! What every operation of the broker shares. The services of the domains hold it, and what they
//! need of each other: see [`crate::broker`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use keyway_audit::Recorder;
use keyway_clock::{Clock, Moment};
use keyway_storage::{Storage, WorkspaceId};

use crate::error::BrokerError;
use crate::keyring::Keyring;

/// The database, the clock, the keys, the audit log and the operator's name.
pub(crate) struct Core {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keyring: Keyring,
    pub(crate) recorder: Recorder,
    /// The name under which the code that embeds the broker acts where it needs no
    /// [`Access`](crate::Access).
    pub(crate) operator: String,
    /// No operation begins any more.
    pub(crate) closed: AtomicBool,
}

impl Core {
    /// Has the workspace's keys of this moment in memory. Call it before reading sealed rows, so
    /// that they open even if the key is rotated in between.
    pub(crate) async fn hold_keys(&self, workspace: WorkspaceId) -> Result<(), BrokerError> {
        self.keyring.get(workspace).await.map(drop)
    }

    /// For measuring how long ago something was.
    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// The time for a record: in the milliseconds in which it is stored, so that a record is the
    /// same before and after.
    pub(crate) fn timestamp(&self) -> Timestamp {
        let now = self.clock.now().timestamp();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}
