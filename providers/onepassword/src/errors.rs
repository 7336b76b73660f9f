//! Failed requests, and the error messages for them.
//!
//! Invariants: no message contains any part of a body, a header or a reference. Messages consist of
//! fixed sentences, the server's name, numbers, and the name of the vault in question. And only
//! 1Password's own error object refuses anything: proxies, firewalls and load balancers answer with
//! the same statuses, and what they send goes away by itself ([`is_own`]).

use keyway_sdk::{
    Error,
    http::{HttpError, Response, retry_after_seconds},
};
use serde::Deserialize;

use crate::wire;

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server refused; the request had no effect (except perhaps for [`Refusal::OutOfOrder`]).
    Refused(Refusal),
    /// There was no complete answer; the request may or may not have had an effect.
    Transport(HttpError),
    /// The answer is invalid. The text completes "(server) answered ...".
    Garbled(&'static str),
    /// An error for the host that needs no conversion, from the sign-in or the session store.
    Final(Error),
}

/// A complete answer that is not a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadRequest,
    /// The session is not accepted or, at sign-in, the token.
    Unauthorized,
    Forbidden,
    NotFound,
    Conflict,
    /// Seconds to wait, if the server said so.
    RateLimited(Option<u32>),
    /// 408 or 5xx.
    OutOfOrder(u16),
    /// A status that refuses, with a body that is not 1Password's. The text completes "(server)
    /// answered ...".
    Foreign(u16, &'static str),
    /// Any other status.
    Unexpected(u16),
    /// An error object with this code instead of a result.
    Code(i64),
}

/// What a request was about, for the message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked<'a> {
    /// One of the sign-in's steps.
    SignIn,
    /// Keysets, or the list of vaults.
    Account,
    /// One vault, by its name if that is known.
    Vault(Option<&'a str>),
    /// One item in that vault.
    Item(Option<&'a str>),
    /// A change of an item in that vault.
    Change(Option<&'a str>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// The error object of the protocol, in plain text or in an envelope.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorObject {
    error_code: i64,
}

/// Longer bodies are not error objects. The longest one on record has about 100 bytes.
const MAX_ERROR_OBJECT: usize = 4 * 1024;

/// Whether a refusal's body is 1Password's own: an error object, a reason, or an empty object.
/// Those are all that real servers were seen to send (protocol notes, section 13).
fn is_own(body: &[u8]) -> bool {
    if body.len() > MAX_ERROR_OBJECT {
        return false;
    }
    let Ok(object) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body) else { return false };
    match object.get("errorCode") {
        Some(code) => code.is_i64(),
        None => {
            object.is_empty() || (object.len() == 1 && object.get("reason").is_some_and(|reason| reason.is_string()))
        }
    }
}

/// The code of an error object; `None` if the body is something else.
pub(crate) fn error_code(body: &[u8]) -> Option<i64> {
    if body.len() > MAX_ERROR_OBJECT {
        return None;
    }
    serde_json::from_slice::<ErrorObject>(body).ok().map(|object| object.error_code)
}

impl Refusal {
    /// Classifies an answer; `None` for a success.
    pub(crate) fn of(response: &Response, now: u64) -> Option<Self> {
        Some(match response.status {
            200..=299 => return None,
            status @ (400 | 401 | 403 | 404 | 410) if !is_own(&response.body) => {
                Self::Foreign(status, wire::what_it_is(&response.body))
            }
            // Before September 2025, servers used this status for several errors that now have
            // their own.
            400 => error_code(&response.body).map_or(Self::BadRequest, Self::from_code),
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 | 410 => Self::NotFound,
            409 => Self::Conflict,
            429 => Self::RateLimited(retry_after_seconds(&response.headers, now).or_else(|| delay_in(&response.body))),
            status @ (408 | 500..=599) => Self::OutOfOrder(status),
            status => Self::Unexpected(status),
        })
    }

    /// Classifies an error object.
    pub(crate) fn from_code(code: i64) -> Self {
        match code {
            102 => Self::Unauthorized,
            117 => Self::NotFound,
            code => Self::Code(code),
        }
    }
}

/// The delay in the body of a 429. Where the server puts it is not documented, so the usual names
/// are tried.
fn delay_in(body: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Delay {
        #[serde(
            alias = "retry_after",
            alias = "retryAfterSeconds",
            alias = "retry_after_seconds",
            rename = "retryAfter"
        )]
        seconds: f64,
    }
    if body.len() > MAX_ERROR_OBJECT {
        return None;
    }
    let seconds = serde_json::from_slice::<Delay>(body).ok()?.seconds.ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    (0.0..=f64::from(u32::MAX)).contains(&seconds).then_some(seconds as u32)
}

impl Failure {
    /// Converts the failure into an error of the contract. `server` is the server's name.
    pub(crate) fn into_error(self, server: &str, asked: Asked<'_>) -> Error {
        match self {
            Self::Final(error) => error,
            Self::Refused(refusal) => refusal.into_error(server, asked),
            Self::Garbled(what) => {
                let changed =
                    if matches!(asked, Asked::Change(_)) { " Whether the item was changed is unknown." } else { "" };
                Error::unexpected_answer(format!(
                    "{server} answered {what}, which 1Password does not do. Something between here and 1Password may \
                     have altered it.{changed}"
                ))
            }
            Self::Transport(error) => match (asked, error) {
                (
                    Asked::Change(_),
                    HttpError::Timeout
                    | HttpError::Connection
                    | HttpError::Incomplete
                    | HttpError::Protocol
                    | HttpError::TooLarge
                    | HttpError::Other(_),
                ) => Error::unavailable(format!(
                    "The connection to {server} failed while the item was being changed, so the change may or may not \
                     have been made. Read the item before trying again."
                )),
                (_, error) => error.into_error(server),
            },
        }
    }
}

impl Refusal {
    fn into_error(self, server: &str, asked: Asked<'_>) -> Error {
        match (self, asked) {
            (Self::Foreign(status, what), Asked::Change(_)) => Error::unavailable(format!(
                "{server} answered {what} (status {status}), which 1Password does not do, so the change may or may not \
                 have been made. Read the item before trying again."
            )),
            (Self::Foreign(status, what), _) => Error::unavailable(format!(
                "{server} answered {what} (status {status}), which 1Password does not do. A proxy or firewall between \
                 here and 1Password may have sent it. Try again later."
            )),
            (Self::BadRequest | Self::Unauthorized | Self::NotFound, Asked::SignIn) => token_refused(),
            (Self::Unauthorized, _) => token_refused(),
            (Self::Forbidden, Asked::SignIn) => Error::permission_denied(format!(
                "{server} refused the sign-in of this service account (status 403). Check in 1Password that the \
                 service account is active and that no firewall rule of the account blocks this network."
            )),
            (Self::Forbidden, Asked::Account) => Error::permission_denied(
                "1Password does not let this service account see its vaults. Grant it Read Items on at least one vault.",
            ),
            (Self::Forbidden, Asked::Vault(vault) | Asked::Item(vault)) => Error::permission_denied(format!(
                "The service account cannot read {}. Grant it Read Items on that vault.",
                the_vault(vault)
            )),
            (Self::Forbidden, Asked::Change(vault)) => read_only(vault),
            // Until September 2025 servers answered 400 to an unknown id.
            (Self::NotFound | Self::BadRequest, Asked::Vault(_)) => Error::not_found(
                "There is no such vault, or the service account cannot see it. Check the reference, and that the \
                 service account has Read Items on the vault.",
            ),
            (Self::NotFound | Self::BadRequest, Asked::Item(vault)) | (Self::NotFound, Asked::Change(vault)) => {
                Error::not_found(format!(
                    "There is no such item in {}. It may have been deleted or moved to another vault, or the service account can no longer read it.",
                    the_vault(vault)
                ))
            }
            (Self::Conflict, Asked::Change(_)) => Error::conflict(
                "Another client changed this vault at the same time, so nothing was written. Try again.",
            ),
            // Nothing was being written. A conflict would make the host read again and start over.
            (Self::Conflict, _) => Error::unavailable(format!(
                "{server} was busy with a change by another client (status 409). Try again in a moment."
            )),
            (Self::RateLimited(seconds), _) => Error::rate_limited(match seconds {
                Some(seconds) => format!(
                    "1Password received too many requests from this service account. It asks to wait {}.",
                    duration(seconds)
                ),
                None => "1Password received too many requests from this service account. Try again later.".to_owned(),
            })
            .retry_after(seconds),
            (Self::OutOfOrder(status), Asked::Change(_)) => Error::unavailable(format!(
                "{server} is unavailable (status {status}), so the change may or may not have been made. Read the \
                 item before trying again."
            )),
            (Self::OutOfOrder(status), _) => {
                Error::unavailable(format!("{server} is unavailable (status {status}). Try again later."))
            }
            (Self::Unexpected(status), _) if (300..400).contains(&status) => Error::unexpected_answer(format!(
                "{server} redirects elsewhere (status {status}); redirects are not followed. If the account has \
                 moved, create a new service account and reconnect."
            )),
            (Self::BadRequest, _) => {
                Error::unexpected_answer(format!("{server} did not understand the request (status 400)."))
            }
            (Self::NotFound, _) => {
                Error::unexpected_answer(format!("{server} does not know the request (status 404)."))
            }
            (Self::Unexpected(status), _) => {
                Error::unexpected_answer(format!("{server} answered with the unexpected status {status}."))
            }
            (Self::Code(code), _) => {
                Error::unexpected_answer(format!("{server} refused the request with its error {code}."))
            }
        }
    }
}

/// The token is not accepted. Other faults of a token are found without the server.
pub(crate) fn token_refused() -> Error {
    Error::unauthenticated(
        "1Password does not accept this service account token. It may have been revoked or have expired. Create a new \
         service account and reconnect.",
    )
}

/// This vault may not be written.
pub(crate) fn read_only(vault: Option<&str>) -> Error {
    Error::permission_denied(read_only_sentence(vault))
}

/// Why the vault may not be written, and what would change that.
pub(crate) fn read_only_sentence(vault: Option<&str>) -> String {
    format!("The service account can only read {}. Grant it Write Items on that vault.", the_vault(vault))
}

fn the_vault(name: Option<&str>) -> String {
    match name {
        Some(name) if !name.is_empty() => format!("the vault '{name}'"),
        _ => "the item's vault".to_owned(),
    }
}

fn duration(seconds: u32) -> String {
    match seconds {
        0..=119 => format!("{seconds} seconds"),
        _ => format!("{} minutes", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
#[path = "errors_tests.rs"]
mod tests;
