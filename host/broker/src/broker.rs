//! The entry point: a broker has a service for each domain, and they share the [`Core`].
//! `builder.rs` puts them together.
//!
//! Dependencies go one way: rotations and entries use connections, and resolving uses the stored
//! entries. What two services need of each other is a third thing that both use
//! ([`Items`](crate::items), the journal of rotations, the stored entries).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::task::JoinSet;

use crate::access::Access;
use crate::audit::AuditLog;
use crate::connections::{Connections, Providers};
use crate::core::Core;
use crate::database::Database;
use crate::entries::Entries;
use crate::error::BrokerError;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::resolve::{Resolution, ResolveRequest, Resolver};
use crate::rotations::Rotations;
use crate::workspaces::{ApiKeys, Workspaces};

/// Workspaces, connections and vault entries, and what their items hold: see the [crate's
/// documentation](crate).
///
/// Cheap to clone. All operations may be called concurrently.
#[derive(Clone)]
pub struct Broker(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    pub(crate) workspaces: Workspaces,
    pub(crate) api_keys: ApiKeys,
    pub(crate) connections: Arc<Connections>,
    pub(crate) entries: Entries,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) rotations: Arc<Rotations>,
    pub(crate) keys: Keys,
    pub(crate) database: Database,
    pub(crate) audit: AuditLog,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Metrics,
    /// Background tasks. Each ends with the broker.
    pub(crate) work: Mutex<JoinSet<()>>,
    pub(crate) _sweep: JoinSet<()>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl Broker {
    /// The workspaces.
    pub fn workspaces(&self) -> &Workspaces {
        &self.0.workspaces
    }

    /// The API keys of workspaces, and authenticating with them.
    pub fn api_keys(&self) -> &ApiKeys {
        &self.0.api_keys
    }

    /// The connections to secret managers.
    pub fn connections(&self) -> &Connections {
        &self.0.connections
    }

    /// The vault entries.
    pub fn entries(&self) -> &Entries {
        &self.0.entries
    }

    /// The password rotations.
    pub fn rotations(&self) -> &Rotations {
        &self.0.rotations
    }

    /// The keys of the host and of workspaces, and rotating them.
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// The database as a whole.
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// The audit log, for reading.
    pub fn audit(&self) -> &AuditLog {
        &self.0.audit
    }

    /// Whether the broker can do its work now.
    pub fn readiness(&self) -> &Readiness {
        &self.0.readiness
    }

    /// Metrics for operators.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The providers that connections can be made with.
    pub fn providers(&self) -> &Providers {
        &self.0.connections.providers
    }

    /// Authenticates the holder of an API key; for a request with an id see
    /// [`ApiKeys::authenticate`].
    ///
    /// # Errors
    /// [`BrokerError::Unauthenticated`], whatever is wrong with the key.
    pub async fn authenticate(&self, api_key: &SecretString) -> Result<Access, BrokerError> {
        self.0.api_keys.authenticate(api_key, None).await
    }

    /// Resolves an entry. The user name and password of a bound entry come from the cache if the
    /// cache duration allows, else live; a one-time code is always live. Needs
    /// [`Scope::Resolve`](crate::Scope::Resolve).
    ///
    /// The entry's own cache duration counts, else its connection's. Callers that miss the cache
    /// for the same item at the same time share one call to the provider, which continues when one
    /// of them is cancelled. Because codes are always live, asking for one costs a call each time;
    /// leave it out of the fields where it is not needed. That an item has no code is cached with
    /// its other values; a request for the code alone asks again.
    ///
    /// If the current code is not as [`ResolveRequest::code`] demands, the call waits for the next
    /// one, for 35 s at most. It holds no values and no lock meanwhile, and may be cancelled.
    ///
    /// Further fields of a bound entry's item are resolved when the request names them
    /// ([`ResolveRequest::further`]). A field that the item lacks is left out. An entry that is not
    /// bound has no further fields.
    ///
    /// When a password did not work, reject its revision with [`ResolveRequest::rejected`]: the
    /// item is fetched again unless it was fetched since.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::CodeNotYet`], and the errors of the provider and
    /// the sandbox. An expired value never stands in for a failed call.
    pub async fn resolve(&self, access: &Access, request: ResolveRequest) -> Result<Resolution, BrokerError> {
        Ok(*self.0.resolver.resolve(access, request).await?)
    }

    /// Refuses operations from now on ([`BrokerError::Closed`]), cancels the background tasks,
    /// returns the requests that were reserved and not made, and makes the audit log as safe as it
    /// can be. Call it before the process ends, and before the database is closed.
    pub async fn close(&self) {
        self.0.core.closed.store(true, Ordering::Release);
        self.0.work.lock().abort_all();
        tokio::join!(self.0.core.recorder.close(), self.0.connections.guards.return_unused());
    }
}
