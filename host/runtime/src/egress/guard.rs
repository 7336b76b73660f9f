//! The host's own [`Egress`]: one pooled client for each connection of a workspace.
//!
//! The checks, in order: method and URI, approved destination, private address (before the name
//! look-up if the host is an address), turn, connection (`connector.rs`), then sizes and times
//! while the bodies stream. Redirects are not followed; they are answers like any other.

use std::error::Error as _;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::clock_skew::ClockSkew;
use super::connector::{Answered, Connector, target};
use super::policy::EgressPolicy;
use super::{ApprovedDestination, Body, Egress, EgressError, RequestCounter, RequestTimes};
use crate::limits::Limits;

/// How long an idle connection is kept. Shorter than the 60 s after which common load balancers
/// close theirs.
const IDLE_TIME: Duration = Duration::from_secs(50);

/// The part of the time for an answer after which a connection that served earlier requests, and
/// gives no byte of this answer, is taken for dead: 5 of 20 seconds, longer than a healthy server
/// takes, and short enough for a second request. Networks drop idle connections without a word.
const STALE_AFTER: u32 = 4;

/// The head of an answer, and a piece of its body. Common servers send heads of up to 16 KiB.
/// hyper's default of 408 KiB would stay in the host's memory for each answer that a component
/// keeps.
pub(crate) const HEAD_BYTES: usize = 64 << 10;

/// Admits requests to approved destinations.
pub(crate) struct Guard {
    pool: Arc<Pool>,
    approved: Arc<[ApprovedDestination]>,
    turns: Arc<Semaphore>,
    limits: Arc<Limits>,
    counter: Arc<RequestCounter>,
    clock_skew: Arc<ClockSkew>,
}

impl Guard {
    pub(crate) fn new(
        policy: Arc<EgressPolicy>,
        tls: Arc<rustls::ClientConfig>,
        approved: Arc<[ApprovedDestination]>,
        limits: Arc<Limits>,
        counter: Arc<RequestCounter>,
        clock_skew: Arc<ClockSkew>,
    ) -> Self {
        let connector = Connector::new(policy, tls, limits.connect_time);
        let pool = Arc::new(Pool::new(connector, limits.requests_per_connection as usize));
        let turns = Arc::new(Semaphore::new(limits.requests_per_connection as usize));
        Self { pool, approved, turns, limits, counter, clock_skew }
    }

    /// The destination that covers a request, and the origin to name in errors.
    fn check(&self, request: &Request<Body>) -> Result<(ApprovedDestination, String), EgressError> {
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return Err(EgressError::InvalidRequest("CONNECT and TRACE are not allowed"));
        }
        let authority = request.uri().authority().ok_or(EgressError::InvalidRequest("its URI has no host"))?;
        if authority.as_str().contains('@') {
            return Err(EgressError::InvalidRequest("its URI has a user name"));
        }
        let (scheme, host, port) = target(request.uri()).ok_or(EgressError::InvalidRequest("its URI has no host"))?;
        let name = if port == scheme.default_port() {
            format!("{}://{host}", scheme.as_str())
        } else {
            format!("{}://{host}:{port}", scheme.as_str())
        };
        match self.approved.iter().find(|approved| approved.covers(scheme, &host, port)) {
            Some(approved) => Ok((approved.clone(), name)),
            None => Err(EgressError::NotApproved(name)),
        }
    }
}

impl Egress for Guard {
    fn send(
        &self,
        request: Request<Body>,
        times: RequestTimes,
    ) -> BoxFuture<'static, Result<Response<Body>, EgressError>> {
        let started = Instant::now();
        let method = known(request.method());
        let checked = self.check(&request);
        let (pool, limits, counter) = (self.pool.clone(), self.limits.clone(), self.counter.clone());
        let (turn, clock_skew) = (queue(self.turns.clone()), self.clock_skew.clone());
        Box::pin(async move {
            let asked = clock_skew.now();
            let result = match &checked {
                Ok((_, name)) => forward(&pool, turn, &limits, name, request, times).await,
                Err(refusal) => Err(refusal.clone()),
            };
            if let Ok(answer) = &result {
                clock_skew.note(asked, answer.headers());
            }
            counter.count(result.as_ref().err());
            let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            // The component chose method and host, and could have put a secret into them, even into
            // an approved host below a wildcard. So the log shows the approved destination; the
            // call's error names the rest, with its secrets redacted.
            let Ok((destination, _)) = checked else { return result };
            match &result {
                Ok(answer) => {
                    tracing::debug!(method, %destination, status = answer.status().as_u16(), elapsed_ms, "request");
                }
                Err(error) if error.is_refusal() => {}
                // What is said of the proxy is nothing that the component chose.
                Err(error @ EgressError::Proxy { proxy, fault, .. }) => {
                    tracing::warn!(method, %destination, error = error.kind(), proxy, %fault, elapsed_ms, "request failed");
                }
                Err(error) => tracing::warn!(method, %destination, error = error.kind(), elapsed_ms, "request failed"),
            }
            result
        })
    }
}

/// The open connections.
///
/// When a request gets no answer, all of them are let go: what made one of them silent has probably
/// made all of them so, and each would cost a call its time.
struct Pool {
    connector: Connector,
    max_idle: usize,
    /// The client that holds them, and how many there were before it.
    client: Mutex<(u64, Client<Connector, Body>)>,
}

impl Pool {
    fn new(connector: Connector, max_idle: usize) -> Self {
        let client = Mutex::new((0, Self::client(&connector, max_idle)));
        Self { connector, max_idle, client }
    }

    fn client(connector: &Connector, max_idle: usize) -> Client<Connector, Body> {
        Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(max_idle)
            .http1_max_buf_size(HEAD_BYTES)
            .build(connector.clone())
    }

    fn get(&self) -> (u64, Client<Connector, Body>) {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the idle connections of the client with this number go.
    fn let_go(&self, number: u64) {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.0 == number {
            *client = (number + 1, Self::client(&self.connector, self.max_idle));
        }
    }
}

/// Whether the connection of this request has answered earlier ones.
fn has_answered(connection: &CaptureConnection) -> Option<Answered> {
    let mut extensions = http::Extensions::new();
    connection.connection_metadata().as_ref()?.get_extras(&mut extensions);
    extensions.remove()
}

/// The name of a standard method.
fn known(method: &Method) -> &'static str {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let names = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    known.iter().zip(names).find(|(known, _)| *known == method).map_or("another", |(_, name)| name)
}

type Turn = BoxFuture<'static, Result<OwnedSemaphorePermit, AcquireError>>;

/// Queues for a turn now, not when the request is first polled. A component may read its answers in
/// the order of its requests; the first must not wait behind later ones whose answers are not being
/// read yet.
fn queue(turns: Arc<Semaphore>) -> Turn {
    let mut turn: Turn = Box::pin(turns.acquire_owned());
    match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(permit) => Box::pin(std::future::ready(permit)),
        Poll::Pending => turn,
    }
}

async fn forward(
    pool: &Pool,
    turn: Turn,
    limits: &Limits,
    name: &str,
    request: Request<Body>,
    times: RequestTimes,
) -> Result<Response<Body>, EgressError> {
    let shorter = |asked: Option<Duration>, limit: Duration| asked.map_or(limit, |asked| asked.min(limit));
    let between = shorter(times.between_bytes, limits.answer_time);
    let answer_time = shorter(times.first_byte, limits.answer_time);
    let head_time = shorter(times.connect, limits.connect_time) + answer_time;
    let max_request = limits.request_body_bytes;
    let is_safe = request.method().is_safe();
    let mut request = request.map(|body| {
        Metered::new(body, max_request, EgressError::RequestTooLarge(max_request), limits.answer_time, name, None)
            .boxed_unsync()
    });
    let connection = capture_connection(&mut request);
    let (number, client) = pool.get();
    let exchange = async {
        let turn = turn.await.map_err(|_| EgressError::Interrupted(name.to_owned()))?;
        let is_reused = || is_safe && has_answered(&connection).is_some_and(|answered| answered.get());
        let mut pending = pin!(client.request(request));
        let answer = match tokio::time::timeout(answer_time / STALE_AFTER, &mut pending).await {
            Ok(answer) => answer,
            Err(_) if is_reused() => return Err(EgressError::Stale(name.to_owned())),
            Err(_) => pending.await,
        };
        let mut answer = answer.map_err(|error| match cause(&error, name) {
            EgressError::Interrupted(name) if is_reused() => EgressError::Stale(name),
            cause => cause,
        })?;
        if let Some(answered) = has_answered(&connection) {
            answered.set();
        }
        own_head(&mut answer)?;
        Ok::<_, EgressError>((turn, answer))
    };
    let exchanged = tokio::time::timeout(head_time, exchange).await;
    let exchanged = exchanged.unwrap_or_else(|_| Err(EgressError::AnswerTimeout(name.to_owned())));
    if let Err(EgressError::AnswerTimeout(_) | EgressError::Interrupted(_) | EgressError::Stale(_)) = &exchanged {
        pool.let_go(number);
    }
    let (turn, answer) = exchanged?;
    let max_answer = limits.response_body_bytes;
    let too_large = EgressError::AnswerTooLarge(max_answer);
    if answer.body().size_hint().lower() > max_answer {
        return Err(too_large);
    }
    let owned = name.to_owned();
    Ok(answer.map(|body| {
        let body = body.map_err(move |_| EgressError::Interrupted(owned.clone()));
        Metered::new(body.boxed_unsync(), max_answer, too_large, between, name, Some(turn)).boxed_unsync()
    }))
}

/// Copies what hyper cut out of its read buffer, which otherwise lives as long as any piece of it.
/// The client's own limit only says when to stop reading: up to twice as much may have arrived by
/// then.
fn own_head<T>(answer: &mut Response<T>) -> Result<(), EgressError> {
    let size: usize = answer.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size > HEAD_BYTES {
        return Err(EgressError::AnswerTooLarge(HEAD_BYTES as u64));
    }
    // The reason phrase is stored there.
    answer.extensions_mut().clear();
    for value in answer.headers_mut().values_mut() {
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = copy;
        }
    }
    Ok(())
}

/// Finds the reason in the client's error chain.
fn cause(error: &legacy::Error, name: &str) -> EgressError {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(own) = inner.downcast_ref::<EgressError>() {
            return own.clone();
        }
        if let Some(hyper) = inner.downcast_ref::<hyper::Error>() {
            if hyper.is_parse_too_large() {
                return EgressError::AnswerTooLarge(HEAD_BYTES as u64);
            }
            if hyper.is_parse() {
                return EgressError::Protocol(name.to_owned());
            }
            // The reason may lie deeper, such as a body that was too large.
            if !hyper.is_user() {
                return EgressError::Interrupted(name.to_owned());
            }
        }
        source = inner.source();
    }
    if error.is_connect() {
        EgressError::ConnectFailed(name.to_owned())
    } else {
        EgressError::Interrupted(name.to_owned())
    }
}

/// A body with a limit on its size and on the time between its pieces.
struct Metered {
    body: Body,
    left: u64,
    too_large: EgressError,
    between: Duration,
    timer: Pin<Box<Sleep>>,
    name: String,
    /// The turn among the connection's requests; released when the body is dropped.
    _turn: Option<OwnedSemaphorePermit>,
}

impl Metered {
    fn new(
        body: Body,
        limit: u64,
        too_large: EgressError,
        between: Duration,
        name: &str,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let timer = Box::pin(tokio::time::sleep(between));
        Self { body, left: limit, too_large, between, timer, name: name.to_owned(), _turn: turn }
    }
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = EgressError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                match this.left.checked_sub(size) {
                    Some(left) => this.left = left,
                    None => return Poll::Ready(Some(Err(this.too_large.clone()))),
                }
                this.timer.as_mut().reset(tokio::time::Instant::now() + this.between);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => {
                ready!(this.timer.as_mut().poll(cx));
                Poll::Ready(Some(Err(EgressError::AnswerTimeout(this.name.clone()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod proxy_tests;
