//! The error that every function of a provider returns: the contract's `error` variant, case for case.
//!
//! A host acts on the case (it waits, asks the person again, or gives up) and shows the message. So a message is one or
//! two sentences for a person, and **never contains a secret**: no setting marked secret, no user name, password or
//! code, no key, no body of an answer.

/// What a provider's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as cases that a host can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is missing or cannot be right, whatever the server thinks of it. No request was made.
    #[error("{message}")]
    InvalidSettings {
        /// Which setting, by its name in the description; `None` when the fault lies in the combination.
        setting: Option<String>,
        /// For a person; does not repeat the value.
        message: String,
    },
    /// The server does not accept these credentials: wrong, expired or revoked.
    #[error("{0}")]
    Unauthenticated(String),
    /// The credentials are good but may not do this.
    #[error("{0}")]
    PermissionDenied(String),
    /// The text is not a reference of this provider's scheme. No request was made.
    #[error("{0}")]
    InvalidReference(String),
    /// The reference is well formed, and there is no such item, or the credentials cannot see it.
    #[error("{0}")]
    NotFound(String),
    /// The item is no longer at the expected revision, or somebody else wrote at the same time. Nothing was written.
    #[error("{0}")]
    Conflict(String),
    /// The server refuses for now because of too many requests.
    #[error("{message}")]
    RateLimited {
        /// How many seconds the server asked to wait, from now; `None` when it did not say.
        retry_after_seconds: Option<u32>,
        /// For a person.
        message: String,
    },
    /// The server could not be reached, did not answer in time or answered that it is out of order. The same call may
    /// work later; whether a write took effect is unknown.
    #[error("{0}")]
    Unavailable(String),
    /// The provider cannot do this at all, or not for this kind of item.
    #[error("{0}")]
    Unsupported(String),
    /// The server answered something that its protocol does not allow. Retrying at once will not help.
    #[error("{0}")]
    UnexpectedAnswer(String),
    /// A condition that has no case of its own.
    #[error("{message}")]
    Other {
        /// Machine-readable: lower case, words separated by `-`. A host that does not know it treats it as final.
        code: String,
        /// For a person.
        message: String,
    },
}

impl Error {
    /// [`Error::InvalidSettings`] for one setting.
    pub fn invalid_setting(setting: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidSettings { setting: Some(setting.into()), message: message.into() }
    }

    /// [`Error::Other`] with its code.
    pub fn other(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Other { code: code.into(), message: message.into() }
    }
}
