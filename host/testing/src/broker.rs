//! An in-memory broker with one workspace and one connection.

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

/// An in-memory broker with a workspace that has one connection, of a [`ScriptedProvider`].
///
/// It is for tests: every failure to set it up is a panic.
pub struct TestBroker {
    broker: Broker,
    access: Access,
    connection: Connection,
    provider: ScriptedProvider,
    clock: Arc<ManualClock>,
}

impl TestBroker {
    /// Starts a broker with the default options. It runs no background work: what is due is done
    /// when a test calls for it
    /// ([`Rotations::write_back_due`](keyway::rotations::Rotations::write_back_due)).
    pub async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    /// Starts a broker with other options, for example budgets.
    pub async fn start_with(options: impl FnOnce(BrokerBuilder) -> BrokerBuilder) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * 365 * 50)));
        // Few calls at a time, because each reserves address space.
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

    /// The argument of [`Connections::create`](keyway::connections::Connections::create) for
    /// another connection of the scripted provider.
    pub fn new_connection() -> NewConnection {
        NewConnection::new("Scripted", ScriptedProvider::TYPE, Settings::new().with("token", "a scripted token"))
    }

    /// Binds an entry to an item of the connection.
    pub async fn bind(&self, user: &str, site: &str, reference: &str) -> VaultEntry {
        let new = EntryContent::bound(user, site, self.connection.id, reference);
        self.broker.entries().create(&self.access, new).await.expect("a new entry")
    }

    /// The broker, for the code under test.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Allows everything in the workspace.
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

    /// The secret manager's content and behaviour.
    pub fn provider(&self) -> &ScriptedProvider {
        &self.provider
    }

    /// The clock of the broker and the provider. It stands still until it is moved.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }
}
