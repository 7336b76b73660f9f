//! How a command ends: exit codes for scripts, and errors for people and programs.

use std::io;
use std::time::Duration;

use keyway::budgets::NotCalled;
use keyway::keys::KeyError;
use keyway::storage::StorageError;
use keyway::{BrokerError, ErrorKind, Thing};
use keyway_runtime::{CallError, FolderError, LoadError};
use serde::Serialize;
use thiserror::Error;

use super::words::{in_flags, of_settings};
use crate::host::OpenError;
use crate::serve::{BindError, TlsError};
use crate::view::dependents::Dependents;
use crate::view::retry;

/// Exit codes. They are part of the interface and do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// A fault of this program or of its set-up, or anything without a code of its own.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// It does not exist: also a file that was named, or the database.
    NotFound = 3,
    /// A value breaks a rule, or something already exists.
    Invalid = 4,
    /// Credentials were not accepted, or do not allow this.
    Denied = 5,
    /// Rate limited, unreachable or busy: try again later.
    TryLater = 6,
    /// The provider crashed, hit a limit of its sandbox, gave an invalid answer, or cannot be
    /// loaded.
    Provider = 7,
    /// The audit log does not verify: it was changed.
    AuditTouched = 8,
}

/// For `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  a fault of this program or of its set-up
  2  the command line is wrong
  3  not found, also a file or the database
  4  a value breaks a rule, or something already exists
  5  credentials were refused, or do not allow this
  6  rate limited, unreachable or busy: try again later
  7  the provider component failed
  8  the audit log does not verify";

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Invalid | ErrorKind::NotEncrypted | ErrorKind::Conflict => Self::Invalid,
            ErrorKind::Unauthenticated | ErrorKind::Forbidden | ErrorKind::ProviderRefused => Self::Denied,
            ErrorKind::NotFound | ErrorKind::NotInstalled => Self::NotFound,
            ErrorKind::RateLimited
            | ErrorKind::ProviderUnavailable
            | ErrorKind::ProviderPaused
            | ErrorKind::Busy
            | ErrorKind::Ending
            | ErrorKind::KeysUnavailable
            | ErrorKind::AuditUnavailable => Self::TryLater,
            ErrorKind::ProviderFault | ErrorKind::Unsupported => Self::Provider,
            _ => Self::Failure,
        }
    }
}

/// The kinds of errors: those of the library, and those that only a command line has. **Each
/// decides the exit code and the code of an error, here and nowhere else.**
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Error(ErrorKind),
    /// The command line, or the configuration file, is wrong.
    Usage,
    /// A component cannot be loaded.
    Component,
    /// The audit log does not verify.
    Audit,
}

impl Kind {
    fn exit(self) -> Exit {
        match self {
            Self::Error(kind) => kind.into(),
            Self::Usage => Exit::Usage,
            Self::Component => Exit::Provider,
            Self::Audit => Exit::AuditTouched,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Error(kind) => kind.code(),
            Self::Usage => "USAGE",
            Self::Component => "COMPONENT_REFUSED",
            Self::Audit => "AUDIT_NOT_VERIFIED",
        }
    }
}

/// Why a command failed.
#[derive(Debug, Clone, Serialize, Error)]
#[error("{message}")]
pub(crate) struct CliError {
    #[serde(skip)]
    pub(crate) exit: Exit,
    /// Whether the error was already printed as part of the result.
    #[serde(skip)]
    pub(crate) in_result: bool,
    /// Whether requests do not get through to a secret manager, now or a moment ago.
    #[serde(skip)]
    pub(crate) is_unreachable: bool,
    code: &'static str,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
    /// The entries that prevent the deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    dependents: Option<Dependents>,
}

impl CliError {
    /// Of this kind, with a message for a person.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::of(Kind::Error(kind), message)
    }

    fn of(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            exit: kind.exit(),
            in_result: false,
            is_unreachable: kind == Kind::Error(ErrorKind::ProviderUnavailable),
            code: kind.code(),
            message: message.into(),
            hint: None,
            retry_after_seconds: None,
            dependents: None,
        }
    }

    /// The command line is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::of(Kind::Usage, message)
    }

    /// A file cannot be read that an argument names, and `message` too. It is not there, it is not
    /// of the kind that was meant, or the system does not give it out.
    pub(crate) fn unreadable(error: &io::Error, message: impl Into<String>) -> Self {
        let kind = match error.kind() {
            _ if is_missing(error) => ErrorKind::NotFound,
            io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => ErrorKind::Invalid,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, message)
    }

    /// A component that cannot be loaded.
    pub(crate) fn load(file: &str, error: &LoadError) -> Self {
        let kind = match error {
            LoadError::Unreadable(_) => Kind::Error(ErrorKind::NotFound),
            LoadError::Host(_) => Kind::Error(ErrorKind::Internal),
            _ => Kind::Component,
        };
        Self::of(kind, format!("{file}: {error}"))
    }

    /// No component of the provider folder is in use, because each was refused.
    pub(crate) fn all_refused(message: impl Into<String>) -> Self {
        Self::of(Kind::Component, message)
    }

    /// The audit log does not verify; `finding` is the first problem.
    pub(crate) fn audit(finding: &str) -> Self {
        Self::of(Kind::Audit, format!("the audit log does not verify: {finding}"))
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Puts `what`, the place of the failure, before the message.
    #[must_use]
    pub(crate) fn during(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// Adds what else is known of the failure to the message.
    #[must_use]
    pub(crate) fn and(self, what: &str) -> Self {
        Self { message: format!("{}; {what}", self.message), ..self }
    }

    /// Marks the error as part of a result that was printed.
    #[must_use]
    pub(crate) fn in_result(self) -> Self {
        Self { in_result: true, ..self }
    }

    /// Whether a provider is missing.
    pub(crate) fn is_not_installed(&self) -> bool {
        self.code == ErrorKind::NotInstalled.code()
    }
}

impl From<BrokerError> for CliError {
    fn from(error: BrokerError) -> Self {
        let kind = error.kind();
        let wait = error.retry_after();
        let hint = hint(kind, &error, wait);
        let retry_after_seconds = wait.map(retry::whole_seconds);
        let told = Self { hint, retry_after_seconds, ..Self::new(kind, in_flags(&error)) };
        match error {
            BrokerError::NotCalled(NotCalled::Unavailable { .. }) => Self { is_unreachable: true, ..told },
            BrokerError::ConnectionInUse(dependents) => Self { dependents: Some(dependents.into()), ..told },
            _ => told,
        }
    }
}

/// Help for the terminal that the message lacks, because the message is the same over HTTP.
fn hint(kind: ErrorKind, error: &BrokerError, wait: Option<Duration>) -> Option<String> {
    let hint = match (error, kind) {
        (BrokerError::NotFound(Thing::Connection), _) => "`keyway connection list` lists the connections",
        (BrokerError::NotFound(Thing::Entry), _) => "`keyway entry list` lists the vault entries",
        (BrokerError::NotFound(Thing::Workspace), _) => "`keyway workspace list` lists the workspaces",
        (BrokerError::NotFound(Thing::Rotation), _) => "`keyway rotation list` lists the rotations",
        (BrokerError::NotFound(Thing::DamagedRow), _) => "`keyway database check` lists the damaged rows",
        (
            BrokerError::Storage(
                StorageError::Damaged { .. } | StorageError::DamagedKey { table: "workspace_keys", .. },
            )
            | BrokerError::Envelope(_)
            | BrokerError::Key(KeyError::Envelope(_)),
            _,
        ) => "`keyway database check` lists all damaged rows",
        (_, ErrorKind::Unsupported) => "`keyway provider inspect` shows what a provider can do",
        (_, ErrorKind::NotEncrypted) => "`keyway workspace encryption-key` prints the key that clients encrypt under",
        // The message says when.
        (BrokerError::CodeNotYet { .. }, _) => return None,
        (BrokerError::RotationOpen, _) => "`keyway rotation list --open` shows it",
        (
            BrokerError::NotVerified { source: CallError::Provider(_) },
            ErrorKind::Invalid | ErrorKind::ProviderRefused,
        ) => "nothing was stored; correct the settings and try again",
        (_, ErrorKind::RateLimited) => {
            let when = wait.map_or("later".to_owned(), |wait| format!("in {} s", retry::whole_seconds(wait)));
            return Some(format!("try again {when}; a longer cache duration makes fewer calls"));
        }
        (_, ErrorKind::ProviderUnavailable) => "check the network of this machine, then try again",
        _ => return None,
    };
    Some(hint.to_owned())
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        let (kind, hint) = match &error {
            OpenError::NoDatabase(_) => (
                ErrorKind::NotFound,
                Some("run `keyway init` to begin a new installation, or name the folder of another with --data-dir"),
            ),
            OpenError::DatabaseExists(_) => {
                (ErrorKind::Conflict, Some("nothing was changed; `keyway workspace list` shows what is in it"))
            }
            OpenError::DatabaseLost { .. } | OpenError::MasterKeyMissing { .. } => (ErrorKind::NotFound, None),
            OpenError::Key(KeyError::File { source, .. })
            | OpenError::Authorities { source: Some(source), .. }
            | OpenError::Providers(FolderError::Unreadable { source, .. })
                if is_missing(source) =>
            {
                (ErrorKind::NotFound, None)
            }
            _ => (ErrorKind::Internal, None),
        };
        let told = Self::new(kind, error.to_string());
        match (hint, error) {
            (Some(hint), _) => told.hint(hint),
            // What the broker says of these, it says here as well.
            (_, OpenError::Broker(error)) => error.into(),
            (_, OpenError::Storage(error)) => BrokerError::from(error).into(),
            _ => told,
        }
    }
}

/// Whether there is no such file.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory)
}

impl From<BindError> for CliError {
    fn from(error: BindError) -> Self {
        let kind = match &error {
            BindError::Tls(TlsError::File { source: Some(source), .. }) if is_missing(source) => ErrorKind::NotFound,
            _ => ErrorKind::Internal,
        };
        let message = match &error {
            BindError::PlainHttp { .. } => of_settings(&error.to_string()),
            error => error.to_string(),
        };
        let told = Self::new(kind, message);
        match error {
            BindError::Listen { .. } => {
                told.hint("--listen (and --metrics-listen) choose another address; port 0 picks a free port")
            }
            _ => told,
        }
    }
}

#[cfg(test)]
mod tests {
    use keyway_runtime::{ErrorCode, ProviderError};

    use super::*;

    #[test]
    fn a_script_can_tell_what_to_do_by_the_exit_code() {
        let exit = |error: BrokerError| CliError::from(error).exit;
        assert_eq!(exit(BrokerError::NotFound(Thing::Entry)), Exit::NotFound);
        assert_eq!(exit(BrokerError::EntryExists), Exit::Invalid);
        assert_eq!(exit(BrokerError::Provider(ProviderError::new(ErrorCode::Unauthenticated, "no"))), Exit::Denied);
        assert_eq!(exit(BrokerError::Provider(ProviderError::new(ErrorCode::Unavailable, "no"))), Exit::TryLater);
        assert_eq!(exit(BrokerError::Provider(ProviderError::new(ErrorCode::UnexpectedAnswer, "no"))), Exit::Provider);
        assert_eq!(exit(BrokerError::Host("no".into())), Exit::Failure);
    }

    #[test]
    fn a_rate_limit_says_when_to_try_again() {
        let wait = Some(Duration::from_secs(42));
        let error = ProviderError::new(ErrorCode::RateLimited, "slow down").retry_after(wait);
        let error = CliError::from(BrokerError::Provider(error));
        assert!(error.hint.as_deref().unwrap().contains("42 s"));
        assert_eq!(serde_json::to_value(&error).unwrap()["retry_after_seconds"], 42);
        // Rounded up: a script must not retry too early, or at once.
        let wait = Some(Duration::from_millis(300));
        let error = ProviderError::new(ErrorCode::RateLimited, "slow down").retry_after(wait);
        let error = CliError::from(BrokerError::Provider(error));
        assert!(error.hint.as_deref().unwrap().contains("1 s"));
        assert_eq!(serde_json::to_value(&error).unwrap()["retry_after_seconds"], 1);
    }
}
