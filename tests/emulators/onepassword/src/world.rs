//! The state shared by requests and knobs.
//!
//! Locks are held only for look-ups and version checks, never during cryptography or I/O; a handler
//! takes what it needs (items and keys are in an `Arc`) and releases the lock. A lock poisoned by a
//! panicking test is still used.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::StartError;
use crate::calls::CallLog;
use crate::faults::FaultQueue;
use crate::keys::RsaKeys;
use crate::random::Seed;
use crate::rules::Rules;
use crate::seed::{self, Bulk, Plan};
use crate::session::Sessions;
use crate::store::Store;

/// The shared state of one emulator.
pub(crate) struct World {
    /// The address in the clients' tokens.
    pub(crate) sign_in_address: String,
    /// The host that requests are signed for: the sign-in address without scheme, port and slash.
    pub(crate) host: String,
    seed: Seed,
    bulk: Bulk,
    first_rules: Rules,
    rsa: Arc<RsaKeys>,
    store: RwLock<Store>,
    rules: RwLock<Rules>,
    pub(crate) sessions: Sessions,
    pub(crate) calls: CallLog,
    pub(crate) faults: FaultQueue,
    request_ids: AtomicU64,
}

impl World {
    pub(crate) fn new(sign_in_address: String, seed: Seed, bulk: Bulk, rules: Rules) -> Result<Self, StartError> {
        let rsa = Arc::new(RsaKeys::load()?);
        let store = seed::store(Plan { seed, sign_in_address: &sign_in_address, bulk }, &rsa)?;
        Ok(Self {
            host: host(&sign_in_address).to_owned(),
            sign_in_address,
            seed,
            bulk,
            first_rules: rules.clone(),
            rsa,
            store: RwLock::new(store),
            rules: RwLock::new(rules),
            sessions: Sessions::default(),
            calls: CallLog::default(),
            faults: FaultQueue::default(),
            request_ids: AtomicU64::new(0),
        })
    }

    /// Restores the initial state.
    pub(crate) fn reset(&self) -> Result<(), StartError> {
        let plan = Plan { seed: self.seed, sign_in_address: &self.sign_in_address, bulk: self.bulk };
        let store = seed::store(plan, &self.rsa)?;
        *self.store_mut() = store;
        *self.rules_mut() = self.first_rules.clone();
        self.sessions.clear();
        self.faults.clear();
        self.calls.reset();
        Ok(())
    }

    pub(crate) fn store(&self) -> RwLockReadGuard<'_, Store> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn store_mut(&self) -> RwLockWriteGuard<'_, Store> {
        self.store.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn rules(&self) -> RwLockReadGuard<'_, Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn rules_mut(&self) -> RwLockWriteGuard<'_, Rules> {
        self.rules.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number in an error answer.
    pub(crate) fn next_request_id(&self) -> u64 {
        self.request_ids.fetch_add(1, Ordering::Relaxed) + 1
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn host(address: &str) -> &str {
    let without_scheme = address.split_once("://").map_or(address, |(_, rest)| rest);
    without_scheme.split(['/', ':']).next().unwrap_or(without_scheme)
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn requests_are_signed_for_the_bare_host() {
        for address in ["my.1password.com", "https://my.1password.com/", "http://my.1password.com:8080"] {
            assert_eq!(host(address), "my.1password.com");
        }
    }
}
