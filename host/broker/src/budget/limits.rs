//! The limits: how many requests a secret manager lets a credential and an account make, and how patient the breaker is.

use std::collections::BTreeMap;
use std::time::Duration;

use keyway_runtime::{Description, RateLimitTier};

/// How many requests may be made. `None` is no limit: such requests are not counted in the database.
///
/// Each *request* counts, and a login or an item may make several of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RateLimits {
    /// Requests of one credential that read, an hour.
    pub reads_per_hour: Option<u32>,
    /// Requests of one credential that write, an hour.
    pub writes_per_hour: Option<u32>,
    /// Requests of all credentials of one account, a day.
    pub account_requests_per_day: Option<u32>,
}

impl RateLimits {
    /// No limits.
    pub const UNLIMITED: Self = Self { reads_per_hour: None, writes_per_hour: None, account_requests_per_day: None };
}

impl From<&RateLimitTier> for RateLimits {
    fn from(tier: &RateLimitTier) -> Self {
        Self {
            reads_per_hour: tier.reads_per_hour,
            writes_per_hour: tier.writes_per_hour,
            account_requests_per_day: tier.requests_per_day,
        }
    }
}

/// How the broker spends its providers' requests, and when it pauses a provider.
///
/// The limits are those of the tier that a connection chose among those that its provider declares,
/// else of the tier that is the default here for its provider type, else of the first that the provider
/// declares. A provider that declares none has no limits.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct BudgetOptions {
    limits: BTreeMap<String, RateLimits>,
    tiers: BTreeMap<String, String>,
    /// When the breaker opens, and for how long.
    pub breaker: BreakerOptions,
}

impl BudgetOptions {
    /// These limits for all connections of this provider type, whatever the provider declares.
    #[must_use]
    pub fn limits(mut self, provider_type: impl Into<String>, limits: RateLimits) -> Self {
        self.limits.insert(provider_type.into(), limits);
        self
    }

    /// The tier of connections of this provider type that have not chosen one.
    #[must_use]
    pub fn default_tier(mut self, provider_type: impl Into<String>, tier: impl Into<String>) -> Self {
        self.tiers.insert(provider_type.into(), tier.into());
        self
    }

    /// The limits for a connection of this provider that has chosen this tier.
    pub fn limits_of(&self, provider: &Description, tier: Option<&str>) -> RateLimits {
        let provider_type = provider.provider_type.as_str();
        if let Some(limits) = self.limits.get(provider_type) {
            return *limits;
        }
        let declared = |name: &str| provider.rate_limits.iter().find(|tier| tier.name == name);
        // A tier that the installed version of the provider no longer declares is as good as none.
        let tier = tier.and_then(declared).or_else(|| declared(self.tiers.get(provider_type)?));
        tier.or(provider.rate_limits.first()).map_or(RateLimits::UNLIMITED, RateLimits::from)
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

/// A server's wish is honoured up to this, so that a wrong one does not stop a connection for ever. The longest
/// known limit is that of a day.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Of each limit 1 % is kept for writing: a password that was changed at a site must get back to the vault, also when
/// reading has used up the rest. Durable state is renewed from it, too.
pub(super) fn kept_for_writing(limit: u32) -> u32 {
    limit / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Description {
        let tier = |name: &str, reads| {
            let mut tier = RateLimitTier::default();
            (tier.name, tier.reads_per_hour) = (name.into(), Some(reads));
            tier
        };
        let mut provider = Description::default();
        provider.provider_type = "vault".into();
        provider.rate_limits = vec![tier("free", 5), tier("paid", 100)];
        provider
    }

    #[test]
    fn the_connections_tier_counts_then_the_operators_then_the_first() {
        let reads = |options: &BudgetOptions, tier| options.limits_of(&provider(), tier).reads_per_hour;
        let options = BudgetOptions::default();
        assert_eq!(reads(&options, None), Some(5));
        assert_eq!(reads(&options, Some("paid")), Some(100));
        assert_eq!(reads(&options, Some("gone")), Some(5), "a tier that is no longer declared");
        let options = options.default_tier("vault", "paid");
        assert_eq!((reads(&options, None), reads(&options, Some("free"))), (Some(100), Some(5)));
        let options = options.limits("vault", RateLimits::UNLIMITED);
        assert_eq!(reads(&options, Some("free")), None, "the operator's own limits");
    }

    #[test]
    fn a_provider_that_declares_none_has_no_limits() {
        let options = BudgetOptions::default().default_tier("other", "paid");
        let mut provider = Description::default();
        provider.provider_type = "other".into();
        assert_eq!(options.limits_of(&provider, Some("paid")), RateLimits::UNLIMITED);
    }
}
