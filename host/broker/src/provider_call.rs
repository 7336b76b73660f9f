//! The one place that every call to a provider goes through.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use keyway_audit::{AuditError, Trail};
use keyway_budget::{Guard, LONGEST_RETRY_PAUSE, NotCalled, Outcome, Pass, ProviderOperation, Refusal, Share, Shares};
use keyway_runtime::contract::Description;
use keyway_runtime::egress::{RequestEffect, RequestGate};
use keyway_runtime::{CallError, ErrorCode, OpenConnection, Provider, SandboxError};
use keyway_storage::WorkspaceId;
use parking_lot::Mutex;

use crate::call_metrics::CallMetrics;
use crate::error::BrokerError;
use crate::flight::Lost;
use crate::request;

/// A call that fails later than this is not retried: its callers have waited long enough.
const RETRY_WITHIN: Duration = Duration::from_secs(5);

/// The longest time that [`Opened::call`] takes where a provider's call may take `call_time`.
pub(crate) fn longest_call(call_time: Duration) -> Duration {
    call_time.saturating_add(RETRY_WITHIN + LONGEST_RETRY_PAUSE)
}

/// A connection that is ready for calls. They all go through [`call`](Self::call): the provider and
/// the connection are private to it.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) provider: Provider,
    pub(crate) connection: OpenConnection,
    pub(crate) guard: Arc<Guard>,
    pub(crate) turns: Turns,
    pub(crate) metrics: CallMetrics,
    /// The change that the calls belong to.
    pub(crate) change: Option<Trail>,
}

/// A workspace's share of the calls that the host may run at once. The runtime bounds the calls of
/// a connection, but a workspace may have any number of those.
#[derive(Clone)]
pub(crate) struct Turns {
    pub(crate) of: Arc<Shares<WorkspaceId>>,
    pub(crate) workspace: WorkspaceId,
    /// How long a call waits for its turn.
    pub(crate) patience: Duration,
}

/// How often a call that waits looks whether it is its turn.
const LOOK: Duration = Duration::from_millis(10);

impl Turns {
    /// The shares of this many calls. One call alone must be able to run.
    pub(crate) fn shares(concurrent_calls: u32) -> Arc<Shares<WorkspaceId>> {
        Shares::new(concurrent_calls.max(2) as usize)
    }

    async fn take(&self) -> Result<Share<WorkspaceId>, SandboxError> {
        let take = async {
            loop {
                match self.of.take(self.workspace, 1) {
                    Some(turn) => return turn,
                    None => tokio::time::sleep(LOOK).await,
                }
            }
        };
        let taken = tokio::time::timeout(self.patience, take).await;
        taken.map_err(|_| SandboxError::Busy { limit: self.of.held_by(self.workspace) })
    }
}

/// One attempt at a call.
type Calling<'a, T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send + 'a>>;

/// Why a call failed.
#[derive(Debug, Clone)]
pub(crate) enum CallFailure {
    /// The provider or the sandbox failed it.
    Call(CallError),
    /// It was not made.
    NotCalled(NotCalled),
    /// The beginning of the change could not be recorded, so nothing was sent.
    NotRecorded(Arc<AuditError>),
    /// The host could not make it, or not count it.
    Host(String),
}

impl From<CallError> for CallFailure {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<Lost> for CallFailure {
    fn from(_: Lost) -> Self {
        Self::Host("the provider's call ended without a result".into())
    }
}

impl From<Refusal> for CallFailure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotCalled(not_called) => Self::NotCalled(not_called),
            Refusal::Storage(error) => {
                Self::Host(format!("a request to the secret manager could not be counted, so it was not made: {error}"))
            }
        }
    }
}

impl From<CallFailure> for BrokerError {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::Call(error) => error.into(),
            CallFailure::NotCalled(not_called) => Self::NotCalled(not_called),
            CallFailure::NotRecorded(error) => {
                Arc::try_unwrap(error).unwrap_or_else(|error| AuditError::unwritable(error.to_string())).into()
            }
            CallFailure::Host(message) => Self::Host(message.into()),
        }
    }
}

impl Opened {
    /// The same for calls of a change that has not begun yet: it begins when the first request is
    /// about to leave the sandbox.
    pub(crate) fn changing(self, trail: &Trail) -> Self {
        self.note(trail);
        Self { change: Some(trail.clone()), ..self }
    }

    /// Notes in the trail which component serves the calls.
    pub(crate) fn note(&self, trail: &Trail) {
        trail.note(|subject| subject.served_by(self.provider.digest()));
    }

    /// The provider's description of itself.
    pub(crate) fn description(&self) -> &Description {
        self.provider.description()
    }

    /// The connection and its guard, to be kept open.
    pub(crate) fn into_parts(self) -> (OpenConnection, Arc<Guard>) {
        (self.connection, self.guard)
    }

    pub(crate) fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// Makes a call, unless the budget or the breaker refuses it, and records its outcome.
    ///
    /// A call that has begun runs to its end even if its caller is cancelled: its cost and outcome
    /// are then known, and no change is left half done.
    ///
    /// Each attempt borrows `about`.
    ///
    /// # Errors
    /// [`CallFailure::NotCalled`] at once and without any effect; else the failure of the call.
    pub(crate) async fn call<A: Send + Sync + 'static, T: Send + 'static>(
        &self,
        operation: ProviderOperation,
        about: A,
        call: impl for<'a> Fn(&'a Provider, &'a OpenConnection, &'a A) -> Calling<'a, T> + Send + Sync + 'static,
    ) -> Result<T, CallFailure> {
        let started = Instant::now();
        let opened = self.clone();
        let task = async move {
            // Inside the task, because it may claim the right to probe, which a cancelled caller
            // would lose.
            let pass = opened.guard.begin(operation).await.map_err(|refusal| {
                let failure = CallFailure::from(refusal);
                opened.metrics.not_made(opened.guard.provider_type(), operation, &failure);
                failure
            })?;
            let (result, again) = opened.once(operation, pass, &about, &call).await;
            let is_worth_it = operation.is_retried() && started.elapsed() <= RETRY_WITHIN;
            let Some(pause) = again.filter(|_| is_worth_it) else { return result };
            tokio::time::sleep(pause).await;
            match opened.guard.begin(operation).await {
                Ok(pass) => opened.once(operation, pass, &about, &call).await.0,
                // The failure says more than the refusal to retry.
                Err(_) => result,
            }
        };
        let ended = request::spawn(task).await;
        ended.map_err(|_| Lost)?
    }

    /// Makes one attempt, and says after which pause to make another, if at all.
    async fn once<A, T>(
        &self,
        operation: ProviderOperation,
        pass: Pass,
        about: &A,
        call: &impl for<'a> Fn(&'a Provider, &'a OpenConnection, &'a A) -> Calling<'a, T>,
    ) -> (Result<T, CallFailure>, Option<Duration>) {
        let began = Instant::now();
        let (sent, kept_back) = (AtomicU32::new(0), Mutex::default());
        let (guard, change) = (self.guard.clone(), self.change.clone());
        let gate = Arc::new(CallGate { guard, change, operation, pass, sent, kept_back });
        let result = match self.turns.take().await {
            Ok(_turn) => call(&self.provider, &self.connection.with_gate(gate.clone()), about).await,
            Err(busy) => Err(busy.into()),
        };
        let took = began.elapsed();
        let requests = gate.sent.load(Ordering::Relaxed);
        let kept_back = gate.kept_back.lock().clone();
        let outcome = match &kept_back {
            // A failure that follows a withheld request says nothing about the server.
            Some(_) if result.is_err() => Outcome::NotAsked,
            _ if requests == 0 => Outcome::NotAsked,
            _ => outcome_of(&result),
        };
        let noted = self.guard.ended(operation, pass, outcome, requests).await;
        let again = match &noted {
            Ok(again) => again.filter(|_| is_told_by_provider(&result)),
            Err(error) => {
                // The call was made, so its result goes to the caller. The unstored state is in
                // memory or recurs.
                tracing::error!("the state of a connection's breaker could not be stored: {error}");
                None
            }
        };
        let told = self.told(operation, result, kept_back, requests);
        self.metrics.ended(self.guard.provider_type(), operation, took, requests, told.as_ref().err());
        (told, again)
    }

    /// The result that the caller gets.
    fn told<T>(
        &self,
        operation: ProviderOperation,
        result: Result<T, CallError>,
        kept_back: Option<CallFailure>,
        requests: u32,
    ) -> Result<T, CallFailure> {
        match (result, kept_back) {
            (Ok(value), _) => Ok(value),
            (Err(_), Some(why)) => Err(why),
            // The wait that is honoured: not any that the server has named is.
            (Err(CallError::Provider(error)), None) if error.code == ErrorCode::RateLimited => {
                let honoured = self.guard.refusal_now(operation).map(|why| in_whole_seconds(why.retry_after()));
                let wait = honoured.or(error.retry_after);
                Err(CallError::Provider(error.retry_after(wait)).into())
            }
            // It waited for another call's login, and that login was withheld.
            (Err(CallError::Provider(error)), None) if error.code == ErrorCode::Unavailable && requests == 0 => {
                let why = self.guard.refusal_now(operation);
                Err(why.map_or(CallFailure::Call(error.into()), CallFailure::NotCalled))
            }
            (Err(error), None) => Err(error.into()),
        }
    }
}

/// A wait in the unit of the contract, rounded up: some of it has gone by since it was asked for.
fn in_whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

/// Whether the provider itself reports the failure. A call that the sandbox has ended has taken all
/// its time.
fn is_told_by_provider<T>(result: &Result<T, CallError>) -> bool {
    matches!(result, Err(CallError::Provider(_)))
}

fn outcome_of<T>(result: &Result<T, CallError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Answered,
        Err(CallError::Provider(error)) => match error.code {
            ErrorCode::Unavailable => error.retry_after.map_or(Outcome::Unavailable, Outcome::UnavailableFor),
            ErrorCode::RateLimited => Outcome::RateLimited(error.retry_after),
            ErrorCode::Unauthenticated => Outcome::Refused,
            ErrorCode::NotFound
            | ErrorCode::PermissionDenied
            | ErrorCode::Conflict
            | ErrorCode::InvalidReference
            | ErrorCode::Unsupported => Outcome::Answered,
            _ => Outcome::Unclear,
        },
        Err(CallError::Sandbox(SandboxError::TimedOut { .. })) => Outcome::Unavailable,
        Err(_) => Outcome::Unclear,
    }
}

/// Admits or refuses the requests of one call on their way out of the sandbox, and counts them.
struct CallGate {
    guard: Arc<Guard>,
    change: Option<Trail>,
    operation: ProviderOperation,
    pass: Pass,
    sent: AtomicU32,
    kept_back: Mutex<Option<CallFailure>>,
}

#[async_trait]
impl RequestGate for CallGate {
    async fn admit(&self, effect: RequestEffect) -> Result<(), String> {
        match self.guard.admit(self.operation, effect, self.pass).await {
            Ok(()) => {
                if let Some(change) = &self.change
                    && let Err(error) = change.begin().await
                {
                    self.kept_back.lock().get_or_insert(CallFailure::NotRecorded(Arc::new(error)));
                    return Err("the beginning of the change could not be recorded".into());
                }
                self.sent.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(refusal) => {
                let reason = match &refusal {
                    Refusal::NotCalled(why) => why.to_string(),
                    Refusal::Storage(_) => "the request could not be counted".to_owned(),
                };
                self.kept_back.lock().get_or_insert(refusal.into());
                Err(reason)
            }
        }
    }
}
