//! The code under which an error is recorded, the same as the one that the HTTP API answers with.

use keyway_audit::{Code, Outcome};
use keyway_runtime::{CallError, ProviderError, SandboxError};
use keyway_storage::StorageError;

use crate::budget::NotCalled;
use crate::error::{BrokerError, ListLimit, NoTfaCode};

impl From<&BrokerError> for Outcome {
    fn from(error: &BrokerError) -> Self {
        Self::error(code(error))
    }
}

/// The match has no arm for "the rest", so that a new kind of error gets its code when it is made.
fn code(error: &BrokerError) -> Code {
    match error {
        BrokerError::Invalid(_) => Code::ValidationFailed,
        BrokerError::TooManyItems(ListLimit::Seconds(_)) => Code::ProviderUnavailable,
        BrokerError::TooManyItems(_) => Code::ProviderFault,
        BrokerError::NoTfaCode(NoTfaCode::NotOnItem | NoTfaCode::NoEmail) => Code::NotFound,
        BrokerError::NoTfaCode(_) => Code::Conflict,
        BrokerError::NotEncrypted { .. } => Code::NotEncrypted,
        BrokerError::Unauthenticated => Code::Unauthenticated,
        BrokerError::Forbidden { .. } => Code::Forbidden,
        BrokerError::NotFound(_) => Code::NotFound,
        BrokerError::EntryExists
        | BrokerError::Changed(_)
        | BrokerError::ConnectionInUse(_)
        | BrokerError::RotationOpen
        | BrokerError::RotationState { .. } => Code::Conflict,
        BrokerError::ProviderNotInstalled { .. } => Code::ProviderNotInstalled,
        BrokerError::NotCalled(NotCalled::BudgetSpent { .. } | NotCalled::RateLimited { .. }) => Code::RateLimited,
        BrokerError::NotCalled(NotCalled::Refused { .. }) => Code::ProviderRefused,
        BrokerError::NotCalled(_) => Code::ProviderPaused,
        BrokerError::NotVerified { source: CallError::Provider(ProviderError::InvalidSettings { .. }) } => {
            Code::ValidationFailed
        }
        BrokerError::NotVerified { source: CallError::Provider(error) } | BrokerError::Provider(error) => {
            provider_code(error)
        }
        BrokerError::NotVerified { source: CallError::Sandbox(error) } | BrokerError::Sandbox(error) => {
            sandbox_code(error)
        }
        BrokerError::Audit(_) => Code::AuditUnavailable,
        BrokerError::Storage(StorageError::Busy) => Code::Busy,
        BrokerError::NotVerified { .. }
        | BrokerError::Key(_)
        | BrokerError::Envelope(_)
        | BrokerError::Storage(_)
        | BrokerError::Host(_) => Code::InternalError,
    }
}

fn provider_code(error: &ProviderError) -> Code {
    match error {
        ProviderError::InvalidSettings { .. }
        | ProviderError::Unauthenticated(_)
        | ProviderError::PermissionDenied(_) => Code::ProviderRefused,
        ProviderError::InvalidReference(_) => Code::ValidationFailed,
        ProviderError::NotFound(_) => Code::NotFound,
        ProviderError::Conflict(_) => Code::Conflict,
        ProviderError::RateLimited { .. } => Code::RateLimited,
        ProviderError::Unavailable(_) => Code::ProviderUnavailable,
        ProviderError::Unsupported(_) => Code::Unsupported,
        _ => Code::ProviderFault,
    }
}

fn sandbox_code(error: &SandboxError) -> Code {
    match error {
        SandboxError::Busy { .. } => Code::Busy,
        SandboxError::Host(_) => Code::InternalError,
        _ => Code::ProviderFault,
    }
}
