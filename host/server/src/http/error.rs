//! The JSON envelope of errors: `{"message", "error", "code", "statusCode"}`.
//!
//! The published clients show only `message`, not even the status. So it is always a string with
//! the whole meaning: what happened and what to do. Every answer with a status of 400 or more is
//! one of these, including those of the framework's own extractors.

use std::time::Duration;

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use keyway::{BrokerError, ErrorKind};
use utoipa::ToSchema;

use super::code::Code;
use super::reason::Reason;
use crate::view::dependents::Dependents;
use crate::view::message::message;
use crate::view::retry;
use crate::view::view;

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct ApiError {
    code: Code,
    reason: Option<Reason>,
    message: String,
    retry_after: Option<Duration>,
    /// For the log, when the message does not say it.
    detail: Option<String>,
    /// The entries that prevent the deletion of a connection.
    dependents: Option<Box<Dependents>>,
}

view! {
    /// Every answer with a status of 400 or more.
    #[derive(ToSchema)]
    pub(super) struct Envelope of error: ApiError {
        /// What happened and what to do, for people.
        message: String = error.message,
        /// The name of the status.
        error: &'static str = error.code.status.canonical_reason().unwrap_or("Error"),
        /// What happened, for programs.
        #[schema(value_type = Code)]
        code: &'static str = error.code.name,
        /// The cause, where the code has several.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        reason: Option<Reason> = error.reason,
        #[serde(rename = "statusCode")]
        #[schema(minimum = 400, maximum = 599)]
        status_code: u16 = error.code.status.as_u16(),
        #[serde(skip_serializing_if = "Option::is_none")]
        /// The entries that prevent the deletion of a connection.
        #[schema(inline, nullable = false)]
        dependents: Option<Dependents> = error.dependents.map(|dependents| *dependents),
    }
}

/// Passes details of an answer to the request log.
#[derive(Clone)]
pub(super) struct ForLog {
    /// The code of the error.
    pub(super) code: &'static str,
    /// Details that the message leaves out.
    pub(super) detail: Option<String>,
}

impl ApiError {
    /// An error with this code, its status, and this message.
    pub(crate) fn new(code: impl Into<Code>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            reason: None,
            message: message.into(),
            retry_after: None,
            detail: None,
            dependents: None,
        }
    }

    /// The request cannot be understood.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BAD_REQUEST, message)
    }

    /// The request is understood and breaks a rule.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// The workspace has too many requests in flight.
    pub(crate) fn overloaded() -> Self {
        let message = "this workspace is at its limit of requests in flight; try again in a moment";
        Self::new(ErrorKind::Busy, message).retry_after(Duration::from_secs(1))
    }

    /// Too many bodies of the workspace arrive.
    pub(crate) fn too_slow_bodies() -> Self {
        let message = "too many requests wait for the rest of their bodies; send each body at once, and try again in \
                       a moment";
        Self::new(ErrorKind::Busy, message).retry_after(Duration::from_secs(1))
    }

    /// There is no memory left for a body.
    pub(crate) fn no_memory() -> Self {
        let message = "requests and answers in flight use all the memory reserved for them; read the pending answers, \
                       and try again in a moment";
        Self::new(ErrorKind::Busy, message).retry_after(Duration::from_secs(1))
    }

    /// A fault of the server. `detail` goes to the log only.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        let message = "the server could not finish this request because of an internal fault; its log has details \
                       under the request id in the header x-request-id";
        Self { detail: Some(detail.into()), ..Self::new(ErrorKind::Internal, message) }
    }

    /// Adds a `Retry-After` header.
    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Marks the error as the client's to correct, whichever side found it.
    pub(super) fn into_bad_request(self) -> Self {
        Self { code: Code { status: StatusCode::BAD_REQUEST, ..self.code }, ..self }
    }
}

impl From<BrokerError> for ApiError {
    fn from(error: BrokerError) -> Self {
        let kind = error.kind();
        if kind == ErrorKind::Internal {
            return Self::internal(error.to_string());
        }
        let (reason, retry_after) = (Reason::of(&error), error.retry_after());
        let told = Self { reason, retry_after, ..Self::new(kind, message(&error)) };
        match error {
            // Credentials that were just entered and that the secret manager refuses are the
            // client's to correct; the code says who refused.
            BrokerError::NotVerified { .. } if kind == ErrorKind::ProviderRefused => told.into_bad_request(),
            BrokerError::ConnectionInUse(dependents) => Self { dependents: Some(Box::new(dependents.into())), ..told },
            _ => told,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(mut self) -> Response {
        let (code, retry_after, detail) = (self.code, self.retry_after, self.detail.take());
        let mut response = (code.status, Json(Envelope::from(self))).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = retry_after {
            // Rounded up: a retry that is a moment too early would be refused again.
            let seconds = retry::whole_seconds(wait);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if code == ErrorKind::Unauthenticated.into() {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("ApiKey header=\"cc-key\""));
        }
        response.extensions_mut().insert(ForLog { code: code.name, detail });
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use keyway::Thing;
    use keyway_runtime::{ErrorCode, ProviderError};
    use serde_json::{Value, json};

    use super::*;

    async fn answer(error: ApiError) -> (StatusCode, axum::http::HeaderMap, Value) {
        let (parts, body) = error.into_response().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn an_error_is_the_envelope_that_clients_know() {
        let (status, _, body) = answer(ApiError::bad_request("say it again")).await;
        assert_eq!(status, 400);
        let expected =
            json!({"message": "say it again", "error": "Bad Request", "code": "BAD_REQUEST", "statusCode": 400});
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn what_the_host_did_wrong_is_in_the_log_and_not_in_the_answer() {
        let response = ApiError::internal("disk full at /data").into_response();
        let for_log = response.extensions().get::<ForLog>().unwrap();
        assert_eq!((for_log.code, for_log.detail.as_deref()), ("INTERNAL_ERROR", Some("disk full at /data")));
        let (_, _, body) = answer(ApiError::internal("disk full at /data")).await;
        assert!(!body.to_string().contains("disk"));
    }

    #[tokio::test]
    async fn a_rate_limit_says_when_to_come_back_in_whole_seconds_rounded_up() {
        let limited = |wait| ProviderError::new(ErrorCode::RateLimited, "slow down").retry_after(wait);
        let (status, headers, body) = answer(BrokerError::Provider(limited(Duration::from_millis(1_200))).into()).await;
        assert_eq!((status.as_u16(), headers[RETRY_AFTER].to_str().unwrap()), (429, "2"));
        assert_eq!(body["message"], "slow down");
        assert!(body.get("reason").is_none(), "the code says it all");
    }

    #[tokio::test]
    async fn an_entry_and_its_item_that_are_not_there_are_told_apart() {
        let gone = ProviderError::new(ErrorCode::NotFound, "the item was deleted");
        for (error, reason) in
            [(BrokerError::NotFound(Thing::Entry), "NO_SUCH_ENTRY"), (BrokerError::Provider(gone), "NO_SUCH_ITEM")]
        {
            let (_, _, body) = answer(error.into()).await;
            assert_eq!((&body["code"], &body["reason"]), (&json!("NOT_FOUND"), &json!(reason)));
        }
    }
}
