//! Why a provider was not called, in words for people.

use std::fmt;
use std::time::Duration;

use keyway_storage::{RequestKind, StorageError};
use thiserror::Error;

use crate::limits::BudgetScope;

impl fmt::Display for BudgetScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credential => "with this connection's credentials",
            Self::Account => "to this connection's account",
        })
    }
}

fn counted(requests: RequestKind) -> &'static str {
    match requests {
        RequestKind::Read => "reading requests",
        RequestKind::Write => "writing requests",
        RequestKind::Any => "requests",
    }
}

/// Advice besides waiting.
fn advice(requests: RequestKind) -> &'static str {
    match requests {
        RequestKind::Read | RequestKind::Any => "; a longer cache duration makes fewer requests",
        RequestKind::Write => "",
    }
}

/// Why a call was not made.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The budget or the breaker refused it.
    #[error(transparent)]
    NotCalled(#[from] NotCalled),
    /// The request could not be counted.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a provider was not called. No request was sent; a retry before `retry_after` is refused too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotCalled {
    /// The secret manager's limit is used up.
    #[error(
        "the secret manager was not asked, because its limit of {limit} {} {scope} in {} is used up. Try again in {}{}",
        counted(*.requests), human(*.period), human(*.retry_after), advice(*.requests)
    )]
    BudgetSpent {
        /// Which requests count together.
        scope: BudgetScope,
        /// Which requests.
        requests: RequestKind,
        /// How many requests it allows.
        limit: u32,
        /// The length of the window.
        period: Duration,
        /// How long until there is room.
        retry_after: Duration,
    },
    /// The secret manager asked to wait.
    #[error(
        "the secret manager accepts no requests with this connection's credentials for now, because too many were made. Try again in {}; a longer cache duration makes fewer requests",
        human(*.retry_after)
    )]
    RateLimited {
        /// How much longer to wait.
        retry_after: Duration,
    },
    /// The secret manager failed or was unreachable several times in a row.
    #[error(
        "the secret manager, or the network or proxy on the way to it, failed several times in a row, so calls are paused. Try again in {}",
        human(*.retry_after)
    )]
    Unavailable {
        /// How long until the next attempt.
        retry_after: Duration,
    },
    /// The secret manager has refused the connection's credentials once, which is not believed
    /// before the next login is refused as well.
    #[error(
        "the secret manager refused this connection's credentials once, and is asked again before that is believed. Try again in {}",
        human(*.retry_after)
    )]
    Doubted {
        /// How long until the next attempt.
        retry_after: Duration,
    },
    /// The secret manager has refused the connection's credentials repeatedly.
    #[error(
        "the secret manager refused this connection's credentials repeatedly. Replace them, or retry the connection to try at once; otherwise the next attempt is in {}",
        human(*.retry_after)
    )]
    Refused {
        /// How long until the next attempt.
        retry_after: Duration,
    },
    /// Too many credentials were checked in vain a moment ago. Each check is a login, and secret
    /// managers ban addresses that fail too many.
    #[error(
        "too many checks of credentials failed a moment ago, and more could make the secret manager ban this host. Try again in {}",
        human(*.retry_after)
    )]
    TooManyChecks {
        /// How long until the next check.
        retry_after: Duration,
    },
}

impl NotCalled {
    /// Its name, for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BudgetSpent { .. } => "budget-spent",
            Self::RateLimited { .. } => "rate-limited",
            Self::Unavailable { .. } => "unavailable",
            Self::Doubted { .. } => "doubted",
            Self::Refused { .. } => "refused",
            Self::TooManyChecks { .. } => "too-many-checks",
        }
    }

    /// How long to wait before a retry.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::BudgetSpent { retry_after, .. }
            | Self::RateLimited { retry_after }
            | Self::Unavailable { retry_after }
            | Self::Doubted { retry_after }
            | Self::Refused { retry_after }
            | Self::TooManyChecks { retry_after } => *retry_after,
        }
    }
}

/// A duration as people write it, rounded up.
fn human(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} minutes", seconds.div_ceil(60)),
        _ => format!("{} hours", seconds.div_ceil(3_600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do_and_when() {
        let spent = NotCalled::BudgetSpent {
            scope: BudgetScope::Credential,
            requests: RequestKind::Read,
            limit: 1_000,
            period: Duration::from_secs(3_600),
            retry_after: Duration::from_millis(90_500),
        };
        assert_eq!(
            spent.to_string(),
            "the secret manager was not asked, because its limit of 1000 reading requests with this \
             connection's credentials in 60 minutes is used up. Try again in 91 s; a longer cache duration makes \
             fewer requests"
        );
        let spent = NotCalled::BudgetSpent {
            scope: BudgetScope::Credential,
            requests: RequestKind::Write,
            limit: 100,
            period: Duration::from_secs(3_600),
            retry_after: Duration::from_secs(30),
        };
        assert!(spent.to_string().ends_with("is used up. Try again in 30 s"), "no cache helps: {spent}");
        let spent = NotCalled::BudgetSpent {
            scope: BudgetScope::Account,
            requests: RequestKind::Any,
            limit: 4_000,
            period: Duration::from_secs(10),
            retry_after: Duration::from_secs(3),
        };
        let what =
            "because its limit of 4000 requests to this connection's account in 10 s is used up. Try again in 3 s;";
        assert!(spent.to_string().contains(what), "{spent}");
        let refused = NotCalled::Refused { retry_after: Duration::from_secs(4 * 3_600) };
        assert!(refused.to_string().ends_with("otherwise the next attempt is in 4 hours"), "{refused}");
    }
}
