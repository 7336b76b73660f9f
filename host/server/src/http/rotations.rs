//! `/vault/rotations`: password rotations.
//!
//! A new password comes in encrypted under the workspace's key, like every credential of a client, and goes out in plain, like
//! every resolved value: once, with the answer to the request that began the rotation. What asks how a rotation is never gets
//! it; for a person who has to mend one there is a path of its own, which needs the scope `admin`.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use keyway::{
    BeginRotation, ConnectionId, EntryId, EntrySelector, NewPassword, PasswordPolicy, Rotation, RotationFilter,
    RotationId, RotationState,
};
use secrecy::SecretString;
use serde::Serialize;
use zeroize::Zeroizing;

use super::Api;
use super::auth::{Administrator, Rotator};
use super::body::Fields;
use super::error::ApiError;
use crate::resolved::{exposed, shown};

/// More than an answer with a password has: the longest password, its characters escaped, and a reference.
const ANSWER_SIZE: usize = 16 << 10;

/// A rotation as clients see it.
#[derive(Serialize)]
pub(super) struct RotationView {
    id: RotationId,
    workspace_id: keyway::WorkspaceId,
    entry_id: EntryId,
    secret_provider_id: Option<ConnectionId>,
    secret_ref: Option<String>,
    state: &'static str,
    reason: Option<String>,
    message: Option<String>,
    attempts: u32,
    next_attempt_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Rotation> for RotationView {
    fn from(rotation: Rotation) -> Self {
        Self {
            id: rotation.id,
            workspace_id: rotation.workspace_id,
            entry_id: rotation.entry_id,
            secret_provider_id: rotation.connection_id,
            secret_ref: rotation.reference,
            state: rotation.state.name(),
            reason: rotation.reason,
            message: rotation.message,
            attempts: rotation.attempts,
            next_attempt_at: rotation.next_attempt_at,
            created_at: rotation.created_at,
            updated_at: rotation.updated_at,
        }
    }
}

/// A rotation that was just begun: the only answer that has its password, `null` when it was skipped.
#[derive(Serialize)]
pub(super) struct Begun {
    #[serde(flatten)]
    rotation: RotationView,
    #[serde(serialize_with = "shown")]
    password: Option<SecretString>,
}

/// What an open rotation keeps.
#[derive(Serialize)]
pub(super) struct Password {
    #[serde(serialize_with = "exposed")]
    password: SecretString,
}

/// A page of rotations.
#[derive(Serialize)]
pub(super) struct Page {
    rotations: Vec<RotationView>,
    /// What to send as `after` for the next page; `null` on the last.
    next: Option<RotationId>,
}

/// `POST /vault/rotations`
pub(super) async fn begin(
    Rotator(access): Rotator,
    State(api): State<Api>,
    fields: Fields,
) -> Result<Response, ApiError> {
    let begun = api.broker.begin_rotation(&access, to_begin(fields)?).await?;
    let begun = Begun { rotation: begun.rotation.into(), password: begun.password };
    secret_answer(StatusCode::CREATED, &begun)
}

fn to_begin(mut fields: Fields) -> Result<BeginRotation, ApiError> {
    let pair = (fields.text("permissioned_user_id")?, fields.text("domain")?);
    let entry = match (fields.id("entry_id")?, pair) {
        (Some(id), (None, None)) => EntrySelector::Id(id),
        (None, (Some(permissioned_user_id), Some(domain))) => EntrySelector::Pair { permissioned_user_id, domain },
        _ => return Err(ApiError::invalid("name the vault entry by entry_id, or by permissioned_user_id and domain")),
    };
    let given = fields.text("password")?;
    let standard = PasswordPolicy::default();
    let length = fields.whole_number("length")?;
    let [lowercase, uppercase, digits] = [fields.flag("lowercase")?, fields.flag("uppercase")?, fields.flag("digits")?];
    let symbols = fields.text("symbols")?;
    fields.finish()?;
    let has_policy =
        length.is_some() || symbols.is_some() || [lowercase, uppercase, digits].iter().any(Option::is_some);
    let password = match given {
        Some(_) if has_policy => {
            return Err(ApiError::invalid(
                "length, lowercase, uppercase, digits and symbols are for a password that is generated; leave them out, or leave password out",
            ));
        }
        Some(ciphertext) => NewPassword::Encrypted(ciphertext),
        None => NewPassword::Generated(PasswordPolicy {
            length: length.map_or(standard.length, |length| usize::try_from(length).unwrap_or(usize::MAX)),
            lowercase: lowercase.unwrap_or(standard.lowercase),
            uppercase: uppercase.unwrap_or(standard.uppercase),
            digits: digits.unwrap_or(standard.digits),
            symbols: symbols.unwrap_or(standard.symbols),
        }),
    };
    Ok(BeginRotation::new(entry).password(password))
}

/// `POST /vault/rotations/{id}/commit`
///
/// 200 also when the password is not written yet: the request was understood and will be carried out, and `state` says how
/// far it is.
pub(super) async fn commit(
    Rotator(access): Rotator,
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<RotationView>, ApiError> {
    Ok(Json(api.broker.commit_rotation(&access, rotation_id(id)?).await?.into()))
}

/// `POST /vault/rotations/{id}/abandon`, perhaps with `{"discard_password": true}`
pub(super) async fn abandon(
    Rotator(access): Rotator,
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
    fields: Option<Fields>,
) -> Result<Json<RotationView>, ApiError> {
    let discard = only_flag(fields, "discard_password")?;
    Ok(Json(api.broker.abandon_rotation(&access, rotation_id(id)?, discard).await?.into()))
}

/// `POST /vault/rotations/{id}/retry`, perhaps with `{"overwrite": true}`
pub(super) async fn retry(
    Rotator(access): Rotator,
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
    fields: Option<Fields>,
) -> Result<Json<RotationView>, ApiError> {
    let overwrite = only_flag(fields, "overwrite")?;
    Ok(Json(api.broker.retry_rotation(&access, rotation_id(id)?, overwrite).await?.into()))
}

/// `GET /vault/rotations/{id}`
pub(super) async fn get(
    Rotator(access): Rotator,
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<RotationView>, ApiError> {
    Ok(Json(api.broker.rotation(&access, rotation_id(id)?).await?.into()))
}

/// `GET /vault/rotations/{id}/password`
pub(super) async fn reveal(
    Administrator(access): Administrator,
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let password = api.broker.reveal_rotation(&access, rotation_id(id)?).await?;
    secret_answer(StatusCode::OK, &Password { password })
}

/// An answer in memory that is wiped when it was sent. It is allocated once, so that growing leaves no copies behind.
fn secret_answer(status: StatusCode, answer: &impl Serialize) -> Result<Response, ApiError> {
    let mut json = Zeroizing::new(Vec::with_capacity(ANSWER_SIZE));
    serde_json::to_writer(&mut *json, answer).map_err(|error| ApiError::internal(error.to_string()))?;
    let mut response = (status, Body::from(Bytes::from_owner(json))).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `GET /vault/rotations?state=&entry_id=&after=`: a page of them in the order of their beginning. `state` may be there more
/// than once; `open` stands for every state of a rotation that is not over.
pub(super) async fn list(
    Rotator(access): Rotator,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Json<Page>, ApiError> {
    let (filter, after) = filter(query.as_deref().unwrap_or_default())?;
    let page = api.broker.list_rotations(&access, &filter, after).await?;
    Ok(Json(Page { rotations: page.rotations.into_iter().map(RotationView::from).collect(), next: page.next }))
}

/// Unknown parameters are nobody's business.
fn filter(query: &str) -> Result<(RotationFilter, Option<RotationId>), ApiError> {
    let (mut filter, mut after) = (RotationFilter::default(), None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let not_an_id = |_| ApiError::invalid(format!("{name} must be a UUID"));
        match &*name {
            "state" if value == "open" => filter.states.extend(RotationState::OPEN),
            "state" => filter.states.push(value.parse().map_err(|error: keyway::InvalidInput| {
                ApiError::invalid(format!("{error}; open stands for all that are not over"))
            })?),
            "entry_id" => filter.entry = Some(value.parse().map_err(not_an_id)?),
            "after" => after = Some(value.parse().map_err(not_an_id)?),
            _ => {}
        }
        if filter.states.len() > 2 * RotationState::ALL.len() {
            return Err(ApiError::invalid("the parameter state is there more often than there are states"));
        }
    }
    Ok((filter, after))
}

fn rotation_id(id: Result<Path<String>, PathRejection>) -> Result<RotationId, ApiError> {
    id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(|| {
        ApiError::bad_request("the id in the path is not a UUID; GET /vault/rotations lists the ids there are")
    })
}

/// Of a body that may be missing.
fn only_flag(fields: Option<Fields>, name: &'static str) -> Result<bool, ApiError> {
    let Some(mut fields) = fields else { return Ok(false) };
    let flag = fields.flag(name)?.unwrap_or(false);
    fields.finish()?;
    Ok(flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_states_an_entry_and_a_place_to_go_on_from() {
        let id = "25290e80-bbd5-41b3-861e-dea30cc26e27";
        let query = format!("state=done&state=open&entry_id={id}&after={id}&x=1");
        let (filter, after) = filter(&query).unwrap();
        assert_eq!(filter.states.len(), 5);
        assert_eq!((filter.entry.unwrap().to_string(), after.unwrap().to_string()), (id.to_owned(), id.to_owned()));
    }

    #[test]
    fn what_is_no_state_and_no_id_is_refused() {
        let long = "state=open&".repeat(4);
        for query in ["state=rotated", "state=", "entry_id=1", "after=last", long.as_str()] {
            assert!(filter(query).is_err(), "{query}");
        }
    }
}
