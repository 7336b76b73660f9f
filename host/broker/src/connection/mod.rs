//! Connections: what a workspace has to reach a secret manager with.
//!
//! **Invariants:** settings are stored only after the provider has logged in with them
//! ([`Broker::connect`](crate::Broker::connect)), and only sealed. What leaves again of a secret
//! setting is its last four characters. Where the provider may connect to is decided once, when the
//! settings are stored, and sealed with them: neither a later version of the component nor a change
//! of the database can send a token elsewhere. A connection that entries are bound to is not
//! deleted ([`delete`]).

mod budget;
mod check_item;
mod delete;
mod items;
mod operations;
mod settings;

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyway_storage::{ConnectionId, ConnectionRecord, StorageError, WorkspaceId};

pub use items::{LIST_LIMITS, ListLimits};

use crate::cache_ttl::CacheTtl;
use crate::error::BrokerError;

/// A connection as it is shown: without its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// What people call it.
    pub name: String,
    /// The provider's type, for example `1password`.
    pub provider_type: String,
    /// For each secret setting its last four characters, by which people recognise it. A secret of
    /// fewer than twelve characters has none.
    pub hints: BTreeMap<String, String>,
    /// Who the credentials belong to, as the provider said when they were checked; may be empty.
    pub account: String,
    /// The rate-limit tier that was chosen, by the name that its provider declares; `None` for the
    /// default.
    pub rate_limit_tier: Option<String>,
    /// Whether nothing can be written, so that password rotation will be skipped. `None` when the
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
            hints: serde_json::from_str(&record.hints).map_err(|_| StorageError::Corrupt { column: "hints" })?,
            account: record.account,
            rate_limit_tier: record.rate_limit_tier,
            read_only: record.read_only,
            cache_ttl: CacheTtl::from_seconds(record.cache_ttl_seconds),
            created_at: record.created_at,
            updated_at: record.updated_at,
        })
    }
}

/// A connection to be made.
#[derive(Debug, Clone, Default)]
// Clone: the settings are cloned with it, for callers that try again after a failure of the
// network.
pub struct NewConnection {
    /// What people will call it. Not empty.
    pub name: String,
    /// The provider's type, for example `1password`.
    pub provider_type: String,
    /// The settings that the provider's description asks for.
    pub settings: keyway_runtime::Settings,
    /// Cache duration of entries that have none of their own.
    pub cache_ttl: CacheTtl,
    /// One of the rate-limit tiers that the provider declares; `None` for the default.
    pub rate_limit_tier: Option<String>,
}

/// Changes to a connection. `None` leaves a part as it is.
#[derive(Debug, Clone, Default)]
// Clone: as `NewConnection`.
pub struct ConnectionChanges {
    /// What people call it. Not empty.
    pub name: Option<String>,
    /// New settings in place of all the old ones. They are checked with the provider first.
    pub settings: Option<keyway_runtime::Settings>,
    /// Cache duration of entries that have none of their own.
    pub cache_ttl: Option<CacheTtl>,
    /// One of the rate-limit tiers that the provider declares; `Some(None)` for the default.
    pub rate_limit_tier: Option<Option<String>>,
}
