//! The trait of audit sinks: a platform can send events elsewhere.

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::chain::AuditKey;
use crate::error::AuditError;
use crate::event::{AuditEvent, AuditRecord};
use crate::query::{AuditPage, AuditQuery, Order, Positions};
use crate::root::AuditRoot;
use crate::verify::AuditVerification;

/// How safe a record must be before its caller continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// It survives the end of the process, however the process ends.
    Written,
    /// It survives a power cut.
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
/// Callers wait for [`append`](Self::append) before they give anything out. A sink must not block
/// the thread that polls it for longer than a few microseconds. The [`Recorder`](crate::Recorder)
/// handles a sink that hangs (after [`DEADLINE`](crate::DEADLINE), calls are refused) or panics (a
/// failure like any other). When the caller goes away or is refused, the future is dropped before
/// it is ready; the event may then be appended or not.
#[async_trait]
pub trait AuditSink: Send + Sync + 'static {
    /// Appends an event, and returns when it is as safe as `durability` says.
    async fn append(&self, event: &AuditEvent, durability: Durability) -> Result<Receipt, AuditError>;

    /// Whether an event could be appended now, without appending one. Load balancers ask every few
    /// seconds. Faults that only an append would reveal may go unreported.
    async fn check(&self) -> Result<(), AuditError> {
        Ok(())
    }

    /// What an operator should look at although events can be appended: a part of the log that is
    /// missing, for example. As of the last append or [`check`](Self::check).
    fn warning(&self) -> Option<String> {
        None
    }

    /// A page of what was appended.
    async fn read(&self, query: &AuditQuery) -> Result<AuditPage, AuditError> {
        let _ = query;
        Err(AuditError::Elsewhere("read"))
    }

    /// Checks that every appended event is there, unchanged and in order; with a root that was
    /// [kept](Self::root) elsewhere, also that everything is there that it vouches for.
    async fn verify(&self, kept: Option<&AuditRoot>) -> Result<AuditVerification, AuditError> {
        let _ = kept;
        Err(AuditError::Elsewhere("verified"))
    }

    /// The present root, which vouches for everything appended so far.
    async fn root(&self) -> Result<AuditRoot, AuditError> {
        Err(AuditError::Elsewhere("vouched for"))
    }

    /// Makes the appended events as safe as possible, before the process ends.
    async fn close(&self) {}
}

/// Keeps events in memory, for tests and demonstrations; they are lost with the process.
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
        // It is for one process and hides nothing.
        let key = AuditKey::new(&[0; 32]);
        let start = query.cursor.as_ref().map(|cursor| Positions::open(&key, cursor)).transpose()?;
        let start = start.and_then(|start| start.get(1)).map(|(_, number)| number);
        let mut records: Vec<_> = (1..).zip(events.iter()).map(|(number, event)| record_of(event, number)).collect();
        records.retain(|record| query.order.is_ahead(record.number, start) && query.matches(record));
        if query.order == Order::Newest {
            records.reverse();
        }
        let limit = query.limit();
        let more = records.len() > limit;
        records.truncate(limit);
        let next = records.last().filter(|_| more).map(|last| {
            let mut next = Positions::default();
            next.set(1, (0, last.number));
            next.seal(&key)
        });
        Ok(AuditPage { records, next, ..AuditPage::default() })
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
