//! A client for one server: default headers, JSON in and out, and failures as errors of the
//! contract.
//!
//! Messages name the server's host and what happened. They never contain a path, a query, a header
//! or any part of a body: those may hold ids and secrets. That excludes serde_json's own messages,
//! which quote values.

use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;
use zeroize::Zeroizing;

use super::{Headers, HttpError, Method, Request, Response, Timeouts, Transport, retry_after_seconds};
use crate::{Clock, Error, Host, Result, wiped};

/// A client for one server.
pub struct Client<'a> {
    transport: &'a dyn Transport,
    clock: &'a dyn Clock,
    base: Url,
    headers: Headers,
    timeouts: Timeouts,
}

impl<'a> Client<'a> {
    /// A client for the server at this address; paths of requests are appended to the path of the
    /// address. Query and fragment are dropped.
    pub fn new(host: &Host<'a>, mut base: Url) -> Self {
        base.set_query(None);
        base.set_fragment(None);
        Self { transport: host.http, clock: host.clock, base, headers: Headers::new(), timeouts: Timeouts::default() }
    }

    /// Sends this header with every request that does not set it.
    #[must_use]
    pub fn default_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.set(name, value);
        self
    }

    /// Sets the time-outs of every request that does not set its own.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// The server's address.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// A `GET` request; for the path see [`Client::request`].
    pub fn get(&self, path: &str) -> RequestBuilder<'_, 'a> {
        self.request(Method::Get, path)
    }

    /// A `POST` request; for the path see [`Client::request`].
    pub fn post(&self, path: &str) -> RequestBuilder<'_, 'a> {
        self.request(Method::Post, path)
    }

    /// A `PUT` request; for the path see [`Client::request`].
    pub fn put(&self, path: &str) -> RequestBuilder<'_, 'a> {
        self.request(Method::Put, path)
    }

    /// A `PATCH` request; for the path see [`Client::request`].
    pub fn patch(&self, path: &str) -> RequestBuilder<'_, 'a> {
        self.request(Method::Patch, path)
    }

    /// A request. `path` is the provider's own text, such as `api/v1/vaults`, with or without a
    /// leading slash. Add text from elsewhere, such as an id, with [`RequestBuilder::segment`] and
    /// [`RequestBuilder::query`], which encode it.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder<'_, 'a> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{}", self.base.path().trim_end_matches('/'), path.trim_start_matches('/')));
        let mut request = Request::new(method, url);
        request.timeouts = self.timeouts;
        for (name, value) in self.headers.iter() {
            request.headers.set(name, value);
        }
        RequestBuilder { client: self, request, fault: None }
    }

    /// Sends a request built by hand or by [`RequestBuilder::build`].
    ///
    /// # Errors
    ///
    /// As [`HttpError::into_error`] when there is no complete answer. An answer with any status is
    /// `Ok`.
    pub fn send(&self, request: Request) -> Result<Answer> {
        let host = host_of(&request.url);
        match self.transport.send(request) {
            Ok(response) => {
                let retry_after = retry_after_seconds(&response.headers, self.clock.now());
                Ok(Answer { response, host, retry_after })
            }
            Err(error) => Err(error.into_error(&host)),
        }
    }
}

fn host_of(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// Builds a request. A mistake (a body that cannot be JSON, a segment that is `..`) is reported
/// when it is sent.
#[must_use = "a request is sent by `send`"]
pub struct RequestBuilder<'c, 'a> {
    client: &'c Client<'a>,
    request: Request,
    fault: Option<&'static str>,
}

impl RequestBuilder<'_, '_> {
    /// Appends one encoded segment to the path; no text can escape its place in the path.
    pub fn segment(mut self, segment: &str) -> Self {
        if matches!(segment, "" | "." | "..") {
            self.fault = Some("a part of the path is empty, '.' or '..'");
        } else if let Ok(mut segments) = self.request.url.path_segments_mut() {
            segments.pop_if_empty().push(segment);
        }
        self
    }

    /// Appends a parameter to the query, encoded.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.request.url.query_pairs_mut().append_pair(name, value);
        self
    }

    /// Sets a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.request.headers.set(name, value);
        self
    }

    /// Sets a JSON body and the content type that goes with it.
    pub fn json(mut self, body: &impl Serialize) -> Self {
        match wiped::to_json(body) {
            Ok(bytes) => {
                self.request.headers.set("content-type", "application/json");
                self.request.body = bytes;
            }
            Err(_) => self.fault = Some("its body cannot be written as JSON"),
        }
        self
    }

    /// Sets a body and its content type.
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.request.headers.set("content-type", content_type);
        self.request.body = Zeroizing::new(body.into());
        self
    }

    /// Sets the time-outs of this request.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.request.timeouts = timeouts;
        self
    }

    /// The request so far, for a protocol that signs it.
    pub fn as_request(&self) -> &Request {
        &self.request
    }

    /// The finished request.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Other`](crate::ErrorCode::Other) with the code `invalid-request` if an earlier
    /// step was a mistake.
    pub fn build(self) -> Result<Request> {
        match self.fault {
            None => Ok(self.request),
            Some(fault) => Err(HttpError::InvalidRequest(fault.into()).into_error(&host_of(&self.request.url))),
        }
    }

    /// Sends the request.
    ///
    /// # Errors
    ///
    /// As [`Client::send`] and [`RequestBuilder::build`]. An answer with any status is `Ok`;
    /// [`Answer::success`] checks the status.
    pub fn send(self) -> Result<Answer> {
        let client = self.client;
        client.send(self.build()?)
    }
}

/// A complete answer with any status, and the context for error messages.
#[derive(Debug)]
pub struct Answer {
    response: Response,
    host: String,
    retry_after: Option<u32>,
}

impl Answer {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.response.status
    }

    /// The first value of this header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers.get(name)
    }

    /// The body, in any format.
    pub fn body(&self) -> &[u8] {
        &self.response.body
    }

    /// The underlying response.
    pub fn into_response(self) -> Response {
        self.response
    }

    /// How many seconds from now the server asks to wait; `None` if it does not ask.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after
    }

    /// The answer itself if its status is 2xx, else the error that the status means. If your server
    /// uses a status differently, check [`Answer::status`] first.
    ///
    /// # Errors
    ///
    /// 401 is [`ErrorCode::Unauthenticated`](crate::ErrorCode::Unauthenticated), 403
    /// [`ErrorCode::PermissionDenied`](crate::ErrorCode::PermissionDenied), 404 and 410
    /// [`ErrorCode::NotFound`](crate::ErrorCode::NotFound), 409 and 412
    /// [`ErrorCode::Conflict`](crate::ErrorCode::Conflict), 429
    /// [`ErrorCode::RateLimited`](crate::ErrorCode::RateLimited), 408 and 5xx
    /// [`ErrorCode::Unavailable`](crate::ErrorCode::Unavailable), all others
    /// [`ErrorCode::UnexpectedAnswer`](crate::ErrorCode::UnexpectedAnswer).
    pub fn success(self) -> Result<Self> {
        if (200..300).contains(&self.status()) { Ok(self) } else { Err(self.to_error()) }
    }

    /// The error that the status means, even for 2xx; see [`Answer::success`].
    pub fn to_error(&self) -> Error {
        let host = &self.host;
        match self.status() {
            401 => Error::unauthenticated(format!(
                "{host} does not accept these credentials. Check that they are complete and not expired or revoked."
            )),
            403 => Error::permission_denied(format!("{host} does not allow this with these credentials.")),
            404 | 410 => Error::not_found(format!("{host} cannot find this, or these credentials cannot see it.")),
            409 | 412 => Error::conflict(format!("{host} reports that this has changed in the meantime.")),
            429 => Error::rate_limited(match self.retry_after {
                Some(seconds) => {
                    format!("{host} received too many requests. It asks to wait {seconds} seconds.")
                }
                None => format!("{host} received too many requests. Try again later."),
            })
            .retry_after(self.retry_after),
            status @ (408 | 500..=599) => {
                Error::unavailable(format!("{host} is unavailable (status {status}). Try again later."))
                    .retry_after(self.retry_after)
            }
            status @ 300..=399 => Error::unexpected_answer(format!(
                "{host} redirects elsewhere (status {status}); redirects are not followed. Check the address."
            )),
            status => Error::unexpected_answer(format!("{host} answered with the unexpected status {status}.")),
        }
    }

    /// The body as JSON; `T` decides about unknown members.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnexpectedAnswer`](crate::ErrorCode::UnexpectedAnswer) if the content type is
    /// missing or not JSON, or if the body does not fit `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let host = &self.host;
        if !self.header("content-type").is_some_and(is_json) {
            return Err(Error::unexpected_answer(format!(
                "{host} answered with content that is not JSON. Check the address."
            )));
        }
        serde_json::from_slice(self.body()).map_err(|error| {
            // serde_json's message quotes values; its category and position do not.
            let what = match error.classify() {
                serde_json::error::Category::Eof => "with truncated JSON",
                serde_json::error::Category::Data => "with JSON of an unexpected form",
                serde_json::error::Category::Syntax | serde_json::error::Category::Io => "with invalid JSON",
            };
            let (line, column) = (error.line(), error.column());
            Error::unexpected_answer(format!("{host} answered {what} (line {line}, column {column})."))
        })
    }

    /// An [`ErrorCode::UnexpectedAnswer`](crate::ErrorCode::UnexpectedAnswer) that names the
    /// server. `what` completes "(host) answered ..." and must not contain a value.
    pub fn unexpected(&self, what: &str) -> Error {
        Error::unexpected_answer(format!("{} answered {what}.", self.host))
    }
}

/// `application/json` or anything with the suffix `+json` (RFC 6839), with any parameters.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
