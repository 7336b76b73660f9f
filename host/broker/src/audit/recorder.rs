//! What every operation goes through: [`Broker::audited`].
//!
//! **Invariant:** nothing is given out, and no change is begun, before the record of it is as safe as the operation's
//! kind says (`operation.rs`). When the sink fails, hangs or panics, the operation fails with [`BrokerError::Audit`], and
//! what it would have given out is wiped.
//!
//! A sink that hangs costs one caller [`DEADLINE`]; from then on all are refused at once but one at a time, which is how
//! it is noticed that the sink answers again.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use keyway_storage::{ApiKeyId, Scope, WorkspaceId};
use prometheus_client::metrics::counter::Counter;
use tracing::{error, info};

use super::event::{AuditActor, AuditEvent, Subject, Trail};
use super::operation::{Kind, Operation};
use super::outcome::Outcome;
use super::sink::{AuditError, AuditSink, Durability, Receipt};
use crate::api_key::Access;
use crate::broker::Broker;
use crate::clock::{Clock, Moment};
use crate::error::BrokerError;

/// How long an operation waits for its record. A disk that is well answers in a thousandth of that; the published clients
/// wait for an answer twelve times as long.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// So many refused API keys are recorded one by one in a second; the next record says how many there were besides. Without
/// a bound anybody who can reach the server could fill the disk with refusals, and a full disk stops every release.
const REFUSED_KEYS_A_SECOND: u32 = 10;

/// Puts events into the sink.
pub(crate) struct Recorder {
    sink: Arc<dyn AuditSink>,
    clock: Arc<dyn Clock>,
    /// The sink did not answer in time, and has not answered since.
    hangs: AtomicBool,
    /// Somebody is trying whether it still does.
    probed: AtomicBool,
    /// The last append failed.
    failing: AtomicBool,
    refused_keys: Mutex<RefusedKeys>,
    records: Counter,
    failures: Counter,
}

#[derive(Default)]
struct RefusedKeys {
    second: Option<Moment>,
    recorded: u32,
    unrecorded: u64,
}

impl Recorder {
    pub(crate) fn new(sink: Arc<dyn AuditSink>, clock: Arc<dyn Clock>) -> Self {
        Self {
            sink,
            clock,
            hangs: AtomicBool::new(false),
            probed: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            refused_keys: Mutex::default(),
            records: Counter::default(),
            failures: Counter::default(),
        }
    }

    pub(crate) fn sink(&self) -> &dyn AuditSink {
        &*self.sink
    }

    /// Appends an event, within the deadline, whatever the sink does.
    pub(crate) async fn append(&self, event: &AuditEvent, durability: Durability) -> Result<Receipt, AuditError> {
        let _probe = if self.hangs.load(Ordering::Relaxed) {
            Some(Probe::begin(&self.probed).ok_or_else(|| {
                self.failures.inc();
                AuditError::Deadline(DEADLINE)
            })?)
        } else {
            None
        };
        let append = guarded(|| self.sink.append(event, durability));
        let appended = if self.sink.keeps_deadline() { append.await } else { within_deadline(append).await };
        let hangs = matches!(appended, Err(AuditError::Deadline(_)));
        if self.hangs.load(Ordering::Relaxed) != hangs {
            self.hangs.store(hangs, Ordering::Relaxed);
        }
        match &appended {
            Ok(_) => self.records.inc(),
            Err(_) => self.failures.inc(),
        };
        match &appended {
            Err(cause) if !self.failing.swap(true, Ordering::Relaxed) => error!(%cause, "the audit log fails"),
            Ok(_) if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) => {
                info!("the audit log is written again");
            }
            _ => {}
        }
        appended
    }

    /// Whether an event could be appended now, as far as that shows without one; within the deadline, whatever the sink does.
    pub(crate) async fn check(&self) -> Result<(), AuditError> {
        within_deadline(guarded(|| self.sink.check())).await
    }

    /// How many events were appended, and how many could not be.
    pub(crate) fn counters(&self) -> (&Counter, &Counter) {
        (&self.records, &self.failures)
    }

    /// Whether the refusal of an API key is to be recorded, and with how many unrecorded ones before it.
    fn admit_refused_key(&self) -> Option<Option<u64>> {
        let now = self.clock.now();
        let mut keys = self.refused_keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.second.is_none_or(|second| now.since(second) >= Duration::from_secs(1)) {
            keys.second = Some(now);
            keys.recorded = 0;
        }
        if keys.recorded >= REFUSED_KEYS_A_SECOND {
            keys.unrecorded += 1;
            return None;
        }
        keys.recorded += 1;
        Some(Some(std::mem::take(&mut keys.unrecorded)).filter(|unrecorded| *unrecorded > 0))
    }
}

/// Runs it for as long as the deadline allows. What is ready at once costs no timer, and one that is needed does not make the
/// future larger that is there for every event.
async fn within_deadline<T>(run: impl Future<Output = Result<T, AuditError>>) -> Result<T, AuditError> {
    let mut run = pin!(run);
    let mut timer = None;
    poll_fn(|context| match run.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => {
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(DEADLINE)));
            timer.as_mut().poll(context).map(|()| Err(AuditError::Deadline(DEADLINE)))
        }
    })
    .await
}

/// Who does something, where, and for which request.
struct Who {
    workspace: Option<WorkspaceId>,
    actor: AuditActor,
    request_id: Option<String>,
}

/// A panic of the sink is a failure of it.
async fn guarded<'a, T>(
    begin: impl FnOnce() -> Pin<Box<dyn Future<Output = Result<T, AuditError>> + Send + 'a>>,
) -> Result<T, AuditError> {
    let panicked = || AuditError::Failed("it panicked".into());
    let begun = catch_unwind(AssertUnwindSafe(begin));
    let mut running = begun.map_err(|_| panicked())?;
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(panicked())))
    })
    .await
}

/// The one attempt at a time that is made with a sink that hangs.
struct Probe<'a>(&'a AtomicBool);

impl<'a> Probe<'a> {
    fn begin(probed: &'a AtomicBool) -> Option<Self> {
        // Not `then_some`: that would make one, and drop it, for those who are refused.
        (!probed.swap(true, Ordering::Acquire)).then(|| Self(probed))
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Broker {
    /// Runs an operation and records it: checks the scope that the operation needs, records a change before it begins, and
    /// records how the operation ended before its result is given out. `trail` says what it is about: what is in it when
    /// this is called is recorded in any case, and `body` may fill in more.
    ///
    /// ```text
    /// let trail = Trail::entry(id);
    /// self.audited(access, Operation::DeleteEntry, &trail, async { ... }).await
    /// ```
    pub(crate) async fn audited<T>(
        &self,
        access: &Access,
        operation: Operation,
        trail: &Trail,
        body: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let who = Who {
            workspace: Some(access.workspace()),
            actor: AuditActor::of(access),
            request_id: access.request_id().map(str::to_owned),
        };
        if let Err(refused) = access.require_one(operation.scopes()) {
            if let BrokerError::Forbidden { needs } = refused {
                trail.note(|subject| subject.lacks(needs));
            }
            let event = self.event(&who, operation, Outcome::from(&refused), None, trail);
            self.recorder().append(&event, Durability::Written).await?;
            return Err(refused);
        }
        self.recorded(&who, operation, trail, body).await
    }

    /// The same for what the broker does by itself, which needs nobody's scope.
    pub(crate) async fn audited_of_its_own<T>(
        &self,
        workspace: WorkspaceId,
        operation: Operation,
        trail: &Trail,
        body: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let who = Who { workspace: Some(workspace), actor: AuditActor::System, request_id: None };
        self.recorded(&who, operation, trail, body).await
    }

    /// The same for what the code that embeds the broker does to all workspaces at once, and what therefore takes no
    /// [`Access`].
    pub(crate) async fn audited_for_operator<T>(
        &self,
        operation: Operation,
        trail: &Trail,
        body: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let actor = AuditActor::Operator { name: self.operator().to_owned().into() };
        self.recorded(&Who { workspace: None, actor, request_id: None }, operation, trail, body).await
    }

    async fn recorded<T>(
        &self,
        who: &Who,
        operation: Operation,
        trail: &Trail,
        body: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let begun = match operation.kind() {
            Kind::Change => {
                let event = self.event(who, operation, Outcome::BEGUN, None, trail);
                Some(self.recorder().append(&event, Durability::Synced).await?)
            }
            Kind::Release | Kind::Listing | Kind::Read => None,
        };
        let result = body.await;
        let outcome = match &result {
            Ok(_) => trail.outcome(),
            Err(error) => Outcome::from(error),
        };
        let is_recorded = match operation.kind() {
            Kind::Read => match &result {
                Ok(_) => trail.releases(),
                Err(error) => matches!(error, BrokerError::Forbidden { .. }),
            },
            Kind::Release | Kind::Listing | Kind::Change => true,
        };
        if is_recorded {
            let event = self.event(who, operation, outcome, begun, trail);
            let recorded = self.recorder().append(&event, Durability::Written).await;
            recorded.map_err(|error| if begun.is_some() && result.is_ok() { error.after_a_change() } else { error })?;
        }
        result
    }

    fn event(
        &self,
        who: &Who,
        operation: Operation,
        outcome: Outcome,
        begun: Option<Receipt>,
        trail: &Trail,
    ) -> AuditEvent {
        AuditEvent {
            at: self.timestamp(),
            workspace: who.workspace,
            actor: who.actor.clone(),
            operation,
            outcome,
            begun: begun.map(|receipt| receipt.number),
            subject: trail.subject(),
            unrecorded: None,
            request_id: who.request_id.clone(),
        }
    }

    /// Refuses unless `scope` is granted, and records a refusal: for a server that wants to refuse before it looks at a
    /// request. The operations check the scopes that they need by themselves.
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`], [`BrokerError::Audit`].
    pub async fn authorize(&self, access: &Access, scope: Scope) -> Result<(), BrokerError> {
        if access.scopes().contains(scope) {
            return Ok(());
        }
        let trail = Trail::new();
        trail.note(|subject| subject.lacks(scope));
        self.audited(access, Operation::Authorize, &trail, async { access.require(scope) }).await
    }

    /// Records that somebody came without a valid API key. `resembles` is the key that is found by the part of theirs which
    /// is no secret: a revoked one, or one whose secret part they do not have.
    pub(crate) async fn record_refused_key(
        &self,
        resembles: Option<(WorkspaceId, ApiKeyId)>,
        request_id: Option<&str>,
    ) -> Result<(), BrokerError> {
        let Some(unrecorded) = self.recorder().admit_refused_key() else { return Ok(()) };
        let event = AuditEvent {
            at: self.timestamp(),
            workspace: resembles.map(|(workspace, _)| workspace),
            actor: AuditActor::Unknown,
            operation: Operation::Authenticate,
            outcome: Outcome::from(&BrokerError::Unauthenticated),
            begun: None,
            subject: Subject { api_key: resembles.map(|(_, key)| key), ..Subject::default() },
            unrecorded,
            request_id: request_id.map(str::to_owned),
        };
        self.recorder().append(&event, Durability::Written).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::super::sink::InMemoryAudit;
    use super::*;
    use crate::clock::SystemClock;

    /// Hangs as long as it is told to, and counts who came.
    #[derive(Default)]
    struct Hanging {
        log: InMemoryAudit,
        well: AtomicBool,
        came: std::sync::atomic::AtomicU32,
    }

    #[async_trait::async_trait]
    impl AuditSink for Hanging {
        async fn append(&self, event: &AuditEvent, durability: Durability) -> Result<Receipt, AuditError> {
            self.came.fetch_add(1, Ordering::Relaxed);
            if !self.well.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
            self.log.append(event, durability).await
        }
    }

    fn event() -> AuditEvent {
        AuditEvent {
            at: jiff::Timestamp::UNIX_EPOCH,
            workspace: None,
            actor: AuditActor::System,
            operation: Operation::Resolve,
            outcome: Outcome::OK,
            begun: None,
            subject: Subject::default(),
            unrecorded: None,
            request_id: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_hangs_costs_its_deadline_once_and_is_used_again_when_it_answers() {
        let sink = Arc::new(Hanging::default());
        let recorder = Arc::new(Recorder::new(sink.clone(), Arc::new(SystemClock::new())));
        let append = async |recorder: &Recorder| recorder.append(&event(), Durability::Written).await;
        let started = Instant::now();
        assert_eq!(append(&recorder).await, Err(AuditError::Deadline(DEADLINE)));
        // Timers go by the millisecond.
        assert!(started.elapsed() < DEADLINE + Duration::from_millis(2));

        // From now on one at a time tries; everybody else is refused at once.
        let probe = tokio::spawn({
            let recorder = recorder.clone();
            async move { recorder.append(&event(), Durability::Written).await }
        });
        tokio::task::yield_now().await;
        let refused_at = Instant::now();
        for _ in 0..100 {
            assert_eq!(append(&recorder).await, Err(AuditError::Deadline(DEADLINE)));
        }
        assert_eq!(refused_at.elapsed(), Duration::ZERO);
        assert_eq!(sink.came.load(Ordering::Relaxed), 2);
        assert!(probe.await.unwrap().is_err());

        sink.well.store(true, Ordering::Relaxed);
        for _ in 0..2 {
            append(&recorder).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_caller_goes_away_lets_the_next_one_try() {
        let sink = Arc::new(Hanging::default());
        let recorder = Recorder::new(sink.clone(), Arc::new(SystemClock::new()));
        recorder.append(&event(), Durability::Written).await.unwrap_err();
        let cut_off =
            tokio::time::timeout(Duration::from_secs(1), recorder.append(&event(), Durability::Written)).await;
        assert!(cut_off.is_err());
        sink.well.store(true, Ordering::Relaxed);
        recorder.append(&event(), Durability::Written).await.unwrap();
    }
}
