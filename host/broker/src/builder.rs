//! How a broker is put together.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keyway_audit::{AUDIT_KEY, Audit, AuditKey, Recorder};
use keyway_budget::{BudgetOptions, Guards};
use keyway_clock::{Clock, SystemClock};
use keyway_keys::MasterKeys;
use keyway_runtime::{Provider, ProviderFolder, Runtime};
use keyway_storage::{Changes, RecordCache, Storage};
use moka::sync::Cache;

use crate::audit::AuditLog;
use crate::background;
use crate::broker::{Broker, Inner, WeakBroker};
use crate::cache::{CacheOptions, SecretCache};
use crate::call_metrics::CallMetrics;
use crate::core::Core;
use crate::durable_state::{DurableStates, start_refreshes};
use crate::entry::{ORDINARY_BYTES, ResolvableEntry};
use crate::error::BrokerError;
use crate::keyring::Keyring;
use crate::keys::Keys;
use crate::providers::Providers;
use crate::readiness::Readiness;
use crate::rotation::start_write_backs;
use crate::workspaces::{ApiKeys, Workspaces};

/// How many records of each kind are kept in memory; a few hundred bytes each. Enough for a
/// workspace of 100,000 entries, so that what is resolved there is no slower than in a small one.
const RECORDS: usize = 110_000;

/// How much of entries: as much as so many bound ones take. One with credentials of its own may be
/// hundreds of times larger.
const ENTRY_BYTES: u64 = RECORDS as u64 * ORDINARY_BYTES;

/// How many connections are kept open, and for how long one that is not used. An open one holds its
/// settings and a login session.
const OPEN_CONNECTIONS: u64 = 10_000;
const OPEN_WHEN_IDLE: Duration = Duration::from_secs(60 * 60);

impl Broker {
    /// Begins to put a broker together: the runtime that runs providers, the database, and what
    /// wraps its keys (a [`MasterKey`](crate::MasterKey), a [`KeyWrapper`](crate::KeyWrapper), or
    /// several of them as [`MasterKeys`]). It opens once its [audit log](BrokerBuilder::audit) was
    /// chosen.
    pub fn builder(runtime: Runtime, storage: impl Storage, keys: impl Into<MasterKeys>) -> BrokerBuilder<NoAudit> {
        BrokerBuilder {
            runtime,
            storage: Arc::new(storage),
            keys: keys.into(),
            providers: Providers::default(),
            clock: Arc::new(SystemClock::new()),
            cache: CacheOptions::default(),
            budgets: BudgetOptions::default(),
            operator: "operator".into(),
            background_work: true,
            audit: NoAudit(()),
        }
    }
}

/// Puts a [`Broker`] together. `A` says whether it has an audit log yet.
pub struct BrokerBuilder<A = Audit> {
    runtime: Runtime,
    storage: Arc<dyn Storage>,
    keys: MasterKeys,
    providers: Providers,
    clock: Arc<dyn Clock>,
    cache: CacheOptions,
    budgets: BudgetOptions,
    operator: String,
    background_work: bool,
    audit: A,
}

/// No audit log was chosen yet.
#[derive(Debug)]
pub struct NoAudit(());

impl<A> std::fmt::Debug for BrokerBuilder<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerBuilder").finish_non_exhaustive()
    }
}

impl BrokerBuilder<NoAudit> {
    /// Chooses the audit log: segment files ([`Audit::in_folder`]), another place, or none that
    /// lasts ([`Audit::in_memory`]).
    #[must_use]
    pub fn audit(self, audit: impl Into<Audit>) -> BrokerBuilder {
        BrokerBuilder {
            runtime: self.runtime,
            storage: self.storage,
            keys: self.keys,
            providers: self.providers,
            clock: self.clock,
            cache: self.cache,
            budgets: self.budgets,
            operator: self.operator,
            background_work: self.background_work,
            audit: audit.into(),
        }
    }
}

impl<A> BrokerBuilder<A> {
    /// Adds a provider that was loaded with this broker's runtime. It counts before one of the same
    /// type in the folder.
    #[must_use]
    pub fn provider(mut self, provider: Provider) -> Self {
        self.providers.fixed.insert(provider.description().provider_type.clone(), provider);
        self
    }

    /// Adds the providers of a folder, as they come and go.
    #[must_use]
    pub fn provider_folder(mut self, folder: ProviderFolder) -> Self {
        self.providers.folder = Some(folder);
        self
    }

    /// Replaces the clock, for tests of durations.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Changes how the cache of resolved secrets behaves.
    #[must_use]
    pub fn cache(mut self, options: CacheOptions) -> Self {
        self.cache = options;
        self
    }

    /// Changes how many requests secret managers are asked, and when they are given a rest.
    #[must_use]
    pub fn budgets(mut self, options: BudgetOptions) -> Self {
        self.budgets = options;
        self
    }

    /// Under which name the audit log has what is done without an [`Access`](crate::Access), which
    /// is creating workspaces.
    #[must_use]
    pub fn operator(mut self, name: impl Into<String>) -> Self {
        self.operator = name.into();
        self
    }

    /// Whether the broker does by itself what is due, beginning with what an earlier process has
    /// left undone: writing passwords of [rotations](crate::Rotation) back, and calling providers
    /// to renew their durable state. It does by default. `false` is for a process that does one
    /// thing and ends, beside one that runs, and for tests.
    #[must_use]
    pub fn background_work(mut self, enabled: bool) -> Self {
        self.background_work = enabled;
        self
    }
}

impl BrokerBuilder {
    /// Opens the broker.
    ///
    /// # Errors
    /// [`KeyError::WrongMasterKey`](crate::KeyError::WrongMasterKey) when the database was made
    /// with another master key; errors of the database.
    pub async fn open(self) -> Result<Broker, BrokerError> {
        let now = self.clock.now().timestamp();
        let changes = Changes::new(self.storage.clone());
        let keyring = Keyring::open(self.storage.clone(), self.keys, &changes, self.clock.clone()).await?;
        let fingerprints = keyring.host_key().derive(keyway_budget::FINGERPRINT_KEY);
        self.storage.forget_budgets(now.checked_sub(keyway_budget::KEPT).unwrap_or(now)).await?;
        let guards = Guards::new(self.storage.clone(), self.clock.clone(), fingerprints, self.budgets);
        let audit_key = AuditKey::new(&keyring.host_key().derive(AUDIT_KEY));
        let sink = self.audit.open(audit_key, self.storage.clone(), self.clock.clone()).await?;
        let opened = Cache::builder().max_capacity(OPEN_CONNECTIONS).time_to_idle(OPEN_WHEN_IDLE).build();
        let core = Arc::new(Core {
            storage: self.storage,
            recorder: Recorder::new(sink, self.clock.clone()),
            clock: self.clock,
            keyring,
            operator: self.operator,
        });
        let inner = Arc::new(Inner {
            workspaces: Workspaces { core: core.clone() },
            api_keys: ApiKeys { core: core.clone(), records: RecordCache::new(RECORDS, &changes) },
            keys: Keys::new(core.clone()),
            audit: AuditLog { core: core.clone() },
            runtime: self.runtime,
            providers: self.providers,
            cache: SecretCache::new(core.clock.clone(), self.cache),
            guards,
            opened,
            states: DurableStates::new(core.clone()),
            records: RecordCache::new(RECORDS, &changes),
            resolvable: RecordCache::weighing(RECORDS, ENTRY_BYTES, ResolvableEntry::weight, &changes),
            item_states: RecordCache::new(RECORDS, &changes),
            sweep: OnceLock::new(),
            work: OnceLock::new(),
            call_metrics: CallMetrics::default(),
            last: Readiness::default(),
            core,
        });
        let weak = || WeakBroker(Arc::downgrade(&inner));
        inner.sweep.get_or_init(|| background::sweep(weak()));
        if self.background_work {
            inner.work.get_or_init(|| [start_write_backs(weak()), start_refreshes(weak())]);
        }
        Ok(Broker(inner))
    }
}
