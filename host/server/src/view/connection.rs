//! Connections and their items as clients and scripts see them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyway::connections::Connection;
use keyway::{ConnectionId, WorkspaceId};
use keyway_runtime::contract::Item;
use serde::Serializer;
use utoipa::ToSchema;

use super::view;

view! {
    /// A connection as clients see it.
    #[derive(ToSchema)]
    pub(crate) struct SecretProvider of connection: Connection {
        #[schema(value_type = Uuid)]
        id: ConnectionId = connection.id,
        #[schema(value_type = Uuid)]
        workspace_id: WorkspaceId = connection.workspace_id,
        provider_type: String = connection.provider_type,
        name: String = connection.name,
        /// The last four characters of each secret setting, for example `token_last4`.
        config_hint: BTreeMap<String, String> =
            connection.hints.into_iter().map(|(setting, last4)| (format!("{setting}_last4"), last4)).collect(),
        /// How long resolved user names and passwords are cached, for entries without their own
        /// duration; 0 is always live.
        cache_ttl_seconds: u32 = connection.cache_ttl.seconds(),
        /// The chosen rate-limit tier of the provider; absent for the default.
        #[serde(skip_serializing_if = "Option::is_none")]
        rate_limit_tier: Option<String> = connection.rate_limit_tier,
        /// Whether the credentials are read-only, so that password rotations are skipped; `null`
        /// when unknown.
        read_only: Option<bool> = connection.read_only,
        created_at: Timestamp = connection.created_at,
        updated_at: Timestamp = connection.updated_at,
    }
}

view! {
    /// An item as clients see it.
    #[derive(ToSchema)]
    #[serde(rename_all = "camelCase")]
    pub(crate) struct SecretItem of item: Item {
        id: String = item.id,
        title: String = item.title,
        vault_name: Option<String> = item.vault_name,
        /// What to bind a vault entry to: `<scheme>://...`, in the form of the provider.
        r#ref: String = item.reference,
    }
}

/// Items as data.
pub(crate) fn as_secret_items<S: Serializer>(items: &[Item], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(items.iter().cloned().map(SecretItem::from))
}
