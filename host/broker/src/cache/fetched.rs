//! What a provider's call brings, and which part of it may be cached.
//!
//! **Invariant:** one-time codes are never cached: [`Credentials`], which the cache takes, cannot hold one, and
//! [`OneTimeCode`], which it does not take, can neither be cloned nor serialised.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

/// What a provider's call brought. Fields that were not asked for are absent.
pub(crate) struct Fetched {
    pub(crate) credentials: Credentials,
    pub(crate) one_time_code: Option<OneTimeCode>,
    pub(crate) lifetime: Lifetime,
}

/// What the provider says about how long the values may be used, whatever a cache duration allows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lifetime {
    /// From the question on; `None` when it knows of no end.
    pub(crate) good_for: Option<Duration>,
    /// Whether they were made for the very call that brought them.
    pub(crate) leased: bool,
}

impl Lifetime {
    /// No longer than the values are good.
    pub(super) fn cap(self, duration: Duration) -> Duration {
        self.good_for.map_or(duration, |good_for| good_for.min(duration))
    }
}

impl Fetched {
    /// A copy for one of several callers that waited for the same fetch.
    pub(super) fn copy(&self) -> Self {
        Self {
            credentials: self.credentials.copy(),
            one_time_code: self.one_time_code.as_ref().map(OneTimeCode::copy),
            lifetime: self.lifetime,
        }
    }
}

/// What may be cached of an item: its user name and password, and which state of the item they are from.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) username: Option<SecretString>,
    pub(crate) password: Option<SecretString>,
    pub(crate) revision: String,
}

impl Credentials {
    /// A copy, for one of several callers that waited for the same fetch: each owns, and wipes, its own.
    fn copy(&self) -> Self {
        Self { username: self.username.clone(), password: self.password.clone(), revision: self.revision.clone() }
    }
}

/// A one-time code that is good now. It can neither be cloned nor serialised, and no part of the cache takes one.
#[derive(Debug)]
#[non_exhaustive]
pub struct OneTimeCode {
    /// Usually 6 to 8 digits; 1 to 16 ASCII letters and digits.
    pub code: SecretString,
    /// The first second (since 1970) at which it is no longer current.
    pub expires_at: u64,
    /// For how many seconds each code of the item is current.
    pub period_seconds: u32,
}

impl OneTimeCode {
    /// As the provider returned it.
    pub(crate) fn new(code: keyway_runtime::OneTimeCode) -> Self {
        Self { code: code.code, expires_at: code.expires_at, period_seconds: code.period_seconds }
    }

    /// A copy for another caller that waited for the very same call. It is handed out and not kept.
    pub(super) fn copy(&self) -> Self {
        let code = SecretString::from(self.code.expose_secret());
        Self { code, expires_at: self.expires_at, period_seconds: self.period_seconds }
    }
}
