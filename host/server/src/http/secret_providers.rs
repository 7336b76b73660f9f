//! `/secret-providers`: the workspace's connections, and the items that they can see.
//!
//! Reading needs a key with the scope `api` or `admin`, everything else one with `admin`. Credentials come in and never go out again; of each,
//! the last four characters are shown.
//!
//! A change is a PATCH and not a PUT, because it names what changes and leaves the rest: a token cannot be read back, so nobody could send the
//! whole of a connection. (`PUT /vault` is partial as well; there the published clients want it so.)

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use jiff::Timestamp;
use keyway::{BrokerError, CacheTtl, Connection, ConnectionChanges, ConnectionId, NewConnection, WorkspaceId};
use keyway_runtime::{Item, Settings};
use serde::Serialize;
use serde_json::{Value, json};

use super::Api;
use super::auth::{Administrator, Caller};
use super::body::Fields;
use super::error::ApiError;

/// What clients send back from an answer, and what nobody but the server decides.
const SERVER_MANAGED: [&str; 6] = ["id", "workspace_id", "config_hint", "read_only", "created_at", "updated_at"];

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
    /// Whether nothing can be written, so that password rotations are skipped; `null` when the provider does not say.
    read_only: Option<bool>,
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
            read_only: connection.read_only,
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

/// The id in the path.
pub(super) struct Id(ConnectionId);

impl FromRequestParts<Api> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let id: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, api).await;
        let id = id.ok().and_then(|Path(id)| id.parse().ok()).map(Self);
        let message = "the id in the path is not a UUID; GET /secret-providers lists the ids there are";
        id.ok_or_else(|| ApiError::bad_request(message))
    }
}

/// `POST /secret-providers`: the provider logs in with the settings before anything is stored.
pub(super) async fn create(
    Administrator(access): Administrator,
    State(api): State<Api>,
    mut fields: Fields,
) -> Result<(StatusCode, Json<SecretProvider>), ApiError> {
    let new = NewConnection {
        name: fields.required_text("name")?,
        provider_type: fields.required_text("provider_type")?,
        settings: settings(&mut fields)?.unwrap_or_default(),
        cache_ttl: cache_ttl(&mut fields)?.unwrap_or_default(),
    };
    fields.ignore(&SERVER_MANAGED);
    fields.finish()?;
    match api.broker.connect(&access, new).await {
        // Here it is a word of the request that is wrong, and not repeated: it may be anything.
        Err(BrokerError::ProviderNotInstalled { installed, .. }) => Err(ApiError::invalid(format!(
            "provider_type must be one that is installed here: {}",
            installed.join(", ")
        ))),
        connection => Ok((StatusCode::CREATED, Json(connection?.into()))),
    }
}

/// `GET /secret-providers/{id}`
pub(super) async fn get(
    Caller(access): Caller,
    State(api): State<Api>,
    Id(id): Id,
) -> Result<Json<SecretProvider>, ApiError> {
    Ok(Json(api.broker.get_connection(&access, id).await?.into()))
}

/// `PATCH /secret-providers/{id}`: name, duration, or new settings in place of all the old ones, which are verified first.
pub(super) async fn update(
    Administrator(access): Administrator,
    State(api): State<Api>,
    Id(id): Id,
    mut fields: Fields,
) -> Result<Json<SecretProvider>, ApiError> {
    let changes = ConnectionChanges {
        name: fields.text("name")?,
        settings: settings(&mut fields)?,
        cache_ttl: cache_ttl(&mut fields)?,
    };
    if let Some(provider_type) = fields.text("provider_type")?
        && api.broker.get_connection(&access, id).await?.provider_type != provider_type
    {
        return Err(ApiError::invalid("provider_type cannot be changed; create another connection instead"));
    }
    fields.ignore(&SERVER_MANAGED);
    fields.finish()?;
    Ok(Json(api.broker.update_connection(&access, id, changes).await?.into()))
}

/// `DELETE /secret-providers/{id}`: refused with the list of entries that are bound to it.
pub(super) async fn delete(
    Administrator(access): Administrator,
    State(api): State<Api>,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    api.broker.delete_connection(&access, id).await?;
    Ok(Json(json!({ "success": true })))
}

/// `POST /secret-providers/{id}/clear-cache`
pub(super) async fn clear_cache(
    Administrator(access): Administrator,
    State(api): State<Api>,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    api.broker.clear_cache(&access, id).await?;
    Ok(Json(json!({ "success": true })))
}

fn settings(fields: &mut Fields) -> Result<Option<Settings>, ApiError> {
    let Some(values) = fields.secrets("settings")? else { return Ok(None) };
    let mut settings = Settings::new();
    for (name, value) in values {
        settings.set(name, value);
    }
    Ok(Some(settings))
}

fn cache_ttl(fields: &mut Fields) -> Result<Option<CacheTtl>, ApiError> {
    let ttl = |seconds| CacheTtl::of_field("cache_ttl_seconds", seconds).map_err(BrokerError::from);
    Ok(fields.whole_number("cache_ttl_seconds")?.map(ttl).transpose()?)
}

/// `GET /secret-providers/{id}/items`
pub(super) async fn items(
    Caller(access): Caller,
    State(api): State<Api>,
    Id(id): Id,
) -> Result<Json<Vec<SecretItem>>, ApiError> {
    let items = api.broker.list_items(&access, id).await?;
    Ok(Json(items.into_iter().map(SecretItem::from).collect()))
}
