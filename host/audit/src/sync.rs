//! Makes written records safe from a power cut. A separate thread does this, so a record that need
//! only be written never waits for the disk.
//!
//! **Invariant:** a file is synced at once when a caller waits for it, and otherwise within
//! [`SYNC_INTERVAL`] of its first unsafe record. A power cut (or a crash of the system) can
//! therefore lose only the releases, listings and refusals of that interval. The end of the process
//! alone loses nothing that was written: the system has it.
//!
//! A disk that fails to sync may have lost data, even if the next sync succeeds. So a failure is
//! reported to the waiting callers, and the writer continues in a new segment.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::error;

use crate::chain::Head;
use crate::error::AuditError;
use crate::group_commit::Reply;
use crate::root_store::Roots;
use crate::sink::Receipt;

/// How long a record that no caller waits for may be unsafe from a power cut. Ten flushes a second
/// cost a disk next to nothing. A power cut can lose this much of the log; in return, no release
/// waits for the disk (0.15 ms to 10 ms).
pub const SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// Records that were written to `file`, up to `head`.
pub(crate) struct Unsynced {
    pub(crate) file: Arc<File>,
    pub(crate) series: u32,
    pub(crate) head: Head,
}

/// Callers that wait until their records are safe.
pub(crate) type Waiting = Vec<(Receipt, Reply)>;

/// The work that the writer hands to the thread that syncs.
#[derive(Default)]
pub(crate) struct Syncing {
    pending: Mutex<Pending>,
    changed: Condvar,
    failed: AtomicBool,
}

#[derive(Default)]
struct Pending {
    files: Vec<Unsynced>,
    waiting: Waiting,
    /// When to sync; `None` when there is nothing to sync.
    due: Option<Instant>,
    /// Nothing more will be written.
    closed: bool,
}

impl Syncing {
    /// Whether a sync has failed that the writer has not [taken up](Self::take_failure).
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether a sync has failed since this was last asked.
    pub(crate) fn take_failure(&self) -> bool {
        self.failed.swap(false, Ordering::Relaxed)
    }

    /// Adds a file to be synced. The callers get their replies when it and everything before it is
    /// safe.
    pub(crate) fn add(&self, more: Option<Unsynced>, waiting: Waiting) {
        let mut pending = self.pending.lock();
        // Waking the thread takes longer than writing a record, so not every record wakes it.
        if !waiting.is_empty() || pending.due.is_none() {
            let wait = if waiting.is_empty() { SYNC_INTERVAL } else { Duration::ZERO };
            pending.due = Some(Instant::now() + wait);
            self.changed.notify_one();
        }
        pending.waiting.extend(waiting);
        match (pending.files.last_mut(), more) {
            // A later head of the same file replaces an earlier one.
            (Some(last), Some(more)) if Arc::ptr_eq(&last.file, &more.file) => last.head = more.head,
            (_, more) => pending.files.extend(more),
        }
    }

    /// Makes [`run`](Self::run) sync what is pending and return.
    pub(crate) fn close(&self) {
        self.pending.lock().closed = true;
        self.changed.notify_one();
    }

    /// The thread's loop. Callers that arrive during a sync share the next one.
    pub(crate) fn run(&self, roots: &Roots) {
        while let Some((files, waiting)) = self.next() {
            let synced = files.into_iter().map(|file| self.sync(&file, roots)).fold(Ok(()), Result::and);
            for (receipt, reply) in waiting {
                drop(reply.send(synced.clone().map(|()| receipt).map_err(|error| AuditError::Unwritable(error))));
            }
        }
    }

    /// Waits until work is due; `None` once the log is closed.
    fn next(&self) -> Option<(Vec<Unsynced>, Waiting)> {
        let mut pending = self.pending.lock();
        loop {
            match pending.due {
                Some(due) if pending.closed || due <= Instant::now() => {
                    pending.due = None;
                    return Some((std::mem::take(&mut pending.files), std::mem::take(&mut pending.waiting)));
                }
                Some(due) => drop(self.changed.wait_until(&mut pending, due)),
                None if pending.closed => return None,
                None => self.changed.wait(&mut pending),
            }
        }
    }

    fn sync(&self, written: &Unsynced, roots: &Roots) -> Result<(), Arc<io::Error>> {
        let synced = written.file.sync_data();
        match &synced {
            Ok(()) => roots.publish(written.series, written.head),
            Err(error) => {
                error!(%error, "the audit log could not be synced to disk; a power cut may now lose records");
                self.failed.store(true, Ordering::Relaxed);
            }
        }
        synced.map_err(Arc::new)
    }
}
