//! `/vault`: vault entries, and the current code of an entry's second factor.

pub(crate) mod attributes;
pub(crate) mod changes;
pub(crate) mod entry;
pub(crate) mod expiry;
mod list;
pub(super) mod name;

use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;
use keyway::entries::TfaCode;

use super::answer::{Answer, SUCCESS, Success};
use super::auth::Client;
use super::body::Body;
use super::error::ApiError;
use super::memory;
use super::resolve::wanted_code;
use super::schema::{Common, Conflicting, Input, Missing, OfProvider, WithBody};
use super::secret_json::secret_answer;
use crate::view::tfa_code::Code;
use changes::{EntryChangesBody, NewEntryBody};
use entry::{Entries, Entry};
use name::EntryName;

/// Create a vault entry
///
/// With its own credentials, encrypted by the client, or bound to an item of a connection.
/// Needs the scope `api`.
#[utoipa::path(post, path = "/vault", operation_id = "create_entry", tag = "vault", request_body = NewEntryBody,
    responses((status = 201, description = "The entry", body = Entry), WithBody, Conflicting, Common))]
pub(super) async fn create(
    Client(api, access): Client,
    Body(NewEntryBody(mut new)): Body<NewEntryBody>,
) -> Result<Response, ApiError> {
    new.read_nulls(&api.broker, &access).await?;
    let entry = api.broker.entries().create(&access, new.into_entry()?).await?;
    secret_answer(StatusCode::CREATED, &Entry::from(entry))
}

/// List vault entries, or get one
///
/// Both parameters select one entry; without them, all entries are listed. Needs the scope `api`.
#[utoipa::path(get, path = "/vault", operation_id = "get_entries", tag = "vault",
    params(
        ("permissioned_user_id" = Option<String>, Query, description = "The entry's user; requires domain"),
        ("domain" = Option<String>, Query, description = "The entry's site, exactly as stored; requires permissioned_user_id"),
    ),
    responses((status = 200, description = "An entry, or a list of all", body = Entries), Input, Missing, Common))]
pub(super) async fn read(Client(api, access): Client, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    match name::queried(query)? {
        Some(selector) => {
            let entry = api.broker.entries().get(&access, &selector).await?;
            secret_answer(StatusCode::OK, &Entry::from(entry))
        }
        None => list::all(api, access).await,
    }
}

/// Change a vault entry
///
/// Changes the fields that the body contains; `null` clears one. `id`, or user and domain, select
/// the entry; with `id`, another user or domain renames it. Needs the scope `api`.
#[utoipa::path(put, path = "/vault", operation_id = "update_entry", tag = "vault", request_body = EntryChangesBody,
    responses((status = 200, description = "The entry", body = Entry), WithBody, Missing, Conflicting, Common))]
pub(super) async fn update(
    Client(api, access): Client,
    Body(EntryChangesBody(selector, mut changes)): Body<EntryChangesBody>,
) -> Result<Response, ApiError> {
    changes.read_nulls(&api.broker, &access).await?;
    // Even a small change answers with everything the entry already holds.
    let stored = usize::try_from(api.broker.entries().size(&access, &selector).await?).unwrap_or(usize::MAX);
    if stored > memory::FREE {
        memory::hold_more(stored)?;
    }
    let entry = api.broker.entries().update(&access, &selector, |entry| changes.apply(entry)).await?;
    secret_answer(StatusCode::OK, &Entry::from(entry))
}

/// Delete a vault entry
///
/// The connection and the item remain unchanged. Needs the scope `api`.
#[utoipa::path(delete, path = "/vault", operation_id = "delete_entry", tag = "vault", request_body = EntryName,
    responses((status = 200, description = "The entry is deleted", body = Success), WithBody, Missing, Conflicting, Common))]
pub(super) async fn delete(Client(api, access): Client, Body(EntryName(selector)): Body<EntryName>) -> Answer<Success> {
    api.broker.entries().delete(&access, &selector).await?;
    Ok(SUCCESS)
}

/// Clear an entry's cookies and browser storages
///
/// Needs the scope `api`.
#[utoipa::path(patch, path = "/vault/clear-browser-state", operation_id = "clear_browser_state", tag = "vault", request_body = EntryName,
    responses((status = 200, description = "They are cleared", body = Success), WithBody, Missing, Conflicting, Common))]
pub(super) async fn clear_browser_state(
    Client(api, access): Client,
    Body(EntryName(selector)): Body<EntryName>,
) -> Answer<Success> {
    api.broker.entries().clear_browser_state(&access, &selector).await?;
    Ok(SUCCESS)
}

/// Get the current two-factor code of an entry
///
/// From the entry's own secret, or live from the item that it is bound to. If there is none, the
/// message says why. Needs the scope `api`.
#[utoipa::path(get, path = "/vault/tfa-code", operation_id = "get_tfa_code", tag = "vault",
    params(
        ("permissioned_user_id" = String, Query, description = "The entry's user"),
        ("domain" = String, Query, description = "The entry's site, exactly as stored"),
        ("unused" = Option<bool>, Query, description = "Only a code that was not handed out before. The answer waits for the next one for 35 s at most. If that one is taken too, it is RATE_LIMITED and says when to retry"),
        ("min_seconds_left" = Option<u32>, Query, description = "Only a code that is current for at least this many seconds more, with the same wait"),
    ),
    responses((status = 200, description = "The code", body = Code), Input, Missing, Conflicting, OfProvider, Common))]
pub(super) async fn tfa_code(Client(api, access): Client, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let [unused, min_seconds_left] = name::parameters(query.clone(), ["unused", "min_seconds_left"])?;
    let unused = unused.map(|text| text.parse().map_err(|_| ApiError::invalid("unused must be true or false")));
    let not_a_number = |_| ApiError::invalid("min_seconds_left must be a non-negative integer");
    let min_seconds_left = min_seconds_left.map(|text| text.parse().map_err(not_a_number));
    let wanted = wanted_code(unused.transpose()?, min_seconds_left.transpose()?)?;
    let selector = name::queried(query)?.map_or_else(|| name::pair(None, None), Ok)?;
    match api.broker.entries().tfa_code(&access, &selector, wanted).await? {
        TfaCode::Authenticator { code, expires_in, times_handed_out } => {
            secret_answer(StatusCode::OK, &Code::authenticator(code, expires_in, times_handed_out))
        }
        _ => Err(ApiError::internal("this server does not know this kind of two-factor code")),
    }
}
