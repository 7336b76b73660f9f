//! What SQLite's failures mean, and what to do about them.
//!
//! SQLite's own words ("database disk image is malformed") say neither to a person. They stay the
//! source of the error.

use thiserror::Error;

use crate::{Cause, StorageError};

/// A failure of SQLite, in words for operators.
#[derive(Debug, Error)]
#[error("{says}")]
struct Explained {
    says: &'static str,
    source: sqlx::Error,
}

/// The cause of a failure, explained if its kind is known.
pub(super) fn explained(error: sqlx::Error) -> Cause {
    match code(&error).and_then(meaning) {
        Some(says) => Explained { says, source: error }.into(),
        None => error.into(),
    }
}

/// SQLite's primary result code (<https://www.sqlite.org/rescode.html>): the lower byte of the
/// extended one.
pub(super) fn code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?.parse::<u32>().ok()?;
    Some(code & 0xff)
}

/// The file has pages that are damaged.
pub(super) fn damaged_file() -> StorageError {
    StorageError::Failed(meaning(11).unwrap_or_default().into())
}

fn meaning(code: u32) -> Option<&'static str> {
    Some(match code {
        8 => "its file, folder or file system is read-only; make it writable",
        10 => "its disk fails to read or write; look at the system's log, and check the disk",
        11 => "its file is damaged; stop every process that uses it, and restore it from a backup",
        13 => "the disk is full; free some space",
        14 => "its file cannot be opened, or a file beside it cannot be made; check the folder's permissions",
        26 => "its file is not a database; restore it from a backup",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::StorageError;
    use crate::SqliteStorage;

    /// None of SQLite's own words, and what to do.
    fn is_explained(error: &StorageError, what_to_do: &str) {
        let message = error.to_string();
        let raw = ["malformed", "code:", "disk image", "is not a database (", "or disk is full"];
        assert!(message.contains(what_to_do) && raw.iter().all(|raw| !message.contains(raw)), "{message}");
    }

    #[tokio::test]
    async fn a_damaged_file_is_called_that_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyway.db");
        std::fs::write(&path, "x".repeat(8_192)).unwrap();
        is_explained(&SqliteStorage::open(&path).await.unwrap_err(), "restore it from a backup");
        is_explained(&SqliteStorage::open_read_only(&path).await.unwrap_err(), "restore it from a backup");
        is_explained(&SqliteStorage::look_at_master_keys(&path).await.unwrap_err(), "restore it from a backup");
    }

    #[tokio::test]
    async fn damage_that_an_operation_meets_is_called_that() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyway.db");
        SqliteStorage::open(&path).await.unwrap().close().await;
        let mut file = std::fs::read(&path).unwrap();
        // All but the page of the schema.
        file[4_096..].fill(0xff);
        std::fs::write(&path, file).unwrap();
        let error = match SqliteStorage::open(&path).await {
            Ok(storage) => crate::KeyStorage::host_keys(&storage).await.unwrap_err(),
            Err(error) => error,
        };
        is_explained(&error, "restore it from a backup");
    }
}
