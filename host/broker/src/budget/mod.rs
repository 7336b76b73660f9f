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

mod breaker;
mod call;
mod guard;
mod identity;
mod limits;
mod meter;
mod operations;
mod token;
mod window;

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use keyway_runtime::{Description, Settings};
use thiserror::Error;

pub(crate) use breaker::{after, back_off};
pub(crate) use call::{CallFailure, Opened};
pub(crate) use guard::{Guard, draw};
use identity::{FingerprintKey, Subject};
use limits::Counter;
pub(crate) use limits::LONGEST_WAIT;
pub use limits::{BreakerOptions, BudgetOptions, BudgetScope, RateLimits};
use meter::Meter;
pub use operations::{Allowance, Budget, Pause, TokenBudget};
use token::TokenBreaker;
pub(crate) use window::KEPT;

use keyway_clock::{Clock, Moment};
use keyway_keys::KeyBytes;
use keyway_storage::{RequestKind, Storage, StorageError};

/// What the key for fingerprints is derived for from the host's own.
pub(crate) const FINGERPRINT_KEY: &str = "keyway.v1.budget-fingerprints";

/// For how long readings are brought up to date, and what is left is given back, at most: a
/// database that is busy must hold up neither who reads metrics nor the end of the process.
const PATIENCE: Duration = Duration::from_secs(1);

/// How old the readings of all may be before the database is asked again; shorter than the pauses
/// between two readings of metrics.
const READINGS_KEPT: Duration = Duration::from_secs(5);

/// What a provider is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ProviderOperation {
    /// Somebody has entered settings.
    Verify,
    ListItems,
    ListFields,
    Resolve,
    /// What the item has, for a write-back that must get to its end.
    ReadBack,
    Write,
    CheckWriteAccess,
    RenewLease,
    RevokeLease,
    /// To renew the durable state.
    Refresh,
}

impl ProviderOperation {
    const COUNT: usize = 10;

    /// The name of the contract's function, for metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::ListItems => "list-items",
            Self::ListFields => "list-fields",
            Self::Resolve | Self::ReadBack => "resolve",
            Self::Write => "write",
            Self::CheckWriteAccess => "check-write-access",
            Self::RenewLease => "renew-lease",
            Self::RevokeLease => "revoke-lease",
            Self::Refresh => "refresh",
        }
    }

    /// Whether a failure may be tried once more at once. What changes something is not, and has its
    /// own pauses.
    fn is_retried(self) -> bool {
        !matches!(self, Self::Write | Self::Refresh)
    }

    /// Whether it may use what is kept of each limit: what is lost with the passwords of rotations,
    /// and with tokens that nobody renews, only a person can mend.
    fn may_use_what_is_kept(self) -> bool {
        matches!(self, Self::Write | Self::ReadBack | Self::Refresh)
    }
}

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

/// What open connections hold, for those that are opened later to share it.
type InUse<K, T> = Mutex<HashMap<K, Weak<T>>>;

/// The guards of all tokens that are in use.
pub(crate) struct Guards {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    key: FingerprintKey,
    options: BudgetOptions,
    /// One for each token, and for each of the limits that its connections have chosen.
    tokens: InUse<(Subject, RateLimits), Guard>,
    /// One for each token, whatever its limits.
    breakers: InUse<Subject, TokenBreaker>,
    meters: InUse<(Subject, Counter), Meter>,
    /// When the readings of all were last brought up to date.
    refreshed: tokio::sync::Mutex<Option<Moment>>,
}

impl Guards {
    pub(crate) fn new(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>, key: KeyBytes, options: BudgetOptions) -> Self {
        let key = FingerprintKey::new(key);
        Self {
            storage,
            clock,
            key,
            options,
            tokens: Mutex::default(),
            breakers: Mutex::default(),
            meters: Mutex::default(),
            refreshed: Default::default(),
        }
    }

    /// The guard of the token in these settings, under the limits of this tier.
    pub(crate) async fn get(
        &self,
        description: &Description,
        settings: &Settings,
        tier: Option<&str>,
    ) -> Result<Arc<Guard>, StorageError> {
        let subject = self.key.token(description, settings);
        let limits = self.options.limits_of(description, tier);
        let key = (subject, limits);
        if let Some(guard) = present(&self.tokens, &key) {
            guard.refresh().await?;
            return Ok(guard);
        }
        let breaker = match present(&self.breakers, &subject) {
            Some(breaker) => {
                breaker.refresh().await?;
                breaker
            }
            None => {
                let (storage, clock) = (self.storage.clone(), self.clock.clone());
                let loaded = TokenBreaker::load(storage, clock, subject, self.options.breaker).await?;
                shared(&self.breakers, subject, loaded)
            }
        };
        let meters = self.meters(&key.1, BudgetScope::Credential, &subject);
        let guard = Guard::new(&description.provider_type, key.1.clone(), breaker, meters);
        Ok(shared(&self.tokens, key, guard))
    }

    /// The counts of a token or an account.
    fn meters(&self, limits: &RateLimits, scope: BudgetScope, subject: &Subject) -> Vec<Arc<Meter>> {
        let meter = |of: Counter| {
            let key = self.key.count(subject, &of);
            let meter = Meter::new(self.storage.clone(), self.clock.clone(), key, of);
            shared(&self.meters, (key, of), meter)
        };
        limits.counters().filter(|of| of.scope == scope).map(meter).collect()
    }

    /// Says whose token it is: an account by its key, or one of its own. The account is charged
    /// with what was asked before that was known.
    pub(crate) async fn belongs_to(&self, guard: &Guard, account_key: Option<&str>) -> Result<(), StorageError> {
        let subject = match account_key {
            Some(account) => self.key.account(&guard.provider_type, account),
            None => self.key.account_of_token(guard.subject()),
        };
        guard.set_account(self.meters(&guard.limits, BudgetScope::Account, &subject)).await
    }

    /// Brings the readings of all up to date with what other processes have used, unless that was
    /// done a moment ago: anybody may read metrics.
    async fn refresh_readings(&self) {
        let mut refreshed = self.refreshed.lock().await;
        if refreshed.is_some_and(|then| self.clock.now().since(then) < READINGS_KEPT) {
            return;
        }
        match tokio::time::timeout(PATIENCE, self.each_meter(Meter::refresh)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the budgets in the metrics may be behind"),
            Err(_) => tracing::debug!("the budgets in the metrics may be behind, because the database is busy"),
        }
        *refreshed = Some(self.clock.now());
    }

    /// Gives back what is reserved and will not be used by this process.
    pub(crate) async fn return_unused(&self) {
        let why = match tokio::time::timeout(PATIENCE, self.each_meter(Meter::return_unused)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the database is busy".to_owned(),
        };
        tracing::warn!("requests that were reserved and not made stay counted against their limits: {why}");
    }

    /// The guards that are in use.
    fn all(&self) -> Vec<Arc<Guard>> {
        all(&self.tokens)
    }

    /// The counts of all tokens and accounts.
    async fn each_meter(&self, act: impl AsyncFn(&Meter) -> Result<(), StorageError>) -> Result<(), StorageError> {
        for meter in all(&self.meters) {
            act(&meter).await?;
        }
        Ok(())
    }
}

fn all<K, T>(of: &InUse<K, T>) -> Vec<Arc<T>> {
    of.lock().unwrap_or_else(PoisonError::into_inner).values().filter_map(Weak::upgrade).collect()
}

fn present<K: Eq + Hash, T>(all: &InUse<K, T>, key: &K) -> Option<Arc<T>> {
    all.lock().unwrap_or_else(PoisonError::into_inner).get(key)?.upgrade()
}

/// The present one, or else this one. Those no longer in use are dropped.
fn shared<K: Eq + Hash, T>(all: &InUse<K, T>, key: K, new: T) -> Arc<T> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(present) = all.get(&key).and_then(Weak::upgrade) {
        return present;
    }
    if all.len() == all.capacity() {
        all.retain(|_, one| one.strong_count() > 0);
    }
    let new = Arc::new(new);
    all.insert(key, Arc::downgrade(&new));
    new
}

#[cfg(test)]
pub(super) mod testing {
    //! Chance that is the same in every run (SplitMix64).

    pub(crate) struct Random(u64);

    impl Random {
        pub(crate) fn new(seed: u64) -> Self {
            Self(seed)
        }

        pub(crate) fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        pub(crate) fn below(&mut self, end: u64) -> u64 {
            self.next() % end.max(1)
        }

        pub(crate) fn fraction(&mut self) -> f64 {
            (self.next() >> 11) as f64 / (1_u64 << 53) as f64
        }
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
