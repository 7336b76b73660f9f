//! The broker itself: what its operations share. `builder.rs` puts it together.
//!
//! The operations are beside what they are about: [`crate::workspace`], [`crate::connection`],
//! [`crate::entry`], [`crate::resolve`].

use std::ops::Deref;
use std::sync::{Arc, OnceLock, Weak};

use keyway_audit::{Operation, Trail};
use keyway_budget::{Guard, Guards};
use keyway_runtime::Runtime;
use keyway_storage::{ConnectionId, ConnectionRecord, EntrySelector, ItemId, RecordCache, WorkspaceId};
use moka::sync::Cache;
use secrecy::SecretString;

use crate::access::Access;
use crate::audit::AuditLog;
use crate::background::BackgroundTask;
use crate::cache::SecretCache;
use crate::call_metrics::CallMetrics;
use crate::core::Core;
use crate::durable_state::DurableStates;
use crate::entry::ResolvableEntry;
use crate::error::BrokerError;
use crate::keys::Keys;
use crate::providers::Providers;
use crate::readiness::Readiness;
use crate::rotation::ItemState;
use crate::workspaces::{ApiKeys, Workspaces};

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
pub struct Inner {
    pub(crate) core: Arc<Core>,
    pub(crate) workspaces: Workspaces,
    pub(crate) api_keys: ApiKeys,
    pub(crate) keys: Keys,
    pub(crate) audit: AuditLog,
    pub(crate) runtime: Runtime,
    pub(crate) providers: Providers,
    pub(crate) cache: Arc<SecretCache>,
    pub(crate) guards: Guards,
    pub(crate) opened: OpenConnections,
    pub(crate) states: Arc<DurableStates>,
    pub(crate) records: RecordCache<(WorkspaceId, ConnectionId), Arc<ConnectionRecord>>,
    pub(crate) resolvable: RecordCache<(WorkspaceId, EntrySelector), Arc<ResolvableEntry>>,
    pub(crate) item_states: RecordCache<(WorkspaceId, ItemId), Option<Arc<ItemState>>>,
    pub(crate) sweep: OnceLock<BackgroundTask>,
    pub(crate) work: OnceLock<[BackgroundTask; 2]>,
    pub(crate) call_metrics: CallMetrics,
    pub(crate) last: Readiness,
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

impl Deref for Broker {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Broker {
    /// The workspaces.
    pub fn workspaces(&self) -> &Workspaces {
        &self.0.workspaces
    }

    /// The API keys of workspaces, and who may come in with one.
    pub fn api_keys(&self) -> &ApiKeys {
        &self.0.api_keys
    }

    /// The keys of the host and of workspaces, and rotating them.
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// The audit log, for reading.
    pub fn audit(&self) -> &AuditLog {
        &self.0.audit
    }

    /// The providers that connections can be made with.
    pub fn providers(&self) -> &Providers {
        &self.0.providers
    }

    /// Who holds this API key, and what they may do; for a request with an id see
    /// [`ApiKeys::authenticate`].
    ///
    /// # Errors
    /// [`BrokerError::Unauthenticated`], whatever is wrong with the key.
    pub async fn authenticate(&self, api_key: &SecretString) -> Result<Access, BrokerError> {
        self.0.api_keys.authenticate(api_key, None).await
    }

    /// Stops what goes on in the background, returns the requests that were reserved and not made,
    /// and makes the audit log as safe as it can be. Call it before the process ends, and before
    /// the database is closed.
    pub async fn close(&self) {
        self.0.work.get().into_iter().flatten().for_each(BackgroundTask::stop);
        tokio::join!(self.0.core.recorder.sink().close(), self.0.guards.return_unused());
    }

    pub(crate) async fn audited<T>(
        &self,
        access: &Access,
        operation: Operation,
        trail: &Trail,
        body: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        self.core.audited(access, operation, trail, body).await
    }

    pub(crate) fn guards(&self) -> &Guards {
        &self.0.guards
    }
}
