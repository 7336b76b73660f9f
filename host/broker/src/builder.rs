//! Building a broker.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use keyway_audit::{AUDIT_KEY, Audit, AuditKey, Recorder};
use keyway_budget::{BudgetOptions, Guards, Shares};
use keyway_clock::{Clock, SystemClock};
use keyway_keys::MasterKeys;
use keyway_runtime::{Provider, ProviderFolder, Runtime};
use keyway_storage::{Changes, RecordCache, Storage};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::audit::AuditLog;
use crate::background;
use crate::broker::{Broker, Inner};
use crate::cache::{CacheOptions, SecretCache};
use crate::call_metrics::CallMetrics;
use crate::codes::Codes;
use crate::connections::{Checks, Components, Connections, LISTS_BYTES, Providers, none_opened};
use crate::core::{Core, Damage};
use crate::database::Database;
use crate::durable_state::start_refreshes;
use crate::entries::{Entries, EntryStore, ORDINARY_BYTES, ResolvableEntry};
use crate::error::BrokerError;
use crate::items::Items;
use crate::keyring::Keyring;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::provider_call::Turns;
use crate::readiness::{Last, Readiness};
use crate::resolve::Resolver;
use crate::rotations::{Journal, Rotations, start_write_backs};
use crate::workspaces::{ApiKeys, Workspaces};

/// How many records of each kind are kept in memory, each a few hundred bytes. Enough for a
/// workspace of 100,000 entries, so that resolving there is as fast as in a small one.
const RECORDS: usize = 110_000;

/// How many bytes of entries: as much as this many bound ones take. One with credentials of its own
/// may be hundreds of times larger.
const ENTRY_BYTES: u64 = RECORDS as u64 * ORDINARY_BYTES;

impl Broker {
    /// Starts building a broker from the runtime that runs providers, the database, and the keys
    /// that wrap its keys (a [`MasterKey`](crate::MasterKey), a
    /// [`KeyWrapper`](crate::keys::KeyWrapper), or several of them as [`MasterKeys`]). It can be
    /// opened after its [audit log](BrokerBuilder::audit) was chosen.
    pub fn builder(runtime: Runtime, storage: impl Storage, keys: impl Into<MasterKeys>) -> BrokerBuilder<NoAudit> {
        let parts = Parts {
            runtime,
            storage: Arc::new(storage),
            keys: keys.into(),
            providers: Providers::default(),
            clock: Arc::new(SystemClock::new()),
            cache: CacheOptions::default(),
            budgets: BudgetOptions::default(),
            operator: "operator".into(),
            background_work: true,
        };
        BrokerBuilder { parts, audit: NoAudit(()) }
    }
}

/// Builds a [`Broker`]. `A` says whether it has an audit log yet.
pub struct BrokerBuilder<A = Audit> {
    parts: Parts,
    audit: A,
}

struct Parts {
    runtime: Runtime,
    storage: Arc<dyn Storage>,
    keys: MasterKeys,
    providers: Providers,
    clock: Arc<dyn Clock>,
    cache: CacheOptions,
    budgets: BudgetOptions,
    operator: String,
    background_work: bool,
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
    /// Chooses the audit log: segment files ([`Audit::in_folder`]), another place, or memory only
    /// ([`Audit::in_memory`]).
    #[must_use]
    pub fn audit(self, audit: impl Into<Audit>) -> BrokerBuilder {
        BrokerBuilder { parts: self.parts, audit: audit.into() }
    }
}

impl<A> BrokerBuilder<A> {
    /// Adds a provider that was loaded with this broker's runtime. It takes precedence over one of
    /// the same type in the folder.
    #[must_use]
    pub fn provider(mut self, provider: Provider) -> Self {
        self.parts.providers.fixed.insert(provider.description().provider_type.clone(), provider);
        self
    }

    /// Adds the providers of a folder that was opened with this broker's runtime, following its
    /// changes.
    #[must_use]
    pub fn provider_folder(mut self, folder: ProviderFolder) -> Self {
        self.parts.providers.folder = Some(folder);
        self
    }

    /// Replaces the clock, for tests of durations.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.parts.clock = clock;
        self
    }

    /// Sets the options of the cache of resolved secrets.
    #[must_use]
    pub fn cache(mut self, options: CacheOptions) -> Self {
        self.parts.cache = options;
        self
    }

    /// Sets how many requests are made to secret managers, and when calls are paused.
    #[must_use]
    pub fn budgets(mut self, options: BudgetOptions) -> Self {
        self.parts.budgets = options;
        self
    }

    /// Sets the name that the audit log records for operations without an
    /// [`Access`](crate::Access), such as creating workspaces.
    #[must_use]
    pub fn operator(mut self, name: impl Into<String>) -> Self {
        self.parts.operator = name.into();
        self
    }

    /// Whether the broker works in the background: it writes passwords of
    /// [rotations](crate::rotations::Rotation) back and calls providers to renew their durable
    /// state, including what an earlier process left undone. On by default. `false` is for a
    /// process that does one thing and ends beside a running one, and for tests.
    #[must_use]
    pub fn background_work(mut self, enabled: bool) -> Self {
        self.parts.background_work = enabled;
        self
    }
}

impl BrokerBuilder {
    /// Opens the broker.
    ///
    /// # Errors
    /// [`KeyError::WrongMasterKey`](crate::keys::KeyError::WrongMasterKey) when the database was
    /// made with another master key; [`BrokerError::OtherRuntime`] when a provider or the folder
    /// belongs to another runtime; errors of the database.
    pub async fn open(self) -> Result<Broker, BrokerError> {
        let Self { parts, audit } = self;
        parts.providers.check_runtime(&parts.runtime)?;
        let now = parts.clock.now().timestamp();
        let changes = Changes::new(parts.storage.clone());
        let keyring = Keyring::open(parts.storage.clone(), parts.keys, &changes, parts.clock.clone()).await?;
        let fingerprints = keyring.host_key().derive(keyway_budget::FINGERPRINT_KEY);
        let forgotten = parts.storage.forget_budgets(now.checked_sub(keyway_budget::KEPT).unwrap_or(now)).await;
        if let Err(error) = forgotten {
            // Old counts take room and are not wrong. A database that is only read keeps them.
            tracing::debug!(%error, "old request counts could not be deleted");
        }
        let guards = Guards::new(parts.storage.clone(), parts.clock.clone(), fingerprints, parts.budgets);
        let audit_key = AuditKey::new(&keyring.host_key().derive(AUDIT_KEY));
        let sink = audit.open(audit_key, parts.storage.clone(), parts.clock.clone(), &keyring).await?;
        let core = Arc::new(Core {
            storage: parts.storage,
            recorder: Arc::new(Recorder::new(sink, parts.clock.clone())),
            clock: parts.clock,
            keyring,
            operator: parts.operator,
            damage: Damage::default(),
            closed: AtomicBool::new(false),
        });
        let cache = SecretCache::new(core.clock.clone(), parts.cache);
        let connections = Arc::new_cyclic(|me| Connections {
            me: me.clone(),
            core: core.clone(),
            lists: Shares::new(LISTS_BYTES),
            turns: Turns::shares(parts.runtime.limits().concurrent_calls),
            runtime: parts.runtime,
            providers: parts.providers,
            guards,
            records: RecordCache::new(RECORDS, &changes),
            opened: none_opened(),
            cache: cache.clone(),
            call_metrics: CallMetrics::default(),
            checks: Checks::new(core.clock.clone()),
            components: Components::default(),
        });
        let states = RecordCache::new(RECORDS, &changes);
        let items = Arc::new(Items { core: core.clone(), cache, states });
        let resolvable = RecordCache::weighing(RECORDS, ENTRY_BYTES, ResolvableEntry::weight, &changes);
        let store = Arc::new(EntryStore { core: core.clone(), resolvable });
        let journal = Arc::new(Journal { core: core.clone(), items: items.clone() });
        let resolver = Arc::new(Resolver {
            core: core.clone(),
            entries: store.clone(),
            connections: connections.clone(),
            items: items.clone(),
            journal: journal.clone(),
            codes: Codes::default(),
        });
        let rotations = Arc::new(Rotations {
            core: core.clone(),
            entries: store.clone(),
            connections: connections.clone(),
            journal,
            told: Arc::default(),
        });
        let (mut work, mut sweep) = (JoinSet::new(), JoinSet::new());
        background::sweep(&mut sweep, Arc::downgrade(&connections));
        if parts.background_work {
            start_write_backs(&mut work, Arc::downgrade(&rotations));
            start_refreshes(&mut work, Arc::downgrade(&connections));
        }
        Ok(Broker(Arc::new(Inner {
            workspaces: Workspaces { core: core.clone() },
            api_keys: ApiKeys { core: core.clone(), records: RecordCache::new(RECORDS, &changes) },
            entries: Entries {
                core: core.clone(),
                store,
                connections: connections.clone(),
                items,
                resolver: resolver.clone(),
            },
            resolver,
            rotations,
            keys: Keys::new(core.clone()),
            database: Database { core: core.clone() },
            audit: AuditLog { core: core.clone() },
            readiness: Readiness {
                core: core.clone(),
                connections: connections.clone(),
                last: Mutex::new(Last::new(core.now())),
            },
            metrics: Metrics { core: core.clone(), connections: connections.clone() },
            work: work.into(),
            _sweep: sweep,
            connections,
            core,
        })))
    }
}
