//! Anchors: how far each series had certainly come, kept where the log is not.
//!
//! **Invariant:** the database never says of a series that it had come further than what is safe on
//! the disk, so an anchor beyond the end of a series means that somebody removed records. It
//! follows the log within [`EVERY`] while that is written, when the log is closed, and is there
//! before the first record of a series.
//!
//! An anchor is a MAC under the audit key, so that nobody without it can make one for a shortened
//! log. Whoever can put back both the log *and* the database as they were together at an earlier
//! time is not noticed by this; only the heads that `keyway audit verify` prints, kept elsewhere,
//! show that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keyway_clock::Clock;
use keyway_storage::{AuditAnchorRecord, Storage, StorageError};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

use crate::chain::AuditKey;
use crate::segment::Head;

/// At most so often an anchor is stored, so that a busy log costs the database one small write a
/// second.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// The anchors of a log.
pub(crate) struct Anchors {
    storage: Arc<dyn Storage>,
    key: AuditKey,
    clock: Arc<dyn Clock>,
    /// As they were when they were last read.
    known: Mutex<BTreeMap<u32, Head>>,
    /// Heads that are safe on the disk and not stored yet.
    unstored: Mutex<BTreeMap<u32, Head>>,
    /// Held while they are stored.
    storing: tokio::sync::Mutex<()>,
    changed: Notify,
    stopped: Notify,
}

impl Anchors {
    /// Reads the anchors there are.
    pub(crate) async fn open(
        storage: Arc<dyn Storage>,
        key: AuditKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StorageError> {
        let known = Mutex::new(read(&*storage).await?);
        Ok(Self {
            storage,
            key,
            clock,
            known,
            unstored: Mutex::default(),
            storing: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            stopped: Notify::new(),
        })
    }

    /// Reads the anchors anew: other processes have written series since.
    pub(crate) async fn refresh(&self) -> Result<(), StorageError> {
        let known = read(&*self.storage).await?;
        *self.known.lock() = known;
        Ok(())
    }

    /// Whether a series whose last line is this has all that it had when the anchors were last
    /// read. It may have more.
    pub(crate) fn may_follow(&self, series: u32, head: &Head) -> bool {
        let known = self.known.lock();
        known.get(&series).is_none_or(|known| known.number < head.number || known == head || known.number == 0)
    }

    /// The highest series that was ever begun, as far as this was known when the anchors were last
    /// read.
    pub(crate) fn last_series(&self) -> u32 {
        self.known.lock().last_key_value().map_or(0, |(series, _)| *series)
    }

    /// The records of the series up to this head are safe on the disk.
    pub(crate) fn publish(&self, series: u32, head: Head) {
        self.unstored.lock().insert(series, head);
        self.changed.notify_one();
    }

    /// Stores an anchor now.
    pub(crate) async fn store(&self, series: u32, head: Head) -> Result<(), StorageError> {
        let mac = self.key.anchor(series, head.number, &head.tag);
        let at = self.clock.now().timestamp();
        self.storage.put_audit_anchor(&AuditAnchorRecord { series, number: head.number, head: head.tag, mac, at }).await
    }

    /// Stores what was published. What could not be stored is kept for the next time.
    pub(crate) async fn store_published(&self) {
        // Whoever closes the log, and then the database, waits here for what is on its way.
        let _one_at_a_time = self.storing.lock().await;
        let heads = std::mem::take(&mut *self.unstored.lock());
        for (series, head) in heads {
            if let Err(error) = self.store(series, head).await {
                warn!(%error, "the head of the audit log could not be anchored; it is tried again");
                self.unstored.lock().entry(series).or_insert(head);
                self.changed.notify_one();
            }
        }
    }

    /// Stores anchors as the log grows, until [`stop`](Self::stop).
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            // It ends between two writes to the database and not in one, which would cost that a
            // connection.
            tokio::select! {
                () = self.changed.notified() => {}
                () = self.stopped.notified() => return,
            }
            self.store_published().await;
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.stopped.notified() => return,
            }
        }
    }

    /// Ends [`run`](Self::run).
    pub(crate) fn stop(&self) {
        self.stopped.notify_one();
    }
}

async fn read(storage: &dyn Storage) -> Result<BTreeMap<u32, Head>, StorageError> {
    let stored = storage.audit_anchors().await?;
    Ok(stored.iter().map(|anchor| (anchor.series, Head { number: anchor.number, tag: anchor.head })).collect())
}
