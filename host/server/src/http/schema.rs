//! What the routes of the document have in common: the errors that each of them may answer, and the limits and formats of what clients send and get.
//!
//! A route names its own answers and the groups of errors that its extractors and operations can bring; a group is named where its cause is used.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::schema::{
    AllOfBuilder, AnyOfBuilder, ArrayBuilder, KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, SchemaType,
    Type,
};
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};

/// The name of the envelope of errors among the document's schemas.
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
    /// The errors of every request: whose key, in time, and a server that can.
    Common: [
        (401, "UNAUTHENTICATED: there is no valid API key in the header cc-key"),
        (403, "FORBIDDEN: the key lacks the scope that the message names"),
        (500, "INTERNAL_ERROR: a fault of the server; its log says more under the request id"),
        (503, "BUSY, ENDING, AUDIT_UNAVAILABLE: the server cannot do this now"),
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
    /// The errors of requests about something that may not be there, or is another workspace's.
    Missing: [(404, "NOT_FOUND: there is no such thing in this workspace")];
    /// The errors of requests that would bring two things into each other's way.
    Conflicting: [(409, "CONFLICT: it exists already, changed in the meantime, or is in use")];
    /// The errors of requests that ask a secret manager.
    OfProvider: [
        (429, "RATE_LIMITED: the secret manager's limit is reached"),
        (501, "UNSUPPORTED: the provider cannot do this"),
        (502, "PROVIDER_REFUSED, PROVIDER_UNAVAILABLE, PROVIDER_FAULT: the secret manager or its provider failed"),
        (503, "BUSY, ENDING, AUDIT_UNAVAILABLE, PROVIDER_PAUSED, PROVIDER_NOT_INSTALLED: this cannot be done now"),
    ];
    /// That the server is not ready.
    NotReady: [(503, "NOT_READY: the message names what is not")];
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
