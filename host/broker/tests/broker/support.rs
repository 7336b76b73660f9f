//! Helpers of the tests: an emulator, a broker that uses it, and a database file that outlives the
//! broker.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use keyway::budgets::BudgetOptions;
use keyway::clock::ManualClock;
use keyway::connections::Connection;
use keyway::entries::VaultEntry;
use keyway::keyway_runtime::egress::EgressPolicy;
use keyway::keyway_runtime::{CodeCacheKey, Fields, Limits, Provider, Runtime, Settings};
use keyway::{
    Access, Audit, Broker, BrokerBuilder, BrokerError, CacheOptions, EntryContent, MasterKey, NewConnection,
    Resolution, ResolveRequest, SqliteStorage, WorkspaceId,
};
use keyway_emulator_onepassword::{Emulator, Endpoint, ItemInfo};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

use crate::logs;

pub(crate) const MASTER_KEY: &str = "6b6579776179206d6173746572206b657920666f72207468652074657374732e";

/// The token of connections to fixtures.
pub(crate) const FIXTURE_TOKEN: &str = "token-of-a-fixture-81c2";

/// A component built by `cargo xtask build-components`.
pub(crate) fn component(name: &str) -> Vec<u8> {
    let folder = std::env::var_os("KEYWAY_COMPONENTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/components"), PathBuf::from);
    let file = folder.join(format!("{name}.wasm"));
    std::fs::read(&file).unwrap_or_else(|error| {
        panic!("cannot read {}: {error}. Run `cargo xtask build-components` first", file.display())
    })
}

/// Compiled components, so that each is compiled once. Kept for the next run.
pub(crate) fn compiled() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("broker-compiled-components")
}

pub(crate) struct World {
    pub(crate) emulator: Emulator,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) folder: TempDir,
    /// Where the audit log is, apart from the database.
    pub(crate) audit: TempDir,
    pub(crate) storage: SqliteStorage,
    pub(crate) broker: Broker,
    pub(crate) access: Access,
    pub(crate) api_key: SecretString,
    pub(crate) encryption_key: SecretString,
    runtime: Runtime,
    pub(crate) provider: Provider,
    budgets: BudgetOptions,
}

impl World {
    /// One workspace, no connection yet.
    pub(crate) async fn new() -> Self {
        Self::with_budgets(BudgetOptions::default()).await
    }

    pub(crate) async fn with_budgets(budgets: BudgetOptions) -> Self {
        Self::of(Emulator::start().unwrap(), budgets).await
    }

    /// A broker that uses the test's own emulator.
    pub(crate) async fn of(emulator: Emulator, budgets: BudgetOptions) -> Self {
        let url = emulator.url().to_owned();
        Self::reached_at(&url, emulator, budgets, Limits::default()).await
    }

    /// In front of an emulator that is reached at this address, with these limits of calls.
    pub(crate) async fn reached_at(url: &str, emulator: Emulator, budgets: BudgetOptions, limits: Limits) -> Self {
        logs::start();
        let rule = format!("{}={url}", emulator.host());
        let policy = EgressPolicy::default().with_connect_to(rule.parse().unwrap());
        let builder = Runtime::builder().egress(policy).limits(limits);
        let runtime = builder.code_cache(compiled(), CodeCacheKey::new([1; 32])).build().unwrap();
        let provider = runtime.load(&component("onepassword")).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::now()));
        let audit = tempfile::tempdir().unwrap();
        let storage = SqliteStorage::open(folder.path().join("keyway.db")).await.unwrap();
        let in_folder = Audit::in_folder(audit.path());
        let broker = open(&runtime, &provider, &storage, &clock, &budgets, in_folder, |broker| broker).await;
        let created = broker.workspaces().create("Acme", keyway::Scopes::ALL).await.unwrap();
        let access = Access::operator(created.workspace.id, "tests");
        let (api_key, encryption_key) = (created.api_key, created.encryption_key);
        Self {
            emulator,
            clock,
            folder,
            audit,
            storage,
            broker,
            access,
            api_key,
            encryption_key,
            runtime,
            provider,
            budgets,
        }
    }

    /// One workspace with a connection of the account `automation`.
    pub(crate) async fn connected() -> (Self, Connection) {
        let world = Self::new().await;
        let connection = world.connect("automation").await;
        (world, connection)
    }

    /// The broker after a restart: nothing in memory.
    pub(crate) async fn restart(&mut self) {
        self.restart_with(Audit::in_folder(self.audit.path()), |broker| broker).await;
    }

    /// The same with another audit log, or other options.
    pub(crate) async fn restart_with(
        &mut self,
        audit: impl Into<Audit>,
        options: impl FnOnce(BrokerBuilder) -> BrokerBuilder,
    ) {
        self.broker.close().await;
        let (runtime, provider, budgets) = (&self.runtime, &self.provider, &self.budgets);
        self.broker = open(runtime, provider, &self.storage, &self.clock, budgets, audit.into(), options).await;
    }

    /// Another process on the same database, with the same provider.
    pub(crate) async fn beside(&self) -> Broker {
        let storage = SqliteStorage::open(self.folder.path().join("keyway.db")).await.unwrap();
        let (runtime, provider, budgets) = (&self.runtime, &self.provider, &self.budgets);
        let audit = Audit::in_folder(self.audit.path());
        open(runtime, provider, &storage, &self.clock, budgets, audit, |broker| broker).await
    }

    pub(crate) async fn other_workspace(&self) -> Access {
        let created = self.broker.workspaces().create("Other", keyway::Scopes::ALL).await.unwrap();
        Access::operator(created.workspace.id, "tests")
    }

    pub(crate) fn new_connection(&self, account: &str) -> NewConnection {
        NewConnection::new(format!("Acme {account}"), "1password", Settings::new().with("token", self.token(account)))
    }

    pub(crate) async fn connect(&self, account: &str) -> Connection {
        self.broker.connections().create(&self.access, self.new_connection(account)).await.unwrap()
    }

    pub(crate) fn token(&self, account: &str) -> String {
        self.emulator.token(account).unwrap().expose().to_owned()
    }

    /// An item as the account `automation` sees it.
    pub(crate) fn item(&self, vault: &str, title: &str) -> ItemInfo {
        self.emulator.account("automation").unwrap().vault(vault).unwrap().item(title).unwrap().clone()
    }

    /// An entry that is bound to an item of the vault "Automation".
    pub(crate) async fn bind(&self, connection: &Connection, title: &str) -> VaultEntry {
        let reference = self.item("Automation", title).reference;
        let new = EntryContent::bound(title, "https://acme.example", connection.id, reference);
        self.broker.entries().create(&self.access, new).await.unwrap()
    }

    pub(crate) async fn resolve(&self, entry: &VaultEntry) -> Resolution {
        self.broker.resolve(&self.access, ResolveRequest::new(entry.id)).await.unwrap()
    }

    /// User name and password: the values that the cache may serve.
    pub(crate) async fn credentials(&self, entry: &VaultEntry) -> Resolution {
        let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS);
        self.broker.resolve(&self.access, request).await.unwrap()
    }

    /// How often the provider has read an item since the last look.
    pub(crate) fn item_reads(&self) -> u64 {
        let reads = self.emulator.calls().of(Endpoint::Item);
        self.emulator.reset_calls();
        reads
    }
}

async fn open(
    runtime: &Runtime,
    provider: &Provider,
    storage: &SqliteStorage,
    clock: &Arc<ManualClock>,
    budgets: &BudgetOptions,
    audit: Audit,
    options: impl FnOnce(BrokerBuilder) -> BrokerBuilder,
) -> Broker {
    // Without refreshing ahead, the number of calls is exact.
    let mut cache = CacheOptions::default();
    cache.refresh_within = 0.0;
    let broker = Broker::builder(runtime.clone(), storage.clone(), MasterKey::from_hex(MASTER_KEY).unwrap())
        .provider(provider.clone())
        .clock(clock.clone())
        .cache(cache)
        .budgets(budgets.clone())
        // Write-backs run when a test says so.
        .background_work(false)
        .audit(audit);
    options(broker).open().await.unwrap()
}

/// A broker in memory with one of the fixtures as its provider, and a connection to it.
pub(crate) async fn fixture(name: &str) -> (Broker, Access, Result<Connection, BrokerError>) {
    fixture_in(name, SqliteStorage::in_memory().await.unwrap()).await
}

/// The same with the test's own database.
pub(crate) async fn fixture_in(
    name: &str,
    storage: SqliteStorage,
) -> (Broker, Access, Result<Connection, BrokerError>) {
    let broker = fixture_broker(name, storage).await;
    let created = broker.workspaces().create("Acme", keyway::Scopes::ALL).await.unwrap();
    let access = Access::operator(created.workspace.id, "tests");
    let connection = broker.connections().create(&access, new_fixture_connection(name)).await;
    (broker, access, connection)
}

/// A broker with one of the fixtures as its provider. Several may share a database, as processes
/// do.
pub(crate) async fn fixture_broker(name: &str, storage: SqliteStorage) -> Broker {
    logs::start();
    let runtime = Runtime::builder().code_cache(compiled(), CodeCacheKey::new([1; 32])).build().unwrap();
    let provider = runtime.load(&component(&format!("fixtures/{name}"))).await.unwrap();
    let builder = Broker::builder(runtime, storage, MasterKey::from_hex(MASTER_KEY).unwrap()).provider(provider);
    builder.audit(Audit::in_memory()).open().await.unwrap()
}

pub(crate) fn new_fixture_connection(name: &str) -> NewConnection {
    NewConnection::new(name, name, Settings::new().with("token", FIXTURE_TOKEN))
}

pub(crate) fn text(secret: Option<&SecretString>) -> Option<&str> {
    secret.map(ExposeSecret::expose_secret)
}

pub(crate) fn id_bytes(workspace: WorkspaceId) -> Vec<u8> {
    workspace.as_uuid().as_bytes().to_vec()
}
