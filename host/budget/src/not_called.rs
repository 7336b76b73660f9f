//! Why a provider was not asked, in words for people.

use std::fmt;
use std::time::Duration;

use keyway_storage::RequestKind;
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

/// What to do besides waiting.
fn advice(requests: RequestKind) -> &'static str {
    match requests {
        RequestKind::Read | RequestKind::Any => "; a longer cache duration makes fewer requests",
        RequestKind::Write => "",
    }
}

/// Why a provider was not asked. Nothing was sent; asking again before the time is over changes
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotCalled {
    /// As many requests as the secret manager allows were made.
    #[error(
        "the secret manager was not asked, because {limit} {} {scope} in {} is all that it allows. Try again in {}{}",
        counted(*.requests), human(*.period), human(*.retry_after), advice(*.requests)
    )]
    BudgetSpent {
        /// For whom they are counted.
        scope: BudgetScope,
        /// Which requests.
        requests: RequestKind,
        /// How many requests it allows.
        limit: u32,
        /// In which time.
        period: Duration,
        /// When there is room for more.
        retry_after: Duration,
    },
    /// The secret manager asked to wait.
    #[error(
        "the secret manager accepts no requests with this connection's credentials for now, because too many were made. Try again in {}; a longer cache duration makes fewer requests",
        human(*.retry_after)
    )]
    RateLimited {
        /// For how much longer.
        retry_after: Duration,
    },
    /// The secret manager did not answer, or was out of order, several times in a row.
    #[error(
        "the secret manager was out of order or unreachable at the last attempts and is given a rest. Try again in {}",
        human(*.retry_after)
    )]
    Unavailable {
        /// Until the next attempt.
        retry_after: Duration,
    },
    /// The secret manager has refused the connection's credentials.
    #[error(
        "the secret manager refused this connection's credentials a while ago. Enter them again or replace them to try at once; by itself the next attempt is in {}",
        human(*.retry_after)
    )]
    Refused {
        /// Until the next attempt.
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
            Self::Refused { .. } => "refused",
        }
    }

    /// How long to wait before asking again.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::BudgetSpent { retry_after, .. }
            | Self::RateLimited { retry_after }
            | Self::Unavailable { retry_after }
            | Self::Refused { retry_after } => *retry_after,
        }
    }
}

/// A duration as people say it, rounded up.
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
            "the secret manager was not asked, because 1000 reading requests with this connection's credentials in \
             60 minutes is all that it allows. Try again in 91 s; a longer cache duration makes fewer requests"
        );
        let spent = NotCalled::BudgetSpent {
            scope: BudgetScope::Credential,
            requests: RequestKind::Write,
            limit: 100,
            period: Duration::from_secs(3_600),
            retry_after: Duration::from_secs(30),
        };
        assert!(spent.to_string().ends_with("is all that it allows. Try again in 30 s"), "no cache helps: {spent}");
        let spent = NotCalled::BudgetSpent {
            scope: BudgetScope::Account,
            requests: RequestKind::Any,
            limit: 4_000,
            period: Duration::from_secs(10),
            retry_after: Duration::from_secs(3),
        };
        let what =
            "because 4000 requests to this connection's account in 10 s is all that it allows. Try again in 3 s;";
        assert!(spent.to_string().contains(what), "{spent}");
        let refused = NotCalled::Refused { retry_after: Duration::from_secs(4 * 3_600) };
        assert!(refused.to_string().ends_with("by itself the next attempt is in 4 hours"), "{refused}");
    }
}
