//! The cache of resolved secrets, and its policy.
//!
//! **Invariants**
//!
//! * A value is in memory as ciphertext only, sealed for its connection and reference under a key that exists in this
//!   process alone.
//! * A value is used until it is as old as the reader's cache duration, not after. The duration is applied when
//!   reading, so a lowered one counts at once. The age is counted from before the provider was asked. With a duration
//!   of 0 nothing is looked up, shared or written.
//! * One-time codes are never in it. What it takes are [`Credentials`], which cannot hold one.
//! * Concurrent misses for one item make one call ([`crate::flight`]).
//! * Whoever asks after the cache was cleared gets nothing that was fetched before: the connection's generation is part
//!   of what a value, and a running fetch, is found by.
//! * A failure never removes or replaces a value. A missing item is remembered for a few seconds, beside the value that
//!   may still be used.
//!
//! **Refreshing:** values that are read often are fetched anew shortly before they are too old, in the background, each
//! at a moment of its own drawn within the last 5 % of its duration (a minute at most). So entries that were first
//! resolved together do not all go to the provider in the same second again; nobody waits; and if the provider is out
//! of order, the value serves until its duration is over. It costs no more calls than expiry.

mod policy;
mod sealed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyway_runtime::{CallError, Fields, ProviderError};
use moka::sync::Cache;
use secrecy::{ExposeSecret, SecretString};

pub use policy::CacheOptions;
use policy::{Keep, missing_for, refresh_due};
pub(crate) use sealed::ItemKey;
use sealed::SealedCredentials;

use crate::clock::{Clock, Moment};
use crate::flight::{Flight, Flights, Lost};
use crate::id::ConnectionId;
use crate::keyring::WorkspaceKeys;

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
    /// 6 to 8 digits.
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
    fn copy(&self) -> Self {
        let code = SecretString::from(self.code.expose_secret());
        Self { code, expires_at: self.expires_at, period_seconds: self.period_seconds }
    }
}

/// What a provider's call brought. Fields that were not asked for are absent.
pub(crate) struct Fetched {
    pub(crate) credentials: Credentials,
    pub(crate) one_time_code: Option<OneTimeCode>,
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the provider, now.
    Live,
    /// From the cache.
    Cached {
        /// How long ago it was fetched.
        age: Duration,
    },
}

/// What to look up.
pub(crate) struct Lookup {
    pub(crate) item: ItemKey,
    pub(crate) keys: Arc<WorkspaceKeys>,
    /// The connection's cache generation.
    pub(crate) generation: u64,
    /// The reader's cache duration.
    pub(crate) ttl: Duration,
    pub(crate) fields: Fields,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) credentials: Credentials,
    pub(crate) source: Source,
    pub(crate) one_time_code: Option<OneTimeCode>,
    /// How long the provider's call took, if there was one.
    pub(crate) provider_time: Option<Duration>,
}

/// Why nothing was found.
#[derive(Debug, Clone)]
pub(crate) enum FetchError {
    /// The call failed.
    Call(CallError),
    /// The fetch ended without a result.
    Lost,
}

impl From<Lost> for FetchError {
    fn from(_: Lost) -> Self {
        Self::Lost
    }
}

/// What a fetch brought to all who wait for it: shared among them, and gone with the last of them.
type Answer = Result<Arc<(Fetched, Duration)>, CallError>;

/// By what a running fetch is found. The generation is in it, so that after clearing nobody joins an older fetch.
type FlightKey = (ItemKey, u64, Fields);

/// That an item was not there.
#[derive(Clone)]
struct Missing {
    asked_at: Moment,
    generation: u64,
    error: CallError,
}

/// The cache.
pub(crate) struct SecretCache {
    clock: Arc<dyn Clock>,
    options: CacheOptions,
    values: Cache<ItemKey, Arc<SealedCredentials>>,
    missing: Cache<ItemKey, Missing>,
    flights: Flights<FlightKey, Answer>,
}

impl SecretCache {
    pub(crate) fn new(clock: Arc<dyn Clock>, options: CacheOptions) -> Arc<Self> {
        let values = Cache::builder()
            .max_capacity(options.capacity_bytes)
            .weigher(|key: &ItemKey, value: &Arc<SealedCredentials>| value.weight(key))
            .expire_after(Keep)
            .build();
        // Longer than it is used by the cache's own clock; this only frees the memory.
        let missing = Cache::builder().max_capacity(10_000).time_to_live(2 * options.missing).build();
        Arc::new(Self { clock, options, values, missing, flights: Flights::default() })
    }

    /// Finds an item's values: in the cache what may be, from the provider what must be. `fetch` is the provider's
    /// call.
    pub(crate) async fn get<F, Fut>(self: &Arc<Self>, lookup: Lookup, fetch: F) -> Result<Found, FetchError>
    where
        F: FnOnce(Fields) -> Fut,
        Fut: Future<Output = Result<Fetched, CallError>> + Send + 'static,
    {
        let wanted = lookup.fields;
        if lookup.ttl.is_zero() {
            let started = Instant::now();
            let fetched = fetch(wanted).await.map_err(FetchError::Call)?;
            return Ok(Found::live(fetched, started.elapsed()));
        }
        let wants_credentials = wanted.username || wanted.password;
        let cached = if wants_credentials { self.read(&lookup) } else { None };
        match cached {
            Some(cached) if !wanted.one_time_code || cached.has_no_code => {
                if cached.refresh_due {
                    // Nobody waits for it.
                    drop(self.join(&lookup, Fields::CREDENTIALS, fetch));
                }
                Ok(cached.found())
            }
            Some(cached) if !cached.refresh_due => {
                let answer = self.ask(&lookup, Fields::ONE_TIME_CODE, fetch).await?;
                let (fetched, took) = &*answer;
                if fetched.one_time_code.is_none() {
                    self.note_no_code(&lookup, &fetched.credentials.revision);
                }
                let one_time_code = fetched.one_time_code.as_ref().map(OneTimeCode::copy);
                Ok(Found { one_time_code, provider_time: Some(*took), ..cached.found() })
            }
            // Also when a call for the code is due anyway and the rest of the value is due to be refreshed: one call
            // for both.
            _ => {
                let fields = match (wants_credentials, wanted.one_time_code) {
                    (true, true) => Fields::ALL,
                    (true, false) => Fields::CREDENTIALS,
                    (false, _) => wanted,
                };
                let answer = self.ask(&lookup, fields, fetch).await?;
                let (fetched, took) = &*answer;
                Ok(Found {
                    credentials: fetched.credentials.copy(),
                    source: Source::Live,
                    one_time_code: fetched.one_time_code.as_ref().map(OneTimeCode::copy),
                    provider_time: Some(*took),
                })
            }
        }
    }

    /// Drops what is held for a connection. That it is not used again is the generation's doing; this wipes it.
    pub(crate) fn drop_connection(&self, connection: ConnectionId) {
        for (key, _) in &self.values {
            if key.connection == connection {
                self.values.invalidate(&*key);
            }
        }
        for (key, _) in &self.missing {
            if key.connection == connection {
                self.missing.invalidate(&*key);
            }
        }
    }

    /// The cached credentials, if the reader may use them.
    fn read(&self, lookup: &Lookup) -> Option<Cached> {
        let value = self.values.get(&lookup.item)?;
        let age = self.clock.now().since(value.fetched_at);
        if value.generation != lookup.generation || age >= lookup.ttl {
            return None;
        }
        let credentials = value.open(&lookup.item, &lookup.keys)?;
        let refresh_due = refresh_due(age, lookup.ttl, value.draw, &self.options);
        Some(Cached { credentials, age, refresh_due, has_no_code: value.has_no_code() })
    }

    async fn ask<F, Fut>(
        self: &Arc<Self>,
        lookup: &Lookup,
        fields: Fields,
        fetch: F,
    ) -> Result<Arc<(Fetched, Duration)>, FetchError>
    where
        F: FnOnce(Fields) -> Fut,
        Fut: Future<Output = Result<Fetched, CallError>> + Send + 'static,
    {
        self.join(lookup, fields, fetch).wait().await?.map_err(FetchError::Call)
    }

    /// Joins the call for these fields that is running, or starts one. What it brings is stored before anybody is told.
    fn join<F, Fut>(self: &Arc<Self>, lookup: &Lookup, fields: Fields, fetch: F) -> Flight<Answer>
    where
        F: FnOnce(Fields) -> Fut,
        Fut: Future<Output = Result<Fetched, CallError>> + Send + 'static,
    {
        let key = (lookup.item.clone(), lookup.generation, fields);
        self.flights.join(
            key,
            || self.ready(lookup, fields),
            || {
                let call = fetch(fields);
                let (cache, item, keys) = (self.clone(), lookup.item.clone(), lookup.keys.clone());
                let (generation, keep) = (lookup.generation, lookup.ttl);
                async move {
                    let (asked_at, started) = (cache.clock.now(), Instant::now());
                    let fetched = call.await;
                    let took = started.elapsed();
                    match &fetched {
                        Ok(fetched) if fields.username && fields.password => {
                            let no_code = fields.one_time_code && fetched.one_time_code.is_none();
                            let credentials = &fetched.credentials;
                            if let Some(value) =
                                SealedCredentials::seal(&item, &keys, credentials, asked_at, generation, keep, no_code)
                            {
                                cache.store(item, value);
                            }
                        }
                        Err(error @ CallError::Provider(ProviderError::NotFound(_))) => {
                            cache.missing.insert(item, Missing { asked_at, generation, error: error.clone() });
                        }
                        _ => {}
                    }
                    fetched.map(|fetched| Arc::new((fetched, took)))
                }
            },
        )
    }

    /// What need not be asked after all: a fetch has brought it since the caller looked, or the item was missing a
    /// moment ago.
    fn ready(&self, lookup: &Lookup, fields: Fields) -> Option<Answer> {
        let missing = self.missing.get(&lookup.item).filter(|missing| {
            let age = self.clock.now().since(missing.asked_at);
            missing.generation == lookup.generation && age < missing_for(lookup.ttl, &self.options)
        });
        if let Some(missing) = missing {
            return Some(Err(missing.error));
        }
        if fields != Fields::CREDENTIALS {
            return None;
        }
        let cached = self.read(lookup).filter(|cached| !cached.refresh_due)?;
        Some(Ok(Arc::new((Fetched { credentials: cached.credentials, one_time_code: None }, Duration::ZERO))))
    }

    /// Stores a value unless a newer one is there. It is kept for as long as anybody who has asked may use it.
    fn store(&self, item: ItemKey, mut value: SealedCredentials) {
        self.values.entry(item).and_upsert_with(|present| match present.map(moka::Entry::into_value) {
            Some(present) if present.is_newer_than(&value) => present,
            present => {
                value.keep =
                    value.keep.max(present.map_or(Duration::ZERO, |present| present.kept_after(value.fetched_at)));
                Arc::new(value)
            }
        });
    }

    #[cfg(test)]
    fn flights_are_over(&self) -> bool {
        self.flights.is_empty()
    }

    /// The item has no one-time code: the next reader of the same state need not ask for one.
    fn note_no_code(&self, lookup: &Lookup, revision: &str) {
        if let Some(value) = self.values.get(&lookup.item)
            && value.generation == lookup.generation
            && value.revision == revision
        {
            value.set_no_code();
        }
    }
}

/// Credentials from the cache that the reader may use.
struct Cached {
    credentials: Credentials,
    age: Duration,
    refresh_due: bool,
    has_no_code: bool,
}

impl Cached {
    fn found(self) -> Found {
        Found {
            credentials: self.credentials,
            source: Source::Cached { age: self.age },
            one_time_code: None,
            provider_time: None,
        }
    }
}

impl Found {
    fn live(fetched: Fetched, took: Duration) -> Self {
        Self {
            credentials: fetched.credentials,
            source: Source::Live,
            one_time_code: fetched.one_time_code,
            provider_time: Some(took),
        }
    }
}

#[cfg(test)]
mod tests;
