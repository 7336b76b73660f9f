//! The broker itself: what its operations share. `builder.rs` puts it together.
//!
//! The operations are beside what they are about: [`crate::workspace`], [`crate::connection`],
//! [`crate::entry`], [`crate::resolve`].

use std::sync::{Arc, OnceLock, Weak};

use jiff::Timestamp;
use keyway_audit::Recorder;
use keyway_clock::{Clock, Moment};
use keyway_keys::HostKey;
use keyway_runtime::Runtime;
use keyway_storage::{
    ApiKeyRecord, ConnectionId, ConnectionRecord, EntrySelector, ItemId, RecordCache, Storage, WorkspaceId,
};
use moka::sync::Cache;

use crate::background::BackgroundTask;
use crate::budget::{Guard, Guards};
use crate::cache::SecretCache;
use crate::call_metrics::CallMetrics;
use crate::durable_state::DurableStates;
use crate::entry::ResolvableEntry;
use crate::error::BrokerError;
use crate::key_rotation::Attempts;
use crate::keyring::Keyring;
use crate::providers::Providers;
use crate::readiness::Readiness;
use crate::rotation::ItemState;

/// Open connections by id and version of their row: new settings make a new version, and so a new
/// session.
pub(crate) type OpenConnections = Cache<(ConnectionId, u64), (keyway_runtime::Connection, Arc<Guard>)>;

/// Workspaces, connections and vault entries, and what their items hold: see the [crate's
/// documentation](crate).
///
/// Cheap to clone; all operations may be called concurrently.
#[derive(Clone)]
pub struct Broker(pub(crate) Arc<Inner>);

/// What the operations share.
pub(crate) struct Inner {
    pub(crate) runtime: Runtime,
    pub(crate) providers: Providers,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) cache: Arc<SecretCache>,
    pub(crate) guards: Guards,
    pub(crate) opened: OpenConnections,
    pub(crate) states: Arc<DurableStates>,
    pub(crate) api_keys: RecordCache<String, ApiKeyRecord>,
    pub(crate) connections: RecordCache<(WorkspaceId, ConnectionId), Arc<ConnectionRecord>>,
    pub(crate) entries: RecordCache<(WorkspaceId, EntrySelector), Arc<ResolvableEntry>>,
    pub(crate) recorder: Recorder,
    pub(crate) operator: String,
    pub(crate) items: RecordCache<(WorkspaceId, ItemId), Option<Arc<ItemState>>>,
    pub(crate) sweep: OnceLock<BackgroundTask>,
    pub(crate) work: OnceLock<[BackgroundTask; 2]>,
    pub(crate) key_rotation_attempts: Attempts,
    pub(crate) call_metrics: CallMetrics,
    pub(crate) readiness: Readiness,
}

/// A broker that may be gone.
pub(crate) struct WeakBroker(pub(crate) Weak<Inner>);

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
    /// The providers that connections can be made with.
    pub fn providers(&self) -> &Providers {
        &self.0.providers
    }

    /// The key of this host, from which keys for other purposes can be derived. It stays when the
    /// master key is replaced.
    pub fn host_key(&self) -> &HostKey {
        self.0.keyring.host_key()
    }

    /// Stops what goes on in the background, returns the requests that were reserved and not made,
    /// and makes the audit log as safe as it can be. Call it before the process ends, and before
    /// the database is closed.
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

    /// Has the workspace's keys of this moment in memory. Whoever is about to read sealed rows
    /// calls this first, so that they open even if the key is rotated in between.
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

    /// The name under which the code that embeds the broker acts where it needs no
    /// [`Access`](crate::Access).
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

    /// The time for a record: in the milliseconds in which it is stored, so that a record is the
    /// same before and after.
    pub(crate) fn timestamp(&self) -> Timestamp {
        let now = self.0.clock.now().timestamp();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}
