//! Metrics for operators, in the data model of Prometheus.
//!
//! **Invariants:** no label is secret, or comes from a client or a secret manager. Labels are a
//! provider's type (as many as the operator has installed), constants of this program, and keyed
//! fingerprints of credentials, at most `CREDENTIALS_SHOWN` at a time. So the number of series is
//! bounded, whatever clients send.
//!
//! Events are counted where they happen. State (budgets, breakers, sizes) is read when the metrics
//! are read, and leaves them with the thing it describes. Each broker has its own metrics: nothing
//! is global, so two brokers in a process, or two tests, do not mix. For that reason, and because
//! nothing grows while the metrics are not read, this uses the client library of the Prometheus
//! project and not a facade with a recorder that is set once for a process.
//!
//! A resolve from the cache costs one addition to a counter here.

use std::fmt;
use std::sync::Arc;

use keyway_budget::{Allowance, TokenBudget};
pub use prometheus_client;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::connections::Connections;
use crate::core::Core;

/// How many credentials' budgets are shown: those with the least left. A host with more credentials
/// shows how many it left out.
const CREDENTIALS_SHOWN: usize = 500;

/// The broker's metrics: see [`Broker::metrics`](crate::Broker::metrics).
#[derive(Clone)]
pub struct Metrics {
    pub(crate) core: Arc<Core>,
    pub(crate) connections: Arc<Connections>,
}

impl Metrics {
    /// Adds the broker's metrics to a registry, all with the prefix `keyway_`. For the code that
    /// embeds the broker. The metrics reveal the activity of all workspaces together, and no
    /// secret. Call [`Connections::refresh_budgets`] before reading them, so that budgets include
    /// the requests of other processes.
    ///
    /// Call it once for each registry: two brokers in one registry need a label that tells them
    /// apart ([`Registry::sub_registry_with_label`]).
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("keyway");
        let calls = &self.connections.call_metrics;
        registry.register_with_unit(
            "provider_call_duration",
            "Duration of calls of a provider, including failed calls",
            Unit::Seconds,
            calls.durations.clone(),
        );
        registry.register("provider_call_errors", "Calls of a provider that failed", calls.errors.clone());
        registry.register(
            "provider_calls_not_made",
            "Calls not made, because the budget is spent or the breaker is open",
            calls.not_made.clone(),
        );
        registry.register("provider_requests", "Requests sent to secret managers", calls.requests.clone());
        registry.register("sandbox_limits_hit", "Calls that the sandbox ended at a limit", calls.limits.clone());
        let lookups = &self.connections.cache.lookups;
        registry.register("cache_lookups", "Look-ups in the cache of resolved secrets", lookups.family.clone());
        let (records, failures) = self.core.recorder.counters();
        registry.register("audit_records", "Records written to the audit log", records.clone());
        registry.register(
            "audit_failures",
            "Records that could not be written to the audit log; each is a refused operation",
            failures.clone(),
        );
        registry.register_collector(Box::new(State(self.clone())));
    }
}

/// The state at the moment when the metrics are read.
struct State(Metrics);

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("State").finish_non_exhaustive()
    }
}

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut tokens = self.0.connections.budgets();
        let omitted = tokens.len().saturating_sub(CREDENTIALS_SHOWN);
        if omitted > 0 {
            tokens.sort_by_key(left);
            tokens.truncate(CREDENTIALS_SHOWN);
        }
        allowances(&mut encoder, &tokens, "budget_limit", "Requests that a window allows", |of| of.limit)?;
        let remaining = "Requests left in a window";
        allowances(&mut encoder, &tokens, "budget_remaining", remaining, |of| of.remaining())?;

        let about = "State of the breaker of a connection's credentials: closed, or the reason for the pause";
        let mut metric = encoder.encode_descriptor("breaker_state", about, None, MetricType::Gauge)?;
        for TokenBudget { provider_type, budget, .. } in &tokens {
            let now = budget.pause.map_or_else(|| "closed".to_owned(), |pause| pause.reason.to_string());
            for state in ["closed", "unavailable", "rate-limited", "refused"] {
                let labels = [
                    ("provider", provider_type.as_str()),
                    ("credentials", budget.credentials.as_str()),
                    ("state", state),
                ];
                metric.encode_family(&labels)?.encode_gauge(&i64::from(state == now))?;
            }
        }

        let about = "Credentials whose budgets are not shown, because there are too many";
        let mut metric = encoder.encode_descriptor("budget_credentials_omitted", about, None, MetricType::Gauge)?;
        metric.encode_gauge(&i64::try_from(omitted).unwrap_or(i64::MAX))?;

        let (values, bytes) = self.0.connections.cache.size();
        let about = "Values in the cache of resolved secrets";
        let mut metric = encoder.encode_descriptor("cache_values", about, None, MetricType::Gauge)?;
        metric.encode_gauge(&values)?;
        let about = "Size of the cache of resolved secrets";
        let mut metric = encoder.encode_descriptor("cache_size", about, Some(&Unit::Bytes), MetricType::Gauge)?;
        metric.encode_gauge(&bytes)?;

        let about = "Provider components in use";
        let mut metric = encoder.encode_descriptor("provider", about, None, MetricType::Info)?;
        for provider in self.0.connections.providers.list() {
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
        for allowance in &token.budget.allowances {
            // Without a known limit, there is no number of requests left.
            let Some(number) = number(*allowance) else { continue };
            let window = format!("{}s", allowance.period.as_secs());
            let labels = [
                ("provider", token.provider_type.as_str()),
                ("credentials", token.budget.credentials.as_str()),
                ("scope", allowance.scope.name()),
                ("requests", allowance.requests_name()),
                ("window", window.as_str()),
            ];
            metric.encode_family(&labels)?.encode_gauge(&number)?;
        }
    }
    Ok(())
}

/// How many requests are left in the window that ends first.
fn left(token: &TokenBudget) -> u32 {
    token.budget.allowances.iter().filter_map(Allowance::remaining).min().unwrap_or(u32::MAX)
}
