//! `POST /vault/resolve`: the one answer with secret values in it.
//!
//! The answer is written into memory that is wiped when it was sent, and like every answer it says `Cache-Control: no-store`.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use keyway::{EntrySelector, ResolveRequest};

use super::Api;
use super::auth::Resolver;
use super::body::Fields;
use super::error::ApiError;
use crate::resolved::Values;

/// `POST /vault/resolve`
pub(super) async fn resolve(
    Resolver(access): Resolver,
    State(api): State<Api>,
    fields: Fields,
) -> Result<Response, ApiError> {
    let resolution = api.broker.resolve(&access, request(fields)?).await?;
    let json = Values::new(resolution, true).to_json().map_err(|error| ApiError::internal(error.to_string()))?;
    let mut response = Body::from(Bytes::from_owner(json)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn request(mut fields: Fields) -> Result<ResolveRequest, ApiError> {
    let (user, domain) = (fields.text("permissioned_user_id")?, fields.text("domain")?);
    let entry = match (fields.id("id")?, user, domain) {
        (Some(id), None, None) => EntrySelector::Id(id),
        (None, Some(permissioned_user_id), Some(domain)) => EntrySelector::Pair { permissioned_user_id, domain },
        _ => {
            let message = "name the vault entry either by id, or by permissioned_user_id and domain together";
            return Err(ApiError::invalid(message));
        }
    };
    let mut request = ResolveRequest::new(entry);
    if let Some(words) = fields.texts("fields")? {
        request = request.fields(asked(&words)?);
    }
    if let Some(revision) = fields.text("rejected")? {
        request = request.rejected(revision);
    }
    fields.finish()?;
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
