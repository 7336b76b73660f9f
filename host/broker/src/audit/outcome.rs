//! The code of an error, as the log records it: the same as the one that the HTTP API answers with.
//!
//! The match has no arm for "the rest", so that a new kind of error gets its code when it is made.

use keyway_runtime::{CallError, ProviderError, SandboxError};

use super::event::Outcome;
use crate::budget::NotCalled;
use crate::error::{BrokerError, NoTfaCode};
use crate::storage::StorageError;

impl From<&BrokerError> for Outcome {
    fn from(error: &BrokerError) -> Self {
        Self::error(code(error))
    }
}

fn code(error: &BrokerError) -> &'static str {
    match error {
        BrokerError::Invalid(_) | BrokerError::TooManyItems(_) => "VALIDATION_FAILED",
        BrokerError::NoTfaCode(NoTfaCode::NotOnItem | NoTfaCode::NoEmail) => "NOT_FOUND",
        BrokerError::NoTfaCode(_) => "CONFLICT",
        BrokerError::NotEncrypted { .. } => "NOT_ENCRYPTED",
        BrokerError::Unauthenticated => "UNAUTHENTICATED",
        BrokerError::Forbidden { .. } => "FORBIDDEN",
        BrokerError::NotFound(_) => "NOT_FOUND",
        BrokerError::EntryExists
        | BrokerError::Changed(_)
        | BrokerError::ConnectionInUse(_)
        | BrokerError::RotationOpen
        | BrokerError::RotationState { .. } => "CONFLICT",
        BrokerError::ProviderNotInstalled { .. } => "PROVIDER_NOT_INSTALLED",
        BrokerError::NotCalled(NotCalled::BudgetSpent { .. } | NotCalled::RateLimited { .. }) => "RATE_LIMITED",
        BrokerError::NotCalled(NotCalled::Refused { .. }) => "PROVIDER_REFUSED",
        BrokerError::NotCalled(_) => "PROVIDER_PAUSED",
        BrokerError::NotVerified { source: CallError::Provider(ProviderError::InvalidSettings { .. }) } => {
            "VALIDATION_FAILED"
        }
        BrokerError::NotVerified { source: CallError::Provider(error) } | BrokerError::Provider(error) => {
            provider_code(error)
        }
        BrokerError::NotVerified { source: CallError::Sandbox(error) } | BrokerError::Sandbox(error) => {
            sandbox_code(error)
        }
        BrokerError::Audit(_) => "AUDIT_UNAVAILABLE",
        BrokerError::Storage(StorageError::Busy) => "BUSY",
        BrokerError::NotVerified { .. }
        | BrokerError::Key(_)
        | BrokerError::Envelope(_)
        | BrokerError::Storage(_)
        | BrokerError::Host(_) => "INTERNAL_ERROR",
    }
}

fn provider_code(error: &ProviderError) -> &'static str {
    match error {
        ProviderError::InvalidSettings { .. }
        | ProviderError::Unauthenticated(_)
        | ProviderError::PermissionDenied(_) => "PROVIDER_REFUSED",
        ProviderError::InvalidReference(_) => "VALIDATION_FAILED",
        ProviderError::NotFound(_) => "NOT_FOUND",
        ProviderError::Conflict(_) => "CONFLICT",
        ProviderError::RateLimited { .. } => "RATE_LIMITED",
        ProviderError::Unavailable(_) => "PROVIDER_UNAVAILABLE",
        ProviderError::Unsupported(_) => "UNSUPPORTED",
        _ => "PROVIDER_FAULT",
    }
}

fn sandbox_code(error: &SandboxError) -> &'static str {
    match error {
        SandboxError::Busy { .. } => "BUSY",
        SandboxError::Host(_) => "INTERNAL_ERROR",
        _ => "PROVIDER_FAULT",
    }
}
