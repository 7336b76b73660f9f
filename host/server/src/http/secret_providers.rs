//! `/secret-providers`: the workspace's connections, the items that they can see, and their
//! remaining request budgets.
//!
//! Reading needs a key with the scope `api` or `admin`, everything else one with `admin`.
//! Credentials come in and never go out again; only their last four characters are shown.
//!
//! A change is a PATCH and not a PUT, because it names what changes and leaves the rest: a token
//! cannot be read back, so no client could send a whole connection. (`PUT /vault` is partial as
//! well, because the published clients expect that.)

use axum::Json;
use axum::http::StatusCode;
use keyway::connections::ConnectionChanges;
use keyway::{BrokerError, CacheTtl, ConnectionId, ErrorKind, NewConnection};
use keyway_runtime::Settings;

use super::answer::{Answer, SUCCESS, Success};
use super::auth::{Administrator, Caller, Client};
use super::body::{Body, Change, body};
use super::error::ApiError;
use super::path::Id;
use super::schema::{Common, Conflicting, Input, Missing, OfProvider, WithBody};
use crate::view::budget::BudgetView;
use crate::view::connection::{SecretItem, SecretProvider};

/// Fields that only the server decides, and that clients may send back from an answer.
const SERVER_MANAGED: [&str; 6] = ["id", "workspace_id", "config_hint", "read_only", "created_at", "updated_at"];

body! {
    /// A connection to create.
    #[schema(example = json!({"name": "Acme logins", "provider_type": "example", "settings": {"token": "..."}}))]
    pub(super) struct NewSecretProvider ignoring(SERVER_MANAGED) {
        /// Its human-readable name.
        #[schema(min_length = 1, max_length = 256)]
        name: String,
        /// An installed provider's type.
        #[schema(min_length = 1, max_length = 64)]
        provider_type: String,
        /// The provider's settings, by name. Secret ones are never returned.
        #[schema(value_type = Option<BTreeMap<String, String>>)]
        settings: Option<Settings>,
        /// How long resolved user names and passwords are cached; 0 is always live, 300 by default.
        #[schema(value_type = Option<u32>, maximum = 4294967295i64)]
        cache_ttl_seconds: Option<CacheTtl>,
        /// The provider's rate-limit tier to apply, for example `business`.
        rate_limit_tier: Option<String>,
        /// Certificates of authorities, in PEM, that this connection trusts in addition to the
        /// host's, for a secret manager behind a company's own authority. Not returned.
        #[schema(max_length = 65536)]
        certificate_authorities: Option<String>,
    }
}

body! {
    /// Changes of a connection; absent fields stay unchanged.
    #[schema(example = json!({"cache_ttl_seconds": 3600}))]
    pub(super) struct SecretProviderChanges ignoring(SERVER_MANAGED) {
        #[schema(min_length = 1, max_length = 256)]
        name: Option<String>,
        /// Must equal the current type, which cannot be changed.
        provider_type: Option<String>,
        /// Replaces all existing settings; verified first.
        #[schema(value_type = Option<BTreeMap<String, String>>)]
        settings: Option<Settings>,
        #[schema(value_type = Option<u32>, maximum = 4294967295i64)]
        cache_ttl_seconds: Option<CacheTtl>,
        /// The provider's rate-limit tier to apply, for example `business`; `null` selects the
        /// default.
        #[schema(value_type = Option<String>)]
        rate_limit_tier: Change<String>,
        /// Certificates of authorities, in PEM, in place of the connection's own ones; verified
        /// first. `null` removes them.
        #[schema(value_type = Option<String>, max_length = 65536)]
        certificate_authorities: Change<String>,
    }
}

/// List the workspace's connections
///
/// Needs the scope `api` or `admin`.
#[utoipa::path(get, path = "/secret-providers", operation_id = "list_secret_providers", tag = "secret-providers",
    responses((status = 200, description = "All connections", body = Vec<SecretProvider>), Common))]
pub(super) async fn list(Caller(api, access): Caller) -> Answer<Vec<SecretProvider>> {
    let connections = api.broker.connections().list(&access).await?;
    Ok(Json(connections.into_iter().map(SecretProvider::from).collect()))
}

/// Connect to a secret manager
///
/// The provider verifies the settings before anything is stored. Needs the scope `admin`.
#[utoipa::path(post, path = "/secret-providers", operation_id = "create_secret_provider", tag = "secret-providers",
    request_body = NewSecretProvider,
    responses((status = 201, description = "The connection", body = SecretProvider), WithBody, OfProvider, Common))]
pub(super) async fn create(
    Administrator(api, access): Administrator,
    Body(new): Body<NewSecretProvider>,
) -> Result<(StatusCode, Json<SecretProvider>), ApiError> {
    let new = NewConnection::new(new.name, new.provider_type, new.settings.unwrap_or_default())
        .cache_ttl(new.cache_ttl_seconds.unwrap_or_default())
        .rate_limit_tier(new.rate_limit_tier)
        .certificate_authorities(new.certificate_authorities);
    match api.broker.connections().create(&access, new).await {
        // Here the type is an invalid value of the request. It is not repeated, because it may be
        // anything.
        Err(BrokerError::ProviderNotInstalled { installed, .. }) => Err(not_installed(&installed)),
        connection => Ok((StatusCode::CREATED, Json(connection?.into()))),
    }
}

fn not_installed(installed: &[String]) -> ApiError {
    let message = match installed {
        [] => "no provider is installed here; provider_type must name an installed one".to_owned(),
        installed => format!("provider_type must be one of the installed providers: {}", installed.join(", ")),
    };
    ApiError::new(ErrorKind::NotInstalled, message).into_bad_request()
}

/// Get a connection
///
/// Needs the scope `api` or `admin`.
#[utoipa::path(get, path = "/secret-providers/{id}", operation_id = "get_secret_provider", tag = "secret-providers",
    params(("id" = Uuid, Path, description = "The connection's id")),
    responses((status = 200, description = "The connection", body = SecretProvider), Input, Missing, Common))]
pub(super) async fn get(Caller(api, access): Caller, Id(id): Id<ConnectionId>) -> Answer<SecretProvider> {
    Ok(Json(api.broker.connections().get(&access, id).await?.into()))
}

/// Change a connection
///
/// Its name, its cache duration, its rate-limit tier, or its settings: new settings replace all old
/// ones, and are verified first. Needs the scope `admin`.
#[utoipa::path(patch, path = "/secret-providers/{id}", operation_id = "update_secret_provider", tag = "secret-providers",
    params(("id" = Uuid, Path, description = "The connection's id")), request_body = SecretProviderChanges,
    responses(
        (status = 200, description = "The connection", body = SecretProvider), WithBody, Missing, Conflicting, OfProvider, Common,
    ))]
pub(super) async fn update(
    Administrator(api, access): Administrator,
    Id(id): Id<ConnectionId>,
    Body(changes): Body<SecretProviderChanges>,
) -> Answer<SecretProvider> {
    let SecretProviderChanges {
        name,
        provider_type,
        settings,
        cache_ttl_seconds,
        rate_limit_tier,
        certificate_authorities,
    } = changes;
    if let Some(provider_type) = provider_type
        && api.broker.connections().get(&access, id).await?.provider_type != provider_type
    {
        return Err(ApiError::invalid("provider_type cannot be changed; create another connection instead"));
    }
    let mut changes = ConnectionChanges::default();
    (changes.name, changes.settings) = (name, settings);
    (changes.cache_ttl, changes.rate_limit_tier) = (cache_ttl_seconds, rate_limit_tier);
    changes.certificate_authorities = certificate_authorities;
    Ok(Json(api.broker.connections().update(&access, id, changes).await?.into()))
}

/// Disconnect
///
/// While vault entries are bound to it, this is refused, and the error lists them. Needs the scope
/// `admin`.
#[utoipa::path(delete, path = "/secret-providers/{id}", operation_id = "delete_secret_provider", tag = "secret-providers",
    params(("id" = Uuid, Path, description = "The connection's id")),
    responses((status = 200, description = "The connection is deleted", body = Success), Input, Missing, Conflicting, Common))]
pub(super) async fn delete(Administrator(api, access): Administrator, Id(id): Id<ConnectionId>) -> Answer<Success> {
    api.broker.connections().delete(&access, id).await?;
    Ok(SUCCESS)
}

/// Clear a connection's cached secrets
///
/// Needs the scope `admin`.
#[utoipa::path(post, path = "/secret-providers/{id}/clear-cache", operation_id = "clear_cache", tag = "secret-providers",
    params(("id" = Uuid, Path, description = "The connection's id")),
    responses((status = 200, description = "They are cleared", body = Success), Input, Missing, Common))]
pub(super) async fn clear_cache(
    Administrator(api, access): Administrator,
    Id(id): Id<ConnectionId>,
) -> Answer<Success> {
    api.broker.connections().clear_cache(&access, id).await?;
    Ok(SUCCESS)
}

/// End a connection's pauses and check its credentials
///
/// For a person who knows that the cause of a pause is gone: every pause of the connection's
/// credentials ends, and the provider logs in once. Needs the scope `admin`.
#[utoipa::path(post, path = "/secret-providers/{id}/retry", operation_id = "retry_secret_provider", tag = "secret-providers",
    params(("id" = Uuid, Path, description = "The connection's id")),
    responses((status = 200, description = "The connection, whose credentials work", body = SecretProvider), Input, Missing, OfProvider, Common))]
pub(super) async fn retry(
    Administrator(api, access): Administrator,
    Id(id): Id<ConnectionId>,
) -> Answer<SecretProvider> {
    Ok(Json(api.broker.connections().retry(&access, id).await?.into()))
}

/// List the items that a connection can see
///
/// Needs the scope `api`.
#[utoipa::path(get, path = "/secret-providers/{id}/items", operation_id = "list_items", tag = "secret-providers",
    params(("id" = Uuid, Path, description = "The connection's id")),
    responses((status = 200, description = "All items", body = Vec<SecretItem>), Input, Missing, OfProvider, Common))]
pub(super) async fn items(Client(api, access): Client, Id(id): Id<ConnectionId>) -> Answer<Vec<SecretItem>> {
    let items = api.broker.connections().list_items(&access, id).await?;
    Ok(Json(items.into_iter().map(SecretItem::from).collect()))
}

/// Show a connection's remaining requests to its secret manager
///
/// Makes no request to the secret manager. Needs the scope `api`.
#[utoipa::path(get, path = "/secret-providers/{id}/budget", operation_id = "get_budget", tag = "secret-providers",
    params(("id" = Uuid, Path, description = "The connection's id")),
    responses((status = 200, description = "The budget", body = BudgetView), Input, Missing, Common))]
pub(super) async fn budget(Caller(api, access): Caller, Id(id): Id<ConnectionId>) -> Answer<BudgetView> {
    Ok(Json(api.broker.connections().budget(&access, id).await?.into()))
}
