//! Limits on requests to secret managers: a [`Budget`] says how many a connection has left, and
//! [`BudgetOptions`] are the operator's settings.

pub use keyway_budget::{
    Allowance, BreakerOptions, Budget, BudgetOptions, BudgetScope, NotCalled, Pause, RateLimits, Share, Shares,
    TokenBudget,
};
pub use keyway_storage::{PauseReason, RequestKind};
