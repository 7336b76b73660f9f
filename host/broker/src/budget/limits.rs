//! The limits: how many requests a secret manager lets a token and an account make, and how patient the breaker is.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many requests may be made. `None` is no limit: such requests are not counted in the database.
///
/// The values of 1Password are those of its documentation, "Service account rate limits": each *request* counts, and a
/// login or an item makes several of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimits {
    /// Requests of one token that read, an hour.
    pub reads_per_hour: Option<u32>,
    /// Requests of one token that write, an hour.
    pub writes_per_hour: Option<u32>,
    /// Requests of all tokens of one account, a day.
    pub account_requests_per_day: Option<u32>,
}

impl RateLimits {
    /// 1Password Business.
    pub const ONEPASSWORD_BUSINESS: Self = Self::new(10_000, 1_000, 50_000);
    /// 1Password Teams.
    pub const ONEPASSWORD_TEAMS: Self = Self::new(1_000, 100, 5_000);
    /// 1Password Families, and individual accounts.
    pub const ONEPASSWORD_FAMILIES: Self = Self::new(1_000, 100, 1_000);
    /// No limits.
    pub const UNLIMITED: Self = Self { reads_per_hour: None, writes_per_hour: None, account_requests_per_day: None };

    const fn new(reads_per_hour: u32, writes_per_hour: u32, account_requests_per_day: u32) -> Self {
        Self {
            reads_per_hour: Some(reads_per_hour),
            writes_per_hour: Some(writes_per_hour),
            account_requests_per_day: Some(account_requests_per_day),
        }
    }
}

/// How the broker spends its providers' requests, and when it gives a provider a rest.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BudgetOptions {
    limits: BTreeMap<String, RateLimits>,
    /// When the breaker opens, and for how long.
    pub breaker: BreakerOptions,
}

impl Default for BudgetOptions {
    /// 1Password Business for `1password`, no limits for other types.
    fn default() -> Self {
        Self {
            limits: BTreeMap::from([("1password".to_owned(), RateLimits::ONEPASSWORD_BUSINESS)]),
            breaker: BreakerOptions::default(),
        }
    }
}

impl BudgetOptions {
    /// Other limits for connections of this provider type.
    #[must_use]
    pub fn limits(mut self, provider_type: impl Into<String>, limits: RateLimits) -> Self {
        self.limits.insert(provider_type.into(), limits);
        self
    }

    /// The limits for connections of this provider type.
    pub fn limits_of(&self, provider_type: &str) -> RateLimits {
        self.limits.get(provider_type).copied().unwrap_or(RateLimits::UNLIMITED)
    }
}

/// When a breaker opens, and for how long. Every pause is drawn from its upper half, so that hosts that were cut off
/// together do not come back together; each one in a row is twice as long as the one before.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BreakerOptions {
    /// After how many failures in a row that say that the secret manager is out of order. Default 5: one more than a
    /// user's impatient repeating makes, few enough that an outage costs next to nothing.
    pub threshold: u32,
    /// The first pause after that. Default 2 s.
    pub unavailable: Duration,
    /// The longest. Default 1 minute: how long after the end of an outage the first call goes out at the latest.
    pub unavailable_max: Duration,
    /// The first pause after "too many requests" when the secret manager did not say how long. Default 1 minute.
    pub rate_limited: Duration,
    /// The longest such pause. Default 1 hour, after which an hourly limit is over.
    pub rate_limited_max: Duration,
    /// The first pause after refused credentials. Default 5 minutes.
    pub refused: Duration,
    /// The longest. Default 1 hour.
    pub refused_max: Duration,
    /// For how long a probe has the field to itself, also if the host dies meanwhile. Default 40 s: longer than a call
    /// may take.
    pub probe: Duration,
    /// Whether the first failure after a success is tried once more, after 100 to 400 ms. Default true.
    pub retry: bool,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            threshold: 5,
            unavailable: seconds(2),
            unavailable_max: seconds(60),
            rate_limited: seconds(60),
            rate_limited_max: seconds(60 * 60),
            refused: seconds(5 * 60),
            refused_max: seconds(60 * 60),
            probe: seconds(40),
            retry: true,
        }
    }
}

/// A server's wish is honoured up to this, so that a wrong one does not stop a connection for ever. 1Password's longest
/// limit is that of a day.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Of each limit 1 % is kept for writing: a password that was changed at a site must get back to the vault, also when
/// reading has used up the rest.
pub(super) fn kept_for_writing(limit: u32) -> u32 {
    limit / 100
}

/// Sign-in addresses that many 1Password accounts share (individual ones). They do not say which account it is, so
/// each token counts as an account of its own there.
pub(super) fn names_one_account(provider_type: &str, account: &str) -> bool {
    const SHARED: [&str; 3] = ["my.1password.com", "my.1password.eu", "my.1password.ca"];
    let is_shared = provider_type == "1password" && SHARED.contains(&account);
    !account.is_empty() && !is_shared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_limits_of_a_type_leave_the_other_types_as_they_are() {
        let options = BudgetOptions::default().limits("vault", RateLimits::ONEPASSWORD_TEAMS);
        assert_eq!(options.limits_of("1password"), RateLimits::ONEPASSWORD_BUSINESS);
        assert_eq!(options.limits_of("vault").account_requests_per_day, Some(5_000));
        assert_eq!(options.limits_of("unknown"), RateLimits::UNLIMITED);
    }

    #[test]
    fn an_address_that_many_accounts_share_names_none_of_them() {
        assert!(names_one_account("1password", "acme.1password.com"));
        assert!(!names_one_account("1password", "my.1password.com"));
        assert!(!names_one_account("1password", ""));
        assert!(names_one_account("vault", "my.1password.com"));
    }
}
