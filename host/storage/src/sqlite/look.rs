//! Inspects a database file without opening it as a database of this program.
//!
//! **Invariant:** the file is not changed: it is neither created nor migrated, and no write-ahead
//! log is begun or emptied.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection, query, query_scalar};

use super::explain::explained;
use super::keys::{MASTER_KEYS, readable_master_keys};
use super::{BUSY_TIMEOUT, SqliteStorage, has_log};
use crate::{Cause, MasterKeyRecord, StorageError};

impl SqliteStorage {
    /// The master keys that the database in this file names, the current one last. Empty when the
    /// file was only just created, or belongs to something else.
    ///
    /// # Errors
    /// [`StorageError::Open`].
    pub async fn look_at_master_keys(path: &Path) -> Result<Vec<MasterKeyRecord>, StorageError> {
        let failed = |source: Cause| StorageError::Open { place: path.display().to_string(), source };
        // A database that no process has open has no log, and SQLite would create one even to read,
        // and remove one with nothing in it. Telling it that the file is immutable prevents that.
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
        let mut connection =
            options.immutable(!has_log(path)).connect().await.map_err(|error| failed(explained(error)))?;
        let found = select(&mut connection).await;
        // The result is already read; a failure to close does not matter.
        let _ = connection.close().await;
        found.map_err(|error| failed(error.into()))
    }
}

async fn select(connection: &mut SqliteConnection) -> Result<Vec<MasterKeyRecord>, StorageError> {
    let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'master_keys')";
    if !query_scalar::<_, bool>(is_there).fetch_one(&mut *connection).await? {
        return Ok(Vec::new());
    }
    readable_master_keys(&query(MASTER_KEYS).fetch_all(connection).await?)
}
