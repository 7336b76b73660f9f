//! Reasons, for codes with several causes.

use keyway::entries::NoTfaCode;
use keyway::keyway_runtime::{ErrorCode, ProviderError};
use keyway::{BrokerError, Thing};
use serde::Serialize;
use utoipa::ToSchema;

/// The reasons, each with the errors that it belongs to.
macro_rules! reasons {
    ($(#[$about:meta])* enum $type:ident { $($(#[$of:meta])* $name:ident: $error:pat,)* }) => {
        $(#[$about])*
        pub(super) enum $type { $($(#[$of])* $name,)* }

        impl $type {
            pub(super) fn of(error: &BrokerError) -> Option<Self> {
                match error {
                    $($error => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// The cause of an error whose code has several. Later versions may add causes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    #[schema(as = ErrorReason)]
    enum Reason {
        /// NOT_FOUND: the workspace.
        NoSuchWorkspace: BrokerError::NotFound(Thing::Workspace),
        /// NOT_FOUND: the API key.
        NoSuchApiKey: BrokerError::NotFound(Thing::ApiKey),
        /// NOT_FOUND: the secret provider's connection.
        NoSuchConnection: BrokerError::NotFound(Thing::Connection),
        /// NOT_FOUND: the vault entry.
        NoSuchEntry: BrokerError::NotFound(Thing::Entry),
        /// NOT_FOUND: the rotation.
        NoSuchRotation: BrokerError::NotFound(Thing::Rotation),
        /// NOT_FOUND: the entry's item, in the secret manager.
        NoSuchItem: BrokerError::Provider(ProviderError { code: ErrorCode::NotFound, .. }),
        /// NOT_FOUND: a current code of the entry's second factor.
        NoCode: BrokerError::NoTfaCode(NoTfaCode::NotOnItem | NoTfaCode::NotMade(_) | NoTfaCode::NoEmail),
        /// RATE_LIMITED: the current one-time code was handed out or ends too soon, and so is the
        /// next one.
        CodeNotYet: BrokerError::CodeNotYet { .. },
        /// CONFLICT: the entry's second factor has no codes that can be read here.
        NoAuthenticator: BrokerError::NoTfaCode(NoTfaCode::NoSecondFactor | NoTfaCode::Method(_)),
        /// CONFLICT: an entry for this user and domain exists.
        EntryExists: BrokerError::EntryExists,
        /// CONFLICT: another request changed it at the same time.
        Changed: BrokerError::Changed(_),
        /// CONFLICT: entries are bound to the connection.
        ConnectionInUse: BrokerError::ConnectionInUse(_),
        /// CONFLICT: a rotation of the item is open.
        RotationOpen: BrokerError::RotationOpen,
        /// CONFLICT: the rotation's state does not allow it.
        RotationState: BrokerError::RotationState { .. },
        /// CONFLICT: the connection now has credentials of another account.
        AccountChanged: BrokerError::AccountChanged,
        /// CONFLICT: the item was changed in the secret manager.
        ItemChanged: BrokerError::Provider(ProviderError { code: ErrorCode::Conflict, .. }),
        /// VALIDATION_FAILED: the provider rejected the reference.
        InvalidReference: BrokerError::Provider(ProviderError { code: ErrorCode::InvalidReference, .. }),
        /// VALIDATION_FAILED or PROVIDER_REFUSED: the provider rejected the settings.
        SettingsRefused: BrokerError::NotVerified { .. },
    }
}
