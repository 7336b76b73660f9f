//! Counters that are updated where events happen: calls of providers, and look-ups in the cache.
//! `metrics.rs` exports them.

use std::borrow::Cow;
use std::time::Duration;

use keyway_budget::ProviderOperation;
use keyway_runtime::{CallError, ErrorCode, SandboxError};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::provider_call::CallFailure;

/// In seconds. They tell a provider that answers from a session in a few milliseconds from one that
/// logs in, and from one that times out after the 30 s that a call may take.
const CALL_BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Names and values of labels.
pub(crate) type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];

/// Counts look-ups in the cache by their outcome.
#[derive(Debug, Clone)]
pub(crate) struct CacheLookups {
    pub(crate) family: Family<Labels<1>, Counter>,
    /// A value that may be used was found.
    pub(crate) hits: Counter,
    /// None was found, so the provider was called.
    pub(crate) misses: Counter,
    /// The cache duration is 0, so nothing was looked up.
    pub(crate) off: Counter,
}

impl Default for CacheLookups {
    fn default() -> Self {
        let family = Family::<Labels<1>, Counter>::default();
        let counter = |result| family.get_or_create_owned(&[("result", Cow::Borrowed(result))]);
        Self { hits: counter("hit"), misses: counter("miss"), off: counter("off"), family }
    }
}

/// Counters of provider calls.
#[derive(Debug, Clone)]
pub(crate) struct CallMetrics {
    pub(crate) durations: Family<Labels<2>, Histogram, fn() -> Histogram>,
    pub(crate) errors: Family<Labels<3>, Counter>,
    pub(crate) not_made: Family<Labels<3>, Counter>,
    pub(crate) limits: Family<Labels<2>, Counter>,
    pub(crate) requests: Family<Labels<1>, Counter>,
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self {
            durations: Family::new_with_constructor(|| Histogram::new(CALL_BUCKETS)),
            errors: Family::default(),
            not_made: Family::default(),
            limits: Family::default(),
            requests: Family::default(),
        }
    }
}

impl CallMetrics {
    /// Counts a call that has ended, after this many requests to the secret manager.
    pub(crate) fn ended(
        &self,
        provider: &str,
        operation: ProviderOperation,
        took: Duration,
        requests: u32,
        failure: Option<&CallFailure>,
    ) {
        let provider = ("provider", Cow::Owned(provider.to_owned()));
        let operation = ("operation", Cow::Borrowed(operation.name()));
        if let Some(failure) = failure {
            if let CallFailure::Call(CallError::Sandbox(error)) = failure
                && let Some(limit) = error.limit()
            {
                self.limits.get_or_create(&[provider.clone(), ("limit", limit.into())]).inc();
            }
            let error = ("error", error_of(failure));
            self.errors.get_or_create(&[provider.clone(), operation.clone(), error]).inc();
        }
        self.requests.get_or_create(std::array::from_ref(&provider)).inc_by(u64::from(requests));
        self.durations.get_or_create(&[provider, operation]).observe(took.as_secs_f64());
    }

    /// Counts a call that was not made.
    pub(crate) fn not_made(&self, provider: &str, operation: ProviderOperation, failure: &CallFailure) {
        let reason = if let CallFailure::NotCalled(why) = failure { why.name() } else { "host" };
        let labels = [
            ("provider", provider.to_owned().into()),
            ("operation", operation.name().into()),
            ("error", reason.into()),
        ];
        self.not_made.get_or_create(&labels).inc();
    }
}

/// The kind of an error, by its name in the contract; never text of the component.
fn error_of(failure: &CallFailure) -> Cow<'static, str> {
    let name = match failure {
        CallFailure::Call(CallError::Provider(error)) => match &error.code {
            ErrorCode::Other(_) => "other",
            code => return code.as_str().to_owned().into(),
        },
        CallFailure::Call(CallError::Sandbox(error)) => match error {
            SandboxError::Trapped { .. } => "trapped",
            SandboxError::InvalidAnswer(_) => "invalid-answer",
            SandboxError::Host(_) => "host",
            _ => "sandbox-limit",
        },
        CallFailure::Call(_) | CallFailure::NotRecorded(_) | CallFailure::Host(_) => "host",
        // The budget was spent, or the breaker opened, while the call ran.
        CallFailure::NotCalled(_) => "request-kept-back",
    };
    name.into()
}
