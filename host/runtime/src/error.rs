//! What can go wrong, in three kinds that stay apart all the way up: the provider's own answer ([`ProviderError`]), a call that the sandbox
//! ended ([`SandboxError`]) and a component that was not let in ([`LoadError`]).

use std::time::Duration;

use thiserror::Error;

/// Why a call did not give an answer.
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

/// An error of the contract (`types.error` in `wit/provider.wit`), with the provider's message for a person.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// A setting is missing or cannot be right.
    #[error("{message}")]
    InvalidSettings {
        /// Which setting, unless the fault lies in the combination.
        setting: Option<String>,
        /// For a person.
        message: String,
    },
    /// The server does not accept the credentials.
    #[error("{0}")]
    Unauthenticated(String),
    /// The credentials may not do this.
    #[error("{0}")]
    PermissionDenied(String),
    /// Not a reference of this provider.
    #[error("{0}")]
    InvalidReference(String),
    /// No such item.
    #[error("{0}")]
    NotFound(String),
    /// The item changed meanwhile; nothing was written.
    #[error("{0}")]
    Conflict(String),
    /// Too many requests.
    #[error("{message}")]
    RateLimited {
        /// How long the server asked to wait; `None` when it did not say.
        retry_after: Option<Duration>,
        /// For a person.
        message: String,
    },
    /// The server cannot be reached or is out of order.
    #[error("{0}")]
    Unavailable(String),
    /// The provider cannot do this.
    #[error("{0}")]
    Unsupported(String),
    /// The server broke its protocol.
    #[error("{0}")]
    UnexpectedAnswer(String),
    /// Anything else.
    #[error("{message}")]
    Other {
        /// Machine-readable.
        code: String,
        /// For a person.
        message: String,
    },
}

impl ProviderError {
    /// Whether it is about logging in, and so about every call of the connection, not about one item.
    pub(crate) fn concerns_login(&self) -> bool {
        matches!(
            self,
            Self::InvalidSettings { .. }
                | Self::Unauthenticated(_)
                | Self::PermissionDenied(_)
                | Self::RateLimited { .. }
                | Self::Unavailable(_)
        )
    }

    /// The name of the case in the contract, for example `rate-limited`; for `other` the code that the provider gave.
    pub fn code(&self) -> &str {
        match self {
            Self::InvalidSettings { .. } => "invalid-settings",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::PermissionDenied(_) => "permission-denied",
            Self::InvalidReference(_) => "invalid-reference",
            Self::NotFound(_) => "not-found",
            Self::Conflict(_) => "conflict",
            Self::RateLimited { .. } => "rate-limited",
            Self::Unavailable(_) => "unavailable",
            Self::Unsupported(_) => "unsupported",
            Self::UnexpectedAnswer(_) => "unexpected-answer",
            Self::Other { code, .. } => code,
        }
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
    /// The call took longer than it may.
    #[error("the provider did not answer within {} s and was ended", limit.as_secs_f64())]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The component needed more memory than it may have.
    #[error("the provider needed more than {} MiB of memory and was ended", limit_bytes >> 20)]
    OutOfMemory {
        /// The limit.
        limit_bytes: usize,
    },
    /// What the component returned or asked the host to keep is larger than it may be.
    #[error("the provider's answer is larger than {} KiB and was thrown away", limit_bytes >> 10)]
    OutputTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// What the component returned breaks the contract (a revision that is too long, a code that is not one).
    #[error("the provider's answer breaks the contract: {0}")]
    InvalidAnswer(String),
    /// Another limit of the sandbox (tables, instances, handles).
    #[error("the provider exceeded the sandbox's limit of {0} and was ended")]
    LimitExceeded(String),
    /// As many calls as the host allows are already running, for this connection or altogether.
    #[error("the host is running as many provider calls as it may ({limit}); try again in a moment")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// The host itself failed.
    #[error("the host could not run the call: {0}")]
    Host(String),
}

/// What wasmtime says of a stack overflow, without its prefix.
const STACK_EXHAUSTED: &str = "call stack exhausted";

impl SandboxError {
    /// Which of the sandbox's limits ended the call: `time`, `memory`, `stack`, `output`, `resources` (tables, handles,
    /// headers) or `concurrency`; `None` when it was none of them.
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            Self::TimedOut { .. } => Some("time"),
            Self::OutOfMemory { .. } => Some("memory"),
            Self::Trapped { reason } => (reason == STACK_EXHAUSTED).then_some("stack"),
            Self::OutputTooLarge { .. } => Some("output"),
            Self::LimitExceeded(_) => Some("resources"),
            Self::Busy { .. } => Some("concurrency"),
            Self::InvalidAnswer(_) | Self::Host(_) => None,
        }
    }
}

/// Why a component was not let in.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the component: {0}")]
    Unreadable(String),
    /// Larger than the limit.
    #[error("the component is larger than {} MiB", limit_bytes >> 20)]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// Not a component at all.
    #[error("this is not a WebAssembly component: {0}")]
    Malformed(String),
    /// It imports something that providers may not have.
    #[error(
        "the component imports `{import}`, which a provider may not use. Allowed are `wasi:cli/imports`, `wasi:http/outgoing-handler` and `keyway:provider/session`"
    )]
    ForbiddenImport {
        /// The import.
        import: String,
    },
    /// It does not export the contract.
    #[error("the component does not export `keyway:provider/secret-provider`; it is not a secret provider")]
    NotAProvider,
    /// It was made for a version of the contract that this host does not know.
    #[error("the component needs {needs}; this host offers {offers}")]
    UnknownVersion {
        /// What it exports.
        needs: String,
        /// What this host knows.
        offers: String,
    },
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
    use super::{ProviderError, STACK_EXHAUSTED};

    #[test]
    fn a_stack_overflow_is_known_by_what_wasmtime_calls_it() {
        assert_eq!(wasmtime::Trap::StackOverflow.to_string(), format!("wasm trap: {STACK_EXHAUSTED}"));
    }

    #[test]
    fn an_error_about_one_item_says_nothing_about_the_login() {
        let text = || "x".to_owned();
        for error in [
            ProviderError::NotFound(text()),
            ProviderError::Conflict(text()),
            ProviderError::InvalidReference(text()),
            ProviderError::UnexpectedAnswer(text()),
        ] {
            assert!(!error.concerns_login(), "{error:?}");
        }
        for error in [
            ProviderError::Unauthenticated(text()),
            ProviderError::RateLimited { retry_after: None, message: text() },
            ProviderError::Unavailable(text()),
        ] {
            assert!(error.concerns_login(), "{error:?}");
        }
    }
}
