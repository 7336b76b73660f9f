//! The middleware around every request: counts it, checks the client's name, applies faults and
//! records the request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::calls::{Endpoint, SeenRequest};
use crate::faults::{Fault, RetryAfterForm};
use crate::refusal::Refusal;
use crate::server::EndConnection;
use crate::session::text;
use crate::world::World;

/// Client names that the real service is known to accept (protocol notes, section 2).
const CLIENTS: [&str; 2] = ["1Password SDK/", "1Password CLI/"];
/// The longest answer, larger than any vault of a test.
const LONGEST_ANSWER: usize = 256 * 1024 * 1024;

/// The fault of a request that is passed to its handler.
#[derive(Clone)]
pub(crate) struct ActiveFault(pub(crate) Option<Fault>);

/// The middleware.
pub(crate) async fn pass(
    State((world, endpoint)): State<(Arc<World>, Endpoint)>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    world.calls.count(endpoint);
    let method = request.method().to_string();
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let response = respond(&world, endpoint, request, next).await;
    world.calls.remember(SeenRequest {
        number: 0,
        endpoint,
        method,
        path,
        status: response.extensions().get::<EndConnection>().is_none().then(|| response.status().as_u16()),
        micros: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
    });
    response
}

async fn respond(world: &World, endpoint: Endpoint, mut request: Request, next: Next) -> Response {
    let fault = world.faults.take(endpoint);
    if let Some(answer) = instead(fault.as_ref()).await {
        return answer;
    }
    let client = text(request.headers(), "x-agilebits-client").unwrap_or_default();
    if !CLIENTS.iter().any(|known| client.starts_with(known)) {
        return Refusal::UnknownClient.answer(0);
    }
    request.extensions_mut().insert(ActiveFault(fault.clone()));
    let response = next.run(request).await;
    let response = match response.extensions().get::<Refusal>() {
        Some(refusal) => refusal.answer(world.next_request_id()),
        None => response,
    };
    spoilt(fault, response).await
}

/// The answer to a request that is not passed to its handler.
async fn instead(fault: Option<&Fault>) -> Option<Response> {
    match fault? {
        Fault::Status { status, retry_after_seconds, retry_after_in, body } => {
            let usual = json!({ "errorCode": status, "errorMessage": "Fault injected.", "requestId": 0 });
            let mut body = body.clone().unwrap_or(usual);
            let mut response =
                StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response();
            if let Some(seconds) = retry_after_seconds {
                if matches!(retry_after_in, RetryAfterForm::Body | RetryAfterForm::Both)
                    && let Some(members) = body.as_object_mut()
                {
                    members.insert("retryAfter".to_owned(), json!(seconds));
                }
                let value = match retry_after_in {
                    RetryAfterForm::Header | RetryAfterForm::Both => HeaderValue::from_str(&seconds.to_string()).ok(),
                    RetryAfterForm::HeaderDate => http_date(*seconds),
                    RetryAfterForm::Body => None,
                };
                value.and_then(|value| response.headers_mut().insert(header::RETRY_AFTER, value));
            }
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *response.body_mut() = Body::from(body.to_string());
            Some(response)
        }
        Fault::Delay { milliseconds } => {
            tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
            None
        }
        Fault::Hang { milliseconds } => {
            tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
            Some(EndConnection::response())
        }
        Fault::Drop { handled: false } => Some(EndConnection::response()),
        Fault::Garbage => {
            Some(([(header::CONTENT_TYPE, "application/json")], &b"\x00\xff{]garbage"[..]).into_response())
        }
        Fault::Oversized { bytes } => {
            Some(([(header::CONTENT_TYPE, "application/json")], vec![b'0'; *bytes]).into_response())
        }
        Fault::Redirect { location } => {
            let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
            Some((StatusCode::FOUND, [(header::LOCATION, location)], "{}").into_response())
        }
        _ => None,
    }
}

/// Applies the fault to the answer of a handled request.
async fn spoilt(fault: Option<Fault>, mut response: Response) -> Response {
    match fault {
        Some(Fault::Drop { handled: true }) => EndConnection::response(),
        Some(Fault::ContentType { value }) => {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(header::CONTENT_TYPE, value);
            }
            response
        }
        Some(Fault::Truncated) => {
            let (mut parts, body) = response.into_parts();
            let Ok(bytes) = axum::body::to_bytes(body, LONGEST_ANSWER).await else {
                return Refusal::Internal.answer(0);
            };
            parts.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
            Response::from_parts(parts, Body::new(Half { promised: bytes.len(), rest: Some(bytes) }))
        }
        _ => response,
    }
}

fn http_date(seconds: u32) -> Option<HeaderValue> {
    let time = Timestamp::now().checked_add(SignedDuration::from_secs(seconds.into())).ok()?;
    HeaderValue::from_str(&time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()).ok()
}

/// A body that fails after half of its promised length, which makes the server close the
/// connection.
struct Half {
    promised: usize,
    rest: Option<Bytes>,
}

impl http_body::Body for Half {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = match self.rest.take() {
            Some(bytes) => Ok(Frame::data(bytes.slice(..bytes.len() / 2))),
            None => Err(std::io::ErrorKind::ConnectionAborted.into()),
        };
        Poll::Ready(Some(next))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised as u64)
    }
}
