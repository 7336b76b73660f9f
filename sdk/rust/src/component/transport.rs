//! HTTP over `wasi:http/outgoing-handler`. It blocks: a call of a component is a single thread with
//! nothing else to do.
//!
//! While a body is sent, the answer is watched too. If the server answers before it has read
//! everything, or the host refuses, the rest of the body is dropped at once. An answer shorter than
//! announced is an error, so that no provider reads half of one.

use std::time::Duration;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method as WasiMethod, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
    http_error_code,
};
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::StreamError;
use zeroize::Zeroizing;

use crate::http::{Headers, HttpError, MAX_RESPONSE_BYTES, Method, Request, Response, Timeouts, Transport};

/// How many bytes are read at once.
const READ_BYTES: u64 = 64 * 1024;

/// `wasi:http/outgoing-handler`.
#[derive(Debug, Clone, Copy)]
pub struct WasiTransport;

impl Transport for WasiTransport {
    fn send(&self, request: Request) -> Result<Response, HttpError> {
        let outgoing = prepare(&request)?;
        let body = if request.body.is_empty() { None } else { Some(outgoing.body().map_err(|()| internal())?) };
        let answer = outgoing_handler::handle(outgoing, Some(options(request.timeouts))).map_err(failure)?;
        {
            let answered = answer.subscribe();
            if let Some(body) = body {
                upload(body, &request.body, &answered);
            }
            answered.block();
        }
        match answer.get() {
            Some(Ok(Ok(response))) => receive(response, request.method),
            Some(Ok(Err(code))) => Err(failure(code)),
            Some(Err(())) | None => Err(internal()),
        }
    }
}

fn internal() -> HttpError {
    HttpError::Other("the host broke the rules of wasi:http".into())
}

fn invalid(what: &str) -> HttpError {
    HttpError::InvalidRequest(what.into())
}

fn prepare(request: &Request) -> Result<OutgoingRequest, HttpError> {
    let headers = Fields::new();
    for (name, value) in request.headers.iter() {
        // The name is the provider's own text; the value may be a secret.
        headers
            .append(name, value)
            .map_err(|_| invalid(&format!("the header '{name}' is not allowed or not valid")))?;
    }
    if !request.body.is_empty() {
        let length = request.body.len().to_string();
        headers.append("content-length", length.as_bytes()).map_err(|_| invalid("it has two lengths"))?;
    }
    let outgoing = OutgoingRequest::new(headers);
    let url = &request.url;
    let scheme = match url.scheme() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        other => Scheme::Other(other.to_owned()),
    };
    // `Url` includes the port only if it is not the scheme's default. A user name and password are
    // omitted: they belong in an `authorization` header.
    let host = url.host_str().ok_or_else(|| invalid("its address has no host"))?;
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    outgoing.set_method(&method(request.method)).map_err(|()| invalid("its method is not allowed"))?;
    outgoing.set_scheme(Some(&scheme)).map_err(|()| invalid("its address is neither https nor http"))?;
    outgoing.set_authority(Some(&authority)).map_err(|()| invalid("its address has no valid host"))?;
    outgoing.set_path_with_query(Some(&path)).map_err(|()| invalid("its address has no valid path"))?;
    Ok(outgoing)
}

fn method(method: Method) -> WasiMethod {
    match method {
        Method::Get => WasiMethod::Get,
        Method::Head => WasiMethod::Head,
        Method::Post => WasiMethod::Post,
        Method::Put => WasiMethod::Put,
        Method::Patch => WasiMethod::Patch,
        Method::Delete => WasiMethod::Delete,
        Method::Options => WasiMethod::Options,
    }
}

fn options(timeouts: Timeouts) -> RequestOptions {
    let nanoseconds = |time: Duration| Some(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let options = RequestOptions::new();
    // A host that does not support one of these returns an error; its own limit on the call applies
    // in any case.
    let _ = options.set_connect_timeout(nanoseconds(timeouts.connect));
    let _ = options.set_first_byte_timeout(nanoseconds(timeouts.first_byte));
    let _ = options.set_between_bytes_timeout(nanoseconds(timeouts.between_bytes));
    options
}

/// Sends the body until it is complete, the answer has begun or the connection has failed. The
/// answer shows which of these happened.
fn upload(body: OutgoingBody, bytes: &[u8], answered: &Pollable) {
    let sent = {
        let Ok(stream) = body.write() else { return };
        let writable = stream.subscribe();
        // Waits until some bytes may be written; `None` when writing is pointless.
        let permit = || loop {
            match stream.check_write() {
                Ok(0) => {}
                Ok(permitted) => return Some(usize::try_from(permitted).unwrap_or(usize::MAX)),
                Err(_) => return None,
            }
            const ANSWERED: u32 = 1;
            if poll(&[&writable, answered]).contains(&ANSWERED) {
                return None;
            }
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(permitted) = permit() else { return };
            let (piece, later) = rest.split_at(permitted.min(rest.len()));
            if stream.write(piece).is_err() {
                return;
            }
            rest = later;
        }
        stream.flush().is_ok() && permit().is_some()
    };
    if sent {
        // A failure here is the connection's and shows in the answer.
        let _ = OutgoingBody::finish(body, None);
    }
}

fn receive(response: IncomingResponse, method: Method) -> Result<Response, HttpError> {
    let status = response.status();
    let mut headers = Headers::new();
    for (name, value) in response.headers().entries() {
        headers.append(name, value);
    }
    let announced = headers.get("content-length").and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_RESPONSE_BYTES) && method != Method::Head {
        return Err(HttpError::TooLarge);
    }
    let body = read_body(&response)?;
    // These have no body, whatever length they announce (RFC 9110, section 8.6).
    let bodiless = method == Method::Head || matches!(status, 204 | 304);
    if announced.is_some_and(|length| length > body.len()) && !bodiless {
        return Err(HttpError::Incomplete);
    }
    Ok(Response { status, headers, body })
}

/// Reads to the end, and joins the pieces only then. A growing vector would leave unwiped copies
/// behind and need up to three times the memory.
fn read_body(response: &IncomingResponse) -> Result<Zeroizing<Vec<u8>>, HttpError> {
    let incoming = response.consume().map_err(|()| internal())?;
    let stream = incoming.stream().map_err(|()| internal())?;
    let mut pieces = Vec::new();
    let mut left = MAX_RESPONSE_BYTES;
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(piece) => {
                let piece = Zeroizing::new(piece);
                left = left.checked_sub(piece.len()).ok_or(HttpError::TooLarge)?;
                pieces.push(piece);
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                let error = http_error_code(&error).map_or_else(|| described(&error.to_debug_string()), failure);
                // The answer had begun, so a connection that fails now has cut it short.
                return Err(if error == HttpError::Connection { HttpError::Incomplete } else { error });
            }
        }
    }
    let mut body = Zeroizing::new(Vec::with_capacity(MAX_RESPONSE_BYTES - left));
    for piece in pieces {
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// The cause of a failed body on hosts that report it only in words: wasmtime up to 48 loses the
/// code (its `http-error-code` looks for another type than its bodies fail with). The words are not
/// passed on.
fn described(words: &str) -> HttpError {
    let words = words.to_ascii_lowercase();
    if words.contains("timeout") || words.contains("timed out") {
        HttpError::Timeout
    } else if words.contains("body size") || words.contains("bodysize") {
        HttpError::TooLarge
    } else {
        HttpError::Incomplete
    }
}

fn failure(code: ErrorCode) -> HttpError {
    match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => HttpError::Denied,
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => HttpError::Timeout,
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => HttpError::Dns,
        ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionRefused
        | ErrorCode::ConnectionTerminated => HttpError::Connection,
        ErrorCode::TlsProtocolError | ErrorCode::TlsCertificateError | ErrorCode::TlsAlertReceived(_) => HttpError::Tls,
        ErrorCode::HttpResponseIncomplete => HttpError::Incomplete,
        ErrorCode::HttpResponseBodySize(_) => HttpError::TooLarge,
        ErrorCode::HttpResponseHeaderSectionSize(_)
        | ErrorCode::HttpResponseHeaderSize(_)
        | ErrorCode::HttpResponseTrailerSectionSize(_)
        | ErrorCode::HttpResponseTrailerSize(_)
        | ErrorCode::HttpResponseTransferCoding(_)
        | ErrorCode::HttpResponseContentCoding(_)
        | ErrorCode::HttpUpgradeFailed
        | ErrorCode::HttpProtocolError => HttpError::Protocol,
        ErrorCode::HttpRequestBodySize(_) => invalid("its body is too large"),
        ErrorCode::HttpRequestLengthRequired => invalid("the server requires its length"),
        ErrorCode::HttpRequestMethodInvalid => invalid("its method is not allowed"),
        ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestUriTooLong => invalid("its address is not valid"),
        ErrorCode::HttpRequestHeaderSectionSize(_)
        | ErrorCode::HttpRequestHeaderSize(_)
        | ErrorCode::HttpRequestTrailerSectionSize(_)
        | ErrorCode::HttpRequestTrailerSize(_) => invalid("its headers are too large"),
        ErrorCode::ConnectionLimitReached => HttpError::Other("too many requests are in flight".into()),
        ErrorCode::LoopDetected => HttpError::Other("a proxy found a loop".into()),
        ErrorCode::ConfigurationError => HttpError::Other("the host is not configured for it".into()),
        // Its text may contain anything.
        ErrorCode::InternalError(_) => HttpError::Other("an internal error of the host".into()),
    }
}
