//! Connections and their items as clients and scripts see them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyway::{Connection, ConnectionId, WorkspaceId};
use keyway_runtime::Item;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// A connection as clients see it.
#[derive(Serialize, ToSchema)]
pub(crate) struct SecretProvider {
    #[schema(value_type = Uuid)]
    pub(crate) id: ConnectionId,
    #[schema(value_type = Uuid)]
    pub(crate) workspace_id: WorkspaceId,
    pub(crate) provider_type: String,
    pub(crate) name: String,
    /// For each secret setting its last four characters, for example `token_last4`.
    pub(crate) config_hint: BTreeMap<String, String>,
    /// For how long a resolved user name and password may be used again by entries that say nothing else; 0 is always live.
    pub(crate) cache_ttl_seconds: u32,
    /// The rate-limit tier that was chosen among those of the provider; absent for the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limit_tier: Option<String>,
    /// Whether nothing can be written, so that password rotations are skipped; `null` when the provider does not say.
    pub(crate) read_only: Option<bool>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl From<Connection> for SecretProvider {
    fn from(connection: Connection) -> Self {
        let hint = |(setting, last4): (String, String)| (format!("{setting}_last4"), last4);
        Self {
            id: connection.id,
            workspace_id: connection.workspace_id,
            provider_type: connection.provider_type,
            name: connection.name,
            config_hint: connection.hints.into_iter().map(hint).collect(),
            cache_ttl_seconds: connection.cache_ttl.seconds(),
            rate_limit_tier: connection.rate_limit_tier,
            read_only: connection.read_only,
            created_at: connection.created_at,
            updated_at: connection.updated_at,
        }
    }
}

/// An item as clients see it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SecretItem {
    id: String,
    title: String,
    vault_name: Option<String>,
    /// What to bind a vault entry to, for example `op://<vaultId>/<itemId>`.
    r#ref: String,
}

impl From<Item> for SecretItem {
    fn from(item: Item) -> Self {
        Self { id: item.id, title: item.title, vault_name: item.vault_name, r#ref: item.reference }
    }
}

/// Items as data.
pub(crate) fn as_secret_items<S: Serializer>(items: &[Item], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(items.iter().cloned().map(SecretItem::from))
}
