//! Shared parts of the document's routes: their possible errors, and the limits and formats of
//! values that clients send and get.
//!
//! A route lists its own answers, and the groups of errors that its extractors and operations can
//! cause. A group is listed where its cause is used.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::IntoResponses;
use utoipa::openapi::schema::{AllOfBuilder, Schema};
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};

/// The schema name of the error envelope in the document.
pub(super) const ERROR: &str = "Error";

macro_rules! responses {
    ($($(#[$about:meta])* $name:ident: [$($problem:expr),* $(,)?];)*) => {
        $($(#[$about])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                problems(&[$($problem),*])
            }
        })*
    };
}

const WRONG_INPUT: (u16, &str) =
    (400, "BAD_REQUEST, VALIDATION_FAILED, PROVIDER_NOT_INSTALLED: the message says what to correct");

responses! {
    /// The errors of every request: a bad key, a timeout, a server that is full or shutting down.
    Common: [
        (401, "UNAUTHENTICATED: the header cc-key has no valid API key"),
        (403, "FORBIDDEN: the key lacks the scope that the message names"),
        (500, "INTERNAL_ERROR: a fault of the server; its log has details under the request id"),
        (503, "BUSY, ENDING, AUDIT_UNAVAILABLE, KEYS_UNAVAILABLE: the server cannot do this now"),
        (504, "TIMEOUT: the answer took too long"),
    ];
    /// The errors of requests whose path, query or body can be wrong.
    Input: [WRONG_INPUT];
    /// The errors of requests with a body.
    WithBody: [
        WRONG_INPUT,
        (413, "PAYLOAD_TOO_LARGE: the body is larger than 2 MiB"),
        (415, "UNSUPPORTED_MEDIA_TYPE: the body is not sent as application/json"),
    ];
    /// The errors of requests about something that may not exist, or belongs to another workspace.
    Missing: [(404, "NOT_FOUND: no such thing exists in this workspace")];
    /// The errors of requests that can conflict with other records or requests.
    Conflicting: [(409, "CONFLICT: it already exists, has changed in the meantime, or is in use")];
    /// The errors of requests that ask a secret manager.
    OfProvider: [
        (429, "RATE_LIMITED: the secret manager's limit is reached, or no one-time code is left for now"),
        (501, "UNSUPPORTED: the provider cannot do this"),
        (502, "PROVIDER_REFUSED, PROVIDER_UNAVAILABLE, PROVIDER_FAULT: the secret manager or its provider failed"),
        (503, "BUSY, ENDING, AUDIT_UNAVAILABLE, KEYS_UNAVAILABLE, PROVIDER_PAUSED, PROVIDER_NOT_INSTALLED: the server cannot do this now"),
    ];
    /// That the server is not ready.
    NotReady: [(503, "NOT_READY: the message names what is not ready")];
}

fn problems(of: &[(u16, &str)]) -> BTreeMap<String, RefOr<Response>> {
    of.iter().map(|(status, about)| (status.to_string(), problem(*status, about).into())).collect()
}

fn problem(status: u16, about: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ERROR))).build();
    let response = ResponseBuilder::new().description(about).content("application/json", content);
    let header = |about: &str, of| HeaderBuilder::new().description(Some(about)).schema(Some(schema(of))).build();
    match status {
        429 | 502 | 503 => {
            let seconds = json!({"type": "integer", "minimum": 0});
            response.header("retry-after", header("Seconds to wait before a retry, where known", seconds))
        }
        401 => response.header("www-authenticate", header("How to send a key", json!({"type": "string"}))),
        _ => response,
    }
    .build()
}

/// A schema as the document holds it.
pub(super) fn schema(json: Value) -> RefOr<Schema> {
    let schema = serde_json::from_value(json);
    debug_assert!(schema.is_ok(), "a schema that is none: {:?}", schema.err());
    schema.unwrap_or_else(|_| Schema::default().into())
}

/// Adds a type to the document, under a name.
macro_rules! described {
    ($type:ty as $name:literal: $schema:expr $(; with those of $other:ty)?) => {
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $schema
            }
        }

        impl utoipa::ToSchema for $type {
            fn name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            $(fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
                <$other>::schemas(schemas);
            })?
        }
    };
}
pub(super) use described;

/// Requires that an entry is selected by its id, or by its user and domain.
pub(super) fn named(by: RefOr<Schema>) -> RefOr<Schema> {
    let text = json!({"type": "string"});
    let pair = json!({"permissioned_user_id": text, "domain": text});
    let either = json!({"anyOf": [
        {"type": "object", "properties": {"id": text}, "required": ["id"]},
        {"type": "object", "properties": pair, "required": ["permissioned_user_id", "domain"]},
    ]});
    AllOfBuilder::new().item(by).item(schema(either)).into()
}

/// A record of the audit log.
pub(super) fn audit_record() -> RefOr<Schema> {
    let text = json!({"type": "string"});
    let id = json!({"type": "string", "format": "uuid"});
    let number = json!({"type": "integer", "minimum": 0});
    let number_or_null = json!({"type": ["integer", "null"], "minimum": 0});
    let actor = json!({"type": "string", "enum": ["api_key", "operator", "unknown", "system"]});
    schema(json!({
        "type": "object",
        "required": ["series", "number", "at", "actor", "operation", "outcome"],
        "properties": {
            "series": number,
            "number": number,
            "at": {"type": "string", "format": "date-time"},
            "workspace": {"type": ["string", "null"], "format": "uuid"},
            "actor": {"type": "object", "required": ["type"], "properties": {"type": actor, "id": id, "name": text}},
            "operation": text,
            "outcome": {"type": "string", "description": "ok, begun, or the code of an error"},
            "begun": number_or_null,
            "entry": id,
            "connection": id,
            "api_key": id,
            "rotation": id,
            "reference": text,
            "lease": text,
            "scope": {"type": "string", "description": "The scope that a refused key lacks"},
            "fields": {"type": "array", "items": text},
            "source": {"type": "string", "enum": ["live", "cached", "entry", "rotation"]},
            "component": {"type": "string", "description": "The first digits of the SHA-256 of the component that the calls were made with"},
            "count": number,
            "unrecorded": number_or_null,
            "request_id": {"type": ["string", "null"]},
        },
    }))
}
