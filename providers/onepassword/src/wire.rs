//! Sends requests as 1Password's own client does, and reads the answers.
//!
//! The server answers 403 unless it knows the client's name in `x-agilebits-client`. Which other
//! names it accepts is not documented, so this provider uses that of the official SDK whose
//! behaviour it follows. Keyway identifies itself where that SDK names the program that uses it.

use keyway_sdk::{
    Host,
    http::{HttpError, Method, Request, Response},
};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    envelope::{CONTENT_TYPE, Envelope, OpenError, SymmetricKey},
    errors::Failure,
    token::Token,
};

/// The client name sent to the server.
pub(crate) const CLIENT: &str = "1Password SDK/0050002";
/// The version of that client in device registrations.
pub(crate) const CLIENT_VERSION: &str = "999999999";
/// The program's user agent, before the integration's own name and version.
pub(crate) const USER_AGENT: &str = concat!("1Password JS SDK/0050002 Keyway/", env!("CARGO_PKG_VERSION"));

/// Sends requests to the server of one token.
pub(crate) struct Wire<'a> {
    pub(crate) host: &'a Host<'a>,
    pub(crate) token: &'a Token,
}

/// The parts of a request that vary, besides the body.
#[derive(Default)]
pub(crate) struct Credentials<'a> {
    pub(crate) session_id: Option<&'a str>,
    pub(crate) mac: Option<String>,
    pub(crate) throttle: Option<&'a str>,
}

impl Wire<'_> {
    /// Sends one request. `path` starts with `/` and consists of literals and checked ids.
    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        credentials: &Credentials<'_>,
        body: Vec<u8>,
    ) -> Result<Response, Failure> {
        let invalid = |_| Failure::Transport(HttpError::InvalidRequest("its path is invalid".to_owned()));
        let mut request = Request::new(method, self.token.server.join(path).map_err(invalid)?);
        let headers = &mut request.headers;
        headers.set("x-agilebits-client", CLIENT);
        headers.set("user-agent", USER_AGENT);
        headers.set("op-user-agent", self.op_user_agent());
        headers.set("op-data-consistency", "eventual");
        if let Some(token) = credentials.throttle {
            headers.set("op-throttling-token", token);
        }
        if let Some(id) = credentials.session_id {
            headers.set("x-agilebits-session-id", id);
        }
        if let Some(mac) = &credentials.mac {
            headers.set("x-agilebits-mac", mac.as_str());
        }
        request.body = Zeroizing::new(body);
        self.host.http.send(request).map_err(Failure::Transport)
    }

    /// Type and version of the client, device, library and its version, operating system, its
    /// version, processor.
    fn op_user_agent(&self) -> String {
        let (device, version) = (&self.token.device_id, env!("CARGO_PKG_VERSION"));
        format!("1|SDK|{CLIENT_VERSION}|{device}|||Keyway|{version}|linux|0.0.0|x64")
    }
}

/// Refuses an answer whose type says that it is not JSON, such as a proxy's error page. The content
/// type of the real server's answers is not documented, so a missing type and plain text pass; the
/// body is checked in any case.
pub(crate) fn check_type(response: &Response) -> Result<(), Failure> {
    let essence = response.headers.get("content-type").and_then(|value| value.split(';').next()).unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    if essence.is_empty() || essence == "text/plain" || essence.ends_with("json") {
        Ok(())
    } else {
        Err(Failure::Garbled("with a content type other than JSON"))
    }
}

/// Reads JSON, either an unencrypted answer or the content of an envelope.
pub(crate) fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| Failure::Garbled(what_is_wrong(json, &error)))
}

/// Opens an answer, which must be in an envelope under the session's key.
pub(crate) fn open(response: &Response, key: &SymmetricKey) -> Result<Zeroizing<Vec<u8>>, Failure> {
    check_type(response)?;
    let envelope: Envelope = read(&response.body)?;
    if envelope.cty != CONTENT_TYPE {
        return Err(Failure::Garbled("something that is not encrypted as required"));
    }
    key.open(&envelope).map_err(|error| {
        Failure::Garbled(match error {
            OpenError::WrongKey => "something that belongs to another session",
            OpenError::Integrity => {
                "something that was not encrypted with this session's key or was altered on the way"
            }
            OpenError::Algorithm | OpenError::Malformed => "something that is not encrypted as required",
        })
    })
}

/// serde_json's own message quotes values; this one does not.
fn what_is_wrong(json: &[u8], error: &serde_json::Error) -> &'static str {
    match error.classify() {
        _ if json.trim_ascii().is_empty() => EMPTY,
        _ if json.trim_ascii_start().starts_with(b"<") => WEB_PAGE,
        serde_json::error::Category::Eof => "with an incomplete body",
        serde_json::error::Category::Data => UNKNOWN_FORM,
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "something that is not JSON",
    }
}

const EMPTY: &str = "with an empty body";
const WEB_PAGE: &str = "with a web page";
const UNKNOWN_FORM: &str = "JSON of an unknown form";

/// Names a body that is not the expected one.
pub(crate) fn what_it_is(body: &[u8]) -> &'static str {
    match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        Ok(_) => UNKNOWN_FORM,
        Err(error) => what_is_wrong(body, &error),
    }
}
