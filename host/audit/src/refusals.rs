//! Refusals are recorded at a bounded rate. Any key can cause them, also one without a scope, and
//! without a bound one client could fill the disk with them. A full disk stops every release.
//!
//! **Invariant:** of each kind, the first [`ONE_BY_ONE`] refusals in a [`WINDOW`] are recorded one
//! by one, and the others are counted. When the window is over, one record tells their number. A
//! kind is an actor, an operation and an outcome, in a workspace; for a refused API key it is also
//! the stored key that it resembles. Releases, and changes that have begun, are never counted here:
//! each has its own record.
//!
//! The end of the process loses the counts of the last window, unless the log is closed in order.

use std::collections::HashMap;
use std::time::Duration;

use keyway_clock::Moment;
use keyway_storage::{ApiKeyId, WorkspaceId};

use crate::event::{AuditActor, AuditEvent, Subject};
use crate::operation::Operation;
use crate::outcome::Outcome;

/// How many refusals of a kind are recorded one by one. Enough to see what a client tries.
///
/// With a record of about 500 bytes each and one for the rest, a kind takes up to 330 KB an
/// hour.
pub(crate) const ONE_BY_ONE: u32 = 10;

/// How long refusals are counted together.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// How many kinds are told apart in a window; further ones are counted together. They take about
/// 1 KB of memory each, and all of them together up to 340 MB of the log in an hour.
pub(crate) const KINDS: usize = 1_024;

/// What is counted together. `None` stands for all kinds beyond [`KINDS`].
type Kind = Option<(Option<WorkspaceId>, AuditActor, Operation, Outcome, Option<ApiKeyId>)>;

/// The counts of the refusals.
#[derive(Debug, Default)]
pub(crate) struct Refusals(HashMap<Kind, Count>);

#[derive(Debug)]
struct Count {
    since: Moment,
    recorded: u32,
    unrecorded: u64,
    /// The first of those that were not recorded.
    first: Option<AuditEvent>,
}

impl Count {
    fn since(since: Moment) -> Self {
        Self { since, recorded: 0, unrecorded: 0, first: None }
    }
}

fn kind_of(event: &AuditEvent) -> Kind {
    // Callers choose the ids that they ask for, and what was not created has a new one each time:
    // neither may make a kind.
    let key = event.subject.api_key.filter(|_| event.operation == Operation::Authenticate);
    let workspace = event.workspace.filter(|_| event.operation != Operation::CreateWorkspace);
    Some((workspace, event.actor.clone(), event.operation, event.outcome.clone(), key))
}

impl Refusals {
    /// Whether to record this refusal; otherwise it is counted.
    pub(crate) fn admit(&mut self, event: &AuditEvent, now: Moment) -> bool {
        let kind = kind_of(event);
        let kind = if self.0.len() < KINDS || self.0.contains_key(&kind) { kind } else { None };
        let count = self.0.entry(kind).or_insert(Count::since(now));
        if count.recorded < ONE_BY_ONE {
            count.recorded += 1;
            return true;
        }
        count.unrecorded += 1;
        count.first.get_or_insert_with(|| event.clone());
        false
    }

    /// Takes the events that tell how many refusals were counted: those of windows that are over,
    /// or all.
    pub(crate) fn take(&mut self, now: Moment, all: bool) -> Vec<AuditEvent> {
        let over = self.0.extract_if(|_, count| all || now.since(count.since) >= WINDOW);
        over.filter_map(|(kind, count)| {
            let mut event = count.first?;
            if kind.is_none() {
                (event.workspace, event.actor) = (None, AuditActor::Unknown);
            }
            let api_key = kind.and_then(|(_, _, _, _, key)| key);
            event.subject = Subject { api_key, scope: event.subject.scope, ..Subject::default() };
            event.at = now.timestamp();
            (event.unrecorded, event.request_id) = (Some(count.unrecorded), None);
            Some(event)
        })
        .collect()
    }

    /// Keeps a count that could not be recorded, for the end of the next window.
    pub(crate) fn put_back(&mut self, told: AuditEvent, now: Moment) {
        let count = self.0.entry(kind_of(&told)).or_insert(Count::since(now));
        count.unrecorded += told.unrecorded.unwrap_or(0);
        count.first.get_or_insert(told);
    }

    /// Whether a window is over.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        self.0.values().any(|count| now.since(count.since) >= WINDOW)
    }

    /// Whether refusals are counted that no record tells of yet.
    pub(crate) fn has_unrecorded(&self) -> bool {
        self.0.values().any(|count| count.unrecorded > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use keyway_clock::{Clock, ManualClock};

    use super::*;
    use crate::error_kind::ErrorKind;
    use crate::query::AuditQuery;
    use crate::recorder::Recorder;
    use crate::sink::{AuditSink, InMemoryAudit};

    fn refusal(clock: &ManualClock, workspace: WorkspaceId) -> AuditEvent {
        let (at, outcome) = (clock.now().timestamp(), ErrorKind::Forbidden.into());
        let actor = AuditActor::ApiKey { id: ApiKeyId::generate(), name: "weak".into() };
        AuditEvent { workspace: Some(workspace), ..AuditEvent::new(at, actor, Operation::Authorize, outcome) }
    }

    #[test]
    fn kinds_beyond_the_bound_take_no_memory_and_are_counted() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut refusals = Refusals::default();
        let of_keys: Vec<_> = (0..2 * KINDS).map(|_| refusal(&clock, WorkspaceId::generate())).collect();
        let mut recorded = 0;
        for event in of_keys.iter().cycle().take(40 * KINDS) {
            recorded += u64::from(refusals.admit(event, clock.now()));
        }
        assert_eq!(refusals.0.len(), KINDS + 1);
        assert_eq!(recorded, (KINDS as u64 + 1) * u64::from(ONE_BY_ONE));
        assert!(refusals.take(clock.now(), false).is_empty(), "no window is over");
        clock.advance(WINDOW);
        let told = refusals.take(clock.now(), false);
        let counted: u64 = told.iter().filter_map(|event| event.unrecorded).sum();
        assert_eq!(recorded + counted, 40 * KINDS as u64, "none is lost");
        assert!(told.iter().any(|event| event.workspace.is_none() && event.actor == AuditActor::Unknown));
        assert!(refusals.0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn counts_are_told_when_the_window_is_over_although_no_refusal_follows() {
        let (sink, clock) = (Arc::new(InMemoryAudit::new()), Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
        let recorder = Arc::new(Recorder::new(sink.clone(), clock.clone()));
        let event = refusal(&clock, WorkspaceId::generate());
        for round in 1..=2 {
            for _ in 0..4_322 {
                recorder.refuse(&event).await.unwrap();
            }
            clock.advance(WINDOW);
            tokio::time::sleep(WINDOW * 2).await;
            let records = sink.read(&AuditQuery::default()).await.unwrap().records;
            assert_eq!((records.len(), records[0].unrecorded), (round * 11, Some(4_312)));
        }
    }
}
