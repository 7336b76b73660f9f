//! The layer around every request: an id, a limit of time, a log line, metrics, and an answer even
//! to a panic.
//!
//! The log line has the method, the template of the path, the status, the code of an error and the
//! duration. It has no query, header or body, and no path that the router does not know, because
//! users paste secrets into any of them.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, HOST, HeaderMap, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use keyway::{ErrorKind, request};

use super::code::Code;
use super::error::{ApiError, ForLog};
use super::memory::{self, Memory};
use super::metrics::Metrics;
use super::request_id::{REQUEST_ID, request_id};
use super::soon::soon;
use crate::peer::Peer;

/// The time limit until the head of the answer. A little less than the 60 s after which the
/// published clients give up, so that they get a message.
const REQUEST_TIME: Duration = Duration::from_secs(55);

/// Routes for operators, available even when the server is shutting down.
const FOR_OPERATORS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The description of the API is in memory only once, for all readers, and answers to operators
/// must always be available.
fn holds_nothing(route: Option<&str>) -> bool {
    route.is_some_and(|route| route == "/openapi.json" || FOR_OPERATORS.contains(&route))
}

/// The state of the layer. One layer does everything: each further one would copy the router and
/// box its future at every request.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(super) metrics: Metrics,
    pub(super) memory: Arc<Memory>,
    /// Whether the server is shutting down: no further request is begun.
    pub(crate) ending: AtomicBool,
}

impl Observer {
    /// Runs a request that HTTP allows, unless the server is shutting down. Operators are always
    /// let in.
    async fn let_in(&self, route: Option<&str>, has_host: bool, run: impl Future<Output = Response>) -> Response {
        if !has_host {
            return ApiError::bad_request("send one Host header with each request, as HTTP demands").into_response();
        }
        let is_operators = route.is_some_and(|route| FOR_OPERATORS.contains(&route));
        if !is_operators && self.ending.load(Ordering::Relaxed) {
            return ending().into_response();
        }
        run.await
    }
}

/// Whether a request names one host (RFC 9112, section 3.2). Proxies that pick another of several
/// names would let a request reach what it must not.
fn has_host(request: &Request) -> bool {
    let hosts = request.headers().get_all(HOST).iter().count();
    hosts == 1 || (hosts == 0 && request.version() != Version::HTTP_11)
}

/// The outermost layer.
pub(super) async fn observed(State(observer): State<Arc<Observer>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let is_http2 = request.version() == Version::HTTP_2;
    let peer = Peer::current();
    let _working = peer.clone().map(|peer| peer.work(is_http2));
    let id = request_id(request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    // What is passed on is pinned here: each future that holds another one by value holds it twice,
    // and all of that is allocated and wiped for each request.
    let has_host = has_host(&request);
    let run = pin!(next.run(request));
    let handle = pin!(async {
        let run = observer.let_in(route, has_host, run);
        let answered = AssertUnwindSafe(in_time(run)).catch_unwind().await;
        let mut response = match answered {
            Ok(Some(response)) if holds_nothing(route) => response,
            Ok(Some(response)) => memory::cover(response),
            Ok(None) => too_slow().into_response(),
            // The panic itself was logged where it happened.
            Err(_) => ApiError::internal("a handler panicked").into_response(),
        };
        let status = response.status().as_u16();
        let for_log: Option<ForLog> = response.extensions_mut().remove();
        let (code, detail) = for_log.map(|ForLog { code, detail }| (code, detail)).unzip();
        if let Some(detail) = detail.flatten() {
            tracing::error!(status, code, "{detail}");
        }
        let took = started.elapsed();
        observer.metrics.answered(&method, route, status, took);
        let ms = took.as_secs_f64() * 1_000.0;
        let ms = (ms * 1_000.0).round() / 1_000.0;
        let route = route.unwrap_or("unknown");
        // Metrics and audit log cover every request; a line for each success costs a seventh of the
        // server's throughput.
        if status < 400 {
            tracing::debug!(%method, route, status, ms, "answered");
        } else {
            tracing::info!(%method, route, status, code, ms, "answered");
        }
        response
    });
    let name = id.to_str().unwrap_or_default().into();
    let mut response = request::scope(name, observer.memory.scope(handle)).await;
    add_headers(response.headers_mut(), id);
    if !is_http2 && peer.is_some_and(|peer| peer.sent_pieces()) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Runs the future for at most [`REQUEST_TIME`]; `None` when it takes longer.
///
/// The timer is created only for a future that is not ready [soon]: under load nearly every request
/// waits for a moment, for the audit log. It is boxed, because inside the future its alignment
/// would make each request an allocation of the slower kind.
async fn in_time<T>(run: impl Future<Output = T>) -> Option<T> {
    let mut run = pin!(run);
    match soon(run.as_mut()).await {
        Some(done) => Some(done),
        None => Box::pin(tokio::time::timeout(REQUEST_TIME, run)).await.ok(),
    }
}

fn ending() -> ApiError {
    let message = "the server is shutting down; send the request again, to its successor";
    ApiError::new(ErrorKind::Ending, message).retry_after(Duration::from_secs(1))
}

fn too_slow() -> ApiError {
    let message = format!("the answer took longer than {} s; try again", REQUEST_TIME.as_secs());
    ApiError::new(Code::TIMEOUT, message)
}

fn add_headers(headers: &mut HeaderMap, id: HeaderValue) {
    headers.insert(REQUEST_ID, id);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A browser that shows an answer of this API must not run, load or frame any of it.
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use axum::{Router, middleware};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn answer(router: Router) -> (StatusCode, HeaderMap, serde_json::Value) {
        answer_to(router, Request::builder().header(HOST, "keyway")).await
    }

    async fn answer_to(router: Router, request: http::request::Builder) -> (StatusCode, HeaderMap, serde_json::Value) {
        let observer = Arc::new(Observer {
            metrics: Metrics::new(Default::default()),
            memory: Arc::default(),
            ending: AtomicBool::new(false),
        });
        let router = router.layer(middleware::from_fn_with_state(observer, observed));
        let (head, body) = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_like_any_other_and_says_nothing_of_itself() {
        async fn panics() -> &'static str {
            panic!("hunter2")
        }
        let (status, headers, body) = answer(Router::new().route("/", get(panics))).await;
        assert_eq!((status.as_u16(), &body["code"]), (500, &"INTERNAL_ERROR".into()));
        assert!(headers.contains_key(REQUEST_ID) && !body.to_string().contains("hunter2"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_takes_too_long_is_given_up_before_clients_do() {
        let never = || async { std::future::pending::<&'static str>().await };
        let started = tokio::time::Instant::now();
        let (status, _, body) = answer(Router::new().route("/", get(never))).await;
        assert_eq!((status.as_u16(), &body["code"]), (504, &"TIMEOUT".into()));
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[tokio::test]
    async fn a_request_names_one_host() {
        let status = async |request: http::request::Builder| {
            let (status, _, body) = answer_to(Router::new().route("/", get(|| async { "1" })), request).await;
            assert!(status == 200 || body["code"] == "BAD_REQUEST", "{body}");
            status.as_u16()
        };
        let request = Request::builder;
        assert_eq!(status(request().header(HOST, "keyway")).await, 200);
        assert_eq!(status(request()).await, 400);
        assert_eq!(status(request().header(HOST, "keyway").header(HOST, "keyway")).await, 400);
        assert_eq!(status(request().header(HOST, "a").header(HOST, "b").version(Version::HTTP_2)).await, 400);
        // In HTTP/2 it is part of the address; HTTP/1.0 has none.
        assert_eq!(status(request().version(Version::HTTP_2)).await, 200);
        assert_eq!(status(request().version(Version::HTTP_10)).await, 200);
    }
}
