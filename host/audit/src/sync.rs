//! Makes what was written safe from a power cut, beside the writing and not in its way: a thread of
//! its own, so that a record that need only be written never waits for the disk.
//!
//! **Invariant:** a file is synced at once when somebody waits for it, else at the latest
//! [`SYNC_INTERVAL`] after the first record that is not safe. What a power cut (or a crash of the
//! system) can lose is therefore the records of releases, listings and refusals of that time. What
//! only kills the process loses nothing that was written: the system has it.
//!
//! A disk that fails to sync may have lost what it was given, whatever it says the next time; so a
//! failure is told to those who wait, and the writer goes on in a new segment.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::error;

use crate::anchor::Anchors;
use crate::error::AuditError;
use crate::group_commit::Reply;
use crate::segment::Head;
use crate::sink::Receipt;

/// For how long a record that nobody waits for may be unsafe from a power cut. A flush each tenth
/// of a second costs a disk next to nothing; that much of the log of a machine that lost its power
/// is the price of not waiting for a disk (0.15 ms to 10 ms) at every release.
pub const SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// Records that were written to `file`, up to `head`.
pub(crate) struct Unsynced {
    pub(crate) file: Arc<File>,
    pub(crate) series: u32,
    pub(crate) head: Head,
}

/// Those who wait until their records are safe.
pub(crate) type Waiting = Vec<(Receipt, Reply)>;

/// What is to be synced, between the writer and the thread that syncs.
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
    /// When that has to be done; `None` when there is nothing to do.
    due: Option<Instant>,
    /// Nothing is written any more.
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

    /// Has more synced, and tells those who wait when it and all before it is.
    pub(crate) fn add(&self, more: Option<Unsynced>, waiting: Waiting) {
        let mut pending = self.pending.lock();
        // Waking the thread takes longer than writing a record, so that is not done for each.
        if !waiting.is_empty() || pending.due.is_none() {
            let wait = if waiting.is_empty() { SYNC_INTERVAL } else { Duration::ZERO };
            pending.due = Some(Instant::now() + wait);
            self.changed.notify_one();
        }
        pending.waiting.extend(waiting);
        match (pending.files.last_mut(), more) {
            // A later head of the same file takes the place of an earlier one.
            (Some(last), Some(more)) if Arc::ptr_eq(&last.file, &more.file) => last.head = more.head,
            (_, more) => pending.files.extend(more),
        }
    }

    /// Has [`run`](Self::run) end when it has synced what is there.
    pub(crate) fn close(&self) {
        self.pending.lock().closed = true;
        self.changed.notify_one();
    }

    /// The thread. Who comes while the disk is busy shares the next sync.
    pub(crate) fn run(&self, anchors: &Anchors) {
        while let Some((files, waiting)) = self.next() {
            let synced = files.into_iter().map(|file| self.sync(&file, anchors)).fold(Ok(()), Result::and);
            for (receipt, reply) in waiting {
                drop(reply.send(synced.clone().map(|()| receipt).map_err(|error| AuditError::Unwritable(error))));
            }
        }
    }

    /// Waits for something that is due; `None` at the end.
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

    fn sync(&self, written: &Unsynced, anchors: &Anchors) -> Result<(), Arc<io::Error>> {
        let synced = written.file.sync_data();
        match &synced {
            Ok(()) => anchors.publish(written.series, written.head),
            Err(error) => {
                error!(%error, "the audit log could not be made safe on the disk; a power cut now may lose records");
                self.failed.store(true, Ordering::Relaxed);
            }
        }
        synced.map_err(Arc::new)
    }
}
