//! What the answers of the server mean, as errors of the contract.
//!
//! The texts of the server are matched and never shown: they may quote a path or a value.
//!
//! **403.** OpenBao and Vault answer 403 both to a token that they do not accept and to one that
//! may not do this. The texts differ: the check of the token fails before the request is handled,
//! so its answer is a bare `permission denied` (Vault adds `invalid token`), while a refusal by the
//! policies is counted, `1 error occurred: * permission denied`. An answer without the server's own
//! form is a proxy's.

use keyway_sdk::{Error, Result, http::Answer, url::Url};
use serde::Deserialize;

#[derive(Deserialize)]
struct Refusal {
    errors: Vec<String>,
}

/// The texts of the server; `None` if the answer does not have its form.
fn texts(answer: &Answer) -> Option<Vec<String>> {
    // Some refusals have no body.
    if answer.body().is_empty() {
        return Some(Vec::new());
    }
    let body = answer.json::<Refusal>().map(|refusal| refusal.errors);
    // A deleted version is described like one that exists.
    body.ok().or_else(|| answer.json::<serde_json::Map<_, _>>().ok().map(|_: serde_json::Map<String, _>| Vec::new()))
}

/// The answer, if it is a success.
pub(crate) fn check(answer: Answer, address: &Url) -> Result<Answer> {
    let status = answer.status();
    if (200..300).contains(&status) {
        return Ok(answer);
    }
    let server = address.host_str().unwrap_or_default();
    let Some(texts) = texts(&answer).filter(|_| !(300..400).contains(&status)) else {
        return Err(foreign(&answer, address));
    };
    let says = |what: &str| texts.iter().any(|text| text.to_ascii_lowercase().contains(what));
    Err(match status {
        400 if says("check-and-set parameter") => {
            Error::conflict("The secret was changed in the meantime, so nothing was written. Read it again.")
        }
        400 if says("upgrading from non-versioned") => {
            Error::unavailable(format!("{server} is converting this mount to version 2. Try again in a minute."))
        }
        400 => Error::unexpected_answer(format!("{server} did not understand the request (status 400).")),
        401 | 403 if token_refused(&texts) => unauthenticated(server),
        401 | 403 => Error::permission_denied(format!(
            "The policies of these credentials do not allow this on {server}. Add the path to a policy."
        )),
        404 if says("namespace not found") => {
            Error::not_found(format!("{server} has no such namespace. Correct the setting 'namespace'."))
        }
        404 => Error::not_found(format!(
            "{server} has no such secret, or these credentials cannot see it. Check the path."
        )),
        405 => Error::unsupported(format!("{server} does not support this on this mount.")),
        // A server that lags behind another node of its cluster.
        412 => Error::unavailable(format!("{server} has not caught up with its cluster yet. Try again in a moment.")),
        429 => return Err(answer.to_error()),
        // Also answers of the health check that a load balancer may pass on: standby nodes.
        472 | 473 => Error::unavailable(format!("{server} is a standby node (status {status}). Try again later.")),
        503 if says("sealed") => {
            Error::unavailable(format!("{server} is sealed. It answers again when an operator unseals it."))
        }
        _ => return Err(answer.to_error()),
    }
    .retry_after(answer.retry_after_seconds().filter(|_| matches!(status, 412 | 472 | 473 | 503))))
}

/// The server does not accept the token.
pub(crate) fn unauthenticated(server: &str) -> Error {
    Error::unauthenticated(format!(
        "{server} does not accept the token: it is wrong, expired or revoked. Enter a new one."
    ))
}

/// Whether the server does not accept the token of the request.
pub(crate) fn refuses_token(answer: &Answer) -> bool {
    matches!(answer.status(), 401 | 403) && texts(answer).is_some_and(|texts| token_refused(&texts))
}

fn token_refused(texts: &[String]) -> bool {
    texts.iter().any(|text| {
        let text = text.trim();
        text == "permission denied" || text.contains("invalid token") || text.contains("missing client token")
    })
}

/// An answer that does not have the server's form.
fn foreign(answer: &Answer, address: &Url) -> Error {
    let server = address.host_str().unwrap_or_default();
    let status = answer.status();
    match status {
        300..400 => {
            let to = answer.header("location").and_then(|to| address.join(to).ok());
            match to.as_ref().and_then(Url::host_str).filter(|to| *to != server) {
                Some(active) => Error::unexpected_answer(format!(
                    "{server} is a standby node and redirects to {active}, where this connection may not go. Enter \
                     the address of the cluster's load balancer, or that one."
                )),
                None => answer.to_error(),
            }
        }
        429 | 500..600 => answer.to_error(),
        _ => Error::unavailable(format!(
            "{server} answered with status {status} and not in the form of OpenBao or Vault. A proxy in between may \
             have sent it. Check the address."
        )),
    }
}
