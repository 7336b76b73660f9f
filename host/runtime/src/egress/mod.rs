//! The only way out of the sandbox.
//!
//! A request leaves only through [`Egress::send`]. The host's own implementation is the guard in
//! `guard.rs`. It checks the destination against those approved for the connection, resolves the
//! name once, checks the address, connects to exactly that address and bounds sizes, times and
//! concurrency. `Egress` is a trait so that a conformance runner can put a layer in between (wrong
//! answers, cut connections, delays) without touching the component.

mod address;
mod authorities;
mod clock_skew;
mod connector;
mod destination;
mod guard;
mod policy;
mod proxy;
mod template;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use thiserror::Error;

pub(crate) use authorities::Trust;
pub use authorities::{Authorities, AuthoritiesError, CaStore};
pub(crate) use clock_skew::{ClockSkew, described};
pub(crate) use destination::from_setting;
pub use destination::{ApprovedDestination, DestinationError, Scheme};
pub(crate) use guard::Guard;
#[cfg(test)]
pub(crate) use guard::HEAD_BYTES;
pub use policy::{AddressRange, AddressRangeError, ConnectTo, ConnectToError, EgressPolicy};
pub use proxy::{NoProxy, Proxy, ProxyError, ProxyFault};
pub(crate) use template::DestinationTemplate;

/// The body of a request or an answer.
pub type Body = UnsyncBoxBody<Bytes, EgressError>;

/// The time-outs that the component asked for. The host's own limits always apply as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestTimes {
    /// For setting up the connection.
    pub connect: Option<Duration>,
    /// Until the head of the answer.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the answer's body.
    pub between_bytes: Option<Duration>,
}

/// Sends the requests of one connection.
pub trait Egress: Send + Sync + 'static {
    /// Sends a request, whose URI is absolute, and returns the head of the answer; its body is
    /// still to come.
    ///
    /// Nothing is sent before the future is polled, which may never happen: a [`RequestGate`] may
    /// keep the request back. Dropping the future or the body abandons the request.
    fn send(
        &self,
        request: http::Request<Body>,
        times: RequestTimes,
    ) -> BoxFuture<'static, Result<http::Response<Body>, EgressError>>;
}

/// The effect of a request at the server, as far as its method tells (RFC 9110, section 9.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestEffect {
    /// `GET`, `HEAD` or `OPTIONS`: it reads.
    Safe,
    /// Any other method: it may change something.
    Unsafe,
}

impl RequestEffect {
    pub(crate) fn of(method: &http::Method) -> Self {
        if method.is_safe() { Self::Safe } else { Self::Unsafe }
    }
}

/// A check before each request of a call leaves the sandbox, for counting or limiting requests. See
/// [`OpenConnection::with_gate`](crate::OpenConnection::with_gate).
#[async_trait::async_trait]
pub trait RequestGate: Send + Sync + 'static {
    /// Admits the request, or keeps it back and returns the reason (for a person; never a secret).
    ///
    /// The component waits in the meantime, and its time keeps running. To the component, a request
    /// that is kept back fails like one that found no free connection.
    async fn admit(&self, effect: RequestEffect) -> Result<(), String>;
}

/// The outcomes of one connection's requests since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestCounts {
    /// Got an answer, whatever its status.
    pub answered: u64,
    /// Went out, or tried to, and got no answer.
    pub failed: u64,
    /// Refused by the guard before anything was sent.
    pub refused: u64,
}

/// Counts for [`RequestCounts`].
#[derive(Debug, Default)]
pub(crate) struct RequestCounter {
    answered: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
}

impl RequestCounter {
    pub(crate) fn count(&self, error: Option<&EgressError>) {
        let counter = match error {
            None => &self.answered,
            Some(error) if error.is_refusal() => &self.refused,
            Some(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> RequestCounts {
        RequestCounts {
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// Why a request failed. Names the origin and the cause, never a path, a header or a body.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EgressError {
    /// The destination was not approved for this connection.
    #[error("{0} is not an approved destination of this connection")]
    NotApproved(String),
    /// The host has an address that is not on the public Internet.
    #[error("{}", private(.host, *.address, .kind))]
    PrivateAddress {
        /// The host.
        host: String,
        /// The address.
        address: IpAddr,
        /// What kind of address it is.
        kind: &'static str,
    },
    /// The request itself is not allowed (its method, a URI with a user name, a missing host).
    #[error("the request is not allowed: {0}")]
    InvalidRequest(&'static str),
    /// A [`RequestGate`] kept the request back.
    #[error("{0}")]
    KeptBack(String),
    /// The name cannot be resolved.
    #[error("the name {0} cannot be resolved")]
    NameNotFound(String),
    /// Nothing listens there, or the network is down.
    #[error("cannot connect to {0}")]
    ConnectFailed(String),
    /// Name look-up and connection took too long.
    #[error("connecting to {0} took too long")]
    ConnectTimeout(String),
    /// No trustworthy TLS connection.
    #[error("no secure connection to {0}: its certificate or protocol is not acceptable")]
    Tls(String),
    /// The certificate is from an authority that is not trusted.
    #[error(
        "the certificate of {0} is from an authority that is not trusted here. If it is the right server, add the authority's certificate with `ca_file`, or to the connection"
    )]
    UntrustedAuthority(String),
    /// The proxy failed, not the destination.
    #[error("the proxy {proxy} made no connection to {host}: {fault}")]
    Proxy {
        /// The proxy, without its credentials.
        proxy: String,
        /// The host that it should have connected to.
        host: String,
        /// Why.
        fault: ProxyFault,
    },
    /// No answer in time.
    #[error("{0} did not answer in time")]
    AnswerTimeout(String),
    /// The connection broke off.
    #[error("the connection to {0} ended in the middle")]
    Interrupted(String),
    /// A connection that had served earlier requests gave no byte of an answer to one that only
    /// reads: it has probably been dead since. The host repeats the request on a new one.
    #[error("the open connection to {0} no longer answers")]
    Stale(String),
    /// The other side does not speak HTTP.
    #[error("{0} did not answer in HTTP")]
    Protocol(String),
    /// The body of the request is larger than the limit.
    #[error("the request is larger than {0} bytes")]
    RequestTooLarge(u64),
    /// The body of the answer is larger than the limit.
    #[error("the answer is larger than {0} bytes")]
    AnswerTooLarge(u64),
}

impl EgressError {
    /// The cause without the destination, for the log.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NotApproved(_) => "destination not approved",
            Self::PrivateAddress { .. } => "private address",
            Self::InvalidRequest(_) => "invalid request",
            Self::KeptBack(_) => "kept back",
            Self::NameNotFound(_) => "name not resolved",
            Self::ConnectFailed(_) => "cannot connect",
            Self::ConnectTimeout(_) => "connecting took too long",
            Self::Tls(_) => "no secure connection",
            Self::UntrustedAuthority(_) => "certificate authority not trusted",
            Self::Proxy { .. } => "proxy failed",
            Self::AnswerTimeout(_) => "no answer in time",
            Self::Interrupted(_) => "connection ended in the middle",
            Self::Stale(_) => "open connection no longer answers",
            Self::Protocol(_) => "answer is not HTTP",
            Self::RequestTooLarge(_) => "request too large",
            Self::AnswerTooLarge(_) => "answer too large",
        }
    }

    /// Whether the host itself refused, before anything was sent.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::NotApproved(_) | Self::PrivateAddress { .. } | Self::InvalidRequest(_) | Self::KeptBack(_))
    }

    /// Whether the cause is this host's or its network's, and not the secret manager's. A component
    /// cannot tell these apart, so the host says it.
    pub(crate) fn is_local(&self) -> bool {
        self.is_refusal() || matches!(self, Self::Proxy { .. } | Self::UntrustedAuthority(_))
    }
}

fn private(host: &str, address: IpAddr, kind: &str) -> String {
    let what = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(literal) if address == literal => format!("{host} is {kind}"),
        _ => format!("{host} resolves to {address}, which is {kind}"),
    };
    format!("{what}. If that is right, the operator can allow the destination or a range with `allow_private`")
}
