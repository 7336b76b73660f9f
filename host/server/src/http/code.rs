//! The codes of errors, for programs, and their statuses.

use axum::http::StatusCode;
use keyway::ErrorKind;
use serde_json::json;

use super::schema::{described, schema};

/// The code of an error: the kind of the broker's error, or a fault of the request or the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code {
    pub(super) name: &'static str,
    pub(super) status: StatusCode,
}

macro_rules! codes {
    ($($(#[$about:meta])* $name:ident: $status:ident;)*) => {
        $($(#[$about])* pub(super) const $name: Self = Self { name: stringify!($name), status: StatusCode::$status };)*

        /// Those that are no kind of an error of the broker.
        const OF_HTTP: &[Self] = &[$(Self::$name),*];
    };
}

impl Code {
    codes! {
        /// It cannot be understood.
        BAD_REQUEST: BAD_REQUEST;
        METHOD_NOT_ALLOWED: METHOD_NOT_ALLOWED;
        PAYLOAD_TOO_LARGE: PAYLOAD_TOO_LARGE;
        UNSUPPORTED_MEDIA_TYPE: UNSUPPORTED_MEDIA_TYPE;
        /// What the server needs is not there.
        NOT_READY: SERVICE_UNAVAILABLE;
        /// The answer took too long.
        TIMEOUT: GATEWAY_TIMEOUT;
    }
}

impl From<ErrorKind> for Code {
    fn from(kind: ErrorKind) -> Self {
        Self { name: kind.code(), status: status(kind) }
    }
}

/// The status of this kind of error.
pub(crate) fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        // For a credential under another key: the clients of this API expect 401 for it.
        ErrorKind::Unauthenticated | ErrorKind::NotEncrypted => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        // Not 401 or 403 when the secret manager refuses: the caller's own key is valid.
        ErrorKind::ProviderRefused | ErrorKind::ProviderUnavailable | ErrorKind::ProviderFault => {
            StatusCode::BAD_GATEWAY
        }
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Busy
        | ErrorKind::Ending
        | ErrorKind::ProviderPaused
        | ErrorKind::NotInstalled
        | ErrorKind::KeysUnavailable
        | ErrorKind::AuditUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

described!(Code as "ErrorCode": {
    let kinds = ErrorKind::ALL.iter().map(|kind| kind.code());
    let names: Vec<_> = kinds.chain(Code::OF_HTTP.iter().map(|code| code.name)).collect();
    schema(json!({"type": "string", "enum": names}))
});
