//! Connections: how a workspace reaches a secret manager.
//!
//! **Invariants:** settings are stored only after the provider has logged in with them
//! ([`Connections::create`]), and only sealed. Of a secret setting, only the last four characters
//! are ever shown. The provider's network destinations are decided once, when the settings are
//! stored, and sealed with them: neither a later version of the component nor a change of the
//! database can send a token elsewhere. A connection that entries are bound to cannot be deleted
//! (`delete.rs`).

mod budget;
mod check_item;
mod checks;
mod components;
mod delete;
mod items;
mod operations;
mod retry;
mod settings;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use keyway_budget::{Guard, Guards, Shares};
use keyway_runtime::Runtime;
use keyway_storage::{ConnectionId, ConnectionRecord, RecordCache, StorageError, WorkspaceId};
use moka::sync::Cache;

pub(crate) use checks::Checks;
pub(crate) use components::Components;
pub(crate) use delete::DEPENDENTS_TOLD;
pub(crate) use items::LISTS_BYTES;
pub use items::{LIST_LIMITS, ListLimits};
pub use keyway_storage::{DependentEntries, DependentEntry};

use crate::cache::SecretCache;
use crate::cache_ttl::CacheTtl;
use crate::call_metrics::CallMetrics;
use crate::core::Core;
use crate::error::BrokerError;
pub use crate::error::ListLimit;
pub use crate::providers::Providers;

/// How many connections are kept open, and how long one stays open without use. Each holds its
/// settings and a login session.
const OPEN_CONNECTIONS: u64 = 10_000;
const OPEN_WHEN_IDLE: Duration = Duration::from_secs(60 * 60);

/// The connections of all workspaces: see [`Broker::connections`](crate::Broker::connections).
pub struct Connections {
    /// For work that outlives a borrow.
    pub(crate) me: Weak<Self>,
    pub(crate) core: Arc<Core>,
    pub(crate) runtime: Runtime,
    pub(crate) providers: Providers,
    pub(crate) guards: Guards,
    pub(crate) records: RecordCache<(WorkspaceId, ConnectionId), Arc<ConnectionRecord>>,
    pub(crate) opened: OpenConnections,
    pub(crate) cache: Arc<SecretCache>,
    pub(crate) call_metrics: CallMetrics,
    pub(crate) checks: Checks,
    /// The calls that run, shared by workspaces.
    pub(crate) turns: Arc<Shares<WorkspaceId>>,
    /// The bytes of items that lists hold while they are collected, likewise.
    pub(crate) lists: Arc<Shares<WorkspaceId>>,
    pub(crate) components: Components,
}

impl Connections {
    /// Evicts expired secrets, and connections that were idle for long, from memory. Without it,
    /// the caches evict only when they are used.
    pub(crate) fn sweep(&self) {
        self.cache.sweep();
        self.opened.run_pending_tasks();
    }
}

/// An empty cache of open connections.
pub(crate) fn none_opened() -> OpenConnections {
    Cache::builder().max_capacity(OPEN_CONNECTIONS).time_to_idle(OPEN_WHEN_IDLE).build()
}

/// Open connections by id and row version: new settings make a new version, and so a new session.
pub(crate) type OpenConnections = Cache<(ConnectionId, u64), (keyway_runtime::OpenConnection, Arc<Guard>)>;

/// A connection without its settings, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Its name for people.
    pub name: String,
    /// The provider's type, for example `1password`.
    pub provider_type: String,
    /// The last four characters of each secret setting, by which people recognise it. A secret of
    /// fewer than twelve characters has no hint.
    pub hints: BTreeMap<String, String>,
    /// The account that the credentials belong to, as the provider reported it when they were
    /// checked; may be empty.
    pub account: String,
    /// The chosen rate-limit tier, by the name that its provider declares; `None` for the default.
    pub rate_limit_tier: Option<String>,
    /// Whether the connection cannot write, so that password rotations are skipped. `None` when the
    /// provider does not say.
    pub read_only: Option<bool>,
    /// Cache duration of entries that have none of their own.
    pub cache_ttl: CacheTtl,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl TryFrom<ConnectionRecord> for Connection {
    type Error = BrokerError;

    fn try_from(record: ConnectionRecord) -> Result<Self, BrokerError> {
        Ok(Self {
            id: record.id,
            workspace_id: record.workspace_id,
            name: record.name,
            provider_type: record.provider_type,
            hints: serde_json::from_str(&record.hints)
                .map_err(|_| StorageError::Corrupt { column: "hints".to_owned() })?,
            account: record.account,
            rate_limit_tier: record.rate_limit_tier,
            read_only: record.read_only,
            cache_ttl: CacheTtl::from_seconds(record.cache_ttl_seconds),
            created_at: record.created_at,
            updated_at: record.updated_at,
        })
    }
}

/// A connection to create.
#[derive(Debug, Clone)]
#[non_exhaustive]
// Clone: callers keep the settings to retry after a network failure.
pub struct NewConnection {
    /// Its name for people. Not empty.
    pub name: String,
    /// The provider's type, for example `1password`.
    pub provider_type: String,
    /// The settings that the provider's description asks for.
    pub settings: keyway_runtime::Settings,
    /// Cache duration of entries that have none of their own.
    pub cache_ttl: CacheTtl,
    /// One of the rate-limit tiers that the provider declares; `None` for the default.
    pub rate_limit_tier: Option<String>,
    /// Certificate authorities, in PEM, that this connection trusts in addition to the host's.
    pub certificate_authorities: Option<String>,
}

impl NewConnection {
    /// A connection with the default cache duration and rate-limit tier.
    pub fn new(name: impl Into<String>, provider_type: impl Into<String>, settings: keyway_runtime::Settings) -> Self {
        let (name, provider_type) = (name.into(), provider_type.into());
        Self {
            name,
            provider_type,
            settings,
            cache_ttl: CacheTtl::default(),
            rate_limit_tier: None,
            certificate_authorities: None,
        }
    }

    /// Sets the cache duration of entries that have none of their own.
    #[must_use]
    pub fn cache_ttl(self, cache_ttl: CacheTtl) -> Self {
        Self { cache_ttl, ..self }
    }

    /// Sets the rate-limit tier.
    #[must_use]
    pub fn rate_limit_tier(self, tier: impl Into<Option<String>>) -> Self {
        Self { rate_limit_tier: tier.into(), ..self }
    }

    /// Sets certificate authorities, in PEM, that this connection trusts in addition to the host's:
    /// for a secret manager behind a company's own authority.
    #[must_use]
    pub fn certificate_authorities(self, pem: impl Into<Option<String>>) -> Self {
        Self { certificate_authorities: pem.into(), ..self }
    }
}

/// Changes to a connection. `None` leaves a part as it is.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
// Clone: as `NewConnection`.
pub struct ConnectionChanges {
    /// Its name for people. Not empty.
    pub name: Option<String>,
    /// New settings in place of all the old ones. They are checked with the provider first.
    pub settings: Option<keyway_runtime::Settings>,
    /// Cache duration of entries that have none of their own.
    pub cache_ttl: Option<CacheTtl>,
    /// One of the rate-limit tiers that the provider declares; `Some(None)` for the default.
    pub rate_limit_tier: Option<Option<String>>,
    /// Certificate authorities, in PEM, in place of the connection's own ones; `Some(None)` for
    /// none. They are checked with the settings, as new settings are.
    pub certificate_authorities: Option<Option<String>>,
}

impl ConnectionChanges {
    /// Changes the name.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Replaces all settings.
    #[must_use]
    pub fn settings(self, settings: keyway_runtime::Settings) -> Self {
        Self { settings: Some(settings), ..self }
    }

    /// Changes the cache duration.
    #[must_use]
    pub fn cache_ttl(self, cache_ttl: CacheTtl) -> Self {
        Self { cache_ttl: Some(cache_ttl), ..self }
    }

    /// Changes the rate-limit tier; `None` is the default.
    #[must_use]
    pub fn rate_limit_tier(self, tier: Option<String>) -> Self {
        Self { rate_limit_tier: Some(tier), ..self }
    }

    /// Changes the certificate authorities that it trusts in addition to the host's.
    #[must_use]
    pub fn certificate_authorities(self, pem: Option<String>) -> Self {
        Self { certificate_authorities: Some(pem), ..self }
    }
}
