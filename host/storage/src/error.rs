//! Why the database could not do what it was asked for, and which constraint of it refused a
//! change.

use thiserror::Error;

/// What lies beneath an error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the database could not do what it was asked for. The messages are for operators.
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
    /// A constraint decided against the change.
    #[error("the database refused the change: {0:?}")]
    Conflict(Constraint),
    /// A record that cannot be.
    #[error(
        "the database holds an impossible value in a column `{column}`; it was damaged or changed by something else"
    )]
    Corrupt {
        /// The column.
        column: &'static str,
    },
    /// Others kept the database busy for longer than it waits. The change did not happen; it may be
    /// tried again.
    #[error("the database was busy with other changes for too long; try again in a moment")]
    Busy,
    /// Anything else: disk full, connection lost. The change did not happen.
    #[error("the database failed: {0}")]
    Failed(#[source] Cause),
}

/// A constraint of the database that a change would have broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Constraint {
    /// Something of that kind exists already.
    Unique,
    /// Something that it depends on does not exist, or something depends on it.
    Reference,
    /// The key that sealed or wrapped a value is not the current one any more: it was rotated
    /// meanwhile.
    KeyTerm,
}

/// A text that names none of what there is.
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
