//! The error that every function of a provider returns: the contract's `error`, field for field.
//!
//! A host acts on the code (it waits, asks the person again, or gives up) and shows the message. So
//! a message is one or two sentences for a person, and **never contains a secret**: no setting
//! marked secret, no user name, password or code, no key, no body of an answer.

use crate::Attribute;

/// The result of a provider's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong: a code for the host and a message for a person.
///
/// ```
/// use keyway_sdk::{Error, ErrorCode};
///
/// let error = Error::unavailable("The vault is sealed. Unseal it first.").retry_after(60);
/// assert_eq!(error.code, ErrorCode::Unavailable);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Error {
    /// The condition, for the host to match.
    pub code: ErrorCode,
    /// The message for a person: what happened, and what to do about it.
    pub message: String,
    /// With [`ErrorCode::InvalidSettings`]: the setting at fault, by its name in the description;
    /// `None` if the combination is at fault.
    pub setting: Option<String>,
    /// With [`ErrorCode::RateLimited`] and [`ErrorCode::Unavailable`]: how many seconds the server
    /// asked to wait, if it did.
    pub retry_after_seconds: Option<u32>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// The conditions that a host can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorCode {
    /// A setting is missing or invalid, whatever the server thinks of it. No request was made.
    InvalidSettings,
    /// The server does not accept these credentials: wrong, expired or revoked.
    Unauthenticated,
    /// The credentials are valid but may not do this.
    PermissionDenied,
    /// A person must first do something in the secret manager: unlock it, approve a device.
    ActionRequired,
    /// The text is not a reference of this provider. No request was made.
    InvalidReference,
    /// The reference is well formed, but there is no such item, or the credentials cannot see it.
    NotFound,
    /// The item is no longer at the expected revision, or was written by another client at the same
    /// time. Nothing was written.
    Conflict,
    /// The server refuses for now because there were too many requests.
    RateLimited,
    /// The server could not be reached, did not answer in time or reported that it is out of order.
    /// The same call may work later; whether a write took effect is unknown.
    Unavailable,
    /// The provider does not support this, or not for this kind of item.
    Unsupported,
    /// The server's answer violates its protocol. An immediate retry will not help.
    UnexpectedAnswer,
    /// Any other condition, by a name in lower case with words separated by `-`. A host that does
    /// not know the name treats it like [`ErrorCode::UnexpectedAnswer`].
    Other(String),
}

/// Defines a constructor for each code that needs only a message.
macro_rules! constructors {
    ($($name:ident => $code:ident),* $(,)?) => {
        $(
            #[doc = concat!("[`ErrorCode::", stringify!($code), "`] with a message.")]
            pub fn $name(message: impl Into<String>) -> Self {
                Self::new(ErrorCode::$code, message)
            }
        )*
    };
}

impl Error {
    /// An error with a code and a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), setting: None, retry_after_seconds: None, attributes: Vec::new() }
    }

    constructors!(
        invalid_settings => InvalidSettings,
        unauthenticated => Unauthenticated,
        permission_denied => PermissionDenied,
        action_required => ActionRequired,
        invalid_reference => InvalidReference,
        not_found => NotFound,
        conflict => Conflict,
        rate_limited => RateLimited,
        unavailable => Unavailable,
        unsupported => Unsupported,
        unexpected_answer => UnexpectedAnswer,
    );

    /// [`ErrorCode::InvalidSettings`] for one setting.
    pub fn invalid_setting(setting: impl Into<String>, message: impl Into<String>) -> Self {
        Self { setting: Some(setting.into()), ..Self::invalid_settings(message) }
    }

    /// [`ErrorCode::Other`] with its name.
    pub fn other(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Other(code.into()), message)
    }

    /// The same error with the number of seconds that the server asked to wait, if it did.
    #[must_use]
    pub fn retry_after(self, seconds: impl Into<Option<u32>>) -> Self {
        Self { retry_after_seconds: seconds.into(), ..self }
    }
}
