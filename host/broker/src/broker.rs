//! The broker itself: what its operations share, and how it is put together.
//!
//! The operations are beside what they are about: [`crate::workspace`], [`crate::connection`], [`crate::entry`],
//! [`crate::resolve`].

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use jiff::Timestamp;
use keyway_audit::{AUDIT_KEY, Audit, AuditKey, Recorder};
use keyway_clock::{Clock, Moment, SystemClock};
use keyway_keys::{HostKey, MasterKeys};
use keyway_runtime::{FileStatus, Provider, ProviderFolder, Runtime};
use keyway_storage::{
    ApiKeyRecord, Changes, ConnectionId, ConnectionRecord, EntrySelector, ItemId, RecordCache, Storage, WorkspaceId,
};
use moka::sync::Cache;

use crate::background::{self, BackgroundTask};
use crate::budget::{self, BudgetOptions, Guard, Guards};
use crate::cache::{CacheOptions, SecretCache};
use crate::durable_state::{DurableStates, start_refreshes};
use crate::entry::{ORDINARY_BYTES, ResolvableEntry};
use crate::error::BrokerError;
use crate::key_rotation::Attempts;
use crate::keyring::Keyring;
use crate::metrics::CallMetrics;
use crate::readiness::Readiness;
use crate::rotation::{ItemState, start_write_backs};

/// How many records of each kind are kept in memory; a few hundred bytes each. Enough for a workspace of 100,000 entries,
/// so that what is resolved there is no slower than in a small one.
const RECORDS: usize = 110_000;

/// How much of entries: as much as so many bound ones take. One with credentials of its own may be hundreds of times larger.
const ENTRY_BYTES: u64 = RECORDS as u64 * ORDINARY_BYTES;

/// How many connections are kept open, and for how long one that is not used. An open one holds its settings and a
/// login session.
const OPEN_CONNECTIONS: u64 = 10_000;
const OPEN_WHEN_IDLE: Duration = Duration::from_secs(60 * 60);

/// Open connections by id and version of their row: new settings make a new version, and so a new session.
pub(crate) type OpenConnections = Cache<(ConnectionId, u64), (keyway_runtime::Connection, Arc<Guard>)>;

/// Workspaces, connections and vault entries, and what their items hold: see the [crate's documentation](crate).
///
/// Cheap to clone; all operations may be called concurrently.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    runtime: Runtime,
    providers: Providers,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    keyring: Arc<Keyring>,
    cache: Arc<SecretCache>,
    guards: Guards,
    opened: OpenConnections,
    states: Arc<DurableStates>,
    api_keys: RecordCache<String, ApiKeyRecord>,
    connections: RecordCache<(WorkspaceId, ConnectionId), Arc<ConnectionRecord>>,
    entries: RecordCache<(WorkspaceId, EntrySelector), Arc<ResolvableEntry>>,
    recorder: Recorder,
    operator: String,
    items: RecordCache<(WorkspaceId, ItemId), Option<Arc<ItemState>>>,
    sweep: OnceLock<BackgroundTask>,
    work: OnceLock<[BackgroundTask; 2]>,
    key_rotation_attempts: Attempts,
    call_metrics: CallMetrics,
    readiness: Readiness,
}

/// A broker that may be gone.
pub(crate) struct WeakBroker(Weak<Inner>);

impl WeakBroker {
    /// The broker, if anybody else still has it.
    pub(crate) fn upgrade(&self) -> Option<Broker> {
        self.0.upgrade().map(Broker)
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl Broker {
    /// Begins to put a broker together: the runtime that runs providers, the database, and what wraps its keys (a
    /// [`MasterKey`](crate::MasterKey), a [`KeyWrapper`](crate::KeyWrapper), or several of them as [`MasterKeys`]). It opens
    /// once its [audit log](BrokerBuilder::audit) was chosen.
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

    /// The providers that connections can be made with.
    pub fn providers(&self) -> &Providers {
        &self.0.providers
    }

    /// The key of this host, from which keys for other purposes can be derived. It stays when the master key is
    /// replaced.
    pub fn host_key(&self) -> &HostKey {
        self.0.keyring.host_key()
    }

    /// Stops what goes on in the background, returns the requests that were reserved and not made, and makes the audit log as
    /// safe as it can be. Call it before the process ends, and before the database is closed.
    pub async fn close(&self) {
        self.0.work.get().into_iter().flatten().for_each(BackgroundTask::stop);
        tokio::join!(self.0.recorder.sink().close(), self.0.guards.return_unused());
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.0.storage
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    /// Has the workspace's keys of this moment in memory. Whoever is about to read sealed rows calls this first, so that
    /// they open even if the key is rotated in between.
    pub(crate) async fn hold_keys(&self, workspace: WorkspaceId) -> Result<(), BrokerError> {
        self.0.keyring.get(workspace).await.map(drop)
    }

    pub(crate) fn cache(&self) -> &Arc<SecretCache> {
        &self.0.cache
    }

    pub(crate) fn guards(&self) -> &Guards {
        &self.0.guards
    }

    pub(crate) fn opened(&self) -> &OpenConnections {
        &self.0.opened
    }

    pub(crate) fn states(&self) -> &Arc<DurableStates> {
        &self.0.states
    }

    pub(crate) fn api_key_records(&self) -> &RecordCache<String, ApiKeyRecord> {
        &self.0.api_keys
    }

    pub(crate) fn connection_records(&self) -> &RecordCache<(WorkspaceId, ConnectionId), Arc<ConnectionRecord>> {
        &self.0.connections
    }

    pub(crate) fn resolvable_entries(&self) -> &RecordCache<(WorkspaceId, EntrySelector), Arc<ResolvableEntry>> {
        &self.0.entries
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    pub(crate) fn call_metrics(&self) -> &CallMetrics {
        &self.0.call_metrics
    }

    pub(crate) fn last_readiness(&self) -> &Readiness {
        &self.0.readiness
    }

    /// The name under which the code that embeds the broker acts where it needs no [`Access`](crate::Access).
    pub(crate) fn operator(&self) -> &str {
        &self.0.operator
    }

    pub(crate) fn item_states(&self) -> &RecordCache<(WorkspaceId, ItemId), Option<Arc<ItemState>>> {
        &self.0.items
    }

    pub(crate) fn key_rotation_attempts(&self) -> &Attempts {
        &self.0.key_rotation_attempts
    }

    /// For measuring how long ago something was.
    pub(crate) fn now(&self) -> Moment {
        self.0.clock.now()
    }

    /// The time for a record: in the milliseconds in which it is stored, so that a record is the same before and after.
    pub(crate) fn timestamp(&self) -> Timestamp {
        let now = self.0.clock.now().timestamp();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
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
    /// Chooses the audit log: segment files ([`Audit::in_folder`]), another place, or none that lasts
    /// ([`Audit::in_memory`]).
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
    /// Adds a provider that was loaded with this broker's runtime. It counts before one of the same type in the folder.
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

    /// Under which name the audit log has what is done without an [`Access`](crate::Access), which is creating
    /// workspaces.
    #[must_use]
    pub fn operator(mut self, name: impl Into<String>) -> Self {
        self.operator = name.into();
        self
    }

    /// Whether the broker does by itself what is due, beginning with what an earlier process has left undone: writing
    /// passwords of [rotations](crate::Rotation) back, and calling providers to renew their durable state. It does by
    /// default. `false` is for a process that does one thing and ends, beside one that runs, and for tests.
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
    /// [`KeyError::WrongMasterKey`](crate::KeyError::WrongMasterKey) when the database was made with another master
    /// key; errors of the database.
    pub async fn open(self) -> Result<Broker, BrokerError> {
        let now = self.clock.now().timestamp();
        let changes = Changes::new(self.storage.clone());
        let keyring = Keyring::open(self.storage.clone(), self.keys, &changes, self.clock.clone()).await?;
        let keyring = Arc::new(keyring);
        let states = DurableStates::new(self.storage.clone(), keyring.clone(), self.clock.clone());
        let fingerprints = keyring.host_key().derive(budget::FINGERPRINT_KEY);
        self.storage.forget_budgets(now.checked_sub(budget::KEPT).unwrap_or(now)).await?;
        let guards = Guards::new(self.storage.clone(), self.clock.clone(), fingerprints, self.budgets);
        let audit_key = AuditKey::new(&keyring.host_key().derive(AUDIT_KEY));
        let sink = self.audit.open(audit_key, self.storage.clone(), self.clock.clone()).await?;
        let opened = Cache::builder().max_capacity(OPEN_CONNECTIONS).time_to_idle(OPEN_WHEN_IDLE).build();
        let recorder = Recorder::new(sink, self.clock.clone());
        let inner = Arc::new(Inner {
            runtime: self.runtime,
            providers: self.providers,
            storage: self.storage,
            cache: SecretCache::new(self.clock.clone(), self.cache),
            clock: self.clock,
            keyring,
            guards,
            opened,
            states,
            api_keys: RecordCache::new(RECORDS, &changes),
            connections: RecordCache::new(RECORDS, &changes),
            entries: RecordCache::weighing(RECORDS, ENTRY_BYTES, ResolvableEntry::weight, &changes),
            recorder,
            operator: self.operator,
            items: RecordCache::new(RECORDS, &changes),
            sweep: OnceLock::new(),
            work: OnceLock::new(),
            key_rotation_attempts: Attempts::default(),
            call_metrics: CallMetrics::default(),
            readiness: Readiness::default(),
        });
        let weak = || WeakBroker(Arc::downgrade(&inner));
        inner.sweep.get_or_init(|| background::sweep(weak()));
        if self.background_work {
            inner.work.get_or_init(|| [start_write_backs(weak()), start_refreshes(weak())]);
        }
        Ok(Broker(inner))
    }
}

/// The installed providers, by type.
#[derive(Default)]
pub struct Providers {
    fixed: BTreeMap<String, Provider>,
    folder: Option<ProviderFolder>,
}

impl Providers {
    /// The provider of this type, as it is now.
    pub fn get(&self, provider_type: &str) -> Option<Provider> {
        let from_folder = || self.folder.as_ref().and_then(|folder| folder.get(provider_type));
        self.fixed.get(provider_type).cloned().or_else(from_folder)
    }

    /// All providers in the order of their types.
    pub fn list(&self) -> Vec<Provider> {
        let from_folder = self.folder.iter().flat_map(ProviderFolder::providers);
        let mut all: BTreeMap<_, _> =
            from_folder.map(|provider| (provider.description().provider_type.clone(), provider)).collect();
        all.extend(self.fixed.clone());
        all.into_values().collect()
    }
}

impl Providers {
    /// The files of the folder that no provider was ever loaded from, by name. A file whose newest state was refused while the
    /// one before it serves is none of them, nor is one whose provider type another file serves.
    pub(crate) fn unloaded_files(&self) -> Vec<String> {
        let files = self.folder.iter().flat_map(ProviderFolder::files);
        let is_missing = |file: &FileStatus| file.error.is_some() && file.digest.is_none() && file.served_by.is_none();
        files.filter(is_missing).map(|file| file.file).collect()
    }
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list().iter().map(|provider| provider.description().provider_type.clone())).finish()
    }
}
