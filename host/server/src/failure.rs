//! What kind of failure an error is, decided once, so that the HTTP status and the exit code of one error always tell the same story.
//!
//! The kinds say whose turn it is: the caller's (fix the request), the operator's of the secret manager (grant, reconnect), time's (try later), the
//! component author's, or ours.

use std::time::Duration;

use keyway::{AuditError, BrokerError, ListLimit, NoTfaCode, NotCalled, StorageError};
use keyway_runtime::{CallError, ProviderError, SandboxError};

/// Kinds of failure. [`crate::http`] turns them into statuses, [`crate::cli`] into exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The request breaks a rule; the same request will be refused again.
    Invalid,
    /// A credential was not encrypted under the workspace's key.
    NotEncrypted,
    /// No valid API key.
    Unauthenticated,
    /// The API key lacks a scope.
    Forbidden,
    /// No such thing in this workspace.
    NotFound,
    /// It exists already, or changed meanwhile.
    Conflict,
    /// The secret manager does not accept the connection's credentials, or does not let them do this.
    ProviderRefused,
    /// The secret manager limits the rate.
    RateLimited,
    /// The secret manager cannot be reached.
    ProviderUnavailable,
    /// The secret manager was out of order at the last attempts and is not asked for a while.
    ProviderPaused,
    /// The host has too much to do at the moment.
    Busy,
    /// The provider crashed, hit a limit, or answered what it may not.
    ProviderFault,
    /// The provider cannot do this.
    Unsupported,
    /// No component of this provider type is installed.
    NotInstalled,
    /// The audit log cannot be written, so nothing is released.
    AuditUnavailable,
    /// A fault of this program or of its set-up.
    Internal,
}

impl Kind {
    /// All kinds, the last of them at the end.
    pub(crate) const ALL: [Self; Self::Internal as usize + 1] = [
        Self::Invalid,
        Self::NotEncrypted,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::ProviderRefused,
        Self::RateLimited,
        Self::ProviderUnavailable,
        Self::ProviderPaused,
        Self::Busy,
        Self::ProviderFault,
        Self::Unsupported,
        Self::NotInstalled,
        Self::AuditUnavailable,
        Self::Internal,
    ];

    /// The kind's name for programs, the same over HTTP and on the command line.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Invalid => "VALIDATION_FAILED",
            Self::NotEncrypted => "NOT_ENCRYPTED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::Conflict => "CONFLICT",
            Self::ProviderRefused => "PROVIDER_REFUSED",
            Self::RateLimited => "RATE_LIMITED",
            Self::ProviderUnavailable => "PROVIDER_UNAVAILABLE",
            Self::ProviderPaused => "PROVIDER_PAUSED",
            Self::Busy => "BUSY",
            Self::ProviderFault => "PROVIDER_FAULT",
            Self::Unsupported => "UNSUPPORTED",
            Self::NotInstalled => "PROVIDER_NOT_INSTALLED",
            Self::AuditUnavailable => "AUDIT_UNAVAILABLE",
            Self::Internal => "INTERNAL_ERROR",
        }
    }

    /// The kind of a broker's error.
    pub(crate) fn of(error: &BrokerError) -> Self {
        match error {
            _ if error.is_internal() => Self::Internal,
            BrokerError::Invalid(_) => Self::Invalid,
            // Nothing about the request is wrong.
            BrokerError::TooManyItems(ListLimit::Seconds(_)) => Self::ProviderUnavailable,
            BrokerError::TooManyItems(_) => Self::ProviderFault,
            BrokerError::NoTfaCode(NoTfaCode::NotOnItem | NoTfaCode::NoEmail) => Self::NotFound,
            BrokerError::NoTfaCode(_) => Self::Conflict,
            BrokerError::NotEncrypted { .. } => Self::NotEncrypted,
            BrokerError::Unauthenticated => Self::Unauthenticated,
            BrokerError::Forbidden { .. } => Self::Forbidden,
            BrokerError::NotFound(_) => Self::NotFound,
            BrokerError::EntryExists
            | BrokerError::Changed(_)
            | BrokerError::ConnectionInUse(_)
            | BrokerError::RotationOpen
            | BrokerError::RotationState { .. } => Self::Conflict,
            BrokerError::ProviderNotInstalled { .. } => Self::NotInstalled,
            BrokerError::NotCalled(not_called) => Self::of_not_called(not_called),
            BrokerError::Audit(_) => Self::AuditUnavailable,
            BrokerError::Storage(StorageError::Busy) => Self::Busy,
            // Settings that somebody has just entered are that person's to correct.
            BrokerError::NotVerified { source: CallError::Provider(ProviderError::InvalidSettings { .. }) } => {
                Self::Invalid
            }
            BrokerError::NotVerified { source: CallError::Provider(error) } | BrokerError::Provider(error) => {
                Self::of_provider(error)
            }
            BrokerError::NotVerified { source: CallError::Sandbox(error) } | BrokerError::Sandbox(error) => {
                Self::of_sandbox(error)
            }
            _ => Self::Internal,
        }
    }

    /// The kind of a provider's own error.
    fn of_provider(error: &ProviderError) -> Self {
        match error {
            ProviderError::InvalidSettings { .. }
            | ProviderError::Unauthenticated(_)
            | ProviderError::PermissionDenied(_) => Self::ProviderRefused,
            ProviderError::InvalidReference(_) => Self::Invalid,
            ProviderError::NotFound(_) => Self::NotFound,
            ProviderError::Conflict(_) => Self::Conflict,
            ProviderError::RateLimited { .. } => Self::RateLimited,
            ProviderError::Unavailable(_) => Self::ProviderUnavailable,
            ProviderError::Unsupported(_) => Self::Unsupported,
            _ => Self::ProviderFault,
        }
    }

    /// The kind of a call that was not made: the same as if it had been, but that the host knows when it may be again.
    fn of_not_called(not_called: &NotCalled) -> Self {
        match not_called {
            NotCalled::BudgetSpent { .. } | NotCalled::RateLimited { .. } => Self::RateLimited,
            NotCalled::Refused { .. } => Self::ProviderRefused,
            _ => Self::ProviderPaused,
        }
    }

    /// The kind of a sandbox error.
    fn of_sandbox(error: &SandboxError) -> Self {
        match error {
            SandboxError::Busy { .. } => Self::Busy,
            SandboxError::Host(_) => Self::Internal,
            _ => Self::ProviderFault,
        }
    }
}

/// How long to wait before the next attempt, where somebody said so or one can know.
pub(crate) fn retry_after(kind: Kind, error: &BrokerError) -> Option<Duration> {
    // A change that was made is not to be repeated without a look.
    let again = !matches!(error, BrokerError::Audit(AuditError::OutcomeUnrecorded(_)));
    let soon = again && matches!(kind, Kind::Busy | Kind::AuditUnavailable);
    error.retry_after().or(soon.then_some(Duration::from_secs(1)))
}

/// A wait as it is told: never shorter than it is.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use keyway::Thing;

    use super::*;

    fn provider(error: ProviderError) -> Kind {
        Kind::of(&BrokerError::Provider(error))
    }

    #[test]
    fn wrong_settings_are_the_callers_mistake_when_entered_and_the_connections_fault_later() {
        let error = || ProviderError::InvalidSettings { setting: None, message: String::new() };
        assert_eq!(Kind::of(&BrokerError::NotVerified { source: error().into() }), Kind::Invalid);
        assert_eq!(provider(error()), Kind::ProviderRefused);
    }

    #[test]
    fn the_three_kinds_of_errors_stay_apart() {
        assert_eq!(Kind::of(&BrokerError::TooManyItems(ListLimit::Seconds(50))), Kind::ProviderUnavailable);
        assert_eq!(Kind::of(&BrokerError::TooManyItems(ListLimit::Pages(500))), Kind::ProviderFault);
        assert_eq!(provider(ProviderError::Unavailable(String::new())), Kind::ProviderUnavailable);
        assert_eq!(Kind::of(&BrokerError::Sandbox(SandboxError::OutOfMemory { limit_bytes: 1 })), Kind::ProviderFault);
        assert_eq!(Kind::of(&BrokerError::Sandbox(SandboxError::Host(String::new()))), Kind::Internal);
        assert_eq!(Kind::of(&BrokerError::NotFound(Thing::Entry)), Kind::NotFound);
    }

    #[test]
    fn the_audit_log_records_the_code_that_the_caller_is_told() {
        let refused = || ProviderError::Unauthenticated(String::new());
        let settings = || ProviderError::InvalidSettings { setting: None, message: String::new() };
        let errors = [
            BrokerError::Unauthenticated,
            BrokerError::Forbidden { needs: keyway::Scope::Admin },
            BrokerError::NotFound(Thing::Entry),
            BrokerError::NotEncrypted { field: "password" },
            BrokerError::EntryExists,
            BrokerError::Changed(Thing::Entry),
            BrokerError::Invalid(keyway::InvalidInput::Domain),
            BrokerError::NoTfaCode(NoTfaCode::NotOnItem),
            BrokerError::NoTfaCode(NoTfaCode::NoSecondFactor),
            BrokerError::NotVerified { source: settings().into() },
            BrokerError::NotVerified { source: refused().into() },
            BrokerError::Provider(settings()),
            BrokerError::Provider(refused()),
            BrokerError::Provider(ProviderError::Unavailable(String::new())),
            BrokerError::Provider(ProviderError::UnexpectedAnswer(String::new())),
            BrokerError::Sandbox(SandboxError::Busy { limit: 1 }),
            BrokerError::Sandbox(SandboxError::Host(String::new())),
            BrokerError::TooManyItems(ListLimit::Seconds(50)),
            BrokerError::TooManyItems(ListLimit::Items(50)),
            BrokerError::Audit(AuditError::failed("")),
            BrokerError::Storage(StorageError::Busy),
            BrokerError::Storage(StorageError::Failed("".into())),
            BrokerError::Host(String::new()),
        ];
        for error in errors {
            assert_eq!(keyway::Outcome::from(&error).as_str(), Kind::of(&error).code(), "{error:?}");
        }
    }

    #[test]
    fn a_wait_is_the_servers_word_or_a_second_when_the_host_is_busy() {
        let limited = ProviderError::RateLimited { retry_after: Some(Duration::from_secs(7)), message: String::new() };
        let limited = BrokerError::Provider(limited);
        assert_eq!(retry_after(Kind::of(&limited), &limited), Some(Duration::from_secs(7)));
        let busy = BrokerError::Sandbox(SandboxError::Busy { limit: 1 });
        assert_eq!(retry_after(Kind::of(&busy), &busy), Some(Duration::from_secs(1)));
        let audit = |error: AuditError| retry_after(Kind::AuditUnavailable, &error.into());
        assert_eq!(audit(AuditError::unwritable("")), Some(Duration::from_secs(1)));
        assert_eq!(audit(AuditError::failed("").after_a_change()), None);
    }
}
