//! Requests as 1Password's own client sends them, and reading answers.
//!
//! The client's name in `x-agilebits-client` must be one that the server knows, else it answers 403. Nobody outside
//! knows whether it accepts others, so it is that of the official SDK whose behaviour this provider follows; Keyway
//! introduces itself where that client names the program that uses it.

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

/// What the server knows this client as.
pub(crate) const CLIENT: &str = "1Password SDK/0050002";
/// The version of that client as device registrations spell it.
pub(crate) const CLIENT_VERSION: &str = "999999999";
/// The program in front of the integration's own name and version.
pub(crate) const USER_AGENT: &str = concat!("1Password JS SDK/0050002 Keyway/", env!("CARGO_PKG_VERSION"));

/// Sends requests to the server of one token.
pub(crate) struct Wire<'a> {
    pub(crate) host: &'a Host<'a>,
    pub(crate) token: &'a Token,
}

/// What differs from request to request besides the body.
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
        let invalid = |_| Failure::Transport(HttpError::InvalidRequest("its path is not one".to_owned()));
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

    /// Kind and version of the client, device, library and its version, operating system, its
    /// version, processor.
    fn op_user_agent(&self) -> String {
        let (device, version) = (&self.token.device_id, env!("CARGO_PKG_VERSION"));
        format!("1|SDK|{CLIENT_VERSION}|{device}|||Keyway|{version}|linux|0.0.0|x64")
    }
}

/// Refuses an answer that says itself that it is no JSON, such as the page of a proxy. What the
/// real server calls its answers is not documented, so a missing type and plain text pass; what is
/// in them is looked at in any case.
pub(crate) fn check_type(response: &Response) -> Result<(), Failure> {
    let essence = response.headers.get("content-type").and_then(|value| value.split(';').next()).unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    if essence.is_empty() || essence == "text/plain" || essence.ends_with("json") {
        Ok(())
    } else {
        Err(Failure::Garbled("with another type of content than JSON"))
    }
}

/// Reads JSON: an answer that is not in an envelope, or what was in it.
pub(crate) fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| Failure::Garbled(what_is_wrong(json, &error)))
}

/// Opens an answer that must be in an envelope under the session's key.
pub(crate) fn open(response: &Response, key: &SymmetricKey) -> Result<Zeroizing<Vec<u8>>, Failure> {
    check_type(response)?;
    let envelope: Envelope = read(&response.body)?;
    if envelope.cty != CONTENT_TYPE {
        return Err(Failure::Garbled("something that is not encrypted as it must be"));
    }
    key.open(&envelope).map_err(|error| {
        Failure::Garbled(match error {
            OpenError::WrongKey => "something that belongs to another session",
            OpenError::Integrity => {
                "something that was not encrypted with this session's key or was altered on the way"
            }
            OpenError::Algorithm | OpenError::Malformed => "something that is not encrypted as it must be",
        })
    })
}

/// serde_json's own message quotes values; this does not.
fn what_is_wrong(json: &[u8], error: &serde_json::Error) -> &'static str {
    match error.classify() {
        _ if json.trim_ascii().is_empty() => "with an empty body",
        _ if json.trim_ascii_start().starts_with(b"<") => "with a web page",
        serde_json::error::Category::Eof => "only half of what it must",
        serde_json::error::Category::Data => "JSON of an unknown form",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "something that is not JSON",
    }
}
