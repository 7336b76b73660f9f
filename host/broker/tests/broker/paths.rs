//! Helpers of the tests with the fixture `paths`: a broker with that provider, and a database file
//! that outlives the broker.

use std::sync::Arc;

use jiff::Timestamp;
use keyway::clock::ManualClock;
use keyway::connections::Connection;
use keyway::entries::VaultEntry;
use keyway::keyway_runtime::egress::EgressPolicy;
use keyway::keyway_runtime::{CodeCacheKey, Fields, Provider, Runtime, Settings};
use keyway::{
    Access, Audit, Broker, BrokerBuilder, BrokerError, CacheTtl, EntryContent, MasterKey, NewConnection,
    ResolveRequest, Source, SqliteStorage,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::logs;
use crate::support::{MASTER_KEY, compiled, component, text};

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) folder: TempDir,
    pub(crate) broker: Broker,
    pub(crate) access: Access,
    runtime: Runtime,
    provider: Provider,
}

pub(crate) fn settings() -> Settings {
    Settings::new().with("region", "eu-1").with("token", "a-token-of-paths")
}

pub(crate) fn new_connection(tier: Option<&str>) -> NewConnection {
    NewConnection::new("Paths", "paths", settings())
        .cache_ttl(CacheTtl::from_seconds(3_600))
        .rate_limit_tier(tier.map(str::to_owned))
}

impl World {
    pub(crate) async fn new() -> (Self, Connection) {
        Self::with_egress(EgressPolicy::default()).await
    }

    /// The same with a server for the references `paths://remote/<path>` of the region `eu-1`.
    pub(crate) async fn with_server() -> (Self, Connection) {
        let rule = format!("secrets.eu-1.example.com=http://{}", server().await);
        Self::with_egress(EgressPolicy::default().with_connect_to(rule.parse().unwrap())).await
    }

    async fn with_egress(egress: EgressPolicy) -> (Self, Connection) {
        logs::start();
        // In whole seconds, the unit of providers.
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(Timestamp::now().as_second()).unwrap()));
        let builder = Runtime::builder().egress(egress).code_cache(compiled(), CodeCacheKey::new([1; 32]));
        let runtime = builder.clock(clock.clone()).build().unwrap();
        let provider = runtime.load(&component("fixtures/paths")).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let broker = open(&runtime, &folder, &clock, |builder| builder.provider(provider.clone())).await;
        let created = broker.workspaces().create("Acme", keyway::Scopes::ALL).await.unwrap();
        let access = Access::operator(created.workspace.id, "tests");
        let connection = broker.connections().create(&access, new_connection(None)).await.unwrap();
        (Self { clock, folder, broker, access, runtime, provider }, connection)
    }

    /// The broker after a restart: nothing in memory.
    pub(crate) async fn restart(&mut self) {
        self.broker.close().await;
        self.broker = self.beside().await;
    }

    /// Another process on the same database.
    pub(crate) async fn beside(&self) -> Broker {
        self.beside_with(|builder| builder.provider(self.provider.clone())).await
    }

    /// The same with other options, and without a provider.
    pub(crate) async fn beside_with(&self, options: impl FnOnce(BrokerBuilder) -> BrokerBuilder) -> Broker {
        open(&self.runtime, &self.folder, &self.clock, options).await
    }

    pub(crate) fn provider(&self) -> Provider {
        self.provider.clone()
    }

    /// Another fixture, for a broker beside this one.
    pub(crate) async fn load(&self, name: &str) -> Provider {
        self.runtime.load(&component(&format!("fixtures/{name}"))).await.unwrap()
    }

    pub(crate) async fn bind(
        &self,
        connection: &Connection,
        user: &str,
        reference: &str,
    ) -> Result<VaultEntry, BrokerError> {
        let new = EntryContent::bound(user, "https://acme.example", connection.id, reference);
        self.broker.entries().create(&self.access, new).await
    }

    pub(crate) async fn resolve(&self, entry: &VaultEntry) -> (String, Source) {
        let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS);
        let resolved = self.broker.resolve(&self.access, request).await.unwrap();
        (text(resolved.password.as_ref()).unwrap().to_owned(), resolved.source)
    }
}

/// A server that answers each request with the same text.
async fn server() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // A request without a body comes in one piece.
                let mut request = [0; 4096];
                while let Ok(1..) = stream.read(&mut request).await {
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nremote").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn open(
    runtime: &Runtime,
    folder: &TempDir,
    clock: &Arc<ManualClock>,
    options: impl FnOnce(BrokerBuilder) -> BrokerBuilder,
) -> Broker {
    let storage = SqliteStorage::open(folder.path().join("keyway.db")).await.unwrap();
    let builder = Broker::builder(runtime.clone(), storage, MasterKey::from_hex(MASTER_KEY).unwrap());
    // Due work runs when a test says so.
    let builder = builder.clock(clock.clone()).background_work(false).audit(Audit::in_memory());
    options(builder).open().await.unwrap()
}
