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
use crate::view::resolved::{FieldView, Values};
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
        /// Which values; all of them unless something is said here or in `further`.
        #[schema(min_items = 1, value_type = Option<Vec<FieldName>>)]
        fields: Option<Vec<String>>,
        /// Names of further fields of the item, each once, as `GET /vault/fields` lists them. With any, all values are live.
        #[schema(max_items = 100)]
        further: Option<Vec<String>>,
        /// The revision that came with a password which the site has refused: it is fetched anew.
        #[schema(max_length = 256)]
        rejected: Option<String>,
    }
}

words! {
    /// A value of an item.
    struct FieldName: ["username", "password", "one_time_code"];
}

/// Resolve an entry: user name, password, current one-time code, further fields
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

/// List the further fields of an entry's item
///
/// Their names are for `further` of `POST /vault/resolve`. An entry with credentials of its own has none. Needs the scope `resolve`.
#[utoipa::path(get, path = "/vault/fields", operation_id = "list_fields", tag = "vault",
    params(
        ("id" = Option<Uuid>, Query, description = "The entry's id; then without the other two"),
        ("permissioned_user_id" = Option<String>, Query, description = "The entry's user; together with domain"),
        ("domain" = Option<String>, Query, description = "The entry's site, exactly as it was given; together with permissioned_user_id"),
    ),
    responses((status = 200, description = "The fields, without their values", body = [FieldView]), Input, Missing, OfProvider, Common))]
pub(super) async fn fields(
    Resolver(access): Resolver,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<FieldView>>, ApiError> {
    let entry = queried(query.as_deref().unwrap_or_default())?;
    let fields = api.broker.list_fields(&access, &entry).await?;
    Ok(Json(fields.into_iter().map(FieldView::from).collect()))
}

/// Which entry the query asks for. Unknown parameters are nobody's business.
fn queried(query: &str) -> Result<EntrySelector, ApiError> {
    let (mut id, mut user, mut domain) = (None, None, None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let place = match &*name {
            "id" => &mut id,
            "permissioned_user_id" => &mut user,
            "domain" => &mut domain,
            _ => continue,
        };
        if place.replace(value.into_owned()).is_some() {
            return Err(ApiError::invalid(format!("the parameter {name} occurs twice")));
        }
    }
    let id = id.map(|id| id.parse().map_err(|_| ApiError::invalid("id must be a UUID"))).transpose()?;
    named(id, user, domain)
}

/// The entry that is named one way or the other.
pub(super) fn named(
    id: Option<EntryId>,
    user: Option<String>,
    domain: Option<String>,
) -> Result<EntrySelector, ApiError> {
    match (id, user, domain) {
        (Some(id), None, None) => Ok(EntrySelector::Id(id)),
        (None, Some(user), Some(domain)) => Ok(EntrySelector::Pair { user, domain }),
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
