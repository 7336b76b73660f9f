//! `POST /vault/resolve`: the one answer with secret values in it; and `GET /vault/fields`: which further fields it can have.
//!
//! The answer is written into memory that is wiped when it was sent, and like every answer it says `Cache-Control: no-store`.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use keyway::{EntryId, EntrySelector, ResolveRequest};

use super::api::Api;
use super::auth::Resolver;
use super::body::{Fields, FromBody, body};
use super::error::ApiError;
use super::schema::{Common, Input, Missing, OfProvider, WithBody};
use super::secret_json::secret_answer;
use crate::view::resolved::Values;
use crate::view::words::words;

body! {
    /// What to resolve: an entry, by its id or by its user and domain.
    #[schema(example = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"}))]
    pub(super) struct ToResolve {
        /// The entry's id; then without the other two.
        #[schema(value_type = Option<Uuid>)]
        id: Option<EntryId>,
        permissioned_user_id: Option<String>,
        domain: Option<String>,
        /// Which values; all of them unless something is said.
        #[schema(min_items = 1, value_type = Option<Vec<FieldName>>)]
        fields: Option<Vec<String>>,
        /// The revision that came with a password which the site has refused: it is fetched anew.
        #[schema(max_length = 256)]
        rejected: Option<String>,
    }
}

words! {
    /// A value of an item.
    struct FieldName: ["username", "password", "one_time_code"];
}

/// Resolve an entry: user name, password, current one-time code
///
/// User name and password come from the cache for as long as its duration allows; a one-time code is
/// always live, and so is everything when further fields are named. A value that the item lacks, or
/// that was not asked for, is `null`; a further field that it lacks is left out.
/// Needs the scope `resolve`.
#[utoipa::path(post, path = "/vault/resolve", operation_id = "resolve", tag = "vault", request_body = ToResolve,
    responses((status = 200, description = "The values", body = Values), WithBody, Missing, OfProvider, Common))]
pub(super) async fn resolve(
    Resolver(access): Resolver,
    State(api): State<Api>,
    fields: Fields,
) -> Result<Response, ApiError> {
    let resolution = api.broker.resolve(&access, request(ToResolve::read(fields)?)?).await?;
    secret_answer(StatusCode::OK, &Values::new(resolution, true))
}

fn request(wanted: ToResolve) -> Result<ResolveRequest, ApiError> {
    let entry = match (wanted.id, wanted.permissioned_user_id, wanted.domain) {
        (Some(id), None, None) => EntrySelector::Id(id),
        (None, Some(user), Some(domain)) => EntrySelector::Pair { user, domain },
        _ => {
            let message = "name the vault entry either by id, or by permissioned_user_id and domain together";
            Err(ApiError::invalid(message))
        }
    }
}

fn request(wanted: ToResolve) -> Result<ResolveRequest, ApiError> {
    let entry = named(wanted.id, wanted.permissioned_user_id, wanted.domain)?;
    let further = wanted.further.unwrap_or_default();
    let mut request = ResolveRequest::new(entry);
    match wanted.fields {
        Some(words) => request = request.fields(asked(&words)?),
        None if further.is_empty() => {}
        None => request = request.fields(keyway_runtime::Fields::default()),
    }
    request = request.further(further);
    if let Some(revision) = wanted.rejected {
        request = request.rejected(revision);
    }
    Ok(request)
}

/// The values that are named; at least one.
fn asked(words: &[String]) -> Result<keyway_runtime::Fields, ApiError> {
    let mut asked = keyway_runtime::Fields::default();
    for word in words {
        match word.as_str() {
            "username" => asked.username = true,
            "password" => asked.password = true,
            "one_time_code" => asked.one_time_code = true,
            _ => return Err(unknown_field()),
        }
    }
    if words.is_empty() { Err(unknown_field()) } else { Ok(asked) }
}

fn unknown_field() -> ApiError {
    ApiError::invalid("fields must be a list of one or more of username, password and one_time_code")
}
