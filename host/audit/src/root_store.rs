//! The root in the database: reading it, and storing it as the log grows.
//!
//! The root follows the log within [`EVERY`] while the log is written, and when it is closed.
//! Several processes store it, each for its own series. A root is stored only in the place of the
//! one that was read, so none of them loses what another one has added.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyway_clock::Clock;
use keyway_storage::{Storage, StorageError};
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, Notify};
use tracing::{error, warn};

use crate::chain::{AuditKey, Head};
use crate::problem::AuditProblem;
use crate::root::{Found, Judged, Root, Seen, Stored, judge};

/// The shortest interval between roots, so a busy log costs the database one small write a second.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// How often storing is tried when other processes store theirs first. Each of them does so once a
/// second.
const ATTEMPTS: usize = 64;

/// The root of a log.
pub(crate) struct Roots {
    storage: Arc<dyn Storage>,
    key: AuditKey,
    clock: Arc<dyn Clock>,
    /// Whether the host's key says that there is a root.
    is_noted: AtomicBool,
    /// The root as last read or stored.
    known: Mutex<Arc<Root>>,
    /// Heads that are safe on the disk but not stored yet.
    unstored: Mutex<BTreeMap<u32, Head>>,
    /// Held while a root is stored.
    storing: tokio::sync::Mutex<()>,
    changed: Notify,
    stopped: Notify,
}

impl Roots {
    pub(crate) fn new(storage: Arc<dyn Storage>, key: AuditKey, clock: Arc<dyn Clock>, is_noted: bool) -> Self {
        Self {
            storage,
            key,
            clock,
            is_noted: AtomicBool::new(is_noted),
            known: Mutex::default(),
            unstored: Mutex::default(),
            storing: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            stopped: Notify::new(),
        }
    }

    /// The root as last read or stored. Nothing is vouched for before the first
    /// [`settle`](Self::settle).
    pub(crate) fn known(&self) -> Arc<Root> {
        self.known.lock().clone()
    }

    /// Reads the root, and what is wrong with it. Changes nothing.
    pub(crate) async fn read(&self, seen: &Seen) -> Result<Judged, StorageError> {
        // What is known is read first: it must not be newer than what is stored.
        let known = self.known();
        Ok(judge(&self.key, &self.stored().await?, &known, seen))
    }

    /// Makes the database have a good root, which notes what was wrong.
    pub(crate) async fn settle(&self, seen: &Seen) -> Result<Arc<Root>, StorageError> {
        self.update(&self.storing.lock().await, seen, |_| {}).await
    }

    /// The host's key says that there is a root. `again`: it did not say so before, although a root
    /// was made while it did.
    pub(crate) async fn bind(&self, again: bool) -> Result<(), StorageError> {
        self.is_noted.store(true, Ordering::Release);
        let now = self.clock.now().timestamp();
        let bind = |root: &mut Root| {
            if again {
                root.note(Found { series: None, problem: AuditProblem::HostKeyOlder }, now);
            }
        };
        self.update(&self.storing.lock().await, &Seen::default(), bind).await.map(drop)
    }

    /// Takes a number for a new series into the root: that of a series that was never begun, or the
    /// next one.
    pub(crate) async fn begin_series(&self, seen: &Seen) -> Result<u32, StorageError> {
        let mut series = 0;
        self.update(&self.storing.lock().await, seen, |root| {
            let unused = root.heads.iter().find(|(series, head)| head.number == 0 && !seen.series.contains(series));
            let last = root.heads.keys().chain(&seen.series).max().copied().unwrap_or(0);
            series = unused.map_or(last.saturating_add(1), |(series, _)| *series);
            root.heads.entry(series).or_insert(Head::NONE);
        })
        .await?;
        Ok(series)
    }

    /// Reports that the records of the series up to this head are safe on the disk.
    pub(crate) fn publish(&self, series: u32, head: Head) {
        self.unstored.lock().insert(series, head);
        self.changed.notify_one();
    }

    /// Stores the published heads. Heads that cannot be stored are kept and retried.
    pub(crate) async fn store_published(&self) {
        // Locked first: a close that finds no heads has waited for whoever took them, and may close
        // the database.
        let storing = self.storing.lock().await;
        let heads = std::mem::take(&mut *self.unstored.lock());
        if heads.is_empty() {
            return;
        }
        let advance = |root: &mut Root| heads.iter().for_each(|(series, head)| root.advance(*series, *head));
        if let Err(error) = self.update(&storing, &Seen::default(), advance).await {
            warn!(%error, "the root of the audit log could not be stored; it is tried again");
            for (series, head) in heads {
                self.unstored.lock().entry(series).or_insert(head);
            }
            self.changed.notify_one();
        }
    }

    /// Stores the root as the log grows, until [`stop`](Self::stop).
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

    /// Changes the root. Stores nothing when the stored root is good and stays the same.
    async fn update(
        &self,
        _storing: &MutexGuard<'_, ()>,
        seen: &Seen,
        mut change: impl FnMut(&mut Root),
    ) -> Result<Arc<Root>, StorageError> {
        for _ in 0..ATTEMPTS {
            let stored = self.stored().await?;
            let judged = judge(&self.key, &stored, &self.known(), seen);
            let (mut root, now) = (judged.root.clone(), self.clock.now().timestamp());
            judged.found.into_iter().for_each(|found| root.note(found, now));
            change(&mut root);
            root.bound |= self.is_noted.load(Ordering::Acquire);
            if judged.row.is_none() || root != judged.root {
                (root.number, root.at) = (root.number.saturating_add(1), now);
                let line = root.seal(&self.key).map_err(|error| StorageError::Failed(error.into()))?;
                if !self.storage.put_audit_root(&stored.rows, judged.row.as_deref(), &line).await? {
                    continue;
                }
            }
            for noted in root.findings.iter().filter(|noted| !judged.root.notes(&noted.found)) {
                error!(
                    series = noted.found.series,
                    "the audit log was changed by something else: {}. It goes on, in a new series where it must, and verifying it keeps reporting this",
                    noted.found.problem
                );
            }
            let root = Arc::new(root);
            *self.known.lock() = root.clone();
            return Ok(root);
        }
        Err(StorageError::Busy)
    }

    async fn stored(&self) -> Result<Stored, StorageError> {
        let rows = self.storage.audit_roots().await?;
        let anchors = if rows.is_empty() { self.storage.audit_anchors().await? } else { Vec::new() };
        Ok(Stored { rows, anchors, is_noted: self.is_noted.load(Ordering::Acquire) })
    }
}

#[cfg(test)]
mod tests {
    use keyway_clock::SystemClock;
    use keyway_storage::SqliteStorage;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whatever_was_published_is_stored_once_storing_returns_although_another_task_stores_it() {
        let storage = Arc::new(SqliteStorage::in_memory().await.unwrap());
        let roots = Arc::new(Roots::new(storage, AuditKey::new(&[9; 32]), Arc::new(SystemClock::new()), false));
        for number in 1..=1_000 {
            roots.publish(1, Head { number, ..Head::NONE });
            let other = roots.clone();
            let other = tokio::spawn(async move { other.store_published().await });
            roots.store_published().await;
            assert_eq!(roots.known().heads[&1].number, number);
            other.await.unwrap();
        }
    }
}
