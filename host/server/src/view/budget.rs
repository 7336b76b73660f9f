//! A budget as clients and scripts see it.

use jiff::Timestamp;
use keyway::{Allowance, Budget};
use serde::Serialize;
use utoipa::ToSchema;

/// What a connection may still ask of its secret manager.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Budget)]
pub(crate) struct BudgetView {
    /// Requests with the connection's credentials that read.
    pub(crate) token_reads: AllowanceView,
    /// Requests with the connection's credentials that write.
    pub(crate) token_writes: AllowanceView,
    /// All requests to the connection's account.
    pub(crate) account: Option<AllowanceView>,
    /// Present while the connection is paused.
    pub(crate) pause: Option<PauseView>,
}

/// How many requests there are in a rolling period.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Allowance)]
pub(crate) struct AllowanceView {
    /// Absent when no limit is known.
    pub(crate) limit: Option<u32>,
    pub(crate) used: u32,
    /// Absent when no limit is known.
    pub(crate) remaining: Option<u32>,
    pub(crate) period_seconds: u64,
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
            limit: allowance.limit,
            used: allowance.used,
            remaining: allowance.remaining(),
            period_seconds: allowance.period.as_secs(),
        }
    }
}

impl From<Budget> for BudgetView {
    fn from(budget: Budget) -> Self {
        Self {
            token_reads: budget.token_reads.into(),
            token_writes: budget.token_writes.into(),
            account: budget.account.map(Into::into),
            pause: budget.pause.map(|pause| PauseView { reason: pause.reason.to_string(), until: pause.until }),
        }
    }
}
