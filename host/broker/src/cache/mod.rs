//! The cache of resolved secrets, and its policy.
//!
//! **Invariants**
//!
//! * A value is in memory as ciphertext only, sealed for its connection and reference under a key
//!   that exists in this process alone.
//! * A value expires when it is as old as the reader's cache duration. The duration is applied when
//!   reading, so a lowered one takes effect at once. The age is counted from before the provider
//!   was called. With a duration of 0 nothing is looked up, shared or written.
//! * One-time codes are never cached: the cache takes [`Credentials`], which cannot hold one
//!   ([`fetched`]). That an item has no code, and why, is cached with its values, for the same
//!   state of the item: resolving all values of such an item costs no call. A caller that asks for
//!   the code alone always gets a live answer, and what it says corrects the cached one.
//! * Concurrent misses for one item make one call ([`crate::flight`]).
//! * After the cache was cleared, nothing that was fetched before is returned: values and running
//!   fetches are found only by the current generations of connection and item. Clearing increments
//!   the connection's. The item's is incremented when a rotation has written the item, and when an
//!   entry that is bound to it is bound elsewhere or deleted.
//! * After a revision was rejected ("this password did not work"), nothing that was fetched before
//!   is returned ([`rejections`]).
//! * An outage never removes or replaces a value. A refusal (the item is missing, or no longer for
//!   these credentials to see) does when it is repeated: access that was taken away ends with it. A
//!   missing item is remembered for a few seconds, beside the value that may still be used.
//!
//! **Refreshing:** values that are read often are refreshed in the background shortly before they
//! expire, each at its own random moment within the last 5 % of its duration (a minute at most). So
//! entries that were first resolved together are not all fetched in the same second again, and
//! readers do not wait. If the provider is unavailable, the value is served until it expires. A
//! refresh is attempted once for each value, so it costs at most one call more than expiry, even if
//! the item of a frequently read value cannot be fetched.

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

use keyway_budget::{NotCalled, Shares};

use fetched::copy_code;
pub(crate) use fetched::{Credentials, Fetched, Lifetime};
use keyway_clock::{Clock, Moment};
use keyway_storage::{ConnectionId, WorkspaceId};
pub use lookup::Source;
pub(crate) use lookup::{Found, Lookup, Rejected};
pub use policy::CacheOptions;
use policy::refresh_due;
use rejections::{Rejection, Rejections};
pub(crate) use sealed::ItemKey;
use sealed::SealedCredentials;

use crate::call_metrics::CacheLookups;
use crate::flight::{Flight, Flights};
use crate::provider_call::CallFailure;

/// No call takes longer, including its wait in the queue; HTTP requests time out earlier.
const LONGEST_CALL: Duration = Duration::from_secs(60);

/// The result of a fetch: shared by all callers that wait for it, and dropped with the last of
/// them.
type Answer = Result<Arc<(Fetched, Duration)>, CallFailure>;

/// A call of a provider for an item's values.
type Fetching = Pin<Box<dyn Future<Output = Result<Fetched, CallFailure>> + Send>>;

/// The key of a running fetch. It contains the connection's generation and the number of the item's
/// last rejection, so that no caller joins an older fetch after clearing or rejecting.
type FlightKey = (ItemKey, u64, u64, Fields);

/// A look-up, and the item's last rejection when it began.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) lookup: Lookup,
    rejection: Option<Arc<Rejection>>,
}

impl Reader {
    /// The number of the item's last rejection; 0 when there is none.
    fn rejection_number(&self) -> u64 {
        self.rejection.as_ref().map_or(0, |rejection| rejection.number)
    }
}

/// How long a running call is joined: as long as a probe keeps its right
/// ([`BreakerOptions::probe`](keyway_budget::BreakerOptions::probe)).
const JOINED_FOR: Duration = Duration::from_secs(8);

/// How much later a second refusal must begin to count as repeated: those that were asked together
/// are one, and what causes a single one (a proxy, a replica) is over by then.
const REPEATED_AFTER: Duration = Duration::from_secs(2);

/// The record that an item was missing.
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
    /// A cache with little overhead for each value, which reads no clock and keeps no order of
    /// its gets; [`sweep`](Self::sweep) removes expired values.
    values: quick_cache::sync::Cache<ItemKey, Arc<SealedCredentials>, Weigh>,
    /// The bytes of its values. What a workspace fetches beyond its share is not kept, so that it
    /// cannot evict the values of others.
    shares: Arc<Shares<WorkspaceId>>,
    missing: Cache<ItemKey, Missing>,
    /// When the call began that was refused first, of items whose last call was refused.
    refused: Cache<ItemKey, Moment>,
    rejections: Rejections,
    /// Recently deleted connections: nothing is stored for them, not even by fetches that are
    /// still running.
    closed: Cache<ConnectionId, ()>,
    flights: Flights<FlightKey, Answer>,
    /// Counts look-ups by their outcome.
    pub(crate) lookups: CacheLookups,
}

impl SecretCache {
    pub(crate) fn new(clock: Arc<dyn Clock>, options: CacheOptions) -> Arc<Self> {
        let capacity = options.capacity_bytes;
        let estimated = usize::try_from(capacity / ORDINARY_BYTES).unwrap_or(usize::MAX);
        let values = quick_cache::sync::Cache::with_weighter(estimated, capacity, Weigh);
        let shares = Shares::new(usize::try_from(capacity).unwrap_or(usize::MAX));
        // Longer than the time for which it is used by the broker's clock; this only frees memory.
        let missing = Cache::builder().max_capacity(10_000).time_to_live(2 * options.missing).build();
        // An evicted one only needs one refusal more.
        let refused = Cache::new(10_000);
        // Longer than any call takes, and longer than a connection is kept open.
        let closed = Cache::builder().max_capacity(100_000).time_to_live(Duration::from_secs(2 * 60 * 60)).build();
        let (rejections, flights) = (Rejections::default(), Flights::default());
        let lookups = CacheLookups::default();
        Arc::new(Self { clock, options, values, shares, missing, refused, rejections, closed, flights, lookups })
    }

    /// An item's values if they are in the cache and no call is needed: neither now nor, to refresh
    /// them, in the background. Else [`get`](Self::get) them.
    pub(crate) fn cached(&self, reader: &Reader) -> Option<Found> {
        let Lookup { ttl, fields, .. } = &reader.lookup;
        if ttl.is_zero() || !(fields.username || fields.password) {
            return None;
        }
        let cached = self.read(reader)?;
        if !cached.answers(*fields) || cached.needs_refresh() {
            return None;
        }
        self.lookups.hits.inc();
        Some(cached.found(fields.one_time_code))
    }

    /// Finds an item's values, in the cache if allowed, else from the provider. `fetch` is the
    /// provider's call.
    pub(crate) async fn get(
        self: &Arc<Self>,
        reader: Reader,
        fetch: impl FnOnce(Fields) -> Fetching,
    ) -> Result<Found, CallFailure> {
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

    /// Rejects the caller's rejected revision, and reads the item's last rejection.
    pub(crate) fn reader(&self, lookup: Lookup) -> Reader {
        if lookup.rejected.is_none() && self.rejections.is_empty() {
            return Reader { lookup, rejection: None };
        }
        let (workspace, shared) = (lookup.keys.workspace(), lookup.shared());
        if let Some(Rejected { revision, connections }) = &lookup.rejected {
            self.rejections.reject(workspace, &shared, revision, || {
                // The reader's own connection is among them, unless its entry was bound elsewhere a
                // moment ago.
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

    /// Remembers that the revision that the caller rejected is still current.
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
            Some(cached) if cached.answers(wanted) => {
                if cached.needs_refresh() && cached.value.begins_refresh() {
                    // It runs in the background. It learns again whether there is a code.
                    let fields = if wanted.one_time_code { Fields::ALL } else { Fields::CREDENTIALS };
                    drop(self.join(reader, fields, fetch));
                }
                Ok(cached.found(wanted.one_time_code))
            }
            // The value is returned when the call ends, and must not have expired by then.
            Some(cached) if !cached.refresh_due && cached.lasts_for(LONGEST_CALL) => {
                let answer = self.join(reader, Fields::ONE_TIME_CODE, fetch).wait().await??;
                let (fetched, took) = &*answer;
                let mut found = cached.found(false);
                found.fetched.one_time_code = fetched.one_time_code.as_ref().map(copy_code);
                found.code_revision = Some(fetched.credentials.revision.clone());
                found.provider_time = Some(*took);
                Ok(found)
            }
            // Also when the code needs a call anyway and the cached value is due for a refresh: one
            // call serves both.
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

    /// The number of cached values, and their weight in bytes.
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
        // Leased values are not refreshed: that would make new ones under another lease.
        let refresh_due = value.lifetime.lease.is_none() && refresh_due(age, ttl, value.draw.into(), &self.options);
        let lifetime = value.lifetime.clone();
        let fetched = Fetched { credentials, one_time_code: None, lifetime, further: Vec::new() };
        Some(Cached { value, fetched, age, ttl, refresh_due })
    }

    /// Joins the running call for these fields, or starts one. Its result is stored before any
    /// caller gets it.
    fn join(
        self: &Arc<Self>,
        reader: &Reader,
        fields: Fields,
        fetch: impl FnOnce(Fields) -> Fetching,
    ) -> Flight<Answer> {
        let lookup = &reader.lookup;
        let key = |fields| (lookup.item.clone(), lookup.generation, reader.rejection_number(), fields);
        let now = self.clock.now();
        // A value's age counts from the start of its call, even for a reader that joined later.
        // And a call that hangs has none but those that were there at once: what it hangs on may be
        // over.
        let is_young_enough = |asked_at| now.since(asked_at) < lookup.ttl.min(JOINED_FOR);
        // A call that also fetches the code fetches everything that is wanted.
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

    /// Stores the result of a call for these fields, or that the item is missing.
    fn keep(&self, reader: Reader, fields: Fields, asked_at: Moment, fetched: &Result<Fetched, CallFailure>) {
        let rejection = reader.rejection_number();
        let lookup = reader.lookup;
        if fetched.is_ok() {
            self.refused.invalidate(&lookup.item);
        }
        match fetched {
            Ok(fetched) if fields.username && fields.password => {
                let credentials = &fetched.credentials;
                // Before it can be found, so that it cannot be rejected as a new value.
                if lookup.rejected.as_ref().is_some_and(|rejected| rejected.revision == credentials.revision) {
                    let (workspace, revision) = (lookup.keys.workspace(), &credentials.revision);
                    self.rejections.note_current(workspace, &lookup.shared(), revision, rejection);
                }
                if let Some(value) = SealedCredentials::seal(&lookup, fetched, asked_at, rejection) {
                    self.store(lookup.keys.workspace(), lookup.item, value, fields);
                }
            }
            Ok(fetched) => self.note_code(&lookup, fetched),
            Err(failure) if is_refusal(failure) => {
                self.note_refusal(&lookup.item, asked_at);
                if is_missing(failure) {
                    let missing = Missing { asked_at, generation: lookup.generation, error: failure.clone() };
                    self.missing.insert(lookup.item, missing);
                }
            }
            Err(_) => {}
        }
    }

    /// Notes beside the cached value whether the item has a code, as a call without the credentials
    /// has found out.
    fn note_code(&self, lookup: &Lookup, fetched: &Fetched) {
        let Some(code) = &fetched.one_time_code else { return };
        let no_code = code.as_ref().err();
        let noted = self.values.entry(&lookup.item, None, |_, value| {
            let is_same_state =
                value.generation == lookup.generation && *value.revision == *fetched.credentials.revision;
            // A code that exists by now disproves the reason, whatever state the value is from.
            if no_code.is_none() || is_same_state {
                *value = Arc::new(value.with_no_code(no_code.cloned()));
            }
            EntryAction::Retain(())
        });
        // Gives up the place that a miss would fill.
        drop(noted);
    }

    /// Drops the value of an item whose calls are refused repeatedly.
    fn note_refusal(&self, item: &ItemKey, asked_at: Moment) {
        match self.refused.get(item) {
            None => self.refused.insert(item.clone(), asked_at),
            Some(first) if asked_at.since(first) >= REPEATED_AFTER => drop(self.values.remove(item)),
            Some(_) => {}
        }
    }

    /// An answer that needs no call after all: a fetch has stored it since the caller looked, or
    /// the item was missing a moment ago.
    fn ready(&self, reader: &Reader, fields: Fields) -> Option<Answer> {
        let lookup = &reader.lookup;
        let missing = self.missing.get(&lookup.item).filter(|missing| {
            let age = self.clock.now().since(missing.asked_at);
            missing.generation == lookup.generation && age < self.options.missing.min(lookup.ttl)
        });
        if let Some(missing) = missing {
            return Some(Err(missing.error));
        }
        if !fields.username && !fields.password {
            return None;
        }
        let cached = self.read(reader).filter(|cached| !cached.refresh_due && cached.answers(fields))?;
        Some(Ok(Arc::new((cached.found(fields.one_time_code).fetched, Duration::ZERO))))
    }

    /// Stores a value of a call for these fields unless a newer one is there. It is kept for the
    /// longest duration of the readers that have asked for it.
    fn store(&self, workspace: WorkspaceId, item: ItemKey, value: SealedCredentials, fields: Fields) {
        let weight = usize::try_from(value.weight(&item)).unwrap_or(usize::MAX);
        let share = || self.shares.take(workspace, weight).map(Arc::new);
        let mut new = Some(value);
        let stored = self.values.entry(&item, None, |_, present| {
            if let Some(mut value) = new.take_if(|value| !present.is_newer_than(value)) {
                // A call for the credentials alone says nothing about the code.
                if !fields.one_time_code && value.is_of_the_state_of(present) {
                    value.no_code = present.no_code.clone();
                }
                value.keep = value.lifetime.cap(value.keep.max(present.kept_after(value.fetched_at)));
                value.share = present.share.clone().filter(|share| share.amount() >= weight).or_else(share);
                if value.share.is_none() {
                    return EntryAction::Remove;
                }
                *present = Arc::new(value);
            }
            EntryAction::Retain(())
        });
        if let (EntryResult::Vacant(place), Some(mut value)) = (stored, new) {
            value.share = share();
            if value.share.is_some() {
                // An error means that the value is too large to be kept.
                let _ = place.insert(Arc::new(value));
            }
        }
        // Afterwards, so that a concurrent close either drops the value or is seen here.
        if self.is_closed(item.connection) {
            self.values.remove(&item);
        }
    }

    #[cfg(test)]
    fn flights_are_over(&self) -> bool {
        self.flights.is_empty()
    }
}

/// Whether the secret manager does not let the connection have the item.
fn is_refusal(failure: &CallFailure) -> bool {
    match failure {
        CallFailure::Call(CallError::Provider(error)) => {
            matches!(error.code, ErrorCode::NotFound | ErrorCode::PermissionDenied | ErrorCode::Unauthenticated)
        }
        CallFailure::NotCalled(why) => matches!(why, NotCalled::Refused { .. }),
        _ => false,
    }
}

fn is_missing(failure: &CallFailure) -> bool {
    matches!(failure, CallFailure::Call(CallError::Provider(error)) if error.code == ErrorCode::NotFound)
}

/// The weight of most values.
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
    /// Whether a reader that wants these fields needs no call. A code is live, but the reason for
    /// having none may be cached.
    fn answers(&self, wanted: Fields) -> bool {
        !wanted.one_time_code || self.value.no_code.is_some()
    }

    /// Whether it is due for a refresh that nobody has begun.
    fn needs_refresh(&self) -> bool {
        self.refresh_due && !self.value.is_refreshed()
    }

    /// Whether the reader may use it for at least this long.
    fn lasts_for(&self, time: Duration) -> bool {
        self.age + time < self.ttl
    }

    /// With the reason for having no code, if the reader wants it.
    fn found(self, wants_code: bool) -> Found {
        let Self { value, mut fetched, age, .. } = self;
        fetched.one_time_code = value.no_code.clone().filter(|_| wants_code).map(Err);
        let code_revision = fetched.one_time_code.as_ref().map(|_| fetched.credentials.revision.clone());
        Found { fetched, source: Source::Cached { age }, code_revision, provider_time: None }
    }
}

#[cfg(test)]
mod tests;
