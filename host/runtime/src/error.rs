//! The errors, in three kinds that stay apart all the way up: the provider's own answer
//! ([`ProviderError`]), a call that the sandbox ended ([`SandboxError`]) and a component that was
//! refused ([`LoadError`]).

use std::time::Duration;

use thiserror::Error;

use crate::contract::Attribute;

/// Why a call returned no answer.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The provider answered with an error of the contract.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The sandbox ended the call. The next call is not affected.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// An error of the contract (`types.error` in the WIT): a code to match and a message for a person.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct ProviderError {
    /// The condition, for code to match.
    pub code: ErrorCode,
    /// The message for a person. Contains no secret that the host knows of.
    pub message: String,
    /// With [`ErrorCode::InvalidSettings`]: the setting at fault, unless the combination is.
    pub setting: Option<String>,
    /// With [`ErrorCode::RateLimited`] and [`ErrorCode::Unavailable`]: how long the server asked to
    /// wait, if it did.
    pub retry_after: Option<Duration>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// The conditions of the contract (`types.error-code` in the WIT).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// A setting is missing or invalid.
    InvalidSettings,
    /// The server does not accept the credentials.
    Unauthenticated,
    /// The credentials may not do this.
    PermissionDenied,
    /// A person must first do something in the secret manager.
    ActionRequired,
    /// Not a reference of this provider.
    InvalidReference,
    /// No such item.
    NotFound,
    /// The item has changed since it was read; nothing was written.
    Conflict,
    /// Too many requests.
    RateLimited,
    /// The server cannot be reached or is out of order.
    Unavailable,
    /// The provider does not support this.
    Unsupported,
    /// The server violated its protocol.
    UnexpectedAnswer,
    /// Any other condition, by the provider's own name for it.
    Other(String),
}

impl ErrorCode {
    /// The name in the contract, for example `rate-limited`; for `other`, the provider's own.
    pub fn as_str(&self) -> &str {
        match self {
            Self::InvalidSettings => "invalid-settings",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission-denied",
            Self::ActionRequired => "action-required",
            Self::InvalidReference => "invalid-reference",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate-limited",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::UnexpectedAnswer => "unexpected-answer",
            Self::Other(code) => code,
        }
    }
}

impl ProviderError {
    /// An error with a code and a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), setting: None, retry_after: None, attributes: Vec::new() }
    }

    /// [`ErrorCode::InvalidSettings`] about one setting.
    pub fn invalid_setting(setting: impl Into<String>, message: impl Into<String>) -> Self {
        Self { setting: Some(setting.into()), ..Self::new(ErrorCode::InvalidSettings, message) }
    }

    /// The same error with a time to wait before a retry.
    #[must_use]
    pub fn retry_after(self, retry_after: impl Into<Option<Duration>>) -> Self {
        Self { retry_after: retry_after.into(), ..self }
    }

    /// Whether the error is about the login, and so affects every call of the connection rather
    /// than one item.
    pub(crate) fn concerns_login(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::InvalidSettings
                | ErrorCode::Unauthenticated
                | ErrorCode::PermissionDenied
                | ErrorCode::ActionRequired
                | ErrorCode::RateLimited
                | ErrorCode::Unavailable
        )
    }

    /// The name of the code, for example `rate-limited`.
    pub fn code(&self) -> &str {
        self.code.as_str()
    }
}

/// Why the sandbox ended a call. Each limit has its own case, and its value is in the message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The component trapped: a panic, an abort, an illegal instruction.
    #[error(
        "the provider crashed ({reason}). This is a fault of the provider component; the next call is not affected"
    )]
    Trapped {
        /// The kind of trap. Never contains data of the component.
        reason: String,
    },
    /// The call exceeded its time.
    #[error("the provider did not answer `{operation}` within {} s and was stopped", limit.as_secs_f64())]
    TimedOut {
        /// The contract's name for the call, for example `list-items`.
        operation: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The component exceeded its memory.
    #[error("the provider needed more than {} MiB of memory and was stopped", limit_bytes >> 20)]
    OutOfMemory {
        /// The limit.
        limit_bytes: usize,
    },
    /// The answer, or data that the component asked the host to keep, is too large.
    #[error("the provider's answer is larger than {} KiB and was discarded", limit_bytes >> 10)]
    OutputTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The answer breaks the contract (a revision that is too long, a malformed code).
    #[error("the provider's answer breaks the contract: {0}")]
    InvalidAnswer(String),
    /// The component's functions have other types than this host's. It was built from another draft
    /// of the contract.
    #[error("the provider was built for another shape of the contract: {0}")]
    OtherShape(String),
    /// Another limit of the sandbox (tables, instances, handles).
    #[error("the provider exceeded the sandbox's limit of {0} and was stopped")]
    LimitExceeded(String),
    /// As many calls as the host allows are already running, for this connection or in total.
    #[error("the host is already running as many provider calls as it may ({limit}); try again in a moment")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// The host itself failed.
    #[error("the host could not run the call: {0}")]
    Host(String),
}

/// wasmtime's message for a stack overflow, without its prefix.
const STACK_EXHAUSTED: &str = "call stack exhausted";

impl SandboxError {
    /// The limit that ended the call: `time`, `memory`, `stack`, `output`, `resources` (tables,
    /// handles, headers) or `concurrency`; `None` when it was none of them.
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            Self::TimedOut { .. } => Some("time"),
            Self::OutOfMemory { .. } => Some("memory"),
            Self::Trapped { reason } => (reason == STACK_EXHAUSTED).then_some("stack"),
            Self::OutputTooLarge { .. } => Some("output"),
            Self::LimitExceeded(_) => Some("resources"),
            Self::Busy { .. } => Some("concurrency"),
            Self::InvalidAnswer(_) | Self::OtherShape(_) | Self::Host(_) => None,
        }
    }
}

/// Why a component was refused.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the component: {0}")]
    Unreadable(String),
    /// Other users can change the file, or a folder that leads to it.
    #[error("the component is not safe from change: {0}")]
    NotSafe(String),
    /// The file is larger than the limit.
    #[error("the component is larger than {} MiB", limit_bytes >> 20)]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The file is not a component.
    #[error("this is not a WebAssembly component: {0}")]
    Malformed(String),
    /// It imports something that providers may not use.
    #[error(
        "the component imports `{import}`, which a provider may not use. Allowed are `wasi:cli/imports`, `wasi:http/outgoing-handler` and `session`, `durable-state`, `call-context` and `host-log` of `keyway:provider`"
    )]
    ForbiddenImport {
        /// The import.
        import: String,
    },
    /// It does not export the contract.
    #[error("the component does not export `keyway:provider/secret-provider`; it is not a secret provider")]
    NotAProvider,
    /// It was built for a version of the contract that this host does not know.
    #[error("the component needs {needs}; this host offers {offers}")]
    UnknownVersion {
        /// The version that it exports.
        needs: String,
        /// The versions that this host knows.
        offers: String,
    },
    /// It was built for this version of the contract, but from another draft of it.
    #[error(
        "the component's `{interface}` has another shape than this host's: {mismatch}. Build it from the WIT of this host"
    )]
    OtherShape {
        /// The interface that it exports or imports.
        interface: String,
        /// How it differs.
        mismatch: String,
    },
    /// It needs a host function that this host lacks.
    #[error("the component needs a function that this host does not offer ({0}). It was built for a newer host")]
    MissingImport(String),
    /// Compiling failed, took too long or too much memory.
    #[error("the component could not be compiled: {0}")]
    Compile(String),
    /// `describe` failed.
    #[error("the component's `describe` failed: {0}")]
    Describe(CallError),
    /// `describe` returned something that breaks the contract.
    #[error("the component's description is invalid: {0}")]
    InvalidDescription(String),
    /// The host itself failed.
    #[error("the host could not load the component: {0}")]
    Host(String),
}

#[cfg(test)]
mod tests {
    use super::{ErrorCode, ProviderError, STACK_EXHAUSTED};

    #[test]
    fn a_stack_overflow_is_known_by_what_wasmtime_calls_it() {
        assert_eq!(wasmtime::Trap::StackOverflow.to_string(), format!("wasm trap: {STACK_EXHAUSTED}"));
    }

    #[test]
    fn an_error_about_one_item_says_nothing_about_the_login() {
        let concerns_login = |code| ProviderError::new(code, "x").concerns_login();
        for code in [ErrorCode::NotFound, ErrorCode::Conflict, ErrorCode::InvalidReference, ErrorCode::UnexpectedAnswer]
        {
            assert!(!concerns_login(code.clone()), "{code:?}");
        }
        for code in [ErrorCode::Unauthenticated, ErrorCode::RateLimited, ErrorCode::Unavailable] {
            assert!(concerns_login(code.clone()), "{code:?}");
        }
    }
}
