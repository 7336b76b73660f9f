//! One call in one fresh instance, from its turn to the end of its store.
//!
//! Failures stay within the call. The store, and with it the instance's memory, is dropped on every
//! path: success, error, trap, time-out, cancelled caller. Dropping it releases its slot, its turn
//! and its right to renew the session.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::ResourceTableError;
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi_http::FieldMapError;

use crate::adapter::{Adapter, CallResult, Instance, OtherShape};
use crate::contract::Attribute;
use crate::egress::EgressError;
use crate::error::{CallError, ErrorCode, ProviderError, SandboxError};
use crate::limits::{Exceeded, Limits};
use crate::redact::Redactor;
use crate::state::{CallState, HEADER_BYTES, RANDOM_BYTES};
use crate::validate::MAX_LIST;

/// A call that holds its turn and its instance.
pub(crate) struct Call {
    pub(crate) store: Store<CallState>,
    pub(crate) instance: Box<dyn Instance>,
    started: Instant,
    limits: Arc<Limits>,
    redactor: Redactor,
    provider: Arc<str>,
    operation: &'static str,
    _turn: Turn,
}

/// The permits for running calls.
#[derive(Clone, Copy)]
pub(crate) struct Turns<'a> {
    /// Of the connection. Absent while a component is described.
    pub(crate) of_connection: Option<&'a Arc<Semaphore>>,
    /// Of the whole host.
    pub(crate) of_host: &'a Arc<Semaphore>,
}

type Turn = (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

impl Turns<'_> {
    /// Takes the connection's turn first: a call that waits for its connection must not hold one of
    /// the host's turns.
    async fn take(self, limits: &Limits) -> Result<Turn, SandboxError> {
        let deadline = tokio::time::Instant::now() + limits.queue_time;
        let take = async |turns: &Arc<Semaphore>, limit: u32| match tokio::time::timeout_at(
            deadline,
            turns.clone().acquire_owned(),
        )
        .await
        {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(SandboxError::Busy { limit: limit as usize }),
        };
        let of_connection = match self.of_connection {
            Some(turns) => Some(take(turns, limits.calls_per_connection).await?),
            None => None,
        };
        Ok((of_connection, take(self.of_host, limits.concurrent_calls).await?))
    }
}

impl Call {
    pub(crate) async fn begin(
        engine: &Engine,
        limits: &Arc<Limits>,
        turns: Turns<'_>,
        adapter: &dyn Adapter,
        state: CallState,
        redactor: Redactor,
        (provider, operation): (Arc<str>, &'static str),
    ) -> Result<Self, SandboxError> {
        let turn = turns.take(limits).await?;
        let started = Instant::now();
        let mut store = new_store(engine, limits, state);
        let deadline = tokio::time::Instant::now() + limits.call_time;
        store.data_mut().deadline = deadline;
        let instance = match tokio::time::timeout_at(deadline, adapter.instantiate(&mut store)).await {
            Ok(Ok(instance)) => instance,
            Ok(Err(error)) => return Err(fault(&error, store.data(), limits)),
            Err(_) => return Err(SandboxError::TimedOut { operation, limit: limits.call_time }),
        };
        let limits = limits.clone();
        Ok(Self { store, instance, started, limits, redactor, provider, operation, _turn: turn })
    }

    /// The time by which the call must end.
    pub(crate) fn deadline(&self) -> tokio::time::Instant {
        self.store.data().deadline
    }

    /// The secrets of this call, to add those that it has read.
    pub(crate) fn redactor(&mut self) -> &mut Redactor {
        &mut self.redactor
    }

    /// Ends the call and turns its outcome into the result.
    pub(crate) fn finish<T>(
        mut self,
        outcome: Result<CallResult<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, CallError> {
        let result = match outcome {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(error))) => Err(CallError::Provider(self.presentable(error))),
            Ok(Err(error)) => {
                tracing::debug!(provider = &*self.provider, operation = self.operation, "{error:?}");
                Err(fault(&error, self.store.data(), &self.limits).into())
            }
            Err(_) => Err(SandboxError::TimedOut { operation: self.operation, limit: self.limits.call_time }.into()),
        };
        if let Some(session) = self.store.data_mut().session.take() {
            session.finish(match &result {
                Err(CallError::Provider(error)) if error.concerns_login() => Some(error),
                _ => None,
            });
        }
        if let Some(reason) = self.store.data().local_failure().filter(EgressError::is_refusal) {
            let reason = self.redactor.message(&reason.to_string());
            tracing::warn!(
                provider = &*self.provider,
                operation = self.operation,
                reason,
                "the host refused a request"
            );
        }
        let elapsed_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let outcome = match &result {
            Ok(_) => "ok",
            Err(CallError::Provider(error)) => error.code(),
            Err(CallError::Sandbox(_)) => "sandbox",
        };
        tracing::debug!(provider = &*self.provider, operation = self.operation, outcome, elapsed_us, "call");
        result
    }

    /// A provider's error, safe to show: the call's secrets are removed, and if a request
    /// failed for a reason that the provider cannot see, it is added.
    fn presentable(&self, error: ProviderError) -> ProviderError {
        let failure = self.store.data().local_failure();
        let clean = |message: String| match &failure {
            Some(reason) if reason.is_refusal() => {
                self.redactor.message(&format!("{message} (The host refused a request: {reason}.)"))
            }
            Some(reason) => self.redactor.message(&format!("{message} (The host reports: {reason}.)")),
            None => self.redactor.message(&message),
        };
        let plain = |text: String| self.redactor.message(&text);
        ProviderError {
            code: match error.code {
                ErrorCode::Other(code) => ErrorCode::Other(plain(code)),
                code => code,
            },
            message: clean(error.message),
            setting: error.setting.map(plain),
            retry_after: error.retry_after,
            attributes: error
                .attributes
                .into_iter()
                .take(MAX_LIST)
                .map(|a| Attribute { name: plain(a.name), value: plain(a.value) })
                .collect(),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.store.data().output.log(&self.provider, self.operation, &self.redactor);
    }
}

/// A store with every limit in place.
pub(crate) fn new_store(engine: &Engine, limits: &Limits, state: CallState) -> Store<CallState> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(limits.output_bytes);
    store.set_max_component_handles(limits.handles);
    // At every tick the call yields, so that its time-out can fire.
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    store
}

/// wasmtime's message when a component passes too many bytes at once. The error has no type of its
/// own; the self-test at start-up proves that the text is still this one.
const TOO_MUCH_OUTPUT: &str = "fuel allocated for hostcalls has been exhausted";

/// The same for a request of too many random bytes at once; the sandbox test proves the text.
const TOO_MUCH_RANDOMNESS: &str = "requested len ";

/// Why the sandbox ended a call. Contains nothing that comes from the component.
pub(crate) fn fault(error: &wasmtime::Error, state: &CallState, limits: &Limits) -> SandboxError {
    match state.limiter.exceeded {
        Some(Exceeded::Memory) => return SandboxError::OutOfMemory { limit_bytes: limits.memory_bytes },
        Some(Exceeded::Table) => {
            return SandboxError::LimitExceeded(format!("{} table elements", limits.table_elements));
        }
        None => {}
    }
    if let Some(shape) = error.downcast_ref::<OtherShape>() {
        return SandboxError::OtherShape(shape.to_string());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return SandboxError::Busy { limit: limits.concurrent_calls as usize };
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let text = trap.to_string();
        return SandboxError::Trapped { reason: text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned() };
    }
    if error.is::<wasmtime_wasi::I32Exit>() {
        return SandboxError::Trapped { reason: "it exited".into() };
    }
    let handles = || SandboxError::LimitExceeded(format!("{} open handles", limits.handles));
    if matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full)) {
        return handles();
    }
    if let Some(FieldMapError::TooManyFields | FieldMapError::TotalSizeTooBig) = error.downcast_ref() {
        return SandboxError::LimitExceeded(format!("{} KiB of headers", HEADER_BYTES >> 10));
    }
    let text = format!("{error:#}");
    if text.contains(TOO_MUCH_OUTPUT) {
        return SandboxError::OutputTooLarge { limit_bytes: limits.output_bytes };
    }
    if text.contains(TOO_MUCH_RANDOMNESS) {
        return SandboxError::LimitExceeded(format!("{} KiB of random bytes at a time", RANDOM_BYTES >> 10));
    }
    if text.contains("store handle limit exceeded") {
        return handles();
    }
    SandboxError::InvalidAnswer("it broke the rules of the component interface".into())
}
