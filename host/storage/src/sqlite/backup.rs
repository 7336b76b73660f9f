//! A copy of a database that is in use.
//!
//! **Invariant:** the copy is the database of one moment, complete in one file, and on the disk
//! when the call returns. Writers are not held up, and nothing in the database changes. What was
//! deleted before that moment is not in the copy.

use std::fs::File;
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, query, query_scalar};

use super::SqliteStorage;
use super::audit_roots::ROOTS;
use crate::{StorageError, private_file};

impl SqliteStorage {
    /// Copies the database to a new file, which only its owner can read. Returns the roots of the
    /// audit log that are in the copy.
    ///
    /// # Errors
    /// [`StorageError::Failed`], also when the file exists. After an error no file is left.
    pub async fn copy_to(&self, path: &Path) -> Result<Vec<Vec<u8>>, StorageError> {
        let failed = |error: std::io::Error| StorageError::Failed(error.into());
        // First, so that the file has its final mode from the beginning. SQLite accepts an empty
        // one.
        private_file::create(path, b"").map_err(failed)?;
        let copied = self.fill(path).await;
        if copied.is_err() {
            // The first error counts.
            let _ = std::fs::remove_file(path);
        }
        copied
    }

    async fn fill(&self, path: &Path) -> Result<Vec<Vec<u8>>, StorageError> {
        let failed = |error: std::io::Error| StorageError::Failed(error.into());
        let name = path.to_str().ok_or_else(|| failed(std::io::Error::other("its path is not valid Unicode")))?;
        // It reads in one transaction, and does not wait for the disk.
        query("VACUUM INTO ?").bind(name).execute(&self.readers).await?;
        File::open(path).and_then(|copy| copy.sync_all()).map_err(failed)?;
        // Nothing else has it open, so SQLite need not make files beside it.
        let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
        let mut copy = options.connect().await?;
        let roots = query_scalar(ROOTS).fetch_all(&mut copy).await;
        // The result is already read; a failure to close does not matter.
        let _ = copy.close().await;
        Ok(roots?)
    }
}
