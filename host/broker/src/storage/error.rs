//! Why the database could not do what it was asked for, and which constraint of it refused a change.

use thiserror::Error;

/// Why the database could not do what it was asked for. The messages are for operators.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The database cannot be opened.
    #[error("cannot open the database {place}: {reason}")]
    Open {
        /// Which database.
        place: String,
        /// What went wrong.
        reason: String,
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
    /// Others kept the database busy for longer than it waits. The change did not happen; it may be tried again.
    #[error("the database was busy with other changes for too long; try again in a moment")]
    Busy,
    /// Anything else: disk full, connection lost. The change did not happen.
    #[error("the database failed: {0}")]
    Failed(String),
}

/// A constraint of the database that a change would have broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Constraint {
    /// Something of that kind exists already.
    Unique,
    /// Something that it depends on does not exist, or something depends on it.
    Reference,
    /// The key that sealed or wrapped a value is not the current one any more: it was rotated meanwhile.
    KeyTerm,
}
