//! `GET /openapi.json`: the API as an OpenAPI 3.1 document.
//!
//! **Invariant:** the document is generated from the router itself. A route is registered together
//! with its description, so neither exists without the other. The schema of a body is the type that
//! its handler reads it into.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{AdditionalProperties, Object, Schema};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, License, OpenApi, PathItem, Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::api::Api;
use super::error::Envelope;
use super::schema::ERROR;
use super::vault::name::EntryName;

/// The name of the security scheme.
const KEY: &str = "api_key";

const ABOUT: &str = "Workspaces' connections to secret managers, vault entries and what they resolve to. A key's scopes \
                     limit what it may do. Every error has the same envelope, and its message says what to do. Every \
                     answer has Cache-Control: no-store and an x-request-id. An unknown field of a body is an error. \
                     Fields that only the server sets may be sent back, and are ignored. An unknown query parameter is \
                     ignored, except by GET /audit, where an ignored filter would show more than requested.";

/// Completes what the router has collected.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    document.info = InfoBuilder::new()
        .title("Keyway")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license))
        .build();
    let components = document.components.get_or_insert_with(Components::new);
    let mut of_error = vec![(ERROR.to_owned(), Envelope::schema())];
    Envelope::schemas(&mut of_error);
    components.schemas.extend(of_error);
    let header = ApiKeyValue::with_description("cc-key", "An API key of a workspace");
    components.add_security_scheme(KEY, SecurityScheme::ApiKey(ApiKey::Header(header)));
    document.security = Some(vec![SecurityRequirement::new(KEY, [""; 0])]);
    // Bodies allow no unknown fields, except those that select an entry. Bodies refer to their
    // schemas.
    let bodies: Vec<_> = document.paths.paths.values().flat_map(operations).map(|of| &of.request_body).collect();
    let bodies = serde_json::to_string(&bodies).unwrap_or_default();
    for (name, schema) in &mut components.schemas {
        let reference = format!("{:?}", Ref::from_schema_name(name).ref_location);
        if *name != EntryName::name()
            && bodies.contains(&reference)
            && let Some(object) = object_of(schema)
        {
            object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
    }
    document
}

/// The object with a schema's properties.
fn object_of(schema: &mut RefOr<Schema>) -> Option<&mut Object> {
    match schema {
        RefOr::T(Schema::Object(object)) => Some(object),
        RefOr::T(Schema::AllOf(all)) => all.items.first_mut().and_then(object_of),
        _ => None,
    }
}

fn operations(path: &PathItem) -> impl Iterator<Item = &Operation> {
    [&path.get, &path.put, &path.post, &path.delete, &path.patch].into_iter().flatten()
}

/// `GET /openapi.json`
#[utoipa::path(get, path = "/openapi.json", operation_id = "get_openapi", tag = "operation", security(()), responses(
    (status = 200, description = "This document", body = Object),
))]
pub(super) async fn read(State(api): State<Api>) -> Response {
    ([(CONTENT_TYPE, "application/json")], api.document.clone()).into_response()
}
