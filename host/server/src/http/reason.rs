//! Why, where one code has several causes.

use keyway::entries::NoTfaCode;
use keyway::keyway_runtime::ErrorCode;
use keyway::{BrokerError, Thing};
use serde::Serialize;
use utoipa::ToSchema;

/// The cause of an error, where its code has several. There may be more of them in a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = ErrorReason)]
pub(super) enum Reason {
    /// NOT_FOUND: the workspace.
    NoSuchWorkspace,
    /// NOT_FOUND: the API key.
    NoSuchApiKey,
    /// NOT_FOUND: the secret provider's connection.
    NoSuchConnection,
    /// NOT_FOUND: the vault entry.
    NoSuchEntry,
    /// NOT_FOUND: the rotation.
    NoSuchRotation,
    /// NOT_FOUND: the entry's item, in the secret manager.
    NoSuchItem,
    /// NOT_FOUND: a code of the entry's second factor, at the moment.
    NoCode,
    /// CONFLICT: the entry's second factor has no codes to be had here.
    NoAuthenticator,
    /// CONFLICT: an entry for this user and domain exists.
    EntryExists,
    /// CONFLICT: another request changed it at the same time.
    Changed,
    /// CONFLICT: entries are bound to the connection.
    ConnectionInUse,
    /// CONFLICT: a rotation of the item is open.
    RotationOpen,
    /// CONFLICT: the rotation's state does not allow it.
    RotationState,
    /// CONFLICT: the connection has credentials of another account by now.
    AccountChanged,
    /// CONFLICT: the item was changed in the secret manager.
    ItemChanged,
    /// VALIDATION_FAILED: the reference, says the provider.
    InvalidReference,
    /// VALIDATION_FAILED or PROVIDER_REFUSED: the settings, says the provider.
    SettingsRefused,
}

impl Reason {
    pub(super) fn of(error: &BrokerError) -> Option<Self> {
        Some(match error {
            BrokerError::NotFound(Thing::Workspace) => Self::NoSuchWorkspace,
            BrokerError::NotFound(Thing::ApiKey) => Self::NoSuchApiKey,
            BrokerError::NotFound(Thing::Connection) => Self::NoSuchConnection,
            BrokerError::NotFound(Thing::Entry) => Self::NoSuchEntry,
            BrokerError::NotFound(Thing::Rotation) => Self::NoSuchRotation,
            BrokerError::NoTfaCode(NoTfaCode::NoSecondFactor | NoTfaCode::Method(_)) => Self::NoAuthenticator,
            BrokerError::NoTfaCode(_) => Self::NoCode,
            BrokerError::EntryExists => Self::EntryExists,
            BrokerError::Changed(_) => Self::Changed,
            BrokerError::ConnectionInUse(_) => Self::ConnectionInUse,
            BrokerError::RotationOpen => Self::RotationOpen,
            BrokerError::RotationState { .. } => Self::RotationState,
            BrokerError::AccountChanged => Self::AccountChanged,
            BrokerError::NotVerified { .. } => Self::SettingsRefused,
            BrokerError::Provider(error) => match error.code {
                ErrorCode::NotFound => Self::NoSuchItem,
                ErrorCode::Conflict => Self::ItemChanged,
                ErrorCode::InvalidReference => Self::InvalidReference,
                _ => return None,
            },
            _ => return None,
        })
    }
}
