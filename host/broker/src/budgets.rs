//! What secret managers may be asked: [`Budget`] is what is left for a connection, and
//! [`BudgetOptions`] what an operator may set.

pub use keyway_budget::{
    Allowance, BreakerOptions, Budget, BudgetOptions, BudgetScope, NotCalled, Pause, RateLimits, TokenBudget,
};
pub use keyway_storage::{PauseReason, RequestKind};
