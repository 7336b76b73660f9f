//! A budget as clients and scripts see it.

use jiff::Timestamp;
use keyway::budgets::{Allowance, Budget};
use serde::Serialize;
use utoipa::ToSchema;

use super::view;

view! {
    /// A connection's remaining requests to its secret manager.
    #[derive(Debug, ToSchema)]
    #[schema(as = Budget)]
    pub(crate) struct BudgetView of budget: Budget {
        /// The label `credentials` of these credentials' series in the metrics.
        credentials: String = budget.credentials,
        /// The limits of the connection's credentials, and of their account. All apply at the same
        /// time.
        allowances: Vec<AllowanceView> = budget.allowances.into_iter().map(Into::into).collect(),
        /// Present while the connection is paused.
        pause: Option<PauseView> =
            budget.pause.map(|pause| PauseView { reason: pause.reason.to_string(), until: pause.until }),
    }
}

view! {
    /// The requests of a rolling period.
    #[derive(Debug, ToSchema)]
    #[schema(as = Allowance)]
    pub(crate) struct AllowanceView of allowance: Allowance {
        /// What they are counted for: `credential` or `account`.
        scope: &'static str = allowance.scope.name(),
        /// The kind of requests: `reads`, `writes` or `all`.
        requests: &'static str = allowance.requests_name(),
        /// Absent when no limit is known.
        limit: Option<u32> = allowance.limit,
        used: u32 = allowance.used,
        /// Absent when no limit is known.
        remaining: Option<u32> = allowance.remaining(),
        /// The length of the period.
        window_seconds: u64 = allowance.period.as_secs(),
    }
}

/// A pause: until it ends, no request goes to the secret manager.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Pause)]
pub(crate) struct PauseView {
    /// `unavailable`, `rate-limited` or `refused`.
    pub(crate) reason: String,
    pub(crate) until: Timestamp,
}
