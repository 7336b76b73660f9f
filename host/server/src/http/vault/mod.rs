//! `/vault`: vault entries, and the current code of an entry's second factor.

mod entry;
mod list;
mod request;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use keyway::TfaCode;
use secrecy::SecretString;
use serde::Serialize;

use super::Api;
use super::auth::Caller;
use super::body::Fields;
use super::error::ApiError;
use crate::resolved::exposed;
use entry::Entry;

/// What clients with nothing to return expect.
#[derive(Serialize)]
pub(super) struct Success {
    success: bool,
}

const SUCCESS: Json<Success> = Json(Success { success: true });

/// `POST /vault`
pub(super) async fn create(
    Caller(access): Caller,
    State(api): State<Api>,
    fields: Fields,
) -> Result<(StatusCode, Json<Entry>), ApiError> {
    let entry = api.broker.create_entry(&access, request::new_entry(fields)?).await?;
    Ok((StatusCode::CREATED, Json(Entry(entry))))
}

/// `GET /vault`: all entries, or the one of a user and a domain.
pub(super) async fn read(
    Caller(access): Caller,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    match request::queried(query.as_deref().unwrap_or_default())? {
        Some(selector) => {
            let entry = api.broker.get_entry(&access, &selector).await?;
            Ok(Json(Entry(entry)).into_response())
        }
        None => list::all(api, access).await,
    }
}

/// `PUT /vault`: changes what the body mentions; `null` clears.
pub(super) async fn update(
    Caller(access): Caller,
    State(api): State<Api>,
    fields: Fields,
) -> Result<Json<Entry>, ApiError> {
    let (selector, changes) = request::changes(fields)?;
    let entry = api.broker.update_entry(&access, &selector, changes).await?;
    Ok(Json(Entry(entry)))
}

/// `DELETE /vault`, with the entry's user and domain, or its id, in the body.
pub(super) async fn delete(
    Caller(access): Caller,
    State(api): State<Api>,
    fields: Fields,
) -> Result<Json<Success>, ApiError> {
    api.broker.delete_entry(&access, &request::named(fields)?).await?;
    Ok(SUCCESS)
}

/// `PATCH /vault/clear-browser-state`
pub(super) async fn clear_browser_state(
    Caller(access): Caller,
    State(api): State<Api>,
    fields: Fields,
) -> Result<Json<Success>, ApiError> {
    api.broker.clear_browser_state(&access, &request::named(fields)?).await?;
    Ok(SUCCESS)
}

/// The current code as clients see it. The header that keeps it out of caches is on every answer.
#[derive(Serialize)]
pub(super) struct Code {
    r#type: &'static str,
    #[serde(serialize_with = "exposed")]
    code: SecretString,
    expires_in_seconds: u64,
}

/// `GET /vault/tfa-code`
pub(super) async fn tfa_code(
    Caller(access): Caller,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Json<Code>, ApiError> {
    let selector = request::queried(query.as_deref().unwrap_or_default())?.ok_or_else(|| {
        ApiError::invalid("permissioned_user_id and domain are both required; they say which vault entry is meant")
    })?;
    match api.broker.tfa_code(&access, &selector).await? {
        TfaCode::Authenticator { code, expires_in_seconds } => {
            Ok(Json(Code { r#type: "authenticator", code: code.code, expires_in_seconds }))
        }
        _ => Err(ApiError::internal("a kind of two-factor code that this server does not know")),
    }
}
