//! What a provider's call brings, and which part of it may be cached.
//!
//! **Invariant:** one-time codes are never cached: [`Credentials`], which the cache takes, cannot
//! hold one, and [`OneTimeCode`], which it does not take, can neither be cloned nor serialised.

use std::sync::Arc;
use std::time::Duration;

use keyway_runtime::{Field, Lease, NoCode, OneTimeCode};
use secrecy::SecretString;

/// What a provider's call brought. Fields that were not asked for are absent.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) credentials: Credentials,
    /// The code, or why there is none.
    pub(crate) one_time_code: Option<Result<OneTimeCode, NoCode>>,
    pub(crate) lifetime: Lifetime,
    /// The further fields that were asked for.
    pub(crate) further: Vec<Field>,
}

/// What the provider says about how long the values may be used, whatever a cache duration allows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifetime {
    /// From the question on, until the values or their lease end; `None` when it knows of no end.
    pub(crate) good_for: Option<Duration>,
    /// The first second (since 1970) at which the values are no longer good, as the provider said.
    pub(crate) valid_until: Option<u64>,
    /// The lease under which they were made for the very call that brought them.
    pub(crate) lease: Option<Arc<Lease>>,
}

impl Lifetime {
    /// Of what a provider has answered to a question that was asked at this time, in milliseconds
    /// since 1970.
    pub(crate) fn new(valid_until: Option<u64>, lease: Option<Lease>, asked_at: u64) -> Self {
        let ends = [valid_until, lease.as_ref().map(|lease| lease.expires_at)];
        let end = ends.into_iter().flatten().min();
        let until = |end: u64| Duration::from_millis(end.saturating_mul(1_000).saturating_sub(asked_at));
        Self { good_for: end.map(until), valid_until, lease: lease.map(Arc::new) }
    }

    /// No longer than the values are good.
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
            // Who asks for some shares no call.
            further: Vec::new(),
        }
    }
}

/// A copy of a code, or of why there is none, for another caller that waited for the very same
/// call. It is handed out and not kept.
pub(super) fn copy_code(code: &Result<OneTimeCode, NoCode>) -> Result<OneTimeCode, NoCode> {
    let copy = |of: &OneTimeCode| OneTimeCode::new(of.code.clone(), of.expires_at, of.period_seconds);
    code.as_ref().map(copy).map_err(Clone::clone)
}

/// What may be cached of an item: its user name and password, and which state of the item they are
/// from.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) username: Option<SecretString>,
    pub(crate) password: Option<SecretString>,
    pub(crate) revision: String,
}

impl Credentials {
    /// A copy, for one of several callers that waited for the same fetch: each owns, and wipes, its
    /// own.
    fn copy(&self) -> Self {
        Self { username: self.username.clone(), password: self.password.clone(), revision: self.revision.clone() }
    }
}
