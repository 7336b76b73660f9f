//! What an operation does, while it runs: its subject, and whether its change has begun.
//!
//! **Invariant:** a change calls [`Trail::begin`] before its first effect, and has no effect if
//! that fails. So the beginning of each change is on the disk before anything is touched or sent,
//! and a change that is refused before that leaves no beginning.

use std::sync::{Arc, OnceLock};

use keyway_storage::{ApiKeyId, ConnectionId, EntryId, EntrySelector, RotationId};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::error::AuditError;
use crate::event::{AuditEvent, Subject};
use crate::outcome::{Outcome, Shortfall};
use crate::recorder::Recorder;
use crate::sink::Durability;

/// What an operation is about. The operation fills it in while it runs. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Trail(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    subject: Mutex<Subject>,
    fell_short: OnceLock<Outcome>,
    change: OnceLock<Change>,
}

/// A change, which records its beginning.
struct Change {
    recorder: Arc<Recorder>,
    event: AuditEvent,
    /// The number of the record of its beginning.
    begun: OnceCell<u64>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change").field("event", &self.event).field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl Trail {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// About a vault entry.
    pub fn entry(id: EntryId) -> Self {
        Self::about(Subject { entry: Some(id), ..Subject::default() })
    }

    /// A vault entry that is looked up. Nothing is known about an entry looked up by user and
    /// domain until it is found.
    pub fn selected(entry: &EntrySelector) -> Self {
        match entry {
            EntrySelector::Id(id) => Self::entry(*id),
            EntrySelector::Pair { .. } => Self::new(),
        }
    }

    /// About a connection.
    pub fn connection(id: ConnectionId) -> Self {
        Self::about(Subject { connection: Some(id), ..Subject::default() })
    }

    /// About an API key.
    pub fn api_key(id: ApiKeyId) -> Self {
        Self::about(Subject { api_key: Some(id), ..Subject::default() })
    }

    /// About a password rotation.
    pub fn rotation(id: RotationId) -> Self {
        Self::about(Subject { rotation: Some(id), ..Subject::default() })
    }

    fn about(subject: Subject) -> Self {
        Self(Arc::new(Inner { subject: Mutex::new(subject), ..Inner::default() }))
    }

    /// Records what has become known.
    pub fn note(&self, fill_in: impl FnOnce(&mut Subject)) {
        fill_in(&mut self.0.subject.lock());
    }

    /// Whether values are being released.
    pub fn releases(&self) -> bool {
        !self.0.subject.lock().fields.is_empty()
    }

    /// What is known so far.
    fn subject(&self) -> Subject {
        self.0.subject.lock().clone()
    }

    /// What is known at the end, for the last record.
    pub fn take_subject(&self) -> Subject {
        std::mem::take(&mut *self.0.subject.lock())
    }

    /// The operation is a change. `event` is what its records have in common.
    pub fn changes(&self, recorder: Arc<Recorder>, event: AuditEvent) {
        let _ = self.0.change.set(Change { recorder, event, begun: OnceCell::new() });
    }

    /// Records that the change begins, with what is known by now, and waits until the record is on
    /// the disk. Later calls do nothing.
    ///
    /// # Errors
    /// When it cannot be recorded; then the change must not begin.
    pub async fn begin(&self) -> Result<(), AuditError> {
        let change =
            self.0.change.get().ok_or_else(|| AuditError::failed("an operation that is no change began one"))?;
        let record = async {
            let at = change.recorder.timestamp();
            let event = AuditEvent { at, outcome: Outcome::BEGUN, subject: self.subject(), ..change.event.clone() };
            Ok(change.recorder.append(&event, Durability::Synced).await?.number)
        };
        change.begun.get_or_try_init(|| record).await.map(drop)
    }

    /// The number of the record of the change's beginning; `None` when it has not begun.
    pub fn begun(&self) -> Option<u64> {
        self.0.change.get().and_then(|change| change.begun.get()).copied()
    }

    /// Notes that the operation has a result for its caller but has not achieved its purpose. The
    /// reason is recorded instead of `ok`.
    pub fn fell_short(&self, shortfall: Shortfall) {
        // The first of several reasons counts.
        let _ = self.0.fell_short.set(shortfall.into());
    }

    /// The outcome of an operation that returned a result.
    pub fn outcome(&self) -> Outcome {
        self.0.fell_short.get().cloned().unwrap_or(Outcome::OK)
    }
}
