//! The cache of resolved secrets, and its policy.
//!
//! **Invariants**
//!
//! * A value is in memory as ciphertext only, sealed for its connection and reference under a key
//!   that exists in this process alone.
//! * A value is used until it is as old as the reader's cache duration, not after. The duration is
//!   applied when reading, so a lowered one counts at once. The age is counted from before the
//!   provider was asked. With a duration of 0 nothing is looked up, shared or written.
//! * One-time codes are never in it. What it takes are [`Credentials`], which cannot hold one
//!   ([`fetched`]).
//! * Concurrent misses for one item make one call ([`crate::flight`]).
//! * Whoever asks after the cache was cleared gets nothing that was fetched before: the
//!   connection's generation is part of what a value, and a running fetch, is found by. So is the
//!   item's, which grows when a rotation has written it and when an entry that is bound to it is
//!   bound otherwise or deleted.
//! * Whoever asks after a revision was rejected ("this password did not work") gets nothing that
//!   was fetched before ([`rejections`]).
//! * A failure never removes or replaces a value. A missing item is remembered for a few seconds,
//!   beside the value that may still be used.
//!
//! **Refreshing:** values that are read often are fetched anew shortly before they are too old, in
//! the background, each at a moment of its own drawn within the last 5 % of its duration (a minute
//! at most). So entries that were first resolved together do not all go to the provider in the same
//! second again; nobody waits; and if the provider is out of order, the value serves until its
//! duration is over. That is tried once for each value, so it costs one call more than expiry at
//! the most, however often a value is read whose item cannot be.

mod clear;
mod fetched;
mod lookup;
mod policy;
mod rejections;
mod sealed;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyway_runtime::{CallError, ErrorCode, Fields};
use moka::sync::Cache;
use quick_cache::Weighter;
use quick_cache::sync::{EntryAction, EntryResult};

use fetched::copy_code;
pub(crate) use fetched::{Credentials, Fetched, Lifetime};
use keyway_clock::{Clock, Moment};
use keyway_storage::ConnectionId;
use lookup::Found;
pub use lookup::Source;
pub(crate) use lookup::{Lookup, Rejected};
pub use policy::CacheOptions;
use policy::refresh_due;
use rejections::{Rejection, Rejections};
pub(crate) use sealed::ItemKey;
use sealed::SealedCredentials;

use crate::call_metrics::CacheLookups;
use crate::flight::{Flight, Flights};
use crate::provider_call::CallFailure;

/// No call takes longer, its waiting for a turn included; a request over HTTP is given up earlier.
const LONGEST_CALL: Duration = Duration::from_secs(60);

/// What a fetch brought to all who wait for it: shared among them, and gone with the last of them.
type Answer = Result<Arc<(Fetched, Duration)>, CallFailure>;

/// A call of a provider for an item's values.
type Fetching = Pin<Box<dyn Future<Output = Result<Fetched, CallFailure>> + Send>>;

/// By what a running fetch is found. The connection's generation and the number of the item's last
/// rejection are in it, so that after clearing or rejecting nobody joins an older fetch.
type FlightKey = (ItemKey, u64, u64, Fields);

/// Who looks something up, and what was rejected of the item when they began.
#[derive(Clone)]
struct Reader {
    lookup: Lookup,
    rejection: Option<Arc<Rejection>>,
}

impl Reader {
    /// The number of the item's last rejection; 0 when there is none.
    fn rejection_number(&self) -> u64 {
        self.rejection.as_ref().map_or(0, |rejection| rejection.number)
    }
}

/// That an item was not there.
#[derive(Clone)]
struct Missing {
    asked_at: Moment,
    generation: u64,
    error: CallFailure,
}

/// The cache.
pub(crate) struct SecretCache {
    clock: Arc<dyn Clock>,
    options: CacheOptions,
    /// A cache that costs little for each value, reads no clock and keeps no order of its gets;
    /// [`sweep`](Self::sweep) takes out of it what is over.
    values: quick_cache::sync::Cache<ItemKey, Arc<SealedCredentials>, Weigh>,
    missing: Cache<ItemKey, Missing>,
    rejections: Rejections,
    /// Connections that were deleted a while ago: nothing of them is stored any more, also not what
    /// was on its way.
    closed: Cache<ConnectionId, ()>,
    flights: Flights<FlightKey, Answer>,
    /// How often it was looked into, and what came of it.
    pub(crate) lookups: CacheLookups,
}

impl SecretCache {
    pub(crate) fn new(clock: Arc<dyn Clock>, options: CacheOptions) -> Arc<Self> {
        let capacity = options.capacity_bytes;
        let estimated = usize::try_from(capacity / ORDINARY_BYTES).unwrap_or(usize::MAX);
        let values = quick_cache::sync::Cache::with_weighter(estimated, capacity, Weigh);
        // Longer than it is used by the cache's own clock; this only frees the memory.
        let missing = Cache::builder().max_capacity(10_000).time_to_live(2 * options.missing).build();
        // Longer than any call takes, and than an open connection is kept.
        let closed = Cache::builder().max_capacity(100_000).time_to_live(Duration::from_secs(2 * 60 * 60)).build();
        let (rejections, flights) = (Rejections::default(), Flights::default());
        let lookups = CacheLookups::default();
        Arc::new(Self { clock, options, values, missing, rejections, closed, flights, lookups })
    }

    /// Finds an item's values: in the cache what may be, from the provider what must be. `fetch` is
    /// the provider's call.
    pub(crate) async fn get(
        self: &Arc<Self>,
        lookup: Lookup,
        fetch: impl FnOnce(Fields) -> Fetching,
    ) -> Result<Found, CallFailure> {
        let reader = self.reader(lookup);
        let lookup = &reader.lookup;
        if lookup.ttl.is_zero() {
            self.lookups.off.inc();
            let started = Instant::now();
            let fetched = fetch(lookup.fields).await?;
            return Ok(Found::live(fetched, lookup.fields.one_time_code, started.elapsed()));
        }
        let found = self.find(&reader, fetch).await?;
        if found.source == Source::Live {
            self.note_current(&reader, &found.fetched.credentials.revision);
        }
        Ok(found)
    }

    /// Rejects what the caller says did not work, and sees what was rejected before.
    fn reader(&self, lookup: Lookup) -> Reader {
        let (workspace, shared) = (lookup.keys.workspace(), lookup.shared());
        if let Some(Rejected { revision, connections }) = &lookup.rejected {
            self.rejections.reject(workspace, &shared, revision, || {
                // The reader's own is among them, unless its entry was bound elsewhere a moment
                // ago.
                let connections = connections.iter().chain([&lookup.item.connection]);
                let keys = connections.map(|id| ItemKey { connection: *id, reference: shared.reference.clone() });
                let cached = |key: &ItemKey| self.values.get(key).is_some_and(|value| *value.revision == **revision);
                let cached: Vec<_> = keys.filter(cached).collect();
                for key in &cached {
                    self.values.remove(key);
                }
                !cached.is_empty()
            });
        }
        let rejection = self.rejections.last_of(workspace, &shared);
        Reader { lookup, rejection }
    }

    /// Remembers that the revision which the caller rejected is what the item holds now.
    fn note_current(&self, reader: &Reader, current: &str) {
        let Lookup { keys, rejected, .. } = &reader.lookup;
        if rejected.as_ref().is_some_and(|rejected| rejected.revision == current) {
            let number = reader.rejection_number();
            self.rejections.note_current(keys.workspace(), &reader.lookup.shared(), current, number);
        }
    }

    async fn find(
        self: &Arc<Self>,
        reader: &Reader,
        fetch: impl FnOnce(Fields) -> Fetching,
    ) -> Result<Found, CallFailure> {
        let wanted = reader.lookup.fields;
        let wants_credentials = wanted.username || wanted.password;
        let cached = if wants_credentials { self.read(reader) } else { None };
        match &cached {
            Some(_) => _ = self.lookups.hits.inc(),
            None if wants_credentials => _ = self.lookups.misses.inc(),
            None => {}
        }
        match cached {
            Some(cached) if !wanted.one_time_code => {
                if cached.refresh_due && cached.value.begins_refresh() {
                    // Nobody waits for it.
                    drop(self.join(reader, Fields::CREDENTIALS, fetch));
                }
                Ok(cached.found())
            }
            // Also of an item that had no code a moment ago: it may have been given one. The value
            // is given out when the call is over, and must not be too old by then.
            Some(cached) if !cached.refresh_due && cached.lasts_for(LONGEST_CALL) => {
                let answer = self.join(reader, Fields::ONE_TIME_CODE, fetch).wait().await??;
                let (fetched, took) = &*answer;
                let mut found = cached.found();
                found.fetched.one_time_code = fetched.one_time_code.as_ref().map(copy_code);
                found.code_revision = Some(fetched.credentials.revision.clone());
                found.provider_time = Some(*took);
                Ok(found)
            }
            // Also when a call for the code is due anyway and the rest of the value is due to be
            // refreshed: one call for both.
            _ => {
                let fields = match (wants_credentials, wanted.one_time_code) {
                    (true, true) => Fields::ALL,
                    (true, false) => Fields::CREDENTIALS,
                    (false, _) => wanted,
                };
                let answer = self.join(reader, fields, fetch).wait().await??;
                let (fetched, took) = &*answer;
                Ok(Found::live(fetched.copy(), wanted.one_time_code, *took))
            }
        }
    }

    /// How many values are in it, and what they weigh in bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.values.len() as u64, self.values.weight())
    }

    /// The cached credentials, if the reader may use them.
    fn read(&self, reader: &Reader) -> Option<Cached> {
        let lookup = &reader.lookup;
        let value = self.values.get(&lookup.item)?;
        if value.generation != lookup.generation || value.rejection < reader.rejection_number() {
            return None;
        }
        let ttl = reader.rejection.as_ref().map_or(lookup.ttl, |last| last.limits(&value.revision, lookup.ttl));
        let ttl = value.lifetime.good_for.map_or(ttl, |good_for| good_for.min(ttl));
        let age = self.clock.now().since(value.fetched_at);
        if age >= ttl {
            return None;
        }
        let credentials = value.open(&lookup.item, &lookup.keys)?;
        // A refresh of values under a lease would make others, under another lease.
        let refresh_due = value.lifetime.lease.is_none() && refresh_due(age, ttl, value.draw.into(), &self.options);
        let lifetime = value.lifetime.clone();
        let fetched = Fetched { credentials, one_time_code: None, lifetime, further: Vec::new() };
        Some(Cached { value, fetched, age, ttl, refresh_due })
    }

    /// Joins the call for these fields that is running, or starts one. What it brings is stored
    /// before anybody is told.
    fn join(
        self: &Arc<Self>,
        reader: &Reader,
        fields: Fields,
        fetch: impl FnOnce(Fields) -> Fetching,
    ) -> Flight<Answer> {
        let lookup = &reader.lookup;
        let key = |fields| (lookup.item.clone(), lookup.generation, reader.rejection_number(), fields);
        let now = self.clock.now();
        // Its value is as old as its question, also for a reader who has come later.
        let is_young_enough = |asked_at| now.since(asked_at) < lookup.ttl;
        // One that brings the code, too, brings what is wanted.
        if fields == Fields::CREDENTIALS
            && let Some(flight) = self.flights.join_running(&key(Fields::ALL), is_young_enough)
        {
            return flight;
        }
        let fetch = || {
            let call = fetch(fields);
            let (cache, reader) = (self.clone(), reader.clone());
            async move {
                let started = Instant::now();
                let fetched = call.await;
                let took = started.elapsed();
                cache.keep(reader, fields, now, &fetched);
                fetched.map(|fetched| Arc::new((fetched, took)))
            }
        };
        self.flights.join(key(fields), now, is_young_enough, || self.ready(reader, fields), fetch)
    }

    /// Keeps what a call for these fields has brought, or that the item is missing.
    fn keep(&self, reader: Reader, fields: Fields, asked_at: Moment, fetched: &Result<Fetched, CallFailure>) {
        let rejection = reader.rejection_number();
        let lookup = reader.lookup;
        match fetched {
            Ok(fetched) if fields.username && fields.password => {
                let credentials = &fetched.credentials;
                // Before it can be found, so that nobody rejects it as something new.
                if lookup.rejected.as_ref().is_some_and(|rejected| rejected.revision == credentials.revision) {
                    let (workspace, revision) = (lookup.keys.workspace(), &credentials.revision);
                    self.rejections.note_current(workspace, &lookup.shared(), revision, rejection);
                }
                if let Some(value) = SealedCredentials::seal(&lookup, fetched, asked_at, rejection) {
                    self.store(lookup.item, value);
                }
            }
            Err(failure @ CallFailure::Call(CallError::Provider(error))) if error.code == ErrorCode::NotFound => {
                let missing = Missing { asked_at, generation: lookup.generation, error: failure.clone() };
                self.missing.insert(lookup.item, missing);
            }
            _ => {}
        }
    }

    /// What need not be asked after all: a fetch has brought it since the caller looked, or the
    /// item was missing a moment ago.
    fn ready(&self, reader: &Reader, fields: Fields) -> Option<Answer> {
        let lookup = &reader.lookup;
        let missing = self.missing.get(&lookup.item).filter(|missing| {
            let age = self.clock.now().since(missing.asked_at);
            missing.generation == lookup.generation && age < self.options.missing.min(lookup.ttl)
        });
        if let Some(missing) = missing {
            return Some(Err(missing.error));
        }
        if fields != Fields::CREDENTIALS {
            return None;
        }
        let cached = self.read(reader).filter(|cached| !cached.refresh_due)?;
        Some(Ok(Arc::new((cached.fetched, Duration::ZERO))))
    }

    /// Stores a value unless a newer one is there. It is kept for as long as anybody who has asked
    /// may use it.
    fn store(&self, item: ItemKey, value: SealedCredentials) {
        let mut new = Some(value);
        let stored = self.values.entry(&item, None, |_, present| {
            if let Some(mut value) = new.take_if(|value| !present.is_newer_than(value)) {
                value.keep = value.lifetime.cap(value.keep.max(present.kept_after(value.fetched_at)));
                *present = Arc::new(value);
            }
            EntryAction::Retain(())
        });
        if let (EntryResult::Vacant(place), Some(value)) = (stored, new) {
            // An error is a value that is too large to be kept.
            let _ = place.insert(Arc::new(value));
        }
        // Afterwards, so that who closes it meanwhile either drops it or is seen here.
        if self.is_closed(item.connection) {
            self.values.remove(&item);
        }
    }

    #[cfg(test)]
    fn flights_are_over(&self) -> bool {
        self.flights.is_empty()
    }
}

/// What most values weigh.
const ORDINARY_BYTES: u64 = 512;

#[derive(Clone)]
struct Weigh;

impl Weighter<ItemKey, Arc<SealedCredentials>> for Weigh {
    fn weight(&self, key: &ItemKey, value: &Arc<SealedCredentials>) -> u64 {
        value.weight(key)
    }
}

/// Credentials from the cache that the reader may use.
struct Cached {
    value: Arc<SealedCredentials>,
    fetched: Fetched,
    age: Duration,
    ttl: Duration,
    refresh_due: bool,
}

impl Cached {
    /// Whether the reader may use it for so much longer.
    fn lasts_for(&self, time: Duration) -> bool {
        self.age + time < self.ttl
    }

    fn found(self) -> Found {
        let source = Source::Cached { age: self.age };
        Found { fetched: self.fetched, source, code_revision: None, provider_time: None }
    }
}

#[cfg(test)]
mod tests;
