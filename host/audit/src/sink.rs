//! Where audit events go, as a trait: a platform can send them elsewhere.

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::error::AuditError;
use crate::event::{AuditEvent, AuditRecord};
use crate::query::{AuditPage, AuditQuery, Order};
use crate::verify::AuditVerification;

/// How safe a record must be before whoever waits for it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// It outlives this process, however that ends.
    Written,
    /// It outlives a power cut.
    Synced,
}

/// Where an event went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its number.
    pub number: u64,
}

/// Takes audit events.
///
/// Callers wait for [`append`](Self::append) before they give anything out. The
/// [`Recorder`](crate::Recorder) takes care of a sink that hangs (after
/// [`DEADLINE`](crate::DEADLINE) calls are refused) or panics (a failure like any other); a sink
/// must not block the thread that polls it for longer than a few microseconds. A future that is
/// dropped before it is ready was for a caller who has gone or was refused; the event may be
/// appended or not.
#[async_trait]
pub trait AuditSink: Send + Sync + 'static {
    /// Appends an event, and returns when it is as safe as `durability` says.
    async fn append(&self, event: &AuditEvent, durability: Durability) -> Result<Receipt, AuditError>;

    /// Whether an event could be appended now, without appending one: for a load balancer that asks
    /// every few seconds. What does not show without an event may be left out.
    async fn check(&self) -> Result<(), AuditError> {
        Ok(())
    }

    /// A page of what was appended.
    async fn read(&self, query: &AuditQuery) -> Result<AuditPage, AuditError> {
        let _ = query;
        Err(AuditError::Elsewhere("read"))
    }

    /// Checks that everything that was appended is there, unchanged and in order.
    async fn verify(&self) -> Result<AuditVerification, AuditError> {
        Err(AuditError::Elsewhere("verified"))
    }

    /// Makes what was appended as safe as it can be, before the process ends.
    async fn close(&self) {}
}

/// Keeps events in memory, for tests and demonstrations: they are gone with the process.
#[derive(Debug, Default)]
pub struct InMemoryAudit(Mutex<Vec<AuditEvent>>);

impl InMemoryAudit {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl AuditSink for InMemoryAudit {
    async fn append(&self, event: &AuditEvent, _: Durability) -> Result<Receipt, AuditError> {
        let mut events = self.0.lock();
        events.push(event.clone());
        Ok(Receipt { number: events.len() as u64 })
    }

    async fn read(&self, query: &AuditQuery) -> Result<AuditPage, AuditError> {
        let events = self.0.lock();
        let start = query.cursor.as_ref().and_then(|cursor| cursor.position(1));
        let mut records: Vec<_> = (1..).zip(events.iter()).map(|(number, event)| record_of(event, number)).collect();
        records.retain(|record| query.order.is_ahead(record.number, start) && query.matches(record));
        if query.order == Order::Newest {
            records.reverse();
        }
        let limit = query.limit();
        let more = records.len() > limit;
        records.truncate(limit);
        let next = records.last().filter(|_| more).map(|last| crate::Cursor::at(1, last.number));
        Ok(AuditPage { records, next, unreadable: 0 })
    }
}

fn record_of(event: &AuditEvent, number: u64) -> AuditRecord {
    let event = event.clone();
    AuditRecord {
        series: 1,
        number,
        at: event.at,
        workspace: event.workspace,
        actor: event.actor,
        operation: event.operation.name().to_owned(),
        outcome: event.outcome,
        begun: event.begun,
        subject: event.subject,
        unrecorded: event.unrecorded,
        request_id: event.request_id,
    }
}
