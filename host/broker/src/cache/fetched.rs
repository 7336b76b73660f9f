//! The result of a provider's call, and the part of it that may be cached.
//!
//! **Invariant:** one-time codes are never cached. The cache takes [`Credentials`], which cannot
//! hold one; and a [`OneTimeCode`] can be neither cloned nor serialised.

use std::sync::Arc;
use std::time::Duration;

use keyway_runtime::contract::{Field, Lease, NoCode, OneTimeCode};
use secrecy::SecretString;

/// The result of a provider's call. Fields that were not asked for are absent.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) credentials: Credentials,
    /// The code, or the reason for none.
    pub(crate) one_time_code: Option<Result<OneTimeCode, NoCode>>,
    pub(crate) lifetime: Lifetime,
    /// The further fields that were asked for.
    pub(crate) further: Vec<Field>,
}

/// How long the values may be used according to the provider, regardless of cache durations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifetime {
    /// The time from the call until the values or their lease end; `None` when the provider knows
    /// of no end.
    pub(crate) good_for: Option<Duration>,
    /// The first second (since 1970) at which the values are no longer valid, as the provider said.
    pub(crate) valid_until: Option<u64>,
    /// The lease under which they were made for this call.
    pub(crate) lease: Option<Arc<Lease>>,
}

impl Lifetime {
    /// The lifetime of a provider's answer. `asked_at` is when the call began, in milliseconds
    /// since 1970.
    pub(crate) fn new(valid_until: Option<u64>, lease: Option<Lease>, asked_at: u64) -> Self {
        let ends = [valid_until, lease.as_ref().map(|lease| lease.expires_at)];
        let end = ends.into_iter().flatten().min();
        let until = |end: u64| Duration::from_millis(end.saturating_mul(1_000).saturating_sub(asked_at));
        Self { good_for: end.map(until), valid_until, lease: lease.map(Arc::new) }
    }

    /// Shortens a duration to the time for which the values are valid.
    pub(super) fn cap(&self, duration: Duration) -> Duration {
        self.good_for.map_or(duration, |good_for| good_for.min(duration))
    }
}

impl Fetched {
    /// A copy for one of several callers that waited for the same fetch.
    pub(super) fn copy(&self) -> Self {
        Self {
            credentials: self.credentials.copy(),
            one_time_code: self.one_time_code.as_ref().map(copy_code),
            lifetime: self.lifetime.clone(),
            // Calls with further fields are never shared.
            further: Vec::new(),
        }
    }
}

/// A copy of a code, or of the reason for none, for another caller that waited for the same call.
/// It is returned and not kept.
pub(super) fn copy_code(code: &Result<OneTimeCode, NoCode>) -> Result<OneTimeCode, NoCode> {
    let copy = |of: &OneTimeCode| OneTimeCode::new(of.code.clone(), of.expires_at, of.period_seconds);
    code.as_ref().map(copy).map_err(Clone::clone)
}

/// The part of an item that may be cached: its user name and password, and the state of the item
/// that they are from.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) username: Option<SecretString>,
    pub(crate) password: Option<SecretString>,
    pub(crate) revision: String,
}

impl Credentials {
    /// A copy for one of several callers that waited for the same fetch: each owns and wipes its
    /// own.
    fn copy(&self) -> Self {
        Self { username: self.username.clone(), password: self.password.clone(), revision: self.revision.clone() }
    }
}
