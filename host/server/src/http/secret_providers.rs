//! `/secret-providers`: the workspace's connections, and the items that they can see. Read-only.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use keyway::{Connection, ConnectionId, WorkspaceId};
use keyway_runtime::Item;
use serde::Serialize;

use super::Api;
use super::auth::Caller;
use super::error::ApiError;

/// A connection as clients see it.
#[derive(Serialize)]
pub(super) struct SecretProvider {
    id: ConnectionId,
    workspace_id: WorkspaceId,
    provider_type: String,
    name: String,
    /// For each secret setting its last four characters, for example `token_last4`.
    config_hint: BTreeMap<String, String>,
    cache_ttl_seconds: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
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
            created_at: connection.created_at,
            updated_at: connection.updated_at,
        }
    }
}

/// An item as clients see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecretItem {
    id: String,
    title: String,
    vault_name: String,
    r#ref: String,
}

impl From<Item> for SecretItem {
    fn from(item: Item) -> Self {
        Self { id: item.id, title: item.title, vault_name: item.vault_name, r#ref: item.reference }
    }
}

/// `GET /secret-providers`
pub(super) async fn list(
    Caller(access): Caller,
    State(api): State<Api>,
) -> Result<Json<Vec<SecretProvider>>, ApiError> {
    let connections = api.broker.list_connections(&access).await?;
    Ok(Json(connections.into_iter().map(SecretProvider::from).collect()))
}

/// `GET /secret-providers/{id}/items`
pub(super) async fn items(
    Caller(access): Caller,
    State(api): State<Api>,
    id: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<Json<Vec<SecretItem>>, ApiError> {
    let id = id.ok().and_then(|Path(id)| id.parse::<ConnectionId>().ok()).ok_or_else(|| {
        ApiError::bad_request("the id in the path is not a UUID; GET /secret-providers lists the ids there are")
    })?;
    let items = api.broker.list_items(&access, id).await?;
    Ok(Json(items.into_iter().map(SecretItem::from).collect()))
}
