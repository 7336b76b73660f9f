//! A broker in memory with one workspace and one connection.

use std::sync::Arc;

use jiff::Timestamp;
use keyway::clock::ManualClock;
use keyway::connections::Connection;
use keyway::entries::VaultEntry;
use keyway::keyway_runtime::{Limits, Runtime, Settings};
use keyway::{
    Access, Audit, Broker, BrokerBuilder, EntryContent, MasterKey, NewConnection, Scopes, SqliteStorage, WorkspaceId,
};

use crate::ScriptedProvider;

/// A broker in memory, with a workspace, and in it a connection of a [`ScriptedProvider`].
///
/// Everything that can go wrong while it is put together is a panic: it is for tests.
pub struct TestBroker {
    broker: Broker,
    access: Access,
    connection: Connection,
    provider: ScriptedProvider,
    clock: Arc<ManualClock>,
}

impl TestBroker {
    /// A broker with the usual options. It does nothing by itself in the background: what is due is
    /// done when a test calls for it
    /// ([`Rotations::write_back_due`](keyway::rotations::Rotations::write_back_due)).
    pub async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    /// The same with other options, for example budgets.
    pub async fn start_with(options: impl FnOnce(BrokerBuilder) -> BrokerBuilder) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * 365 * 50)));
        // A few calls at a time, because each has its address space set aside.
        let mut limits = Limits::default();
        limits.concurrent_calls = 8;
        let runtime = Runtime::builder().limits(limits).clock(clock.clone()).build().expect("a sandbox");
        let provider = ScriptedProvider::new(clock.clone());
        let native = runtime.native(provider.clone()).await.expect("a scripted provider");
        let storage = SqliteStorage::in_memory().await.expect("a database in memory");
        let builder = Broker::builder(runtime, storage, MasterKey::generate().expect("random bytes"));
        let builder = builder.provider(native).clock(clock.clone()).background_work(false).audit(Audit::in_memory());
        let broker = options(builder).open().await.expect("a broker");
        let created = broker.workspaces().create("Test", Scopes::ALL).await.expect("a workspace");
        let access = Access::operator(created.workspace.id, "test");
        let connection = broker.connections().create(&access, Self::new_connection()).await.expect("a connection");
        provider.forget_calls();
        Self { broker, access, connection, provider, clock }
    }

    /// What [`Connections::create`](keyway::connections::Connections::create) takes for one more
    /// connection of the scripted provider.
    pub fn new_connection() -> NewConnection {
        NewConnection {
            name: "Scripted".into(),
            provider_type: ScriptedProvider::TYPE.into(),
            settings: Settings::new().with("token", "a scripted token"),
            ..NewConnection::default()
        }
    }

    /// Binds an entry to an item of the connection.
    pub async fn bind(&self, user: &str, site: &str, reference: &str) -> VaultEntry {
        let new = EntryContent::bound(user, site, self.connection.id, reference);
        self.broker.entries().create(&self.access, new).await.expect("a new entry")
    }

    /// The broker, for the code that is tested.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// May do everything in the workspace.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The workspace.
    pub fn workspace(&self) -> WorkspaceId {
        self.access.workspace()
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What the secret manager has, and how it behaves.
    pub fn provider(&self) -> &ScriptedProvider {
        &self.provider
    }

    /// The time of all of it. It stands still.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }
}
