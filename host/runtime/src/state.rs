//! The surroundings of one call: a powerless WASI, the guarded way out, its session and its limits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Empty};
use keyway_clock::Clock;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error as HttpError, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx,
    WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::egress::{Body, Egress, EgressError, RequestEffect, RequestGate, RequestTimes};
use crate::limits::{Limiter, Limits};
use crate::output::Output;
use crate::redact::Received;
use crate::session::CallSession;
use crate::store::StateStore;

/// How the requests of one call leave the sandbox.
#[derive(Clone)]
pub(crate) struct WayOut {
    pub(crate) egress: Arc<dyn Egress>,
    /// Asked before each request.
    pub(crate) gate: Option<Arc<dyn RequestGate>>,
}

/// What a call uses of its connection. `describe` and `normalize-reference` use none.
pub(crate) struct Reach {
    pub(crate) way_out: WayOut,
    pub(crate) session: CallSession,
    pub(crate) state_store: Option<Arc<dyn StateStore>>,
}

/// The data of one call's store.
pub(crate) struct CallState {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    table: ResourceTable,
    pub(crate) limiter: Limiter,
    /// Absent while a component is described, when there is no connection yet.
    pub(crate) session: Option<CallSession>,
    /// Absent likewise, or when the embedder keeps no state.
    pub(crate) state_store: Option<Arc<dyn StateStore>>,
    pub(crate) output: Output,
    /// The time by which the call must end.
    pub(crate) deadline: tokio::time::Instant,
}

impl CallState {
    pub(crate) fn new(limits: &Limits, clock: Arc<dyn Clock>, reach: Option<Reach>, received: Received) -> Self {
        let (way_out, session, state_store) = match reach {
            Some(reach) => (Some(reach.way_out), Some(reach.session), reach.state_store),
            None => (None, None, None),
        };
        let output = Output::new(limits.log_bytes);
        // A new builder has no files, no arguments, no environment, no sockets and a closed
        // standard input.
        let wasi = WasiCtxBuilder::new()
            .stdout(output.clone())
            .stderr(output.clone())
            .wall_clock(WallClock(clock))
            .max_random_size(RANDOM_BYTES)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let hooks = Hooks { way_out, local_failure: Arc::default(), received };
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HEADER_BYTES);
        let limiter = Limiter::new(limits);
        let deadline = tokio::time::Instant::now() + limits.call_time;
        Self { wasi, http, hooks, table, limiter, session, state_store, output, deadline }
    }

    /// Records state kept between calls that passed the boundary: its tokens are secret in this
    /// call's output.
    pub(crate) fn passed(&self, state: &[u8]) {
        self.hooks.received.keep_state(state);
    }

    /// The gate that is asked before each request.
    #[cfg(feature = "testing")]
    pub(crate) fn gate(&self) -> Option<Arc<dyn RequestGate>> {
        self.hooks.way_out.as_ref()?.gate.clone()
    }

    /// The time left until the deadline.
    pub(crate) fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(tokio::time::Instant::now())
    }

    /// The first failure in this call that was not the secret manager's.
    pub(crate) fn local_failure(&self) -> Option<EgressError> {
        self.hooks.local_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for CallState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

struct WallClock(Arc<dyn Clock>);

impl wasmtime_wasi::HostWallClock for WallClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        let now = self.0.now().timestamp().as_duration();
        Duration::try_from(now).unwrap_or_default()
    }
}

/// The size of one list of headers in the host's memory. Common servers take 8 to 16 KiB.
///
/// One handle can hold this much, [`BODY_CHUNK_BYTES`] and what [`crate::request_parts`] allows.
/// All handles of a call (1,000) can together hold about as much as its own memory.
pub(crate) const HEADER_BYTES: usize = 32 << 10;

/// How much of a request's body is accepted before any of it is sent. Counts twice: one piece waits
/// while another is written. With wasmtime's default of 1 MiB, the requests that a call can begin
/// and not send could hold 2 GiB.
const BODY_CHUNK_BYTES: usize = 16 << 10;

/// Random bytes per request. They are generated one by one without yielding to other calls;
/// wasmtime's default of 64 MiB takes a good part of a second. Nonces, keys and the 511 bytes of an
/// SRP login are far smaller.
pub(crate) const RANDOM_BYTES: u64 = 64 << 10;

/// Passes every request that the gate admits to the connection's [`Egress`].
struct Hooks {
    way_out: Option<WayOut>,
    local_failure: Arc<Mutex<Option<EgressError>>>,
    received: Received,
}

/// Headers forbidden in addition to those of wasi:http: they would change how the connection itself
/// is used.
fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name)
        || matches!(name.as_str(), "te" | "trailer" | "expect" | "via" | "forwarded")
}

type Worker = Box<dyn Future<Output = Result<(), HttpError>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Worker), HttpError>;

impl WasiHttpHooks for Hooks {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _transmitted: Worker,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let Some(WayOut { egress, gate }) = self.way_out.clone() else {
            return Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)));
        };
        let (local_failure, received) = (self.local_failure.clone(), self.received.clone());
        let effect = RequestEffect::of(request.method());
        let options = options.unwrap_or_default();
        let times = RequestTimes {
            connect: options.connect_timeout,
            first_byte: options.first_byte_timeout,
            between_bytes: options.between_bytes_timeout,
        };
        let mut request =
            request.map(|body| body.map_err(|_| EgressError::InvalidRequest("its body was cut off")).boxed_unsync());
        // A compressed body cannot be searched for secrets. Without this header the server could
        // choose.
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let (request, again) = Again::of(request, effect);
        // Here and not in the future, which runs in a task of its own: requests queue in the order
        // in which the component makes them (see the guard's `queue`). Nothing is sent before the
        // future is polled.
        let sending = egress.send(request, times);
        Box::new(async move {
            let admitted = match &gate {
                Some(gate) => gate.admit(effect).await.map_err(EgressError::KeptBack),
                None => Ok(()),
            };
            let sent = match admitted {
                Ok(()) => sending.await,
                Err(kept_back) => Err(kept_back),
            };
            let sent = match (sent, again.and_then(Again::request)) {
                // It counts like any other: the server may have got the first one.
                (Err(EgressError::Stale(_)), Some(request)) => {
                    let admitted = match &gate {
                        Some(gate) => gate.admit(effect).await.map_err(EgressError::KeptBack),
                        None => Ok(()),
                    };
                    match admitted {
                        Ok(()) => egress.send(request, times).await,
                        Err(kept_back) => Err(kept_back),
                    }
                }
                (sent, _) => sent,
            };
            match sent {
                Ok(answer) => {
                    let answer = remembered(answer, received).map(|body| body.map_err(to_wasi).boxed_unsync());
                    Ok((answer, Box::new(std::future::ready(Ok(()))) as Worker))
                }
                Err(error) => {
                    if error.is_local() {
                        let mut first = local_failure.lock().unwrap_or_else(PoisonError::into_inner);
                        first.get_or_insert_with(|| error.clone());
                    }
                    Err(to_wasi(error))
                }
            }
        })
    }
}

/// What is needed to send a request a second time: its head, if it only reads, and whether any part
/// of a body was sent with it.
struct Again {
    head: http::request::Parts,
    has_body: Arc<AtomicBool>,
}

impl Again {
    /// The request, watched.
    fn of(request: http::Request<Body>, effect: RequestEffect) -> (http::Request<Body>, Option<Self>) {
        if effect != RequestEffect::Safe {
            return (request, None);
        }
        let (head, body) = request.into_parts();
        let again = Self { head: head.clone(), has_body: Arc::default() };
        let has_body = again.has_body.clone();
        let body = body.map_frame(move |frame| {
            has_body.store(true, Ordering::Relaxed);
            frame
        });
        (http::Request::from_parts(head, body.boxed_unsync()), Some(again))
    }

    /// The same request again; `None` if it had a body, which is gone.
    fn request(self) -> Option<http::Request<Body>> {
        let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
        (!self.has_body.load(Ordering::Relaxed)).then(|| http::Request::from_parts(self.head, empty))
    }
}

/// Words in the names of headers whose values may be secret.
const SECRET_HEADERS: [&str; 8] = ["auth", "cookie", "credential", "key", "location", "secret", "session", "token"];

/// Keeps the values of an answer for the call's redactor: tokens in its headers and values in its
/// body. The body of an unsuccessful answer is not searched: its text is the server's message.
fn remembered(answer: http::Response<Body>, received: Received) -> http::Response<Body> {
    for (name, value) in answer.headers() {
        if SECRET_HEADERS.iter().any(|word| name.as_str().contains(word)) {
            received.keep_state(value.as_bytes());
        }
    }
    if !answer.status().is_success() {
        return answer;
    }
    if answer.headers().get(http::header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        received.opaque();
        return answer;
    }
    let number = received.begin();
    answer.map(|body| {
        let kept = body.map_frame(move |frame| {
            if let Some(piece) = frame.data_ref() {
                received.keep(number, piece);
            }
            frame
        });
        kept.boxed_unsync()
    })
}

fn to_wasi(error: EgressError) -> HttpError {
    match error {
        EgressError::NotApproved(_) => HttpError::HttpRequestDenied,
        EgressError::InvalidRequest(_) => HttpError::HttpRequestUriInvalid,
        EgressError::PrivateAddress { .. } => HttpError::DestinationIpProhibited,
        EgressError::KeptBack(_) => HttpError::ConnectionLimitReached,
        EgressError::NameNotFound(_) => HttpError::DnsError { rcode: None, info_code: None },
        EgressError::ConnectFailed(_) | EgressError::Proxy { .. } => HttpError::ConnectionRefused,
        EgressError::ConnectTimeout(_) => HttpError::ConnectionTimeout,
        EgressError::Tls(_) | EgressError::UntrustedAuthority(_) => HttpError::TlsCertificateError,
        EgressError::AnswerTimeout(_) => HttpError::HttpResponseTimeout,
        EgressError::Interrupted(_) | EgressError::Stale(_) => HttpError::ConnectionTerminated,
        EgressError::Protocol(_) => HttpError::HttpProtocolError,
        EgressError::RequestTooLarge(limit) => HttpError::HttpRequestBodySize(Some(limit)),
        EgressError::AnswerTooLarge(limit) => HttpError::HttpResponseBodySize(Some(limit)),
    }
}
