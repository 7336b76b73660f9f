//! The codes of errors, for programs.

use std::borrow::Cow;

use keyway::ErrorKind;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::schema::text;

/// What happened: the kind of the broker's error, or what is wrong with the request or the server itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Kind(ErrorKind),
    /// It cannot be understood.
    BadRequest,
    MethodNotAllowed,
    PayloadTooLarge,
    UnsupportedMediaType,
    /// What the server needs is not there.
    NotReady,
    /// The server is about to end.
    Ending,
    /// The answer took too long.
    TimedOut,
}

impl Code {
    /// Those that are no kind of an error of the broker.
    const OF_HTTP: [Self; 7] = [
        Self::BadRequest,
        Self::MethodNotAllowed,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::NotReady,
        Self::Ending,
        Self::TimedOut,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kind(kind) => kind.code(),
            Self::BadRequest => "BAD_REQUEST",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::NotReady => "NOT_READY",
            Self::Ending => "ENDING",
            Self::TimedOut => "TIMEOUT",
        }
    }
}

impl From<ErrorKind> for Code {
    fn from(kind: ErrorKind) -> Self {
        Self::Kind(kind)
    }
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let kinds = ErrorKind::ALL.iter().copied().map(Self::Kind);
        let names = kinds.chain(Self::OF_HTTP).map(Self::name);
        RefOr::T(Schema::Object(text().enum_values(Some(names)).build()))
    }
}

impl ToSchema for Code {
    fn name() -> Cow<'static, str> {
        "ErrorCode".into()
    }
}
