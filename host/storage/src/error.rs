//! Why a database operation failed, and which constraint refused a change.

use thiserror::Error;
use uuid::Uuid;

/// The cause of an error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a database operation failed. The messages are for operators.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The database cannot be opened.
    #[error("cannot open the database {place}: {source}")]
    Open {
        /// Which database.
        place: String,
        /// What went wrong.
        source: Cause,
    },
    /// The database is of an earlier release, and was opened for reading only.
    #[error("the database {place} is of an earlier release; open it for writing once to bring it up to date")]
    Outdated {
        /// Which database.
        place: String,
    },
    /// A constraint refused the change.
    #[error("the database refused the change: {0:?}")]
    Conflict(Constraint),
    /// A stored record is invalid.
    #[error(
        "the database holds an impossible value in a column `{column}`; it was damaged, or changed by another program"
    )]
    Corrupt {
        /// The column.
        column: String,
    },
    /// A row is not what the host wrote.
    #[error(
        "the row {id} of the table `{table}` was damaged, or changed by something else than this program. Restore it \
         from a backup, or delete it"
    )]
    Damaged {
        /// The table.
        table: &'static str,
        /// The row.
        id: Uuid,
    },
    /// The row of a key cannot be read.
    #[error(
        "the row {row} of the table `{table}` was damaged, or changed by something else than this program. Restore the \
         database from a backup"
    )]
    DamagedKey {
        /// The table.
        table: &'static str,
        /// The row: a number or a name, or the workspace and the number of its key.
        row: String,
    },
    /// The host's key says that no row is sealed, but some are.
    #[error(
        "the host's key in the database is an earlier copy than the rows, so it was put back by something else. \
         Restore the whole database from one backup"
    )]
    AlreadySealed,
    /// Another writer kept the database locked for longer than this one waits. The change did not
    /// happen and may be retried.
    #[error("the database was busy with other changes for too long; try again in a moment")]
    Busy,
    /// Anything else: disk full, file damaged. The change did not happen.
    #[error("the database failed: {0}")]
    Failed(#[source] Cause),
}

impl StorageError {
    /// Whether the error is about one row, and says nothing about the others.
    pub fn is_of_one_row(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Damaged { .. } | Self::DamagedKey { .. })
    }
}

/// A constraint of the database that a change would have broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Constraint {
    /// Such a record exists already.
    Unique,
    /// A record that it depends on does not exist, or another record depends on it.
    Reference,
    /// The key that sealed or wrapped a value is no longer current: it was rotated meanwhile.
    KeyTerm,
}

/// A text that is not the name of any variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnknownName {
    /// Not one of the known two-factor methods.
    #[error("tfa_method must be AUTHENTICATOR, EMAIL, SMS or MAGIC_LINK")]
    TfaMethod,
    /// Not a known scope.
    #[error("a scope must be api, admin, resolve or rotate")]
    Scope,
    /// Not a state of a rotation.
    #[error("a state must be skipped, prepared, committing, write_back_failed, conflicted, done or abandoned")]
    RotationState,
}
