//! Records events in the sink, within a deadline, whatever the sink does.
//!
//! **Invariant:** a sink that fails, hangs or panics causes an [`AuditError`] and nothing worse. A
//! hanging sink costs one caller [`DEADLINE`]. From then on all callers are refused at once, except
//! for one probe at a time, which detects that the sink answers again.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use keyway_clock::Clock;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tracing::{error, info};

use crate::error::AuditError;
use crate::event::AuditEvent;
use crate::refusals::{self, Refusals};
use crate::sink::{AuditSink, Durability, Receipt};

/// How long an operation waits for its record. A healthy disk answers in a thousandth of that; the
/// published clients wait twelve times as long for an answer.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Records events in the sink.
pub struct Recorder {
    sink: Arc<dyn AuditSink>,
    clock: Arc<dyn Clock>,
    /// The sink missed a deadline, and has not answered since.
    hangs: AtomicBool,
    /// A probe is in flight.
    probed: AtomicBool,
    /// The last append failed.
    failing: AtomicBool,
    refusals: Mutex<Refusals>,
    /// A task waits to record the counts of refusals.
    waits: AtomicBool,
    records: Counter,
    failures: Counter,
}

impl Recorder {
    /// Creates a recorder for this sink.
    pub fn new(sink: Arc<dyn AuditSink>, clock: Arc<dyn Clock>) -> Self {
        Self {
            sink,
            clock,
            hangs: AtomicBool::new(false),
            probed: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            refusals: Mutex::default(),
            waits: AtomicBool::new(false),
            records: Counter::default(),
            failures: Counter::default(),
        }
    }

    /// The time for a record: in milliseconds, like the times in the database.
    pub(crate) fn timestamp(&self) -> Timestamp {
        let now = self.clock.now().timestamp();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// Where the events go.
    pub fn sink(&self) -> &dyn AuditSink {
        &*self.sink
    }

    /// Appends an event, within the deadline, whatever the sink does.
    pub async fn append(&self, event: &AuditEvent, durability: Durability) -> Result<Receipt, AuditError> {
        let _probe = if self.hangs.load(Ordering::Relaxed) {
            Some(Probe::begin(&self.probed).ok_or_else(|| {
                self.failures.inc();
                AuditError::Deadline(DEADLINE)
            })?)
        } else {
            None
        };
        let appended = guarded(async { self.sink.append(event, durability).await }).await;
        let hangs = matches!(appended, Err(AuditError::Deadline(_)));
        if self.hangs.load(Ordering::Relaxed) != hangs {
            self.hangs.store(hangs, Ordering::Relaxed);
        }
        let counter = if appended.is_ok() { &self.records } else { &self.failures };
        counter.inc();
        match &appended {
            Err(cause) if !self.failing.swap(true, Ordering::Relaxed) => error!(%cause, "the audit log fails"),
            Ok(_) if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) => {
                info!("the audit log can be written again");
            }
            _ => {}
        }
        appended
    }

    /// Whether an event could be appended now, as far as that can be told without appending one.
    /// Returns within the deadline, whatever the sink does.
    pub async fn check(&self) -> Result<(), AuditError> {
        guarded(async { self.sink.check().await }).await
    }

    /// The counts of appended and of failed events.
    pub fn counters(&self) -> (&Counter, &Counter) {
        (&self.records, &self.failures)
    }

    /// Records a refusal, or counts it: see `refusals.rs`.
    pub async fn refuse(self: &Arc<Self>, event: &AuditEvent) -> Result<(), AuditError> {
        let now = self.clock.now();
        if self.refusals.lock().is_due(now) {
            self.tell_counts(false).await?;
        }
        if self.refusals.lock().admit(event, now) {
            return self.append(event, Durability::Written).await.map(drop);
        }
        if !self.waits.swap(true, Ordering::AcqRel) {
            tokio::spawn(Self::tell_when_over(Arc::downgrade(self)));
        }
        Ok(())
    }

    /// Records how many refusals were only counted, also when no other follows.
    async fn tell_when_over(recorder: Weak<Self>) {
        loop {
            tokio::time::sleep(refusals::WINDOW).await;
            let Some(recorder) = recorder.upgrade() else { return };
            // A failure is logged, and the counts are kept.
            let _ = recorder.tell_counts(false).await;
            recorder.waits.store(false, Ordering::Release);
            let is_done = !recorder.refusals.lock().has_unrecorded();
            if is_done || recorder.waits.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }

    async fn tell_counts(&self, all: bool) -> Result<(), AuditError> {
        let counts = self.refusals.lock().take(self.clock.now(), all);
        let mut told = Ok(());
        for count in counts {
            if let Err(error) = self.append(&count, Durability::Written).await {
                self.refusals.lock().put_back(count, self.clock.now());
                told = Err(error);
            }
        }
        told
    }

    /// Makes everything as safe as possible, before the process ends.
    pub async fn close(&self) {
        // A failure is logged.
        let _ = self.tell_counts(true).await;
        self.sink.close().await;
    }
}

/// Runs the future until the deadline; a panic counts as a failure. A future that is ready at once,
/// or after this thread's other tasks had their turn, costs no timer: nearly every append is. The
/// timer is boxed, so that it does not enlarge the future of every event.
pub(crate) async fn guarded<T>(run: impl Future<Output = Result<T, AuditError>>) -> Result<T, AuditError> {
    let mut run = pin!(AssertUnwindSafe(run).catch_unwind());
    let (mut timer, mut others_went) = (None, false);
    poll_fn(|context| match run.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(done.unwrap_or_else(|_| Err(AuditError::failed("it panicked")))),
        Poll::Pending if !others_went => {
            others_went = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending => {
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(DEADLINE)));
            timer.as_mut().poll(context).map(|()| Err(AuditError::Deadline(DEADLINE)))
        }
    })
    .await
}

/// The one probe of a hanging sink that may be in flight.
struct Probe<'a>(&'a AtomicBool);

impl<'a> Probe<'a> {
    fn begin(probed: &'a AtomicBool) -> Option<Self> {
        // Not `then_some`: that would create a probe for refused callers too, and its drop would
        // clear the flag.
        (!probed.swap(true, Ordering::Acquire)).then(|| Self(probed))
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use keyway_clock::SystemClock;
    use tokio::time::Instant;

    use super::*;
    use crate::event::AuditActor;
    use crate::operation::Operation;
    use crate::outcome::Outcome;
    use crate::sink::InMemoryAudit;

    /// Hangs while told to, and counts the calls.
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
        AuditEvent::new(jiff::Timestamp::UNIX_EPOCH, AuditActor::System, Operation::Resolve, Outcome::OK)
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_hangs_costs_its_deadline_once_and_is_used_again_when_it_answers() {
        let sink = Arc::new(Hanging::default());
        let recorder = Arc::new(Recorder::new(sink.clone(), Arc::new(SystemClock::new())));
        let append = async |recorder: &Recorder| recorder.append(&event(), Durability::Written).await;
        let started = Instant::now();
        assert!(matches!(append(&recorder).await, Err(AuditError::Deadline(DEADLINE))));
        // Timers have a resolution of one millisecond.
        assert!(started.elapsed() < DEADLINE + Duration::from_millis(2));

        // From now on one caller at a time probes; all others are refused at once.
        let probe = tokio::spawn({
            let recorder = recorder.clone();
            async move { recorder.append(&event(), Durability::Written).await }
        });
        tokio::task::yield_now().await;
        let refused_at = Instant::now();
        for _ in 0..100 {
            assert!(matches!(append(&recorder).await, Err(AuditError::Deadline(DEADLINE))));
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
