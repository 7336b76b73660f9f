//! Budgets: how often a secret manager is asked, and when it is not.
//!
//! Secret managers count requests. 1Password limits each token by the hour and the whole account by
//! the day, does not report how much is left, and answers 429 to everything once a limit is
//! reached. Crash loops and retry storms get users there. So:
//!
//! * **All calls of a provider pass one place,** `Opened::call` of the broker; there is no other
//!   way to a connection.
//! * **Requests are counted, not calls:** a cold resolve of 1Password makes seven. Each is counted
//!   in the database before it leaves the sandbox (`meter`), so no burst, crash or second host
//!   exceeds a limit. A cached value costs nothing. The window is a rolling one (`window`),
//!   because the start of the server's window is unknown.
//! * **A token that cannot succeed is not used** (`breaker`). The breaker opens until the time that
//!   the server named, after consecutive failures, or after refused credentials: then for pauses
//!   that double up to a few seconds. Calls are refused from memory, within microseconds, and the
//!   state survives a restart. A person ends a pause at once.
//! * **One retry,** of the first failure or refusal after a success and never of a change: it hides
//!   a blip and cannot become a storm.
//! * Throughout, a cached value within its duration is served; an expired one never is.
//!
//! How it can fail: requests of other programs with the same token are not counted here (the
//! server's 429 is then honoured). When the database cannot count a request, the request is not
//! made.
//!
//! **May import** of Keyway: `keyway-clock`, `keyway-keys`, `keyway-runtime`, `keyway-storage`.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod breaker;
mod guard;
mod guards;
mod identity;
mod limits;
mod meter;
mod not_called;
mod operation;
mod reading;
mod shares;
#[cfg(test)]
mod testing;
mod token;
mod window;

pub use breaker::{Outcome, after, back_off};
pub use guard::{Guard, LONGEST_RETRY_PAUSE, Pass, draw};
pub use guards::Guards;
pub use identity::FINGERPRINT_KEY;
pub use limits::{BreakerOptions, BudgetOptions, BudgetScope, LONGEST_WAIT, RateLimits};
pub use not_called::{NotCalled, Refusal};
pub use operation::ProviderOperation;
pub use reading::{Allowance, Budget, Pause, TokenBudget};
pub use shares::{Share, Shares};
pub use window::KEPT;
