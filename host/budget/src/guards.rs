//! The guards of all tokens in use. Connections with the same token share one.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use keyway_clock::{Clock, Moment};
use keyway_keys::KeyBytes;
use keyway_runtime::Settings;
use keyway_runtime::contract::Description;
use keyway_storage::{Storage, StorageError};
use parking_lot::Mutex;

use crate::guard::Guard;
use crate::identity::{FingerprintKey, Subject};
use crate::limits::{BudgetOptions, BudgetScope, Counter, RateLimits};
use crate::meter::Meter;
use crate::token::TokenBreaker;

/// The longest time for updating readings or returning unused requests: a busy database must delay
/// neither the metrics nor the shutdown.
const PATIENCE: Duration = Duration::from_secs(1);

/// How old the readings may be before the database is asked again. Shorter than the usual interval
/// at which metrics are scraped.
const READINGS_KEPT: Duration = Duration::from_secs(5);

/// What open connections hold, so that later connections can share it.
type InUse<K, T> = Mutex<HashMap<K, Weak<T>>>;

/// The guards of all tokens in use.
pub struct Guards {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    key: FingerprintKey,
    options: BudgetOptions,
    /// One for each token and set of limits that its connections have chosen.
    tokens: InUse<(Subject, RateLimits), Guard>,
    /// One for each token, whatever its limits.
    breakers: InUse<Subject, TokenBreaker>,
    meters: InUse<(Subject, Counter), Meter>,
    /// When all readings were last updated.
    refreshed: tokio::sync::Mutex<Option<Moment>>,
}

impl Guards {
    /// Creates an empty set. `key` is the key of token fingerprints
    /// ([`FINGERPRINT_KEY`](crate::FINGERPRINT_KEY)).
    pub fn new(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>, key: KeyBytes, options: BudgetOptions) -> Self {
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

    /// The guard of these settings' token, under this tier's limits.
    pub async fn get(
        &self,
        description: &Description,
        settings: &Settings,
        tier: Option<&str>,
    ) -> Result<Arc<Guard>, StorageError> {
        let subject = self.key.token(description, settings);
        let limits = self.options.limits_of(description, tier);
        let key = (subject, limits);
        if let Some(guard) = present(&self.tokens, &key) {
            guard.breaker.refresh().await?;
            return Ok(guard);
        }
        let breaker = TokenBreaker::new(self.storage.clone(), self.clock.clone(), subject, self.options.breaker);
        let breaker = shared(&self.breakers, subject, breaker);
        breaker.refresh().await?;
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

    /// Sets the account of a token: the one with this key, or one of its own. The account is
    /// charged with the requests made before it was known.
    pub async fn belongs_to(&self, guard: &Guard, account_key: Option<&str>) -> Result<(), StorageError> {
        let subject = match account_key {
            Some(account) => self.key.account(guard.provider_type(), account),
            None => self.key.account_of_token(&guard.breaker.subject),
        };
        guard.set_account(self.meters(&guard.limits, BudgetScope::Account, &subject)).await
    }

    /// Updates all readings with what other processes have used, unless that was done recently:
    /// metrics may be read at any time, by many clients.
    pub async fn refresh_readings(&self) {
        let mut refreshed = self.refreshed.lock().await;
        if refreshed.is_some_and(|then| self.clock.now().since(then) < READINGS_KEPT) {
            return;
        }
        match tokio::time::timeout(PATIENCE, self.each_meter(Meter::refresh)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the budgets in the metrics may be out of date"),
            Err(_) => tracing::debug!("the budgets in the metrics may be out of date: the database is busy"),
        }
        *refreshed = Some(self.clock.now());
    }

    /// Returns the reservations that this process will not use.
    pub async fn return_unused(&self) {
        let why = match tokio::time::timeout(PATIENCE, self.each_meter(Meter::return_unused)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the database is busy".to_owned(),
        };
        tracing::warn!("unused reservations of requests stay counted against their limits: {why}");
    }

    /// The guards that are in use.
    pub(crate) fn all(&self) -> Vec<Arc<Guard>> {
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
    of.lock().values().filter_map(Weak::upgrade).collect()
}

fn present<K: Eq + Hash, T>(all: &InUse<K, T>, key: &K) -> Option<Arc<T>> {
    all.lock().get(key)?.upgrade()
}

/// The existing value, or else the new one. Values no longer in use are dropped.
fn shared<K: Eq + Hash, T>(all: &InUse<K, T>, key: K, new: T) -> Arc<T> {
    let mut all = all.lock();
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
