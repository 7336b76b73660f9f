//! Budgets: how often a secret manager is asked, and when it is not.
//!
//! Secret managers count. 1Password limits a service account by the hour for each token and by the
//! day for the whole account, says how much is left to nobody, and answers 429 to everything once a
//! limit is reached. What gets users there are crash loops and retry storms. So:
//!
//! * **All calls of a provider pass one place,** [`Opened::call`]; there is no other way to a
//!   connection.
//! * **Requests are counted, not calls:** a cold resolve of 1Password makes seven. Each is counted
//!   in the database before it leaves the sandbox ([`meter`]), so neither a burst nor a crash nor a
//!   second host gets past a limit; a cached value costs nothing. The window is a rolling one
//!   ([`window`]), because where the server's begins is not known.
//! * **A token that cannot succeed is not used** ([`breaker`]): until the time that the server
//!   named; after failures in a row; after refused credentials, until somebody enters them again or
//!   for a while that doubles. What is refused is refused from memory, within microseconds, and the
//!   state survives a restart.
//! * **One retry,** of the first failure after a success and never of a change: it hides a blip and
//!   cannot become a storm.
//! * A cached value within its duration is served all the while; one beyond it never is.
//!
//! How it can fail: requests that other programs make with the same token are not known here (the
//! server's 429 is then honoured); when the database cannot count a request, the request is not
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
#[cfg(test)]
mod testing;
mod token;
mod window;

pub use breaker::{Outcome, after, back_off};
pub use guard::{Guard, Pass, Refusal, draw};
pub use guards::Guards;
pub use identity::FINGERPRINT_KEY;
pub use limits::{BreakerOptions, BudgetOptions, BudgetScope, LONGEST_WAIT, RateLimits};
pub use not_called::NotCalled;
pub use operation::ProviderOperation;
pub use reading::{Allowance, Budget, Pause, TokenBudget};
pub use window::KEPT;
