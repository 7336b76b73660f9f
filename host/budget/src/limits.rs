//! The limits: how many requests a secret manager allows a credential and an account, and when the
//! breaker opens.

use std::collections::BTreeMap;
use std::time::Duration;

use keyway_runtime::contract::{CountedRequests, Description, LimitScope, RateLimitTier};
use keyway_storage::RequestKind;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Which requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BudgetScope {
    /// Each set of credentials separately.
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

/// How many requests may be made, in windows of time. All limits apply at the same time.
///
/// Each *request* counts; a login or an item may take several.
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

    /// Everything to count: what is limited, and what is only shown, which is counted in memory.
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
                CountedRequests::Reads => RequestKind::Read,
                CountedRequests::Writes => RequestKind::Write,
                // The contract prescribes this for a kind that the host does not know.
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
    /// `None` means no limit: the requests are not counted in the database.
    pub(crate) limit: Option<u32>,
}

impl Counter {
    /// Whether the database has always counted this under the token's or account's own subject.
    /// Other counts have separate subjects; see
    /// [`FingerprintKey`](crate::identity::FingerprintKey).
    pub(crate) fn is_original(&self) -> bool {
        SHOWN.iter().any(|of| (of.requests, of.scope, of.window) == (self.requests, self.scope, self.window))
    }

    /// How much of the limit is reserved for writing: 1 %. A password that was changed at a site
    /// must reach the vault even if reads have used up the rest. Renewals of durable state use the
    /// reserve too.
    pub(crate) fn kept_for_writing(&self) -> u32 {
        if self.requests == RequestKind::Write { 0 } else { self.limit.unwrap_or(0) / 100 }
    }
}

/// The counts that are always shown.
const SHOWN: [Counter; 3] = [
    Counter { requests: RequestKind::Read, scope: BudgetScope::Credential, window: HOUR, limit: None },
    Counter { requests: RequestKind::Write, scope: BudgetScope::Credential, window: HOUR, limit: None },
    Counter { requests: RequestKind::Any, scope: BudgetScope::Account, window: DAY, limit: None },
];

/// How the broker spends its providers' requests, and when it pauses a provider.
///
/// A connection's limits are those of the tier that it chose among its provider's, else of the
/// default tier set here for its provider type, else of the provider's first tier. A provider
/// without tiers has no limits.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct BudgetOptions {
    limits: BTreeMap<String, RateLimits>,
    tiers: BTreeMap<String, String>,
    /// When the breaker opens, and for how long.
    pub breaker: BreakerOptions,
}

impl BudgetOptions {
    /// Sets these limits for all connections of this provider type, whatever the provider declares.
    #[must_use]
    pub fn limits(mut self, provider_type: impl Into<String>, limits: RateLimits) -> Self {
        self.limits.insert(provider_type.into(), limits);
        self
    }

    /// Sets the tier of connections of this provider type that have not chosen one.
    #[must_use]
    pub fn default_tier(mut self, provider_type: impl Into<String>, tier: impl Into<String>) -> Self {
        self.tiers.insert(provider_type.into(), tier.into());
        self
    }

    /// The limits of a connection to this provider that has chosen this tier.
    pub fn limits_of(&self, provider: &Description, tier: Option<&str>) -> RateLimits {
        let provider_type = provider.provider_type.as_str();
        if let Some(limits) = self.limits.get(provider_type) {
            return limits.clone();
        }
        let declared = |name: &str| provider.rate_limits.iter().find(|tier| tier.name == name);
        // A tier that the installed version of the provider no longer declares counts as none.
        let tier = tier.and_then(declared).or_else(|| declared(self.tiers.get(provider_type)?));
        tier.or(provider.rate_limits.first()).map_or(RateLimits::UNLIMITED, RateLimits::from)
    }
}

/// When a breaker opens, and for how long. Every pause is drawn from its upper half, so that hosts
/// that lost a server at the same time do not return at the same time. Each consecutive pause is
/// twice as long.
///
/// **No pause is longer than 8 s** unless the secret manager asked for it: after a fault is over,
/// the next live call is answered within 10 s, a login included. That costs little, because a probe
/// is made only when a caller wants something, one at a time, and a probe that fails makes one
/// request as a rule. Two things make the pauses longer:
///
/// * Once half of a limit is used up, probes alone never use up the rest: they are made at most at
///   the pace that spreads it over the limit's window.
/// * Credentials that have been refused for an hour are asked about every 5 minutes. A refused
///   login may count against the account or the address it comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BreakerOptions {
    /// How many consecutive failures of the secret manager open the breaker. Default 5: one more
    /// than an impatient user's repeats, and few enough that an outage costs next to nothing.
    pub threshold: u32,
    /// The first pause after such failures. Default 2 s.
    pub unavailable: Duration,
    /// The longest such pause. Default 8 s.
    pub unavailable_max: Duration,
    /// The first pause after "too many requests" if the secret manager named no time. Default 4 s.
    pub rate_limited: Duration,
    /// The longest such pause. Default 8 s.
    pub rate_limited_max: Duration,
    /// The longest wait that is honoured when the secret manager names one. Default 1 hour: a
    /// longer one is believed when the counts explain it, as they do when half of the limit of a
    /// longer window is used up. What is wrong must not stop a connection for a day.
    pub asked_max: Duration,
    /// The first pause after refused credentials. Default 2 s: the next call logs in afresh, and
    /// only its refusal is believed.
    pub refused: Duration,
    /// The longest such pause, for the first `refused_strikes` refusals. Default 8 s. No secret
    /// manager that Keyway knows locks a service account for that; 1Password documents no lock-out,
    /// only the limits on requests.
    pub refused_max: Duration,
    /// How many refusals in a row are a token that has been revoked for good. Default 450: an hour
    /// of them.
    pub refused_strikes: u32,
    /// The pause after such a refusal. Default 5 minutes.
    pub refused_for_long: Duration,
    /// How long a probe keeps its right, even if it hangs or the host crashes. Default 8 s: longer
    /// than a login and a call of a healthy server take, and no longer than any other pause.
    pub probe: Duration,
    /// Whether the first failure after a success is retried: after 100 to 400 ms, and after a first
    /// refusal when its pause is over. Default true.
    pub retry: bool,
    /// The shortest pause, so that probes do not use up a limit.
    pub(crate) at_least: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            threshold: 5,
            unavailable: seconds(2),
            unavailable_max: seconds(8),
            rate_limited: seconds(4),
            rate_limited_max: seconds(8),
            asked_max: HOUR,
            refused: seconds(2),
            refused_max: seconds(8),
            refused_strikes: 450,
            refused_for_long: seconds(5 * 60),
            probe: seconds(8),
            retry: true,
            at_least: Duration::ZERO,
        }
    }
}

impl BreakerOptions {
    /// The same, in the light of what was counted: `used` of each limit. A limit counts here once
    /// half of it is used up.
    pub(crate) fn in_view_of(mut self, used: impl IntoIterator<Item = (Counter, u32)>) -> Self {
        for (of, used) in used {
            let Some(limit) = of.limit.filter(|limit| used >= limit.div_ceil(2)) else { continue };
            let pace = of.window / limit.saturating_sub(used).max(1);
            self.at_least = self.at_least.max(pace.min(HOUR));
            self.asked_max = self.asked_max.max(of.window);
        }
        self
    }
}

/// The longest pause of any kind, and the longest wait of which a provider's caller is told.
pub const LONGEST_WAIT: Duration = DAY;

#[cfg(test)]
mod tests {
    use keyway_runtime::contract::RateLimit;

    use super::*;

    fn provider() -> Description {
        let tier = |name: &str, reads| {
            let mut tier = RateLimitTier::default();
            let limit = RateLimit::new(reads, 10, CountedRequests::Reads, LimitScope::Credential);
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
        let limit = |requests, scope| RateLimit::new(5, 60, requests, scope);
        let mut tier = RateLimitTier::default();
        tier.limits = vec![limit(CountedRequests::Other(other()), LimitScope::Other(other()))];
        let counted = RateLimits::from(&tier).counters().next().unwrap();
        assert_eq!((counted.requests, counted.scope), (RequestKind::Any, BudgetScope::Account));
        assert_eq!((counted.limit, counted.window), (Some(5), Duration::from_secs(60)));
    }

    #[test]
    fn probes_spread_what_is_left_of_a_limit_over_its_window_once_half_of_it_is_used() {
        let limit = |limit, window| Counter {
            requests: RequestKind::Any,
            scope: BudgetScope::Account,
            window,
            limit: Some(limit),
        };
        let least = |used| BreakerOptions::default().in_view_of([(limit(1_000, DAY), used)]).at_least;
        assert_eq!(least(499), Duration::ZERO);
        assert_eq!(least(500), DAY / 500);
        assert_eq!(least(999), HOUR, "at most an hour: the limit says by itself when there is room");
        assert_eq!(least(2_000), HOUR);
        let both = [(limit(50_000, DAY), 40_000), (limit(1_000, HOUR), 900)];
        assert_eq!(BreakerOptions::default().in_view_of(both).at_least, Duration::from_secs(36));
        let unlimited = Counter { limit: None, ..limit(0, DAY) };
        assert_eq!(BreakerOptions::default().in_view_of([(unlimited, 1_000_000)]).at_least, Duration::ZERO);
    }

    #[test]
    fn a_long_wait_is_believed_when_the_counts_of_a_long_window_explain_it() {
        let day = Counter { requests: RequestKind::Any, scope: BudgetScope::Account, window: DAY, limit: Some(1_000) };
        let longest = |used| BreakerOptions::default().in_view_of([(day, used)]).asked_max;
        assert_eq!((longest(100), longest(600)), (HOUR, DAY));
    }

    #[test]
    fn a_provider_that_declares_none_has_no_limits() {
        let options = BudgetOptions::default().default_tier("other", "paid");
        let mut provider = Description::default();
        provider.provider_type = "other".into();
        assert_eq!(options.limits_of(&provider, Some("paid")), RateLimits::UNLIMITED);
    }
}
