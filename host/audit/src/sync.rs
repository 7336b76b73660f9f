//! Makes what was written safe from a power cut, beside the writing and not in its way.
//!
//! **Invariant:** a file is synced at once when somebody waits for it, else at the latest
//! [`SYNC_INTERVAL`] after the first record that is not safe. What a power cut (or a crash of the
//! system) can lose is therefore the records of releases, listings and refusals of that time. What
//! only kills the process loses nothing that was written: the system has it.
//!
//! A disk that fails to sync may have lost what it was given, whatever it says the next time; so a
//! failure is told to those who wait, and the writer goes on in a new segment.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

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
    /// Those who wait until they are safe.
    pub(crate) waiting: Vec<(Receipt, Reply)>,
}

/// What the writer learns of it.
#[derive(Debug, Default)]
pub(crate) struct Synced {
    failed: AtomicBool,
}

impl Synced {
    /// Whether a sync has failed that nobody has [taken up](Self::take_failure).
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether a sync has failed since this was last asked.
    pub(crate) fn take_failure(&self) -> bool {
        self.failed.load(Ordering::Relaxed) && self.failed.swap(false, Ordering::Relaxed)
    }
}

/// Syncs until nobody can write any more. Who comes while the disk is busy shares the next sync.
pub(crate) fn run(unsynced: &Receiver<Unsynced>, synced: &Synced, anchors: &Anchors) {
    while let Ok(first) = unsynced.recv() {
        let mut files = vec![first];
        while let Ok(more) = unsynced.try_recv() {
            add(&mut files, more);
        }
        for file in files {
            sync(file, synced, anchors);
        }
    }
}

/// A later head of the same file takes the place of an earlier one.
fn add(files: &mut Vec<Unsynced>, more: Unsynced) {
    match files.last_mut() {
        Some(last) if Arc::ptr_eq(&last.file, &more.file) => {
            last.head = more.head;
            last.waiting.extend(more.waiting);
        }
        _ => files.push(more),
    }
}

fn sync(file: Unsynced, synced: &Synced, anchors: &Anchors) {
    let result = file.file.sync_data().map_err(Arc::new);
    match &result {
        Ok(()) => anchors.publish(file.series, file.head),
        Err(error) => {
            error!(%error, "the audit log could not be made safe on the disk; a power cut now may lose records");
            synced.failed.store(true, Ordering::Relaxed);
        }
    }
    for (receipt, reply) in file.waiting {
        drop(reply.send(result.clone().map(|()| receipt).map_err(|error| AuditError::Unwritable(error))));
    }
}
