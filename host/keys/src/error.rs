//! Why a key could not be obtained or used.

use std::path::PathBuf;

use jiff::Timestamp;
use keyway_storage::{Cause, StorageError};
use thiserror::Error;

use crate::{EnvelopeError, KeyId};

/// Why a key could not be obtained or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key file could not be read or written.
    #[error("cannot use the master key file {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The key file is readable by others than its owner.
    #[error("the master key file {} is readable by users other than its owner; run `chmod 600` on it", .0.display())]
    FileNotPrivate(PathBuf),
    /// The environment variable is not set.
    #[error("the environment variable {0} with the master key is not set")]
    NotInEnvironment(String),
    /// The text is not a key.
    #[error("the key in {place} must be 64 hexadecimal digits (32 bytes)")]
    Malformed {
        /// The source of the text.
        place: String,
    },
    /// The database is under another master key.
    #[error(
        "this database is under another master key (its key is {expected}, this one is {given}). Start with that key"
    )]
    WrongMasterKey {
        /// The id of the database's key.
        expected: KeyId,
        /// The id of the key that was given.
        given: KeyId,
    },
    /// The given master key was replaced; the database is under a newer one.
    #[error(
        "this master key was replaced on {} (the database's key is now {expected}, this one is {given}). Start with the key that replaced it",
        replaced_at.strftime("%Y-%m-%d %H:%M UTC")
    )]
    ReplacedMasterKey {
        /// The id of the database's key.
        expected: KeyId,
        /// The id of the key that was given.
        given: KeyId,
        /// When it was replaced.
        replaced_at: Timestamp,
    },
    /// The proposed new master key is or was the database's master key.
    #[error("this database already uses the new master key, or has used it before. Generate a new one")]
    NotANewKey,
    /// The database has workspaces but not the key of the host.
    #[error("the host's own key is missing from the database; it was damaged. Restore it from a backup")]
    NoHostKey,
    /// A key service failed.
    #[error("the key service failed: {0}")]
    Service(#[source] Cause),
    /// The wrapped key did not open, or sealing failed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
