//! Numbers for operators, in the data model of Prometheus.
//!
//! **Invariants:** no label is a secret, or comes from a client or a secret manager. Labels are a provider's type (there
//! are as many as the operator has installed), words of this program's text, and the keyed fingerprint of credentials,
//! of which no more than [`CREDENTIALS_SHOWN`] are there at a time. So the number of series is bounded, whatever
//! anybody sends.
//!
//! What happens is counted where it happens; what is the case (budgets, breakers, sizes) is looked up when somebody asks, and
//! is gone from the answer with what it was about. Each broker has its own numbers: there is nothing global, so two of
//! them in a process, or two tests, do not mix. That, and that nothing grows while nobody asks, is why this is the client
//! library of the Prometheus project and not a facade with a recorder that is set once for a process.
//!
//! A resolve from the cache costs one addition to a counter here.

use std::fmt;
use std::time::Duration;

use keyway_runtime::{CallError, ErrorCode, SandboxError};
use keyway_storage::PauseReason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::broker::Broker;
use crate::budget::{Allowance, CallFailure, NotCalled, ProviderOperation, TokenBudget};

/// Of how many credentials the budgets are shown: those that have least left. A host with more of them shows how many it
/// left out.
const CREDENTIALS_SHOWN: usize = 500;

/// In seconds. A provider that answers from a session in a few milliseconds is told from one that logs in, and from one
/// that runs into the 30 s that a call may take.
const CALL_BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCall {
    provider: String,
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfError {
    provider: String,
    operation: &'static str,
    error: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLimit {
    provider: String,
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProvider {
    provider: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLookup {
    result: &'static str,
}

/// How many look-ups in the cache found a value.
#[derive(Debug, Clone)]
pub(crate) struct CacheLookups {
    family: Family<OfLookup, Counter>,
    /// A value that may be used was there.
    pub(crate) hits: Counter,
    /// None was, so the provider was asked.
    pub(crate) misses: Counter,
    /// The cache duration is 0, so nothing was looked up.
    pub(crate) off: Counter,
}

impl Default for CacheLookups {
    fn default() -> Self {
        let family = Family::<OfLookup, Counter>::default();
        let counter = |result| family.get_or_create_owned(&OfLookup { result });
        Self { hits: counter("hit"), misses: counter("miss"), off: counter("off"), family }
    }
}

/// What is counted of provider calls.
#[derive(Debug, Clone)]
pub(crate) struct CallMetrics {
    durations: Family<OfCall, Histogram, fn() -> Histogram>,
    errors: Family<OfError, Counter>,
    not_made: Family<OfError, Counter>,
    limits: Family<OfLimit, Counter>,
    requests: Family<OfProvider, Counter>,
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
    /// A call has ended, after so many requests to the secret manager.
    pub(crate) fn ended(
        &self,
        provider: &str,
        operation: ProviderOperation,
        took: Duration,
        requests: u32,
        failure: Option<&CallFailure>,
    ) {
        let (provider, operation) = (provider.to_owned(), operation.name());
        if let Some(failure) = failure {
            if let CallFailure::Call(CallError::Sandbox(error)) = failure
                && let Some(limit) = error.limit()
            {
                self.limits.get_or_create(&OfLimit { provider: provider.clone(), limit }).inc();
            }
            let error = error_of(failure);
            self.errors.get_or_create(&OfError { provider: provider.clone(), operation, error }).inc();
        }
        self.requests.get_or_create(&OfProvider { provider: provider.clone() }).inc_by(u64::from(requests));
        self.durations.get_or_create(&OfCall { provider, operation }).observe(took.as_secs_f64());
    }

    /// A call was not made.
    pub(crate) fn not_made(&self, provider: &str, operation: ProviderOperation, failure: &CallFailure) {
        let labels = OfError { provider: provider.to_owned(), operation: operation.name(), error: reason_of(failure) };
        self.not_made.get_or_create(&labels).inc();
    }
}

/// The kind of an error, by the name that the contract gives it; never a word of the component's own.
fn error_of(failure: &CallFailure) -> &'static str {
    match failure {
        CallFailure::Call(CallError::Provider(error)) => match &error.code {
            ErrorCode::InvalidSettings => "invalid-settings",
            ErrorCode::Unauthenticated => "unauthenticated",
            ErrorCode::PermissionDenied => "permission-denied",
            ErrorCode::ActionRequired => "action-required",
            ErrorCode::InvalidReference => "invalid-reference",
            ErrorCode::NotFound => "not-found",
            ErrorCode::Conflict => "conflict",
            ErrorCode::RateLimited => "rate-limited",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::Unsupported => "unsupported",
            ErrorCode::UnexpectedAnswer => "unexpected-answer",
            _ => "other",
        },
        CallFailure::Call(CallError::Sandbox(error)) => match error {
            SandboxError::Trapped { .. } => "trapped",
            SandboxError::InvalidAnswer(_) => "invalid-answer",
            SandboxError::Host(_) => "host",
            _ => "sandbox-limit",
        },
        CallFailure::Call(_) | CallFailure::Host(_) => "host",
        // The budget was spent, or the breaker opened, while the call ran.
        CallFailure::NotCalled(_) => "request-kept-back",
    }
}

fn reason_of(failure: &CallFailure) -> &'static str {
    match failure {
        CallFailure::NotCalled(NotCalled::BudgetSpent { .. }) => "budget-spent",
        CallFailure::NotCalled(NotCalled::RateLimited { .. }) => "rate-limited",
        CallFailure::NotCalled(NotCalled::Unavailable { .. }) => "unavailable",
        CallFailure::NotCalled(NotCalled::Refused { .. }) => "refused",
        CallFailure::Call(_) | CallFailure::Host(_) => "host",
    }
}

impl Broker {
    /// Adds the broker's metrics to a registry, all with the prefix `keyway_`. For the code that embeds the broker; whoever
    /// reads them learns how much all workspaces do together, and no secret. [`refresh_budgets`](Self::refresh_budgets) before
    /// they are read has budgets in them that know of other processes.
    ///
    /// Call it once for each registry: two brokers in one registry need a label that tells them apart
    /// ([`Registry::sub_registry_with_label`]).
    pub fn register_metrics(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("keyway");
        let calls = self.call_metrics();
        registry.register_with_unit(
            "provider_call_duration",
            "How long calls of a provider took, those that failed included",
            Unit::Seconds,
            calls.durations.clone(),
        );
        registry.register("provider_call_errors", "Calls of a provider that failed", calls.errors.clone());
        registry.register(
            "provider_calls_not_made",
            "Calls that were not made, because the budget is spent or the breaker is open",
            calls.not_made.clone(),
        );
        registry.register("provider_requests", "Requests that were sent to secret managers", calls.requests.clone());
        registry.register("sandbox_limits_hit", "Calls that the sandbox ended at a limit", calls.limits.clone());
        let lookups = self.cache().lookups();
        registry.register("cache_lookups", "Look-ups in the cache of resolved secrets", lookups.family.clone());
        let (records, failures) = self.recorder().counters();
        registry.register("audit_records", "Records that were written to the audit log", records.clone());
        registry.register(
            "audit_failures",
            "Records that could not be written to the audit log; each is an operation that was refused",
            failures.clone(),
        );
        registry.register_collector(Box::new(State(self.clone())));
    }
}

/// What is the case at the moment somebody asks.
struct State(Broker);

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("State").finish_non_exhaustive()
    }
}

type AllowanceOf = fn(&TokenBudget) -> Option<Allowance>;

/// The windows in which requests are counted.
const WINDOWS: [(&str, AllowanceOf); 3] = [
    ("token-reads", |token| Some(token.budget.token_reads)),
    ("token-writes", |token| Some(token.budget.token_writes)),
    ("account", |token| token.budget.account),
];

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut tokens = self.0.budgets();
        let omitted = tokens.len().saturating_sub(CREDENTIALS_SHOWN);
        if omitted > 0 {
            tokens.sort_by_key(left);
            tokens.truncate(CREDENTIALS_SHOWN);
        }
        allowances(&mut encoder, &tokens, "budget_limit", "Requests that a window allows", |of| of.limit)?;
        let remaining = "Requests that are left in a window";
        allowances(&mut encoder, &tokens, "budget_remaining", remaining, |of| of.remaining())?;

        let about = "Whether a connection's credentials are used (closed), or why they are given a rest";
        let mut metric = encoder.encode_descriptor("breaker_state", about, None, MetricType::Gauge)?;
        for TokenBudget { provider_type, token, budget, .. } in &tokens {
            let now = budget.pause.map_or("closed", |pause| pause_name(pause.reason));
            for state in ["closed", "unavailable", "rate-limited", "refused"] {
                let labels = [("provider", provider_type.as_str()), ("credentials", token.as_str()), ("state", state)];
                metric.encode_family(&labels)?.encode_gauge(&i64::from(state == now))?;
            }
        }

        let about = "Credentials whose budgets are not shown, because there are too many";
        let mut metric = encoder.encode_descriptor("budget_credentials_omitted", about, None, MetricType::Gauge)?;
        metric.encode_gauge(&i64::try_from(omitted).unwrap_or(i64::MAX))?;

        let (values, bytes) = self.0.cache().size();
        let about = "Values in the cache of resolved secrets";
        let mut metric = encoder.encode_descriptor("cache_values", about, None, MetricType::Gauge)?;
        metric.encode_gauge(&values)?;
        let about = "What the cache of resolved secrets weighs";
        let mut metric = encoder.encode_descriptor("cache_size", about, Some(&Unit::Bytes), MetricType::Gauge)?;
        metric.encode_gauge(&bytes)?;

        let about = "Provider components in use";
        let mut metric = encoder.encode_descriptor("provider", about, None, MetricType::Info)?;
        for provider in self.0.providers().list() {
            let description = provider.description();
            let labels = [
                ("provider", description.provider_type.as_str()),
                ("version", description.version.as_str()),
                ("digest", provider.digest()),
            ];
            metric.encode_info(&labels)?;
        }
        Ok(())
    }
}

fn allowances(
    encoder: &mut DescriptorEncoder<'_>,
    tokens: &[TokenBudget],
    name: &str,
    about: &str,
    number: impl Fn(Allowance) -> Option<u32>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, about, None, MetricType::Gauge)?;
    for token in tokens {
        for (window, allowance) in WINDOWS {
            // Where no limit is known, nothing is left of it either.
            let Some(number) = allowance(token).and_then(&number) else { continue };
            let labels =
                [("provider", token.provider_type.as_str()), ("credentials", token.token.as_str()), ("window", window)];
            metric.encode_family(&labels)?.encode_gauge(&number)?;
        }
    }
    Ok(())
}

/// How many requests are left in the window that ends first.
fn left(token: &TokenBudget) -> u32 {
    let remaining = WINDOWS.into_iter().filter_map(|(_, allowance)| allowance(token)?.remaining());
    remaining.min().unwrap_or(u32::MAX)
}

fn pause_name(reason: PauseReason) -> &'static str {
    match reason {
        PauseReason::Unavailable => "unavailable",
        PauseReason::RateLimited => "rate-limited",
        PauseReason::Refused => "refused",
    }
}
