//! The cache's policy, with a clock and a provider that do what the test says.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::*;
use crate::clock::ManualClock;
use crate::id::WorkspaceId;
use crate::keys::WorkspaceKey;

/// What the provider holds and how it behaves.
#[derive(Default)]
struct Provider {
    password: Mutex<String>,
    has_code: Mutex<bool>,
    failure: Mutex<Option<ProviderError>>,
    calls: Mutex<Vec<Fields>>,
    /// When set, each call waits for a permit.
    gate: Mutex<Option<Arc<Semaphore>>>,
    /// How long each call takes on the test's clock.
    duration: Mutex<Duration>,
    codes: AtomicU32,
}

struct Harness {
    cache: Arc<SecretCache>,
    clock: Arc<ManualClock>,
    keys: Arc<WorkspaceKeys>,
    provider: Arc<Provider>,
    connection: ConnectionId,
    generation: u64,
    ttl: Duration,
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Harness {
    /// Five minutes, no refreshing ahead.
    fn new() -> Self {
        Self::with(CacheOptions { refresh_within: 0.0, ..CacheOptions::default() })
    }

    fn with(options: CacheOptions) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_700_000_000).unwrap()));
        let keys = BTreeMap::from([(1, WorkspaceKey::generate().unwrap())]);
        let harness = Self {
            cache: SecretCache::new(clock.clone(), options),
            clock,
            keys: Arc::new(WorkspaceKeys::derive(WorkspaceId::generate(), keys).unwrap().unwrap()),
            provider: Arc::default(),
            connection: ConnectionId::generate(),
            generation: 0,
            ttl: seconds(300),
        };
        harness.set_password("first");
        harness
    }

    fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    fn set_password(&self, password: &str) {
        *self.provider.password.lock().unwrap() = password.into();
    }

    fn fail(&self, error: Option<ProviderError>) {
        *self.provider.failure.lock().unwrap() = error;
    }

    fn hold(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.provider.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    fn calls(&self) -> Vec<Fields> {
        self.provider.calls.lock().unwrap().clone()
    }

    fn item(&self, reference: &str) -> ItemKey {
        ItemKey { connection: self.connection, reference: reference.into() }
    }

    fn get(&self, fields: Fields) -> impl Future<Output = Result<Found, FetchError>> + Send + 'static {
        self.get_item("op://vault/item", fields)
    }

    fn get_item(
        &self,
        reference: &str,
        fields: Fields,
    ) -> impl Future<Output = Result<Found, FetchError>> + Send + 'static {
        self.look_up(self.lookup(reference, fields))
    }

    fn lookup(&self, reference: &str, fields: Fields) -> Lookup {
        Lookup {
            item: self.item(reference),
            keys: self.keys.clone(),
            generation: self.generation,
            ttl: self.ttl,
            fields,
            rejected: None,
        }
    }

    fn look_up(&self, lookup: Lookup) -> impl Future<Output = Result<Found, FetchError>> + Send + 'static {
        let (cache, provider, clock) = (self.cache.clone(), self.provider.clone(), self.clock.clone());
        async move { cache.get(lookup, move |fields| call(provider, clock, fields)).await }
    }

    /// The password, and whether it came from the cache.
    async fn password(&self) -> (String, Source) {
        let found = self.get(Fields::CREDENTIALS).await.unwrap();
        (found.password(), found.source)
    }
}

impl Found {
    fn password(&self) -> String {
        self.credentials.password.as_ref().unwrap().expose_secret().to_owned()
    }

    fn code(&self) -> Option<&str> {
        self.one_time_code.as_ref().map(|code| code.code.expose_secret())
    }
}

async fn call(provider: Arc<Provider>, clock: Arc<ManualClock>, fields: Fields) -> Result<Fetched, CallFailure> {
    provider.calls.lock().unwrap().push(fields);
    let gate = provider.gate.lock().unwrap().clone();
    if let Some(gate) = gate {
        gate.acquire().await.unwrap().forget();
    }
    clock.advance(*provider.duration.lock().unwrap());
    if let Some(error) = provider.failure.lock().unwrap().clone() {
        return Err(CallError::from(error).into());
    }
    let password = provider.password.lock().unwrap().clone();
    let one_time_code = (fields.one_time_code && *provider.has_code.lock().unwrap()).then(|| OneTimeCode {
        code: format!("{:06}", provider.codes.fetch_add(1, Ordering::SeqCst)).into(),
        expires_at: 1_700_000_030,
        period_seconds: 30,
    });
    let revision = password.clone();
    let password = fields.password.then(|| password.into());
    Ok(Fetched { credentials: Credentials { username: None, password, revision }, one_time_code })
}

fn cached(age: u64) -> Source {
    Source::Cached { age: seconds(age) }
}

fn not_found() -> ProviderError {
    ProviderError::NotFound("There is no such item.".into())
}

#[tokio::test]
async fn a_value_is_used_until_its_duration_and_not_after() {
    for ttl in [1, 300, 3_600, 86_400] {
        let harness = Harness::new().ttl(seconds(ttl));
        assert_eq!(harness.password().await, ("first".into(), Source::Live));
        harness.set_password("second");
        harness.clock.advance(seconds(ttl) - Duration::from_millis(1));
        let (password, source) = harness.password().await;
        assert_eq!(
            (password.as_str(), source),
            ("first", Source::Cached { age: seconds(ttl) - Duration::from_millis(1) })
        );
        harness.clock.advance(Duration::from_millis(1));
        assert_eq!(harness.password().await, ("second".into(), Source::Live), "{ttl} s");
        assert_eq!(harness.calls().len(), 2);
    }
}

#[tokio::test]
async fn off_means_live_every_time_and_nothing_written() {
    let harness = Harness::new().ttl(Duration::ZERO);
    for _ in 0..3 {
        assert_eq!(harness.password().await.1, Source::Live);
    }
    harness.fail(Some(not_found()));
    assert!(harness.get(Fields::CREDENTIALS).await.is_err());
    harness.fail(None);
    assert_eq!(harness.password().await.1, Source::Live, "not even that it was missing");
    assert_eq!(harness.calls().len(), 5);
    assert!(harness.cache.values.iter().next().is_none());
    assert!(harness.cache.missing.iter().next().is_none());
}

#[tokio::test]
async fn off_asks_only_for_what_is_wanted() {
    let harness = Harness::new().ttl(Duration::ZERO);
    let password = Fields { password: true, ..Fields::default() };
    harness.get(password).await.unwrap();
    assert_eq!(harness.calls(), [password]);
}

#[tokio::test]
async fn the_age_is_counted_from_before_the_provider_was_asked() {
    let harness = Harness::new();
    *harness.provider.duration.lock().unwrap() = seconds(10);
    harness.password().await;
    assert_eq!(harness.password().await.1, cached(10));
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_prolong_a_value() {
    let harness = Harness::new();
    harness.password().await;
    harness.clock.advance(seconds(300));
    harness.clock.set_wall(Timestamp::from_second(1_600_000_000).unwrap());
    assert_eq!(harness.password().await.1, Source::Live);
}

#[tokio::test]
async fn a_lowered_duration_counts_at_once_and_a_longer_one_is_not_disturbed() {
    let harness = Harness::new().ttl(seconds(3_600));
    harness.password().await;
    harness.clock.advance(seconds(100));
    harness.set_password("second");
    assert_eq!(harness.password().await, ("first".into(), cached(100)));
    let harness = harness.ttl(seconds(60));
    assert_eq!(harness.password().await, ("second".into(), Source::Live));
    let harness = harness.ttl(seconds(3_600));
    assert_eq!(harness.password().await, ("second".into(), cached(0)));
}

#[tokio::test]
async fn a_value_is_kept_for_as_long_as_anybody_who_asked_may_use_it() {
    let harness = Harness::new().ttl(seconds(3_600));
    let kept = |harness: &Harness| harness.cache.values.get(&harness.item("op://vault/item")).unwrap().keep;
    harness.password().await;
    assert_eq!(kept(&harness), seconds(3_600));
    harness.clock.advance(seconds(600));
    let harness = harness.ttl(seconds(300));
    harness.password().await;
    assert_eq!(kept(&harness), seconds(3_000));
    harness.clock.advance(seconds(3_000));
    harness.password().await;
    assert_eq!(kept(&harness), seconds(300));
}

#[tokio::test]
async fn fifty_cold_readers_make_one_call() {
    for fields in [Fields::CREDENTIALS, Fields::ALL] {
        let harness = Harness::new();
        *harness.provider.has_code.lock().unwrap() = true;
        let gate = harness.hold();
        let readers: Vec<_> = (0..50).map(|_| tokio::spawn(harness.get(fields))).collect();
        tokio::task::yield_now().await;
        gate.add_permits(50);
        for reader in readers {
            let found = reader.await.unwrap().unwrap();
            assert_eq!((found.password().as_str(), found.source), ("first", Source::Live));
            assert_eq!(found.code(), fields.one_time_code.then_some("000000"));
        }
        assert_eq!(harness.calls(), [fields]);
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_harms_no_other_and_its_fetch_is_kept() {
    let harness = Harness::new();
    let gate = harness.hold();
    let first = tokio::spawn(harness.get(Fields::CREDENTIALS));
    let second = tokio::spawn(harness.get(Fields::CREDENTIALS));
    while harness.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.add_permits(1);
    assert_eq!(second.await.unwrap().unwrap().password(), "first");
    assert_eq!(harness.password().await.1, cached(0));
    assert_eq!(harness.calls().len(), 1);
}

#[tokio::test]
async fn one_time_codes_are_live_every_time_beside_cached_credentials() {
    let harness = Harness::new();
    *harness.provider.has_code.lock().unwrap() = true;
    let first = harness.get(Fields::ALL).await.unwrap();
    assert_eq!((first.code(), first.source), (Some("000000"), Source::Live));
    harness.clock.advance(seconds(7));
    let second = harness.get(Fields::ALL).await.unwrap();
    assert_eq!((second.code(), second.source), (Some("000001"), cached(7)));
    assert!(second.provider_time.is_some());
    let third = harness.get(Fields::ONE_TIME_CODE).await.unwrap();
    assert_eq!(third.code(), Some("000002"));
    assert!(third.credentials.password.is_none());
    assert_eq!(harness.calls(), [Fields::ALL, Fields::ONE_TIME_CODE, Fields::ONE_TIME_CODE]);
}

#[tokio::test]
async fn a_code_that_was_added_to_the_item_shows_at_once() {
    let harness = Harness::new();
    let first = harness.get(Fields::ALL).await.unwrap();
    assert_eq!((first.code(), first.code_revision.as_deref()), (None, Some("first")));
    *harness.provider.has_code.lock().unwrap() = true;
    let second = harness.get(Fields::ALL).await.unwrap();
    assert_eq!((second.code(), second.source), (Some("000000"), cached(0)));
    assert_eq!(harness.calls(), [Fields::ALL, Fields::ONE_TIME_CODE]);
    assert!(harness.get(Fields::CREDENTIALS).await.unwrap().code_revision.is_none());
    assert_eq!(harness.calls().len(), 2, "who asks for no code costs no call");
}

#[tokio::test]
async fn a_missing_item_is_remembered_for_a_few_seconds() {
    let harness = Harness::new();
    harness.fail(Some(not_found()));
    for _ in 0..10 {
        let Err(FetchError::Call(CallFailure::Call(CallError::Provider(error)))) = harness.get(Fields::ALL).await
        else {
            panic!()
        };
        assert_eq!(error, not_found());
    }
    assert_eq!(harness.calls().len(), 1);
    harness.fail(None);
    harness.clock.advance(seconds(4));
    assert!(harness.get(Fields::CREDENTIALS).await.is_err());
    harness.clock.advance(seconds(1));
    assert_eq!(harness.password().await.1, Source::Live);
}

#[tokio::test]
async fn a_failure_is_not_remembered_and_does_not_touch_a_value_that_others_may_use() {
    let harness = Harness::new();
    harness.password().await;
    harness.clock.advance(seconds(100));
    for error in [ProviderError::Unavailable("down".into()), not_found()] {
        harness.fail(Some(error));
        let impatient = Lookup { ttl: seconds(60), ..harness.lookup("op://vault/item", Fields::CREDENTIALS) };
        assert!(harness.look_up(impatient).await.is_err());
        assert_eq!(harness.password().await, ("first".into(), cached(100)));
    }
}

#[tokio::test]
async fn a_value_that_is_too_old_is_not_used_although_the_provider_is_down() {
    let harness = Harness::new();
    harness.password().await;
    harness.fail(Some(ProviderError::Unavailable("down".into())));
    harness.clock.advance(seconds(300));
    assert!(harness.get(Fields::CREDENTIALS).await.is_err());
    assert!(harness.get(Fields::CREDENTIALS).await.is_err());
    assert_eq!(harness.calls().len(), 3, "a failure is not remembered");
}

#[tokio::test]
async fn values_that_came_together_are_refreshed_apart_while_they_are_used() {
    let harness = Harness::with(CacheOptions::default());
    let references: Vec<_> = (0..100).map(|number| format!("op://vault/{number}")).collect();
    for reference in &references {
        harness.get_item(reference, Fields::CREDENTIALS).await.unwrap();
    }
    harness.clock.advance(seconds(284));
    for reference in &references {
        harness.get_item(reference, Fields::CREDENTIALS).await.unwrap();
    }
    tokio::task::yield_now().await;
    assert_eq!(harness.calls().len(), 100, "not before the last 5 %");
    // Half-way through the window of 15 s.
    harness.clock.advance(Duration::from_millis(8_500));
    harness.set_password("second");
    for reference in &references {
        let found = harness.get_item(reference, Fields::CREDENTIALS).await.unwrap();
        assert_eq!(found.password(), "first", "nobody waits for the refresh");
    }
    while !harness.cache.flights_are_over() {
        tokio::task::yield_now().await;
    }
    let refreshed = harness.calls().len() - 100;
    assert!((10..90).contains(&refreshed), "{refreshed} of 100");
    let mut fresh = 0;
    for reference in &references {
        fresh += usize::from(harness.get_item(reference, Fields::CREDENTIALS).await.unwrap().password() == "second");
    }
    assert_eq!(fresh, refreshed);
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_value_until_its_duration_is_over() {
    let harness = Harness::with(CacheOptions { refresh_within: 1.0, ..CacheOptions::default() });
    harness.password().await;
    harness.fail(Some(ProviderError::Unavailable("down".into())));
    harness.clock.advance(Duration::from_millis(299_999));
    for _ in 0..3 {
        assert!(matches!(harness.password().await.1, Source::Cached { .. }));
        while !harness.cache.flights_are_over() {
            tokio::task::yield_now().await;
        }
    }
    assert!(harness.calls().len() > 1, "it was tried");
}

#[tokio::test]
async fn a_refresh_that_is_due_goes_with_the_call_for_the_code() {
    let harness = Harness::with(CacheOptions { refresh_within: 1.0, ..CacheOptions::default() });
    *harness.provider.has_code.lock().unwrap() = true;
    harness.get(Fields::ALL).await.unwrap();
    harness.set_password("second");
    harness.clock.advance(Duration::from_millis(299_999));
    let found = harness.get(Fields::ALL).await.unwrap();
    assert_eq!((found.password().as_str(), found.source), ("second", Source::Live));
    assert_eq!(harness.calls(), [Fields::ALL, Fields::ALL]);
}

#[tokio::test]
async fn after_clearing_nothing_from_before_is_used_not_even_what_was_on_its_way() {
    let mut harness = Harness::new();
    let gate = harness.hold();
    let before = tokio::spawn(harness.get(Fields::CREDENTIALS));
    while harness.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    harness.generation += 1;
    harness.cache.drop_connection(harness.connection);
    let after = tokio::spawn(harness.get(Fields::CREDENTIALS));
    while harness.calls().len() < 2 {
        tokio::task::yield_now().await;
    }
    harness.set_password("old");
    gate.add_permits(1);
    assert_eq!(before.await.unwrap().unwrap().password(), "old");
    harness.set_password("new");
    gate.add_permits(1);
    assert_eq!(after.await.unwrap().unwrap().password(), "new");
    assert_eq!(harness.password().await, ("new".into(), cached(0)));
}

#[tokio::test]
async fn an_older_fetch_does_not_replace_a_newer_value() {
    let mut harness = Harness::new();
    let gate = harness.hold();
    let slow = tokio::spawn(harness.get(Fields::CREDENTIALS));
    while harness.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    harness.generation += 1;
    *harness.provider.gate.lock().unwrap() = None;
    harness.set_password("new");
    assert_eq!(harness.password().await.0, "new");
    harness.set_password("old");
    gate.add_permits(1);
    slow.await.unwrap().unwrap();
    assert_eq!(harness.password().await, ("new".into(), cached(0)));
}

#[tokio::test]
async fn clearing_one_connection_leaves_the_others() {
    let harness = Harness::new();
    harness.password().await;
    harness.cache.drop_connection(ConnectionId::generate());
    assert_eq!(harness.password().await.1, cached(0));
    harness.cache.drop_connection(harness.connection);
    assert!(harness.cache.values.get(&harness.item("op://vault/item")).is_none());
}

#[tokio::test]
async fn of_a_connection_that_was_deleted_nothing_is_kept_not_even_what_was_on_its_way() {
    let harness = Harness::new();
    harness.password().await;
    let gate = harness.hold();
    let on_its_way = tokio::spawn(harness.get_item("op://vault/other", Fields::CREDENTIALS));
    while harness.calls().len() < 2 {
        tokio::task::yield_now().await;
    }
    harness.cache.close_connection(harness.connection);
    gate.add_permits(1);
    assert_eq!(on_its_way.await.unwrap().unwrap().password(), "first", "who asked before is answered");
    assert!(harness.cache.is_closed(harness.connection));
    assert!(harness.cache.values.iter().next().is_none());
}

#[tokio::test]
async fn what_is_kept_is_ciphertext_that_opens_for_its_own_item_only() {
    let harness = Harness::new();
    harness.set_password("a password to search for");
    harness.get_item("one", Fields::CREDENTIALS).await.unwrap();
    let (one, other) = (harness.item("one"), harness.item("other"));
    let value = harness.cache.values.get(&one).unwrap();
    let memory = value.ciphertext();
    assert!(!memory.windows(8).any(|window| b"a password to search for".windows(8).any(|part| part == window)));
    assert!(value.open(&one, &harness.keys).is_some());
    assert!(value.open(&other, &harness.keys).is_none());
    // Put in another's place, it is a miss and not somebody else's password.
    harness.cache.values.insert(other, value);
    harness.set_password("the other's own");
    let found = harness.get_item("other", Fields::CREDENTIALS).await.unwrap();
    assert_eq!((found.password().as_str(), found.source), ("the other's own", Source::Live));
}

#[tokio::test]
async fn a_value_from_before_a_change_of_keys_is_a_miss() {
    let mut harness = Harness::new();
    harness.password().await;
    harness.keys = Harness::new().keys;
    assert_eq!(harness.password().await.1, Source::Live);
}

#[tokio::test]
async fn a_call_that_panics_is_an_error_and_the_next_one_works() {
    let harness = Harness::new();
    let lookup = || harness.lookup("op://vault/item", Fields::CREDENTIALS);
    let lost = harness.cache.get(lookup(), |_| async { panic!("a fault") }).await;
    assert!(matches!(lost, Err(FetchError::Lost)));
    assert!(harness.look_up(lookup()).await.is_ok());
}

#[path = "rejection_tests.rs"]
mod rejection;
