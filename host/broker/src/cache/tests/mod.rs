//! The cache with a clock and a provider that do what the test says.

mod age;
mod calls;
mod clear;
mod refresh;
mod rejection;
mod sealed;
mod shares;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use keyway_clock::ManualClock;
use keyway_keys::WorkspaceKey;
use keyway_runtime::ProviderError;
use keyway_runtime::contract::{NoCode, NoCodeReason, OneTimeCode};
use keyway_storage::WorkspaceId;
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;

use super::*;
use crate::keyring::WorkspaceKeys;

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

    fn get(&self, fields: Fields) -> impl Future<Output = Result<Found, CallFailure>> + Send + 'static {
        self.get_item("op://vault/item", fields)
    }

    fn get_item(
        &self,
        reference: &str,
        fields: Fields,
    ) -> impl Future<Output = Result<Found, CallFailure>> + Send + 'static {
        self.look_up(self.lookup(reference, fields))
    }

    fn lookup(&self, reference: &str, fields: Fields) -> Lookup {
        Lookup {
            item: self.item(reference),
            account: "1password/acme".into(),
            keys: self.keys.clone(),
            generation: self.generation,
            ttl: self.ttl,
            fields,
            rejected: None,
        }
    }

    fn look_up(&self, lookup: Lookup) -> impl Future<Output = Result<Found, CallFailure>> + Send + 'static {
        let (cache, provider, clock) = (self.cache.clone(), self.provider.clone(), self.clock.clone());
        async move {
            let reader = cache.reader(lookup);
            match cache.cached(&reader) {
                Some(found) => Ok(found),
                None => cache.get(reader, move |fields| Box::pin(call(provider, clock, fields))).await,
            }
        }
    }

    /// The password, and whether it came from the cache.
    async fn password(&self) -> (String, Source) {
        let found = self.get(Fields::CREDENTIALS).await.unwrap();
        (found.password(), found.source)
    }
}

impl Found {
    fn password(&self) -> String {
        self.fetched.credentials.password.as_ref().unwrap().expose_secret().to_owned()
    }

    fn code(&self) -> Option<&str> {
        self.fetched.one_time_code.as_ref()?.as_ref().ok().map(|code| code.code.expose_secret())
    }

    /// Why there is no code.
    fn reason(&self) -> Option<&NoCodeReason> {
        self.fetched.one_time_code.as_ref()?.as_ref().err().map(|none| &none.reason)
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
    let one_time_code = fields.one_time_code.then(|| {
        if !*provider.has_code.lock().unwrap() {
            return Err(NoCode::new(NoCodeReason::Absent, "none"));
        }
        let code = format!("{:06}", provider.codes.fetch_add(1, Ordering::SeqCst));
        Ok(OneTimeCode::new(code, 1_700_000_030, 30))
    });
    let revision = password.clone();
    let password = fields.password.then(|| password.into());
    Ok(Fetched {
        credentials: Credentials { username: None, password, revision },
        one_time_code,
        lifetime: Lifetime::default(),
        further: Vec::new(),
    })
}

fn cached(age: u64) -> Source {
    Source::Cached { age: seconds(age) }
}

fn not_found() -> ProviderError {
    ProviderError::new(ErrorCode::NotFound, "There is no such item.")
}
