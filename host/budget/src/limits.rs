//! The limits: how many requests a secret manager lets a credential and an account make, and how
//! patient the breaker is.

use std::collections::BTreeMap;
use std::time::Duration;

use keyway_runtime::{self as runtime, Description, LimitScope, RateLimitTier};
use keyway_storage::RequestKind;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// For whom requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BudgetScope {
    /// Each set of credentials by itself.
    Credential,
    /// All credentials of an account together.
    Account,
}

impl BudgetScope {
    /// The contract's name for it: `credential` or `account`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Account => "account",
        }
    }
}

/// How many requests may be made, in windows of time. All of them apply at the same time.
///
/// Each *request* counts, and a login or an item may make several of them.
///
/// ```
/// # use std::time::Duration;
/// # use keyway_budget::{BudgetScope, RateLimits};
/// # use keyway_storage::RequestKind;
/// RateLimits::UNLIMITED
///     .limit(1_000, Duration::from_secs(3_600), RequestKind::Read, BudgetScope::Credential)
///     .limit(5_000, Duration::from_secs(86_400), RequestKind::Any, BudgetScope::Account);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct RateLimits(Vec<Counter>);

impl RateLimits {
    /// No limits.
    pub const UNLIMITED: Self = Self(Vec::new());

    /// Adds a limit, in place of the one for the same requests, scope and window. A window has 1
    /// second to 1 day.
    #[must_use]
    pub fn limit(mut self, max_requests: u32, window: Duration, requests: RequestKind, scope: BudgetScope) -> Self {
        let window = window.clamp(Duration::from_secs(1), DAY);
        self.0.retain(|of| (of.requests, of.scope, of.window) != (requests, scope, window));
        self.0.push(Counter { requests, scope, window, limit: Some(max_requests) });
        self
    }

    /// What is counted: all that is limited, and in memory what is not, so that it can be shown.
    pub(crate) fn counters(&self) -> impl Iterator<Item = Counter> {
        let shown = SHOWN.into_iter().filter(|of| {
            let limited = |limited: &Counter| (limited.requests, limited.scope) == (of.requests, of.scope);
            !self.0.iter().any(limited)
        });
        self.0.iter().copied().chain(shown)
    }
}

impl From<&RateLimitTier> for RateLimits {
    fn from(tier: &RateLimitTier) -> Self {
        tier.limits.iter().fold(Self::UNLIMITED, |limits, of| {
            let requests = match of.requests {
                runtime::RequestKind::Reads => RequestKind::Read,
                runtime::RequestKind::Writes => RequestKind::Write,
                // As the contract says of a kind that this host does not know.
                _ => RequestKind::Any,
            };
            let scope = match of.scope {
                LimitScope::Credential => BudgetScope::Credential,
                _ => BudgetScope::Account,
            };
            limits.limit(of.max_requests, Duration::from_secs(of.window_seconds.into()), requests, scope)
        })
    }
}

/// What one meter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Counter {
    pub(crate) requests: RequestKind,
    pub(crate) scope: BudgetScope,
    pub(crate) window: Duration,
    /// `None` is no limit: such requests are not counted in the database.
    pub(crate) limit: Option<u32>,
}

impl Counter {
    /// Whether the database has always had this count, under the token or the account itself.
    /// Others have a subject of their own; see [`FingerprintKey`](crate::identity::FingerprintKey).
    pub(crate) fn is_original(&self) -> bool {
        SHOWN.iter().any(|of| (of.requests, of.scope, of.window) == (self.requests, self.scope, self.window))
    }

    /// How many of the limit are kept for writing: 1 %. A password that was changed at a site must
    /// get back to the vault, also when reading has used up the rest. Durable state is renewed from
    /// it, too.
    pub(crate) fn kept_for_writing(&self) -> u32 {
        if self.requests == RequestKind::Write { 0 } else { self.limit.unwrap_or(0) / 100 }
    }
}

/// What is shown in any case.
const SHOWN: [Counter; 3] = [
    Counter { requests: RequestKind::Read, scope: BudgetScope::Credential, window: HOUR, limit: None },
    Counter { requests: RequestKind::Write, scope: BudgetScope::Credential, window: HOUR, limit: None },
    Counter { requests: RequestKind::Any, scope: BudgetScope::Account, window: DAY, limit: None },
];

/// How the broker spends its providers' requests, and when it pauses a provider.
///
/// The limits are those of the tier that a connection chose among those that its provider declares,
/// else of the tier that is the default here for its provider type, else of the first that the
/// provider declares. A provider that declares none has no limits.
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
            return limits.clone();
        }
        let declared = |name: &str| provider.rate_limits.iter().find(|tier| tier.name == name);
        // A tier that the installed version of the provider no longer declares is as good as none.
        let tier = tier.and_then(declared).or_else(|| declared(self.tiers.get(provider_type)?));
        tier.or(provider.rate_limits.first()).map_or(RateLimits::UNLIMITED, RateLimits::from)
    }
}

/// When a breaker opens, and for how long. Every pause is drawn from its upper half, so that hosts
/// that were cut off together do not come back together; each one in a row is twice as long as the
/// one before.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BreakerOptions {
    /// After how many failures in a row that say that the secret manager is out of order. Default
    /// 5: one more than a user's impatient repeating makes, few enough that an outage costs next to
    /// nothing.
    pub threshold: u32,
    /// The first pause after that. Default 2 s.
    pub unavailable: Duration,
    /// The longest. Default 1 minute: how long after the end of an outage the first call goes out
    /// at the latest.
    pub unavailable_max: Duration,
    /// The first pause after "too many requests" when the secret manager did not say how long.
    /// Default 1 minute.
    pub rate_limited: Duration,
    /// The longest such pause. Default 1 hour, after which an hourly limit is over.
    pub rate_limited_max: Duration,
    /// The first pause after refused credentials. Default 5 minutes.
    pub refused: Duration,
    /// The longest. Default 1 hour.
    pub refused_max: Duration,
    /// For how long a probe has the field to itself, also if the host dies meanwhile. Default 40 s:
    /// longer than a call may take.
    pub probe: Duration,
    /// Whether the first failure after a success is tried once more, after 100 to 400 ms. Default
    /// true.
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

/// A server's wish is honoured up to this, so that a wrong one does not stop a connection for ever.
/// The longest known limit is that of a day.
pub const LONGEST_WAIT: Duration = DAY;

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Description {
        let tier = |name: &str, reads| {
            let mut tier = RateLimitTier::default();
            let limit = runtime::RateLimit::new(reads, 10, runtime::RequestKind::Reads, LimitScope::Credential);
            (tier.name, tier.limits) = (name.into(), vec![limit]);
            tier
        };
        let mut provider = Description::default();
        provider.provider_type = "vault".into();
        provider.rate_limits = vec![tier("free", 5), tier("paid", 100)];
        provider
    }

    #[test]
    fn the_connections_tier_counts_then_the_operators_then_the_first() {
        let reads = |options: &BudgetOptions, tier| {
            options.limits_of(&provider(), tier).counters().find(|of| of.requests == RequestKind::Read)?.limit
        };
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
    fn what_this_host_does_not_know_is_counted_more_strictly() {
        let other = || "later".to_owned();
        let limit = |requests, scope| runtime::RateLimit::new(5, 60, requests, scope);
        let mut tier = RateLimitTier::default();
        tier.limits = vec![limit(runtime::RequestKind::Other(other()), LimitScope::Other(other()))];
        let counted = RateLimits::from(&tier).counters().next().unwrap();
        assert_eq!((counted.requests, counted.scope), (RequestKind::Any, BudgetScope::Account));
        assert_eq!((counted.limit, counted.window), (Some(5), Duration::from_secs(60)));
    }

    #[test]
    fn a_provider_that_declares_none_has_no_limits() {
        let options = BudgetOptions::default().default_tier("other", "paid");
        let mut provider = Description::default();
        provider.provider_type = "other".into();
        assert_eq!(options.limits_of(&provider, Some("paid")), RateLimits::UNLIMITED);
    }
}
