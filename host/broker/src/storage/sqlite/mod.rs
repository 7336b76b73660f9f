//! [`Storage`] in an SQLite file.
//!
//! The file is readable by its owner only (SQLite gives its write-ahead log the same mode). Write-ahead logging lets
//! readers and a writer work at the same time; `synchronous = FULL` makes a change durable before it is acknowledged;
//! deleted data is overwritten with zeros. A writer that finds the database locked by another process waits up to five
//! seconds. Migrations run when the database is opened.

mod queries;
mod rows;

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use super::StorageError;
use crate::private_file;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a writer waits for another one, here or in another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Readers work in parallel; more than a few only compete for the processor.
const CONNECTIONS: u32 = 4;

/// An SQLite database.
#[derive(Debug, Clone)]
pub struct SqliteStorage {
    pool: SqlitePool,
}

impl SqliteStorage {
    /// Opens a database file, and creates it when there is none.
    ///
    /// # Errors
    /// [`StorageError::Open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        let place = path.display().to_string();
        make_private(path).map_err(|error| StorageError::Open { place: place.clone(), reason: error.to_string() })?;
        let options = SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Wal);
        Self::connect(options, SqlitePoolOptions::new().max_connections(CONNECTIONS), place).await
    }

    /// Opens a new database in memory, which is gone when it is dropped.
    ///
    /// # Errors
    /// [`StorageError::Open`].
    pub async fn in_memory() -> Result<Self, StorageError> {
        // Each SQLite connection to memory is a database of its own, so there is one connection, and it is kept.
        let pool = SqlitePoolOptions::new().max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
        Self::connect(SqliteConnectOptions::new().in_memory(true), pool, "in memory".into()).await
    }

    async fn connect(
        options: SqliteConnectOptions,
        pool: SqlitePoolOptions,
        place: String,
    ) -> Result<Self, StorageError> {
        let options = options
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "ON")
            .pragma("trusted_schema", "OFF");
        let cannot_open = |reason: String| StorageError::Open { place: place.clone(), reason };
        let pool = pool.connect_with(options).await.map_err(|error| cannot_open(error.to_string()))?;
        migrate(&pool).await.map_err(|error| cannot_open(error.to_string()))?;
        Ok(Self { pool })
    }

    /// Closes the database after the operations that are running. What was acknowledged is safe without this, too; it
    /// tidies up the write-ahead log.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Runs the migrations that have not run yet. Another process may be doing the same: whoever comes second fails at what
/// the first has just done, and finds it done when it looks again.
async fn migrate(pool: &SqlitePool) -> Result<(), MigrateError> {
    let mut attempts = MIGRATIONS.iter().count() + 2;
    loop {
        attempts -= 1;
        match MIGRATIONS.run(pool).await {
            Err(MigrateError::ExecuteMigration(..) | MigrateError::Execute(_)) if attempts > 0 => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            result => return result,
        }
    }
}

/// Creates the file with mode 0600; takes other people's rights away from one that exists.
///
/// The database file itself is never opened here: closing it would release the locks that SQLite holds on it elsewhere
/// in this process (<https://www.sqlite.org/howtocorrupt.html>, section 2.2).
fn make_private(path: &Path) -> std::io::Result<()> {
    if !std::fs::exists(path)? {
        match private_file::create(path, b"") {
            // Another process was first.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            created => return created,
        }
    }
    if !private_file::is_private(path)? {
        tracing::warn!(path = %path.display(), "the database file was open to others than its owner; taking their rights away");
        private_file::make_private(path)?;
    }
    Ok(())
}
