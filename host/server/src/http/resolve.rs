//! `POST /vault/resolve`: the one answer with secret values in it.
//!
//! The answer is written into memory that is wiped when it was sent, and like every answer it says `Cache-Control: no-store`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use keyway::{EntryId, EntrySelector, ResolveRequest};
use utoipa::ToSchema;

use super::api::Api;
use super::auth::Resolver;
use super::body::Fields;
use super::error::ApiError;
use super::schema::{Common, Missing, OfProvider, WithBody};
use super::secret_json::secret_answer;
use crate::view::resolved::Values;

/// What to resolve: an entry, by its id or by its user and domain.
#[derive(ToSchema)]
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

/// A value of an item.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for the document; the runtime has the type that is read")]
enum FieldName {
    Username,
    Password,
    OneTimeCode,
}

impl ToResolve {
    fn read(mut fields: Fields) -> Result<Self, ApiError> {
        let read = Self {
            permissioned_user_id: fields.text("permissioned_user_id")?,
            domain: fields.text("domain")?,
            id: fields.id("id")?,
            fields: fields.texts("fields")?,
            rejected: fields.text("rejected")?,
        };
        fields.finish()?;
        Ok(read)
    }
}

/// Resolve an entry: user name, password, current one-time code
///
/// User name and password come from the cache for as long as its duration allows; a one-time code is
/// always live. A value that the item lacks, or that was not asked for, is `null`.
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
        (None, Some(permissioned_user_id), Some(domain)) => EntrySelector::Pair { permissioned_user_id, domain },
        _ => {
            let message = "name the vault entry either by id, or by permissioned_user_id and domain together";
            return Err(ApiError::invalid(message));
        }
    };
    let mut request = ResolveRequest::new(entry);
    if let Some(words) = wanted.fields {
        request = request.fields(asked(&words)?);
    }
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
