//! `GET /metrics`: metrics for operators, in the text format of OpenMetrics, which Prometheus and
//! compatible tools read.
//!
//! **Invariants:** a label is the template of a path, a method that HTTP defines, a status, or one
//! of the broker's own labels, and never input from a client. The answer contains no secret, so it
//! needs no key; it tells about all workspaces, so it is only at the operators' address. On this
//! machine, the `Host` header must name this machine: a browser that was led here by another name
//! (DNS rebinding) is refused.
//!
//! A request costs a look-up under a read lock, and an addition under a lock that is held for a few
//! nanoseconds. Metrics that are never read do not accumulate.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use keyway::ErrorKind;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::api::Api;
use super::error::ApiError;
use crate::peer::Peer;

/// In seconds: an answer from the cache takes a fraction of a millisecond, one that waits for a
/// secret manager up to 55 s.
const BUCKETS: [f64; 16] =
    [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// The label for a path that the router does not know.
const UNKNOWN: &str = "unknown";

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    method: &'static str,
    route: String,
    status: u16,
}

/// The metrics of requests, and all other metrics of the process.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<OfRequest, Histogram, fn() -> Histogram>,
}

impl Metrics {
    /// Added to those that the registry already has.
    pub(super) fn new(mut registry: Registry) -> Self {
        let requests = Family::<_, _, fn() -> Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register_with_unit(
            "keyway_http_request_duration",
            "Time from a request to the head of its answer, by path template",
            Unit::Seconds,
            requests.clone(),
        );
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("keyway_build", "The build of Keyway", build);
        Self { registry, requests }
    }

    /// Counts an answered request. `route` is the template of the matched route.
    pub(super) fn answered(&self, method: &Method, route: Option<&str>, status: u16, took: Duration) {
        let labels = OfRequest { method: method_name(method), route: route.unwrap_or(UNKNOWN).to_owned(), status };
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

/// A client may send any method name.
fn method_name(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    KNOWN.into_iter().find(|known| known == method).unwrap_or("other")
}

/// Answers with the metrics.
pub(super) async fn read(State(api): State<Api>, headers: HeaderMap) -> Result<Response, ApiError> {
    if Peer::current().is_some_and(|peer| peer.is_local()) && !names_this_machine(&headers) {
        let message = "here, metrics are for this machine; ask for them under localhost or a loopback address";
        return Err(ApiError::new(ErrorKind::Forbidden, message));
    }
    api.broker.connections().refresh_budgets().await;
    let mut text = String::with_capacity(16 << 10);
    text::encode(&mut text, &api.observer.metrics.registry).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let Ok(host) = host.parse::<Authority>() else { return false };
    let host = host.host().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_names() {
        let is_ours = |host: &'static str| {
            names_this_machine(&HeaderMap::from_iter([(HOST, axum::http::HeaderValue::from_static(host))]))
        };
        for ours in ["localhost", "LOCALHOST:9600", "127.0.0.1:9600", "127.1.2.3", "[::1]:9600", "[::1]"] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in ["", "evil.example", "localhost.evil.example:9600", "127.0.0.1.evil.example", "10.0.0.1", "a b"] {
            assert!(!is_ours(other), "{other}");
        }
        assert!(!names_this_machine(&HeaderMap::new()));
    }
}
