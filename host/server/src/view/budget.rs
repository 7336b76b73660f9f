//! A budget as clients and scripts see it.

use jiff::Timestamp;
use keyway::{Allowance, Budget};
use serde::Serialize;
use utoipa::ToSchema;

/// What a connection may still ask of its secret manager.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Budget)]
pub(crate) struct BudgetView {
    /// Of the connection's credentials, and of their account. All apply at the same time.
    pub(crate) allowances: Vec<AllowanceView>,
    /// Present while the connection is paused.
    pub(crate) pause: Option<PauseView>,
}

/// How many requests there are in a rolling period.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Allowance)]
pub(crate) struct AllowanceView {
    /// For whom they are counted: `credential` or `account`.
    pub(crate) scope: &'static str,
    /// Which requests: `reads`, `writes` or `all`.
    pub(crate) requests: &'static str,
    /// Absent when no limit is known.
    pub(crate) limit: Option<u32>,
    pub(crate) used: u32,
    /// Absent when no limit is known.
    pub(crate) remaining: Option<u32>,
    /// The length of the period.
    pub(crate) window_seconds: u64,
}

/// A pause: until it ends, no request goes to the secret manager.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Pause)]
pub(crate) struct PauseView {
    /// `unavailable`, `rate-limited` or `refused`.
    pub(crate) reason: String,
    pub(crate) until: Timestamp,
}

impl From<Allowance> for AllowanceView {
    fn from(allowance: Allowance) -> Self {
        Self {
            scope: allowance.scope.name(),
            requests: allowance.requests_name(),
            limit: allowance.limit,
            used: allowance.used,
            remaining: allowance.remaining(),
            window_seconds: allowance.period.as_secs(),
        }
    }
}

impl From<Budget> for BudgetView {
    fn from(budget: Budget) -> Self {
        Self {
            allowances: budget.allowances.into_iter().map(Into::into).collect(),
            pause: budget.pause.map(|pause| PauseView { reason: pause.reason.to_string(), until: pause.until }),
        }
    }
}
