//! The audit log: who got which secret, and who changed what. Written before anything is released.
//!
//! **Invariant:** every release of a secret value, every listing of items and every change is in
//! the log before the caller has its result; a change also before its first effect (`trail.rs`).
//! Refusals are, too, up to a bounded rate; those beyond it are counted, and the counts recorded
//! (`refusals.rs`). If the
//! log cannot be written, nothing is released and nothing is changed. The broker ensures that, with
//! the [`Recorder`]. No record holds a value (`event.rs`).
//!
//! ```text
//! operation ── broker ── Recorder ── AuditSink ─┬─ SegmentLog ── group commit ── segment files ── sync ── root
//!              scope,    deadline,              ├─ InMemoryAudit
//!              outcome   panics                 └─ the platform's own
//! ```
//!
//! # What survives
//!
//! * The process is killed (`kill -9`) or crashes: every acknowledged record survives. A record is
//!   acknowledged once the system has it.
//! * The power fails or the system crashes: all survives except the last [`SYNC_INTERVAL`] of
//!   releases, listings and refusals. The beginning of a change is on the disk before the change
//!   begins. With [`SegmentOptions::sync_every_record`] nothing is lost.
//! * The disk is full, read-only, gone or hanging: calls are refused until it recovers, and then
//!   work again without a restart.
//!
//! The log may report more than happened (a client that went away while its answer was being
//! recorded; a change that was begun and cut off), never less.
//!
//! # What is detected
//!
//! An attacker may be able to write to the folder without having the audit key. (The database holds
//! the key, wrapped by the master key.) [`verify`](AuditSink::verify) names the place when they:
//!
//! * change, insert, repeat, move or remove a record, anywhere in a series; rename, swap or remove
//!   a segment;
//! * cut off the end of a series, or remove a whole series, as far as the root (`root.rs`) vouches
//!   for it: all but the last second before the process ended, and everything after an orderly
//!   close.
//!
//! An attacker who can also write to the database can change or remove the root, or restore an
//! older one. That is detected too, and stays a finding for ever, unless the log is cut off where
//! it names no newer root: an older copy of log and root, restored at once. Only a
//! [`root`](AuditSink::root) that was kept elsewhere reveals that. The master key is enough to
//! forge any log.
//!
//! Two processes may write at the same time; each has its own series (`segment.rs`). The chain
//! holds within a series; between series only the time gives an order.
//!
//! Segments are never deleted here. `verify` needs all of them: keep archived segments together for
//! verification.
//!
//! **May import** of Keyway: `keyway-clock`, `keyway-storage`.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod chain;
mod copy;
mod error;
mod error_kind;
mod event;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod group_commit;
mod hexadecimal;
mod log;
mod missing;
mod operation;
mod outcome;
mod problem;
mod query;
mod read;
mod readers;
mod recorder;
mod refusals;
mod root;
mod root_store;
#[cfg(test)]
mod root_tests;
mod segment;
mod sink;
mod sync;
#[cfg(test)]
mod tamper_tests;
#[cfg(test)]
mod tests;
mod trail;
mod verify;
mod writer;

use std::sync::Arc;

use keyway_clock::Clock;
use keyway_storage::Storage;

pub use chain::{AUDIT_KEY, AuditKey};
pub use copy::{Copied, CopyError, copy};
pub use error::{AuditCause, AuditError, InvalidQuery};
pub use error_kind::ErrorKind;
pub use event::{AuditActor, AuditEvent, AuditRecord, AuditSource, Subject};
use log::SegmentLog;
pub use log::{SEGMENT_BYTES, SegmentOptions};
pub use operation::{Kind, Operation};
pub use outcome::{Outcome, OutcomeFilter, Shortfall};
pub use problem::{AuditFinding, AuditProblem};
pub use query::{AUDIT_RECORDS_PER_PAGE, AuditPage, AuditQuery, Cursor, Order};
pub use recorder::{DEADLINE, Recorder};
pub use root::{AuditRoot, InvalidRoot, RootNote};
pub use segment::rehearse;
pub use sink::{AuditSink, Durability, InMemoryAudit, Receipt};
pub use sync::SYNC_INTERVAL;
pub use trail::Trail;
pub use verify::{AuditVerification, SeriesHead};

/// Which audit log to use. There is no default: leaving it out would disable auditing.
#[non_exhaustive]
pub enum Audit {
    /// Segment files, chained, with their key and anchors in the host's database.
    Segments(SegmentOptions),
    /// Another place.
    Sink(Arc<dyn AuditSink>),
}

impl Audit {
    /// Opens the log. `key`, `storage`, `clock` and `note` are for segment files.
    ///
    /// # Errors
    /// [`AuditError::Failed`]; when the log has no root yet, errors of the database and of `note`.
    pub async fn open(
        self,
        key: AuditKey,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        note: &dyn RootNote,
    ) -> Result<Arc<dyn AuditSink>, AuditError> {
        Ok(match self {
            Self::Segments(options) => Arc::new(SegmentLog::open(options, key, storage, clock, note).await?),
            Self::Sink(sink) => sink,
        })
    }

    /// Segment files in this folder, with the default options.
    pub fn in_folder(folder: impl Into<std::path::PathBuf>) -> Self {
        Self::Segments(SegmentOptions::new(folder))
    }

    /// In memory: lost with the process. For tests and demonstrations.
    pub fn in_memory() -> Self {
        Self::Sink(Arc::new(InMemoryAudit::new()))
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Segments(options) => f.debug_tuple("Segments").field(options).finish(),
            Self::Sink(_) => f.debug_tuple("Sink").finish_non_exhaustive(),
        }
    }
}

impl From<SegmentOptions> for Audit {
    fn from(options: SegmentOptions) -> Self {
        Self::Segments(options)
    }
}

impl<S: AuditSink> From<Arc<S>> for Audit {
    fn from(sink: Arc<S>) -> Self {
        Self::Sink(sink)
    }
}
