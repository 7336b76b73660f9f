//! HTTP for providers: requests and answers with complete bodies.
//!
//! [`Transport`] abstracts the network. In the sandbox it is `wasi:http`, guarded by the host; in
//! native unit tests it is [`FakeTransport`](crate::testing::FakeTransport). Most providers use
//! [`Client`] on top of it: JSON in and out, and failures as the contract's [`Error`]. A provider
//! with a special protocol (encrypted bodies, a 401 with another meaning) uses [`Request`] and
//! [`Response`] directly.
//!
//! Bodies and header values may hold secrets, so they are wiped when dropped and never printed.

mod client;
mod headers;
mod retry_after;

use std::fmt;
use std::time::Duration;

use url::Url;
use zeroize::Zeroizing;

use crate::Error;

pub use client::{Answer, Client, RequestBuilder};
pub use headers::Headers;
pub use retry_after::retry_after_seconds;

/// The largest body of an answer, in bytes: the size that hosts must let through by the contract.
pub const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// Sends one request and waits for the complete answer.
pub trait Transport {
    /// Sends the request. Redirects are not followed; they are answers like any other.
    ///
    /// # Errors
    ///
    /// If there is no complete answer. An answer with any status is `Ok`.
    fn send(&self, request: Request) -> Result<Response, HttpError>;
}

/// A request with its complete body.
pub struct Request {
    /// The method.
    pub method: Method,
    /// The address, with the scheme `https` or `http`. A fragment is not sent.
    pub url: Url,
    /// The headers, without `host` and `content-length`, which the transport adds.
    pub headers: Headers,
    /// The body; empty for none.
    pub body: Zeroizing<Vec<u8>>,
    /// The time-outs.
    pub timeouts: Timeouts,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Headers::new(), body: Zeroizing::default(), timeouts: Timeouts::default() }
    }
}

/// Prints no header value and no body, and the URL only up to the query.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("host", &self.url.host_str())
            .field("path", &self.url.path())
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// An answer with its complete body, whatever its status.
#[derive(Default)]
pub struct Response {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The headers.
    pub headers: Headers,
    /// The body; empty when there is none.
    pub body: Zeroizing<Vec<u8>>,
}

/// Prints no header value and no body.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// A method (RFC 9110, section 9; RFC 5789).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
}

impl Method {
    /// The method as in a request line, for example `GET`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The time-outs of each part of an exchange. A host may apply shorter ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For connecting, TLS included.
    pub connect: Duration,
    /// From the complete request to the first byte of the answer.
    pub first_byte: Duration,
    /// Between two pieces of the answer's body.
    pub between_bytes: Duration,
}

impl Default for Timeouts {
    /// 5, 15 and 5 seconds: together less than the 30 seconds after which a host ends a call by
    /// default, so that an unresponsive server is reported as such.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(15),
            between_bytes: Duration::from_secs(5),
        }
    }
}

/// Why there is no complete answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The host does not allow this request: its destination is not one of the description's, is
    /// not approved, or is an address that is never allowed.
    #[error("the request was refused by the host")]
    Denied,
    /// The connection, the answer or the next piece of it took too long.
    #[error("timed out")]
    Timeout,
    /// The name could not be resolved.
    #[error("the name could not be resolved")]
    Dns,
    /// The connection could not be made, or it broke before the answer began.
    #[error("the connection failed")]
    Connection,
    /// The server's certificate was not accepted, or TLS failed otherwise.
    #[error("the secure connection failed")]
    Tls,
    /// The answer ended before it was complete.
    #[error("the answer was cut off")]
    Incomplete,
    /// The answer is larger than [`MAX_RESPONSE_BYTES`].
    #[error("the answer is too large")]
    TooLarge,
    /// The answer is not HTTP.
    #[error("the answer is not valid HTTP")]
    Protocol,
    /// The request cannot be sent, for example because a header is malformed. The text names the
    /// problem and contains no value.
    #[error("the request is not valid: {0}")]
    InvalidRequest(String),
    /// Anything else. The text is a short name of the cause and contains no value.
    #[error("{0}")]
    Other(String),
}

impl HttpError {
    /// Converts it to an error of the contract. The message names the server's host and nothing
    /// else of the request.
    #[must_use]
    pub fn into_error(self, host: &str) -> Error {
        match self {
            Self::Denied => Error::permission_denied(format!(
                "Requests to {host} are not allowed here. Ask the operator to approve it as a destination of this connection."
            )),
            Self::Timeout => Error::unavailable(format!("{host} did not answer in time. Try again later.")),
            Self::Dns => {
                Error::unavailable(format!("The name {host} cannot be found. Check the address and try again."))
            }
            Self::Connection => Error::unavailable(format!("No connection to {host}. Try again later.")),
            Self::Tls => Error::unavailable(format!(
                "No secure connection to {host}: its certificate or its TLS version is not accepted."
            )),
            Self::Incomplete => Error::unexpected_answer(format!("The answer of {host} was cut off.")),
            Self::TooLarge => Error::unexpected_answer(format!(
                "The answer of {host} is larger than {} MiB.",
                MAX_RESPONSE_BYTES / (1024 * 1024)
            )),
            Self::Protocol => Error::unexpected_answer(format!("The answer of {host} is not valid HTTP.")),
            Self::InvalidRequest(what) => {
                Error::other("invalid-request", format!("A request to {host} could not be formed: {what}."))
            }
            Self::Other(what) => Error::unavailable(format!("The request to {host} failed: {what}.")),
        }
    }
}
