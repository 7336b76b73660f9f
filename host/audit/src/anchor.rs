//! Anchors: how far each series has certainly come, kept apart from the log.
//!
//! **Invariant:** an anchor never names a record that is not yet safe on the disk. An anchor beyond
//! the end of a series therefore proves that records were removed. Anchors follow the log within
//! [`EVERY`] while it is written, and when it is closed. The first anchor of a series is stored
//! before its first record.
//!
//! An anchor is a MAC under the audit key, so it cannot be forged for a shortened log without the
//! key. Restoring both the log *and* the database to the same earlier state goes undetected. Only
//! the heads that `keyway audit verify` prints, kept elsewhere, reveal that.

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

/// The shortest interval between anchors, so a busy log costs the database one small write a
/// second.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// The anchors of a log.
pub(crate) struct Anchors {
    storage: Arc<dyn Storage>,
    key: AuditKey,
    clock: Arc<dyn Clock>,
    /// The anchors as last read.
    known: Mutex<BTreeMap<u32, Head>>,
    /// Heads that are safe on the disk but not stored yet.
    unstored: Mutex<BTreeMap<u32, Head>>,
    /// Held while anchors are stored.
    storing: tokio::sync::Mutex<()>,
    changed: Notify,
    stopped: Notify,
}

impl Anchors {
    /// Reads the stored anchors.
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

    /// Reads the anchors again: other processes may have written series since.
    pub(crate) async fn refresh(&self) -> Result<(), StorageError> {
        let known = read(&*self.storage).await?;
        *self.known.lock() = known;
        Ok(())
    }

    /// Whether a series that ends with this head still has everything that the anchors as last read
    /// vouch for. It may have more.
    pub(crate) fn may_follow(&self, series: u32, head: &Head) -> bool {
        let known = self.known.lock();
        known.get(&series).is_none_or(|known| known.number < head.number || known == head || known.number == 0)
    }

    /// The highest series that was begun, as of the last read of the anchors.
    pub(crate) fn last_series(&self) -> u32 {
        self.known.lock().last_key_value().map_or(0, |(series, _)| *series)
    }

    /// Reports that the records of the series up to this head are safe on the disk.
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

    /// Stores the published heads. A head that cannot be stored is kept and retried.
    pub(crate) async fn store_published(&self) {
        // A close waits here for writes in flight, before the database is closed.
        let _one_at_a_time = self.storing.lock().await;
        let heads = std::mem::take(&mut *self.unstored.lock());
        for (series, head) in heads {
            if let Err(error) = self.store(series, head).await {
                warn!(%error, "the head of the audit log could not be anchored; the host retries");
                self.unstored.lock().entry(series).or_insert(head);
                self.changed.notify_one();
            }
        }
    }

    /// Stores anchors as the log grows, until [`stop`](Self::stop).
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            // Stops only between two writes to the database: cancelling one would cost the database
            // a connection.
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
