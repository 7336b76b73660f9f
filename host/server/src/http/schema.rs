//! What the routes of the document have in common: the errors that each of them may answer, and the limits and formats of what clients send and get.
//!
//! A route names its own answers and the groups of errors that its extractors and operations can bring; a group is named where its cause is used.

use std::collections::BTreeMap;

use keyway::{AttributeKind, Attributes};
use utoipa::IntoResponses;
use utoipa::openapi::schema::{
    AdditionalProperties, AllOfBuilder, AnyOfBuilder, ArrayBuilder, KnownFormat, Object, ObjectBuilder, Schema,
    SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};

/// The name of the envelope of errors among the document's schemas.
pub(super) const ERROR: &str = "Error";

/// The errors of every request: whose key, in time, and a server that can.
pub(super) struct Common;

impl IntoResponses for Common {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[
            (401, "UNAUTHENTICATED: there is no valid API key in the header cc-key"),
            (403, "FORBIDDEN: the key lacks the scope that the message names"),
            (500, "INTERNAL_ERROR: a fault of the server; its log says more under the request id"),
            (503, "BUSY, ENDING, AUDIT_UNAVAILABLE: the server cannot do this now"),
            (504, "TIMEOUT: the answer took too long"),
        ])
    }
}

/// The errors of requests whose path, query or body can be wrong.
pub(super) struct Input;

impl IntoResponses for Input {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[(400, "BAD_REQUEST, VALIDATION_FAILED, PROVIDER_NOT_INSTALLED: the message says what to correct")])
    }
}

/// The errors of requests with a body.
pub(super) struct WithBody;

impl IntoResponses for WithBody {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut all = Input::responses();
        all.extend(problems(&[
            (413, "PAYLOAD_TOO_LARGE: the body is larger than 2 MiB"),
            (415, "UNSUPPORTED_MEDIA_TYPE: the body is not sent as application/json"),
        ]));
        all
    }
}

/// The errors of requests about something that may not be there, or is another workspace's.
pub(super) struct Missing;

impl IntoResponses for Missing {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[(404, "NOT_FOUND: there is no such thing in this workspace")])
    }
}

/// The errors of requests that would bring two things into each other's way.
pub(super) struct Conflicting;

impl IntoResponses for Conflicting {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[(409, "CONFLICT: it exists already, changed in the meantime, or is in use")])
    }
}

/// The errors of requests that ask a secret manager.
pub(super) struct OfProvider;

impl IntoResponses for OfProvider {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[
            (429, "RATE_LIMITED: the secret manager's limit is reached"),
            (501, "UNSUPPORTED: the provider cannot do this"),
            (502, "PROVIDER_REFUSED, PROVIDER_UNAVAILABLE, PROVIDER_FAULT: the secret manager or its provider failed"),
            (503, "BUSY, ENDING, AUDIT_UNAVAILABLE, PROVIDER_PAUSED, PROVIDER_NOT_INSTALLED: this cannot be done now"),
        ])
    }
}

/// That the server is not ready.
pub(super) struct NotReady;

impl IntoResponses for NotReady {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[(503, "NOT_READY: the message names what is not")])
    }
}

fn problems(of: &[(u16, &str)]) -> BTreeMap<String, RefOr<Response>> {
    of.iter().map(|(status, about)| (status.to_string(), problem(*status, about).into())).collect()
}

fn problem(status: u16, about: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ERROR))).build();
    let response = ResponseBuilder::new().description(about).content("application/json", content);
    let header = |about: &str, of: Object| HeaderBuilder::new().description(Some(about)).schema(Some(of)).build();
    match status {
        429 | 502 | 503 => {
            let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
            response.header("retry-after", header("After how many seconds to retry, where that is known", seconds))
        }
        401 => response.header("www-authenticate", header("How to send a key", text().build())),
        _ => response,
    }
    .build()
}

/// A text.
pub(super) fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A text without control characters, of at most so many characters.
pub(super) fn plain_text(limit: usize) -> ObjectBuilder {
    text().max_length(Some(limit)).pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]*$"))
}

/// As a type that `null` belongs to.
pub(super) fn nullable(of: ObjectBuilder, kind: Type) -> Object {
    of.schema_type(SchemaType::from_iter([kind, Type::Null])).build()
}

/// That an entry is named by its id, or by its user and domain.
pub(super) fn named(schema: RefOr<Schema>) -> RefOr<Schema> {
    let by = |fields: &[&str]| {
        fields.iter().fold(ObjectBuilder::new(), |by, field| by.property(*field, text()).required(*field)).build()
    };
    let either = AnyOfBuilder::new().item(by(&["id"])).item(by(&["permissioned_user_id", "domain"])).build();
    RefOr::T(Schema::AllOf(AllOfBuilder::new().item(schema).item(Schema::AnyOf(either)).build()))
}

/// The names of the audit log's operations.
pub(super) fn operation_name() -> RefOr<Schema> {
    let names = keyway::Operation::ALL.iter().map(|operation| operation.name());
    Schema::from(text().enum_values(Some(names)).build()).into()
}

/// The words by which the audit log is searched for outcomes.
pub(super) fn outcome_name() -> RefOr<Schema> {
    Schema::from(text().enum_values(Some(keyway::OutcomeFilter::names())).build()).into()
}

/// What a vault entry carries along, by name.
pub(super) fn attributes() -> impl Iterator<Item = (&'static str, RefOr<Schema>)> {
    Attributes::kinds().map(|(name, kind)| (name, attribute(kind)))
}

fn attribute(kind: AttributeKind) -> RefOr<Schema> {
    let object = ObjectBuilder::new();
    let kept = "Kept as the very text that came; nested up to 64 times";
    let object = match kind {
        AttributeKind::Flag => nullable(object, Type::Boolean),
        AttributeKind::Count => {
            let about = "Only with allow_multiple_sessions, and gone with it; unlimited when null";
            nullable(object.description(Some(about)).minimum(Some(1)).maximum(Some(u32::MAX)), Type::Integer)
        }
        AttributeKind::Text => nullable(plain_text(Attributes::TEXT_LIMIT), Type::String),
        AttributeKind::ProxyValue => nullable(plain_text(Attributes::PROXY_VALUE_LIMIT), Type::String),
        AttributeKind::Interval => {
            let about = "As PostgreSQL writes an interval, without negative parts";
            nullable(text().description(Some(about)).examples(["01:30:00", "7 days 00:00:00"]), Type::String)
        }
        AttributeKind::ProxySetting => {
            let words = ["random", "static", "country", "custom"].map(serde_json::Value::from);
            nullable(object.enum_values(Some(words.into_iter().chain([serde_json::Value::Null]))), Type::String)
        }
        AttributeKind::Proxy => nullable(
            object
                .property("enable", ObjectBuilder::new().schema_type(Type::Boolean))
                .property("target_ip", nullable(text(), Type::String))
                .required("enable")
                .additional_properties(Some(AdditionalProperties::FreeForm(false))),
            Type::Object,
        ),
        AttributeKind::Headers => {
            let header = ObjectBuilder::new()
                .property("name", text())
                .property("value", text())
                .required("name")
                .required("value")
                .additional_properties(Some(AdditionalProperties::FreeForm(false)));
            let kinds = SchemaType::from_iter([Type::Array, Type::Null]);
            return Schema::from(ArrayBuilder::new().schema_type(kinds).items(header).build()).into();
        }
        AttributeKind::Cookies => {
            let cookie = ObjectBuilder::new().schema_type(Type::Object);
            let kinds = SchemaType::from_iter([Type::Array, Type::Null]);
            let cookies = ArrayBuilder::new().schema_type(kinds).items(cookie).description(Some(kept));
            return Schema::from(cookies.build()).into();
        }
        AttributeKind::BrowserStorage => nullable(object.description(Some(kept)), Type::Object),
    };
    Schema::from(object).into()
}

/// A record of the audit log.
pub(super) fn audit_record() -> RefOr<Schema> {
    let id = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
    let time = text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    let number = || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    let actor = ObjectBuilder::new()
        .property("type", text().enum_values(Some(["api_key", "operator", "unknown", "system"])))
        .property("id", id())
        .property("name", text())
        .required("type");
    let record = ObjectBuilder::new()
        .property("series", number())
        .property("number", number())
        .property("at", time)
        .property("workspace", nullable(id(), Type::String))
        .property("actor", actor)
        .property("operation", text())
        .property("outcome", text().description(Some("ok, begun, or the code of an error")))
        .property("begun", nullable(number(), Type::Integer))
        .property("entry", id())
        .property("connection", id())
        .property("api_key", id())
        .property("rotation", id())
        .property("reference", text())
        .property("lease", text())
        .property("scope", text().description(Some("The scope that a key lacks which was refused")))
        .property("fields", ArrayBuilder::new().items(text()))
        .property("source", text().enum_values(Some(["live", "cached", "entry", "rotation"])))
        .property("count", number())
        .property("unrecorded", nullable(number(), Type::Integer))
        .property("request_id", nullable(text(), Type::String));
    let always = ["series", "number", "at", "actor", "operation", "outcome"];
    Schema::from(always.into_iter().fold(record, ObjectBuilder::required).build()).into()
}
