//! `POST /vault/resolve`, the only answer with secret values, and `GET /vault/fields`, which lists
//! the further fields it can have.
//!
//! The answer is written into memory that is wiped after it was sent. Like every answer it says
//! `Cache-Control: no-store`.

use axum::Json;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;
use keyway::{ResolveRequest, WantedCode};

use super::answer::Answer;
use super::auth::Resolver;
use super::body::Body;
use super::error::ApiError;
use super::schema::{Common, Input, Missing, OfProvider, WithBody};
use super::secret_json::secret_answer;
use super::vault::name::{about_an_entry, either, parameters};
use crate::view::resolved::{FieldView, Values};
use crate::view::words::words;

about_an_entry! {
    /// The entry to resolve, by its id or by its user and domain.
    #[schema(example = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"}))]
    pub(super) struct ToResolve {
        /// The values to resolve; all of them when this and `further` are absent.
        #[schema(min_items = 1, value_type = Option<Vec<FieldName>>)]
        fields: Option<Vec<String>>,
        /// Names of further fields of the item, each once, as `GET /vault/fields` lists them. With
        /// any of them, all values are live.
        #[schema(max_items = 100)]
        further: Option<Vec<String>>,
        /// The revision of a password that the site refused; the item is then fetched again.
        #[schema(max_length = 256)]
        rejected: Option<String>,
        /// Only a one-time code that was not handed out before. The answer waits for the next one
        /// for 35 s at most. If that one is taken too, it is RATE_LIMITED and says when to retry.
        unused: Option<bool>,
        /// Only a one-time code that is current for at least this many seconds more, with the same
        /// wait.
        #[schema(value_type = Option<u32>, maximum = 4294967295i64)]
        min_seconds_left: Option<u64>,
    }
}

words! {
    /// A value of an item.
    struct FieldName: ["username", "password", "one_time_code"];
}

/// Resolve an entry: user name, password, current one-time code, further fields
///
/// User name and password come from the cache during the cache duration, and so does the reason for
/// having no one-time code. A code is always live; when further fields or the code alone are
/// requested, everything is. A value that the item lacks, or that was not requested, is `null`; a
/// further field that the item lacks is absent. Needs the scope `resolve`.
#[utoipa::path(post, path = "/vault/resolve", operation_id = "resolve", tag = "vault", request_body = ToResolve,
    responses((status = 200, description = "The values", body = Values), WithBody, Missing, OfProvider, Common))]
pub(super) async fn resolve(
    Resolver(api, access): Resolver,
    Body(wanted): Body<ToResolve>,
) -> Result<Response, ApiError> {
    let resolution = api.broker.resolve(&access, request(wanted)?).await?;
    secret_answer(StatusCode::OK, &Values::new(resolution, true))
}

/// List the further fields of an entry's item
///
/// Pass their names as `further` to `POST /vault/resolve`. An entry with its own credentials has
/// none. Needs the scope `resolve`.
#[utoipa::path(get, path = "/vault/fields", operation_id = "list_fields", tag = "vault",
    params(
        ("id" = Option<Uuid>, Query, description = "The entry's id, in place of the other two"),
        ("permissioned_user_id" = Option<String>, Query, description = "The entry's user; requires domain"),
        ("domain" = Option<String>, Query, description = "The entry's site, exactly as stored; requires permissioned_user_id"),
    ),
    responses((status = 200, description = "The fields, without their values", body = [FieldView]), Input, Missing, OfProvider, Common))]
pub(super) async fn fields(Resolver(api, access): Resolver, RawQuery(query): RawQuery) -> Answer<Vec<FieldView>> {
    let [id, user, domain] = parameters(query, ["id", "permissioned_user_id", "domain"])?;
    let id = id.map(|id| id.parse().map_err(|_| ApiError::invalid("id must be a UUID"))).transpose()?;
    let fields = api.broker.entries().list_fields(&access, &either(id, user, domain)?).await?;
    Ok(Json(fields.into_iter().map(FieldView::from).collect()))
}

pub(super) fn request(wanted: ToResolve) -> Result<ResolveRequest, ApiError> {
    let mut request = ResolveRequest::new(wanted.entry()?);
    let further = wanted.further.unwrap_or_default();
    match wanted.fields {
        Some(words) => request = request.fields(asked(&words)?),
        None if further.is_empty() => {}
        None => request = request.fields(keyway_runtime::Fields::default()),
    }
    request = request.further(further);
    request.rejected = wanted.rejected;
    Ok(request.code(wanted_code(wanted.unused, wanted.min_seconds_left)?))
}

/// What the one-time code must be.
pub(super) fn wanted_code(unused: Option<bool>, min_seconds_left: Option<u64>) -> Result<WantedCode, ApiError> {
    let too_many = |_| ApiError::invalid("min_seconds_left must be a non-negative integer of at most 4294967295");
    let min_seconds_left = u32::try_from(min_seconds_left.unwrap_or_default()).map_err(too_many)?;
    Ok(WantedCode::default().unused(unused.unwrap_or_default()).min_seconds_left(min_seconds_left))
}

/// The selected values; at least one.
fn asked(words: &[String]) -> Result<keyway_runtime::Fields, ApiError> {
    let unknown = || ApiError::invalid("fields must be a list of one or more of username, password and one_time_code");
    if words.is_empty() {
        return Err(unknown());
    }
    let mut asked = keyway_runtime::Fields::default();
    for word in words {
        let field = match word.as_str() {
            "username" => &mut asked.username,
            "password" => &mut asked.password,
            "one_time_code" => &mut asked.one_time_code,
            _ => return Err(unknown()),
        };
        *field = true;
    }
    Ok(asked)
}
