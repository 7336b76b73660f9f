//! `/vault/rotations`: password rotations.
//!
//! A new password comes in encrypted under the workspace's key, like every credential of a client.
//! It goes out in plain, like every resolved value, but only once: with the answer to the request
//! that began the rotation. The state of a rotation never includes it. A separate path, with the
//! scope `admin`, reveals it to a person who has to repair a rotation.

use axum::Json;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;
use keyway::rotations::{BeginRotation, NewPassword, PasswordPolicy, RotationFilter, RotationState};
use keyway::{EntryId, RotationId};
use secrecy::SecretString;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::Answer;
use super::auth::{Administrator, Rotator};
use super::body::{Body, body};
use super::error::ApiError;
use super::path::Id;
use super::schema::{Common, Conflicting, Input, Missing, OfProvider, WithBody};
use super::secret_json::secret_answer;
use super::vault::name::either;
use crate::view::rotation::RotationView;
use crate::view::secret::{exposed, shown};
use crate::view::words::words;

/// A rotation that has begun, with its new password; `null` when it was skipped.
#[derive(Serialize, ToSchema)]
#[schema(as = BegunRotation)]
pub(super) struct Begun {
    #[serde(flatten)]
    rotation: RotationView,
    #[serde(serialize_with = "shown")]
    #[schema(value_type = Option<String>, required)]
    password: Option<SecretString>,
}

/// The password of an open rotation.
#[derive(Serialize, ToSchema)]
#[schema(as = RotationPassword)]
pub(super) struct Password {
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    password: SecretString,
}

/// A page of rotations.
#[derive(Serialize, ToSchema)]
#[schema(as = RotationPage)]
pub(super) struct Page {
    rotations: Vec<RotationView>,
    /// Send it as `after` for the next page; `null` on the last.
    #[schema(value_type = Option<Uuid>, required)]
    next: Option<RotationId>,
}

body! {
    /// The entry to rotate, by its id or by its user and domain, and its new password.
    #[schema(example = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"}))]
    pub(super) struct NewRotation {
        /// The entry's id, in place of the other two.
        #[schema(value_type = Option<Uuid>)]
        entry_id: Option<EntryId>,
        permissioned_user_id: Option<String>,
        domain: Option<String>,
        /// The id of the new rotation, a UUID that the client generates. Beginning again with the
        /// same id, after a broken connection, returns the same rotation and password.
        #[schema(value_type = Option<Uuid>)]
        id: Option<RotationId>,
        /// The new password, encrypted by the client. Without it, the host generates one from the
        /// other fields.
        password: Option<String>,
        /// Length of a generated password, in characters; 24 by default.
        #[schema(minimum = 12, maximum = 128, value_type = Option<u32>)]
        length: Option<u64>,
        /// Whether it has lower-case letters; by default it does. Likewise for the next two.
        lowercase: Option<bool>,
        uppercase: Option<bool>,
        digits: Option<bool>,
        /// The symbols that it may have; an empty text means none.
        symbols: Option<String>,
    }
}

/// Begin to rotate an entry's password
///
/// The new password is stored before it is returned; the item is not written yet. When the item is
/// not writable, the rotation is `skipped` and has no password. Needs the scope `rotate`.
#[utoipa::path(post, path = "/vault/rotations", operation_id = "begin_rotation", tag = "rotations", request_body = NewRotation,
    responses((status = 201, description = "The rotation, with its password", body = Begun), WithBody, Missing, Conflicting, OfProvider, Common))]
pub(super) async fn begin(Rotator(api, access): Rotator, Body(new): Body<NewRotation>) -> Result<Response, ApiError> {
    let begun = api.broker.rotations().begin(&access, to_begin(new)?).await?;
    let begun = Begun { rotation: begun.rotation.into(), password: begun.password };
    secret_answer(StatusCode::CREATED, &begun)
}

pub(super) fn to_begin(new: NewRotation) -> Result<BeginRotation, ApiError> {
    let has_policy =
        (new.length, new.lowercase, new.uppercase, new.digits, &new.symbols) != (None, None, None, None, &None);
    let unnamed = |_| ApiError::invalid("name the vault entry by entry_id, or by permissioned_user_id and domain");
    let entry = either(new.entry_id, new.permissioned_user_id, new.domain).map_err(unnamed)?;
    let password = match new.password {
        Some(_) if has_policy => {
            return Err(ApiError::invalid(
                "length, lowercase, uppercase, digits and symbols are for a generated password; leave them out, or leave password out",
            ));
        }
        Some(ciphertext) => NewPassword::Encrypted(ciphertext),
        None => {
            let mut policy = PasswordPolicy::default();
            policy.length = new.length.map_or(policy.length, |length| usize::try_from(length).unwrap_or(usize::MAX));
            policy.lowercase = new.lowercase.unwrap_or(policy.lowercase);
            policy.uppercase = new.uppercase.unwrap_or(policy.uppercase);
            policy.digits = new.digits.unwrap_or(policy.digits);
            policy.symbols = new.symbols.unwrap_or(policy.symbols);
            NewPassword::Generated(policy)
        }
    };
    let begin = BeginRotation::new(entry).password(password);
    Ok(match new.id {
        Some(id) => begin.id(id),
        None => begin,
    })
}

/// Confirm that the site has the new password, and write it to the item
///
/// 200 also when the password is not written yet: the write-back is accepted and retried, and
/// `state` shows its progress. Needs the scope `rotate`.
#[utoipa::path(post, path = "/vault/rotations/{id}/commit", operation_id = "commit_rotation", tag = "rotations",
    params(("id" = Uuid, Path, description = "The rotation's id")),
    responses((status = 200, description = "The rotation", body = RotationView), Input, Missing, Conflicting, OfProvider, Common))]
pub(super) async fn commit(Rotator(api, access): Rotator, Id(id): Id<RotationId>) -> Answer<RotationView> {
    Ok(Json(api.broker.rotations().commit(&access, id).await?.into()))
}

body! {
    /// What to do with the password of an abandoned rotation.
    #[schema(example = json!({"discard_password": true}))]
    pub(super) struct AbandonRotation {
        /// Abandon it although the site may already have the password.
        discard_password: Option<bool>,
    }
}

/// Abandon a rotation
///
/// Needs the scope `rotate`.
#[utoipa::path(post, path = "/vault/rotations/{id}/abandon", operation_id = "abandon_rotation", tag = "rotations",
    params(("id" = Uuid, Path, description = "The rotation's id")),
    request_body = Option<AbandonRotation>,
    responses((status = 200, description = "The rotation", body = RotationView), WithBody, Missing, Conflicting, Common))]
pub(super) async fn abandon(
    Rotator(api, access): Rotator,
    Id(id): Id<RotationId>,
    body: Option<Body<AbandonRotation>>,
) -> Answer<RotationView> {
    let discard = body.and_then(|Body(abandon)| abandon.discard_password).unwrap_or(false);
    Ok(Json(api.broker.rotations().abandon(&access, id, discard).await?.into()))
}

body! {
    /// How to write back.
    #[schema(example = json!({"overwrite": true}))]
    pub(super) struct RetryRotation {
        /// Overwrite a password that the item received in the meantime.
        overwrite: Option<bool>,
    }
}

/// Write the password back now
///
/// Needs the scope `rotate`.
#[utoipa::path(post, path = "/vault/rotations/{id}/retry", operation_id = "retry_rotation", tag = "rotations",
    params(("id" = Uuid, Path, description = "The rotation's id")),
    request_body = Option<RetryRotation>,
    responses((status = 200, description = "The rotation", body = RotationView), WithBody, Missing, Conflicting, OfProvider, Common))]
pub(super) async fn retry(
    Rotator(api, access): Rotator,
    Id(id): Id<RotationId>,
    body: Option<Body<RetryRotation>>,
) -> Answer<RotationView> {
    let overwrite = body.and_then(|Body(retry)| retry.overwrite).unwrap_or(false);
    Ok(Json(api.broker.rotations().retry(&access, id, overwrite).await?.into()))
}

/// Show a rotation
///
/// Needs the scope `rotate`.
#[utoipa::path(get, path = "/vault/rotations/{id}", operation_id = "get_rotation", tag = "rotations",
    params(("id" = Uuid, Path, description = "The rotation's id")),
    responses((status = 200, description = "The rotation", body = RotationView), Input, Missing, Common))]
pub(super) async fn get(Rotator(api, access): Rotator, Id(id): Id<RotationId>) -> Answer<RotationView> {
    Ok(Json(api.broker.rotations().get(&access, id).await?.into()))
}

/// Show the new password of an unfinished rotation
///
/// Needs the scope `admin`.
#[utoipa::path(get, path = "/vault/rotations/{id}/password", operation_id = "reveal_rotation", tag = "rotations",
    params(("id" = Uuid, Path, description = "The rotation's id")),
    responses((status = 200, description = "The password", body = Password), Input, Missing, Conflicting, Common))]
pub(super) async fn reveal(
    Administrator(api, access): Administrator,
    Id(id): Id<RotationId>,
) -> Result<Response, ApiError> {
    let password = api.broker.rotations().reveal(&access, id).await?;
    secret_answer(StatusCode::OK, &Password { password })
}

/// List the workspace's rotations, page by page, oldest first
///
/// Needs the scope `rotate`.
#[utoipa::path(get, path = "/vault/rotations", operation_id = "list_rotations", tag = "rotations",
    params(
        ("state" = inline(Option<Vec<StateFilter>>), Query, description = "Only rotations in these states; `open` stands for every unfinished state"),
        ("entry_id" = Option<Uuid>, Query, description = "Only rotations of this vault entry"),
        ("after" = Option<Uuid>, Query, description = "Continues after the previous page: its `next`"),
    ),
    responses((status = 200, description = "A page", body = Page), Input, Common))]
pub(super) async fn list(Rotator(api, access): Rotator, RawQuery(query): RawQuery) -> Answer<Page> {
    let (filter, after) = filter(query.as_deref().unwrap_or_default())?;
    let page = api.broker.rotations().list(&access, &filter, after).await?;
    Ok(Json(Page { rotations: page.rotations.into_iter().map(RotationView::from).collect(), next: page.next }))
}

words! {
    /// A state, or all unfinished ones.
    struct StateFilter: ["open"].into_iter().chain(RotationState::ALL.map(RotationState::name));
}

/// Unknown parameters are ignored.
fn filter(query: &str) -> Result<(RotationFilter, Option<RotationId>), ApiError> {
    let (mut filter, mut after) = (RotationFilter::default(), None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let not_an_id = |_| ApiError::invalid(format!("{name} must be a UUID"));
        // Each state once, however often it is named: a query has room for thousands.
        let mut add = |state| {
            if !filter.states.contains(&state) {
                filter.states.push(state);
            }
        };
        match &*name {
            "state" if value == "open" => RotationState::OPEN.into_iter().for_each(add),
            "state" => add(value.parse().map_err(|error: keyway::storage::UnknownName| {
                ApiError::invalid(format!("{error}; open stands for all unfinished states"))
            })?),
            "entry_id" => filter.entry = Some(value.parse().map_err(not_an_id)?),
            "after" => after = Some(value.parse().map_err(not_an_id)?),
            _ => {}
        }
    }
    Ok((filter, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_states_an_entry_and_a_place_to_go_on_from() {
        let id = "25290e80-bbd5-41b3-861e-dea30cc26e27";
        let states = "state=done&state=open&".repeat(100);
        let query = format!("{states}entry_id={id}&after={id}&x=1");
        let (filter, after) = filter(&query).unwrap();
        assert_eq!(filter.states.len(), 5);
        assert_eq!((filter.entry.unwrap().to_string(), after.unwrap().to_string()), (id.to_owned(), id.to_owned()));
    }

    #[test]
    fn what_is_no_state_and_no_id_is_refused() {
        for query in ["state=rotated", "state=", "entry_id=1", "after=last"] {
            assert!(filter(query).is_err(), "{query}");
        }
    }
}
