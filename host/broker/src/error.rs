//! What can go wrong, kept apart by whose fault it is: the caller's ([`InvalidInput`] and the
//! like), the provider's ([`ProviderError`]), the sandbox's ([`SandboxError`]) or the host's own
//! (keys, sealed data, storage).
//!
//! Every message is for a person and says what to do. No message contains a secret. Messages of the
//! host's own errors may name files and tables; [`BrokerError::is_internal`] tells a server which
//! ones to log and not to show.

use std::fmt;
use std::time::Duration;

use keyway_audit::{AuditError, ErrorKind, InvalidQuery};
use keyway_budget::NotCalled;
use keyway_keys::{ClientValueError, EnvelopeError, KeyError};
use keyway_runtime::egress::AuthoritiesError;
use keyway_runtime::{CallError, ErrorCode, ProviderError, SandboxError};
use keyway_storage::{
    Cause, DependentEntries, RotationState, Scope, SealedColumn, StorageError, TfaMethod, UnknownName,
};
use thiserror::Error;
use uuid::Uuid;

/// The wait after a failure of the host itself that may pass at any moment: the shortest that
/// `Retry-After` can say.
const SOON: Duration = Duration::from_secs(1);

/// Why an operation of the broker failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The request itself is wrong; the same request will be refused again.
    #[error(transparent)]
    Invalid(#[from] InvalidInput),
    /// The API key is missing, unknown or revoked.
    #[error("the API key is missing or invalid. Check that it was copied in full, or create a new one")]
    Unauthenticated,
    /// A credential was not encrypted under the workspace's client encryption key.
    #[error(
        "{field}: the credential is not encrypted with this workspace's key. Encrypt it under the workspace's encryption key"
    )]
    NotEncrypted {
        /// Which credential, or attribute.
        field: String,
    },
    /// The API key lacks the scope that this needs.
    #[error("this needs an API key with the scope `{needs}`")]
    Forbidden {
        /// The missing scope.
        needs: Scope,
    },
    /// There is no such thing in the caller's workspace. Things of other workspaces are answered in
    /// the same way.
    #[error("there is no such {thing}{place}", thing = .0, place = .0.place())]
    NotFound(Thing),
    /// An entry for the same user and domain exists.
    #[error("a vault entry for this user and domain already exists; update that one instead")]
    EntryExists,
    /// Another workspace has this external id.
    #[error("a workspace with this external id already exists; find it by that id, or choose another")]
    WorkspaceExists,
    /// The row was changed concurrently.
    #[error("the {0} was changed concurrently; read it again and repeat the change")]
    Changed(Thing),
    /// Entries are bound to the connection.
    #[error("this connection is still in use by {0}; bind them elsewhere or delete them first")]
    ConnectionInUse(DependentEntries),
    /// The entry's second factor has no code to return.
    #[error(transparent)]
    NoTfaCode(#[from] NoTfaCode),
    /// No one-time code meets the caller's demands ([`WantedCode`](crate::WantedCode)) soon enough.
    #[error(
        "no one-time code meets the request soon enough: the current one was handed out before or ends too soon. Ask again in {} s",
        .retry_after.as_secs()
    )]
    CodeNotYet {
        /// When the current code ends.
        retry_after: Duration,
    },
    /// The item has an open rotation.
    #[error("a password rotation is open; commit, retry or abandon it first (see the list of rotations)")]
    RotationOpen,
    /// Other rows depend on a damaged one that was to be deleted.
    #[error("other rows depend on this one; delete them or bind them elsewhere first")]
    RowInUse,
    /// The rotation is in a state that does not allow this.
    #[error("the password rotation is {state}: {hint}")]
    RotationState {
        /// Its state.
        state: RotationState,
        /// What to do.
        hint: &'static str,
    },
    /// The connection's credentials have changed since: they are of another account than that of
    /// the rotation's item.
    #[error(
        "the connection's credentials are of another account than when the password rotation began; restore credentials of that account, and retry"
    )]
    AccountChanged,
    /// No component of this provider type is installed.
    #[error("no provider of type `{provider_type}` is installed ({}). Put its component into the provider folder", installed_list(.installed))]
    ProviderNotInstalled {
        /// The requested type.
        provider_type: String,
        /// The types that are installed.
        installed: Vec<String>,
    },
    /// A provider, or the folder of providers, was loaded with another runtime than the broker's.
    #[error(
        "a provider belongs to another runtime than this broker; load it with the runtime that the broker is built with"
    )]
    OtherRuntime,
    /// A new connection, or new settings of one, did not pass the provider's check. Nothing was
    /// stored.
    #[error("{source}")]
    NotVerified {
        /// What the check said.
        source: CallError,
    },
    /// The provider was not called: its budget is spent, or its calls are paused.
    #[error(transparent)]
    NotCalled(#[from] NotCalled),
    /// The provider answered with an error.
    #[error(transparent)]
    Provider(ProviderError),
    /// The sandbox ended the provider's call. Later calls are not affected.
    #[error(transparent)]
    Sandbox(SandboxError),
    /// The connection sees more items than the host lists, or listing them takes too long.
    #[error("{0}")]
    TooManyItems(ListLimit),
    /// The broker was closed.
    #[error("the host is closed; nothing was done")]
    Closed,
    /// A key could not be used.
    #[error(transparent)]
    Key(KeyError),
    /// Sealed data could not be opened.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The audit log failed, so nothing was released.
    #[error(transparent)]
    Audit(AuditError),
    /// A fault of the host itself.
    #[error("the host could not finish this: {0}")]
    Host(#[source] Cause),
}

impl BrokerError {
    /// The kind of this error. The match names every variant, so the compiler asks for the kind of
    /// a new one.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) | Self::OtherRuntime => ErrorKind::Invalid,
            // The request is valid; the provider is slow.
            Self::TooManyItems(ListLimit::Seconds(_)) => ErrorKind::ProviderUnavailable,
            Self::TooManyItems(ListLimit::Memory) => ErrorKind::Busy,
            Self::TooManyItems(_) => ErrorKind::ProviderFault,
            Self::NoTfaCode(NoTfaCode::NotOnItem | NoTfaCode::NotMade(_) | NoTfaCode::NoEmail) => ErrorKind::NotFound,
            Self::NoTfaCode(_) => ErrorKind::Conflict,
            Self::NotEncrypted { .. } => ErrorKind::NotEncrypted,
            Self::Unauthenticated => ErrorKind::Unauthenticated,
            Self::Forbidden { .. } => ErrorKind::Forbidden,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::EntryExists
            | Self::WorkspaceExists
            | Self::Changed(_)
            | Self::ConnectionInUse(_)
            | Self::RotationOpen
            | Self::RowInUse
            | Self::AccountChanged
            | Self::RotationState { .. } => ErrorKind::Conflict,
            Self::ProviderNotInstalled { .. } => ErrorKind::NotInstalled,
            Self::CodeNotYet { .. } => ErrorKind::RateLimited,
            Self::NotCalled(
                NotCalled::BudgetSpent { .. } | NotCalled::RateLimited { .. } | NotCalled::TooManyChecks { .. },
            ) => ErrorKind::RateLimited,
            Self::NotCalled(NotCalled::Refused { .. }) => ErrorKind::ProviderRefused,
            Self::NotCalled(_) => ErrorKind::ProviderPaused,
            // Settings that were just entered are the caller's to correct.
            Self::NotVerified { source: CallError::Provider(error) } if error.code == ErrorCode::InvalidSettings => {
                ErrorKind::Invalid
            }
            Self::NotVerified { source: CallError::Provider(error) } | Self::Provider(error) => provider_kind(error),
            Self::NotVerified { source: CallError::Sandbox(error) } | Self::Sandbox(error) => sandbox_kind(error),
            Self::Audit(AuditError::NoRoot) => ErrorKind::NotFound,
            Self::Audit(_) => ErrorKind::AuditUnavailable,
            Self::Key(KeyError::Service(_)) => ErrorKind::KeysUnavailable,
            Self::Key(KeyError::NotANewKey) => ErrorKind::Invalid,
            Self::Closed => ErrorKind::Ending,
            Self::Storage(StorageError::Busy) => ErrorKind::Busy,
            Self::NotVerified { .. } | Self::Key(_) | Self::Envelope(_) | Self::Storage(_) | Self::Host(_) => {
                ErrorKind::Internal
            }
        }
    }

    /// Whether this is the host's own fault: log its message, and show a general one.
    pub fn is_internal(&self) -> bool {
        self.kind() == ErrorKind::Internal
    }

    /// Names the row whose sealed data does not open.
    pub(crate) fn in_row(self, column: SealedColumn, id: Uuid) -> Self {
        match self {
            Self::Envelope(_) => StorageError::Damaged { table: column.table(), id }.into(),
            error => error,
        }
    }

    /// The error for a client's value that does not open.
    pub(crate) fn of_client_value(field: &str, error: ClientValueError) -> Self {
        match error {
            ClientValueError::NotText => InvalidInput::EncryptedNotText { field: field.to_owned() }.into(),
            _ => Self::NotEncrypted { field: field.to_owned() },
        }
    }

    /// The provider's error, if this is one.
    pub fn provider_error(&self) -> Option<&ProviderError> {
        match self {
            Self::Provider(error) | Self::NotVerified { source: CallError::Provider(error) } => Some(error),
            _ => None,
        }
    }

    /// How long to wait before the next attempt, if the provider's server said so, the host knows,
    /// or the kind of the error implies it. `None` where a retry is wrong or the wait is unknown.
    pub fn retry_after(&self) -> Option<Duration> {
        match (self, self.provider_error()) {
            (Self::NotCalled(not_called), _) => return Some(not_called.retry_after()),
            (Self::CodeNotYet { retry_after }, _) => return Some(*retry_after),
            (_, Some(error)) => return error.retry_after,
            // A change that was made must not be repeated blindly.
            (Self::Audit(AuditError::OutcomeUnrecorded(_)), _) => return None,
            _ => {}
        }
        match self.kind() {
            ErrorKind::Busy | ErrorKind::AuditUnavailable | ErrorKind::KeysUnavailable | ErrorKind::Ending => {
                Some(SOON)
            }
            _ => None,
        }
    }
}

impl From<KeyError> for BrokerError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Storage(error) => error.into(),
            error => Self::Key(error),
        }
    }
}

impl From<AuditError> for BrokerError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Storage(error) => error.into(),
            AuditError::Query(error) => error.into(),
            error => Self::Audit(error),
        }
    }
}

impl From<InvalidQuery> for BrokerError {
    fn from(error: InvalidQuery) -> Self {
        InvalidInput::from(error).into()
    }
}

impl From<CallError> for BrokerError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Provider(error) => Self::Provider(error),
            CallError::Sandbox(error) => Self::Sandbox(error),
            other => Self::Host(other.into()),
        }
    }
}

fn provider_kind(error: &ProviderError) -> ErrorKind {
    match error.code {
        ErrorCode::InvalidSettings
        | ErrorCode::Unauthenticated
        | ErrorCode::PermissionDenied
        | ErrorCode::ActionRequired => ErrorKind::ProviderRefused,
        ErrorCode::InvalidReference => ErrorKind::Invalid,
        ErrorCode::NotFound => ErrorKind::NotFound,
        ErrorCode::Conflict => ErrorKind::Conflict,
        ErrorCode::RateLimited => ErrorKind::RateLimited,
        ErrorCode::Unavailable => ErrorKind::ProviderUnavailable,
        ErrorCode::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::ProviderFault,
    }
}

fn sandbox_kind(error: &SandboxError) -> ErrorKind {
    match error {
        SandboxError::Busy { .. } => ErrorKind::Busy,
        SandboxError::Host(_) => ErrorKind::Internal,
        _ => ErrorKind::ProviderFault,
    }
}

/// Something that was not found or has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Thing {
    /// A workspace.
    Workspace,
    /// An API key.
    ApiKey,
    /// A connection.
    Connection,
    /// A vault entry.
    Entry,
    /// A password rotation.
    Rotation,
    /// A damaged row.
    DamagedRow,
}

impl Thing {
    /// Where it was looked for.
    fn place(self) -> &'static str {
        match self {
            Self::Workspace | Self::DamagedRow => "",
            Self::ApiKey | Self::Connection | Self::Entry | Self::Rotation => " in this workspace",
        }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Workspace => "workspace",
            Self::ApiKey => "API key",
            Self::Connection => "secret provider connection",
            Self::Entry => "vault entry",
            Self::Rotation => "password rotation",
            Self::DamagedRow => "damaged row",
        })
    }
}

/// Why an entry's second factor has no code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoTfaCode {
    /// The entry has none.
    #[error(
        "this vault entry has no second factor with codes; set the second factor's secret and the authenticator method, or bind the entry to an item with a one-time password"
    )]
    NoSecondFactor,
    /// The codes of this method cannot be attributed to an entry.
    #[error(
        "codes of the second-factor method {0} cannot be read here, because they do not identify their vault entry; only codes of AUTHENTICATOR and EMAIL can be read"
    )]
    Method(TfaMethod),
    /// The item has no time-based one-time password.
    #[error("the bound item has no one-time password; add one to the item in the secret manager")]
    NotOnItem,
    /// The one-time password of the item or the entry yields no code, with the explanation.
    #[error("there is no one-time code: {0}")]
    NotMade(String),
    /// No e-mail with a code has arrived.
    #[error(
        "no code has arrived by e-mail for this vault entry; start the login so that the site sends one, and check the user's inbox: this server has no inbox"
    )]
    NoEmail,
}

/// Which limit a list of items exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ListLimit {
    /// Too many items.
    #[error("this connection sees more than {0} items; restrict it to the vaults that you need")]
    Items(usize),
    /// Too many pages.
    #[error(
        "the provider's list of items has more than {0} pages; restrict the connection to the vaults that you need"
    )]
    Pages(usize),
    /// Too much text.
    #[error("the provider's list of items is larger than {} MiB; restrict the connection to the vaults that you need", .0 >> 20)]
    Bytes(usize),
    /// Listing took too long.
    #[error(
        "listing the items took longer than {0} s; try again, or restrict the connection to the vaults that you need"
    )]
    Seconds(u64),
    /// Other lists of items take the memory that there is for them.
    #[error("too many lists of items are being read at once; try again in a moment")]
    Memory,
}

/// A request that breaks a rule. The wording of the rules for bound entries is that of the
/// published clients.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidInput {
    /// A value contains control characters.
    #[error("{field} must not contain control characters")]
    ControlCharacter {
        /// Which value.
        field: &'static str,
    },
    /// The address carries a user name or a password.
    #[error("domain must not contain a user name or password; they would be stored and shown in plain text")]
    DomainWithCredentials,
    /// A required value is missing or empty.
    #[error("{field} is required and must not be empty")]
    Required {
        /// Which.
        field: &'static str,
    },
    /// A value is too long.
    #[error("{field} is too long: at most {limit} characters are allowed")]
    TooLong {
        /// Which.
        field: &'static str,
        /// How long it may be.
        limit: usize,
    },
    /// The domain is not the address of a site.
    #[error(
        "domain must be a URL without spaces, with http:// or https:// and a host other than localhost, for example https://acme.com"
    )]
    Domain,
    /// A credential's ciphertext opens, but holds no text.
    #[error("{field} must be an encrypted string or null; its ciphertext decrypts to something else")]
    EncryptedNotText {
        /// Which.
        field: String,
    },
    /// The entry has both a binding and a passkey.
    #[error("a vault entry can be backed by a secret provider or use a passkey, but not both")]
    BoundWithPasskey,
    /// The authenticator secret makes no one-time codes, with the explanation.
    #[error(
        "the second factor's secret must be the secret of an authenticator in base32, or its otpauth://totp URL. {0}"
    )]
    TfaSecret(String),
    /// A demand on the one-time code that no code meets.
    #[error("min_seconds_left must be at most the period of the item's codes, which is {period} s")]
    MinSecondsLeft {
        /// For how many seconds each code is current.
        period: u32,
    },
    /// A demand on the one-time code by a request for none.
    #[error("unused and min_seconds_left are about the one-time code, which this request does not ask for")]
    CodeNotAsked,
    /// An attribute's value is not JSON.
    #[error("{field} must be JSON that is not nested too deeply")]
    NotJson {
        /// The attribute.
        field: String,
    },
    /// The attributes, such as cookies and browser storages, are too large together.
    #[error("the attributes of a vault entry, including cookies and browser storages, may have at most {} MiB in total", .limit >> 20)]
    AttributesTooLarge {
        /// How many bytes they may have.
        limit: usize,
    },
    /// A bound entry takes its one-time codes from the item.
    #[error(
        "the authenticator method is not available for provider-backed vault entries; the one-time code comes from the bound item"
    )]
    BoundWithAuthenticator,
    /// The authenticator method lacks its secret.
    #[error("the authenticator method requires the second factor's secret")]
    AuthenticatorWithoutSecret,
    /// The connection is unknown in this workspace.
    #[error("the connection does not belong to this workspace")]
    UnknownConnection,
    /// The reference is not one of the connection's provider.
    #[error("reference: {message}")]
    Reference {
        /// The provider's explanation.
        message: String,
    },
    /// The provider declares no such rate-limit tier.
    #[error("the rate-limit tier must be {}", tiers(.known))]
    RateLimitTier {
        /// The tiers that it declares.
        known: Vec<String>,
    },
    /// The settings do not yield the network destinations of the connection.
    #[error("{0}")]
    Destination(String),
    /// The certificate authorities of a connection cannot be used.
    #[error("certificate_authorities cannot be used: {0}. Send the certificates as text in PEM")]
    Authorities(#[from] AuthoritiesError),
    /// The query of the audit log is not valid.
    #[error(transparent)]
    AuditQuery(#[from] InvalidQuery),
    /// There is no two-factor method, scope or state of this name.
    #[error(transparent)]
    Name(#[from] UnknownName),
    /// Only entries that are bound to an item have leases.
    #[error("this vault entry is not bound to an item, so its values have no lease")]
    NoLease,
    /// The names of further fields are too many, repeated, empty or too long.
    #[error("the further fields must have at most 100 distinct field names of 1 to 256 bytes each")]
    FurtherFields,
    /// The length of a generated password is out of range.
    #[error("the length of a generated password must be between {least} and {most}")]
    PasswordLength {
        /// The fewest characters allowed.
        least: usize,
        /// The most characters allowed.
        most: usize,
    },
    /// The symbols of a generated password are not ASCII punctuation.
    #[error("the symbols of a generated password must be ASCII punctuation characters")]
    PasswordSymbols,
    /// A generated password has too few characters to choose from.
    #[error("a generated password needs more kinds of characters; allow lower case, upper case or digits")]
    PasswordAlphabet,
    /// Refused by the code that embeds the broker, in these words: see
    /// [`Entries::update`](crate::entries::Entries::update).
    #[error("{0}")]
    Refused(String),
    /// The new password is the old one.
    #[error("the new password is the same as the current one; send another one, or none to generate one")]
    SamePassword,
    /// The id of a new rotation is in use by a rotation of another entry, or no id at all.
    #[error("the id belongs to a rotation of another entry, or is nil; choose a new one")]
    RotationId,
}

fn tiers(known: &[String]) -> String {
    if known.is_empty() {
        "absent: the provider declares no limits".into()
    } else {
        format!("one of {}", known.join(", "))
    }
}

fn installed_list(installed: &[String]) -> String {
    if installed.is_empty() { "none is installed".into() } else { format!("installed: {}", installed.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(error: ProviderError) -> ErrorKind {
        BrokerError::Provider(error).kind()
    }

    #[test]
    fn wrong_settings_are_the_callers_mistake_when_entered_and_the_connections_fault_later() {
        let error = || ProviderError::new(ErrorCode::InvalidSettings, "");
        assert_eq!(BrokerError::NotVerified { source: error().into() }.kind(), ErrorKind::Invalid);
        assert_eq!(provider(error()), ErrorKind::ProviderRefused);
    }

    #[test]
    fn a_wait_is_the_servers_word_or_a_second_when_the_host_may_soon_work_again() {
        let limited = ProviderError::new(ErrorCode::RateLimited, "").retry_after(Duration::from_secs(7));
        assert_eq!(BrokerError::Provider(limited).retry_after(), Some(Duration::from_secs(7)));
        for soon in [
            BrokerError::Sandbox(SandboxError::Busy { limit: 1 }),
            BrokerError::Storage(StorageError::Busy),
            BrokerError::Key(KeyError::Service("no route to host".into())),
            AuditError::unwritable("").into(),
            BrokerError::Closed,
        ] {
            assert_eq!(soon.retry_after(), Some(SOON), "{soon}");
        }
        let made = AuditError::failed("").after_a_change();
        for never in [
            made.into(),
            BrokerError::EntryExists,
            BrokerError::Provider(ProviderError::new(ErrorCode::Unavailable, "")),
        ] {
            assert_eq!(never.retry_after(), None, "{never}");
        }
    }

    #[test]
    fn the_three_kinds_of_errors_stay_apart() {
        assert_eq!(BrokerError::TooManyItems(ListLimit::Seconds(50)).kind(), ErrorKind::ProviderUnavailable);
        assert_eq!(BrokerError::TooManyItems(ListLimit::Pages(500)).kind(), ErrorKind::ProviderFault);
        assert_eq!(provider(ProviderError::new(ErrorCode::Unavailable, "")), ErrorKind::ProviderUnavailable);
        assert_eq!(BrokerError::Sandbox(SandboxError::OutOfMemory { limit_bytes: 1 }).kind(), ErrorKind::ProviderFault);
        assert_eq!(BrokerError::Sandbox(SandboxError::Host(String::new())).kind(), ErrorKind::Internal);
        assert_eq!(BrokerError::NotFound(Thing::Entry).kind(), ErrorKind::NotFound);
    }
}
