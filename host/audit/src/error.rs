//! The errors of the log and of queries.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use keyway_storage::StorageError;
use thiserror::Error;

use crate::operation::Operation;

/// The cause of an [`AuditError`]. Shared, because every caller of a failed group gets it.
pub type AuditCause = Arc<dyn StdError + Send + Sync>;

/// The audit log does not work. Nothing was released, and nothing was changed unless the error says
/// so.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuditError {
    /// It cannot be written.
    #[error(
        "the audit log cannot be written ({0}), so nothing is released or changed. Operations resume once the log can be written again"
    )]
    Unwritable(#[source] AuditCause),
    /// It did not answer in time.
    #[error(
        "the audit log did not answer within {} s, so nothing is released or changed. Operations resume once the log answers again", .0.as_secs()
    )]
    Deadline(Duration),
    /// It cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Unreadable(#[source] AuditCause),
    /// A change ended without an error, but its outcome could not be recorded. Its beginning is in
    /// the log.
    #[error(
        "it was done, but the audit log cannot be written ({}), so the outcome is not recorded. Check the current state before you repeat it", .0.reason()
    )]
    OutcomeUnrecorded(#[source] Box<AuditError>),
    /// The query is not valid.
    #[error(transparent)]
    Query(#[from] InvalidQuery),
    /// This log does not support the request.
    #[error("this audit log is kept elsewhere and cannot be {0} here")]
    Elsewhere(&'static str),
    /// The database has no valid root of the log.
    #[error(
        "there is no valid root of the audit log. Nothing was recorded yet, or it was removed: verifying the log tells which"
    )]
    NoRoot,
    /// A fault of the log itself.
    #[error("the audit log failed: {0}. Nothing was released")]
    Failed(#[source] AuditCause),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl AuditError {
    /// An error with this cause: the log cannot be written.
    pub fn unwritable(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unwritable(cause.into().into())
    }

    /// An error with this cause: the log cannot be read.
    pub fn unreadable(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unreadable(cause.into().into())
    }

    /// A fault of the log itself.
    pub fn failed(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Failed(cause.into().into())
    }

    /// The same, after a change that was made.
    #[must_use]
    pub fn after_a_change(self) -> Self {
        Self::OutcomeUnrecorded(Box::new(self))
    }

    fn reason(&self) -> String {
        match self {
            Self::Unwritable(cause) | Self::Failed(cause) => cause.to_string(),
            Self::Deadline(deadline) => format!("it did not answer within {} s", deadline.as_secs()),
            other => other.to_string(),
        }
    }
}

/// An invalid query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidQuery {
    /// Not an operation of the audit log.
    #[error("operation must be one of {}", operations())]
    Operation,
    /// Not an outcome of the audit log.
    #[error("outcome must be ok, begun, failed, or an error code, for example FORBIDDEN")]
    Outcome,
    /// Not an order of the audit log.
    #[error("order must be newest or oldest")]
    Order,
    /// Not a cursor of the audit log.
    #[error("cursor must be the unchanged `next` of the previous page")]
    Cursor,
}

fn operations() -> String {
    Operation::ALL.iter().map(|operation| operation.name()).collect::<Vec<_>>().join(", ")
}
