//! The protocol's error answers (notes, section 13): a status, and a body as observed from real
//! servers.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `x-agilebits-client` is missing or names an unknown client.
    UnknownClient,
    /// The request does not follow the protocol. The reason is for human readers; clients ignore
    /// it.
    BadRequest(&'static str),
    /// Signing in is refused.
    SignIn(u16),
    /// There is no such session, or the signature is wrong.
    NotAuthenticated,
    /// The account may not do this.
    Forbidden,
    /// There is no such vault or item, as far as the account can see; the rules set the status.
    Missing(u16),
    /// The vault has another content version.
    Conflict,
    /// The emulator itself failed.
    Internal,
}

impl Refusal {
    fn parts(self) -> (u16, &'static str, Value) {
        const JSON: &str = "application/json";
        let error = |code: u32, message: &str| json!({ "errorCode": code, "errorMessage": message, "requestId": 0 });
        match self {
            Self::UnknownClient => (403, "text/plain", Value::Null),
            Self::BadRequest("") => (400, JSON, json!({})),
            Self::BadRequest(reason) => (400, JSON, json!({ "reason": reason })),
            Self::SignIn(status) => (status, JSON, json!({})),
            Self::NotAuthenticated => (401, JSON, error(102, "Authentication required.")),
            Self::Forbidden => (403, JSON, error(103, "Forbidden.")),
            Self::Missing(400) => (400, JSON, json!({})),
            Self::Missing(403) => (403, JSON, error(103, "Forbidden.")),
            Self::Missing(status) => (status, "text/plain", error(117, "Not found.")),
            Self::Conflict => (409, JSON, json!({})),
            Self::Internal => (500, JSON, json!({})),
        }
    }

    /// The answer, with the number that error objects carry.
    pub(crate) fn answer(self, request_id: u64) -> Response {
        let (status, content_type, mut body) = self.parts();
        if let Some(id) = body.get_mut("requestId") {
            *id = request_id.into();
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
    }
}

impl IntoResponse for Refusal {
    /// The gate around every request replaces this with the real answer, because only the gate
    /// knows the request's number.
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
