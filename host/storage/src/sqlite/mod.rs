//! [`Storage`] in an SQLite file. Each method is either one statement, which SQLite runs as a whole
//! or not at all, or one transaction. A transaction that writes sealed values also checks the key
//! they are sealed under. Each file holds the statements of one kind of record.
//!
//! The file is readable by its owner only (SQLite gives its write-ahead log the same mode).
//! Write-ahead logging lets readers and a writer work at the same time. All changes of a process go
//! through one connection, so that changes that wait leave the other connections to readers.
//! `synchronous = FULL` makes a change durable before it is acknowledged. Deleted data is
//! overwritten with zeros. A writer that finds the database locked by another process waits up to
//! five seconds. Migrations run when the database is opened.
//!
//! **Invariant:** a writing statement runs to its end: `execute`, `fetch_all`, or a transaction
//! that is committed. `fetch_one` and `fetch_optional` stop at the first row; the commit comes
//! after it, and its failure would go unnoticed.

mod audit_roots;
mod backup;
mod budgets;
mod components;
mod connection_states;
mod connections;
mod damage;
mod entries;
mod explain;
mod key_rotation;
mod keys;
mod look;
mod rotations;
mod rows;
mod seals;
mod workspaces;

use std::cmp::Ordering;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, Sqlite, Transaction, query, query_scalar};
use uuid::Uuid;

use self::explain::explained;
pub(crate) use self::rows::Sealed;
use crate::private_file::{self, FileId, id_of};
use crate::{Cause, RowSealer, Storage, StorageError, WorkspaceId};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a writer waits for another writer, in this process or another one; also how long
/// opening waits for a process that is creating the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long erasing waits, every minute, for readers of the pages to be overwritten. It blocks
/// writers meanwhile.
const ERASING: Duration = Duration::from_secs(1);
/// A count of changes that never gets there, and that can still be added to.
const COUNT_LIMIT: u64 = 1 << 62;
/// Readers run in parallel; more than a few only compete for the processor.
const READERS: u32 = 4;

/// An SQLite database.
#[derive(Clone)]
pub struct SqliteStorage {
    readers: SqlitePool,
    /// One connection: SQLite has one writer at a time, and writers that wait for another process
    /// must not hold the connections that readers need.
    writer: SqlitePool,
    /// The file as it was opened; `None` in memory.
    file: Option<Arc<(PathBuf, FileId)>>,
    sealer: Arc<OnceLock<Arc<dyn RowSealer>>>,
}

impl std::fmt::Debug for SqliteStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStorage").field("readers", &self.readers).finish_non_exhaustive()
    }
}

impl SqliteStorage {
    /// Opens a database file, and creates it when it is missing.
    ///
    /// # Errors
    /// [`StorageError::Open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        let place = path.display().to_string();
        let refused = |source| StorageError::Open { place: place.clone(), source };
        must_be_writable(path).map_err(refused)?;
        make_private(path).map_err(|error| refused(error.into()))?;
        let options = SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Wal);
        // A commit that fails (a full disk) leaves the connection inside its transaction, where it
        // cannot begin another one.
        let pool = SqlitePoolOptions::new().acquire_timeout(BUSY_TIMEOUT).before_acquire(|connection, _| {
            let is_usable = !connection.is_in_transaction();
            Box::pin(async move { Ok(is_usable) })
        });
        let options = with_pragmas(options);
        let writer = Self::connect(&options, &pool.clone().max_connections(1), place).await?;
        let readers = pool.max_connections(READERS).connect_lazy_with(options);
        let file = identity(path).map_err(|error| StorageError::Failed(error.into()))?;
        let file = Some(Arc::new((path.to_owned(), file)));
        let storage = Self { readers, writer, file, sealer: Arc::default() };
        // A count that was spoiled would refuse every change, and is mended here.
        storage.record_changes().await?;
        Ok(storage)
    }

    /// Opens an existing database for reading: nothing in it is changed or migrated, and every
    /// change fails. The file, its folder or its file system need not be writable.
    ///
    /// # Errors
    /// [`StorageError::Outdated`] for a database of an earlier release; [`StorageError::Open`].
    pub async fn open_read_only(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        match Self::open_for_reading(path, false).await {
            // SQLite makes files beside the database to read it, unless told that nothing writes to
            // it. So it is when the folder cannot be written and there is no log to be read, too.
            Err(StorageError::Open { .. }) if !has_log(path) => Self::open_for_reading(path, true).await,
            opened => opened,
        }
    }

    /// Finds out whether [`open`](Self::open) would open an existing database. Nothing is changed,
    /// and no file is made beside it. Returns the database opened for reading, or `None` if it is
    /// of an earlier release, which `open` migrates.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn rehearse(path: impl AsRef<Path>) -> Result<Option<Self>, StorageError> {
        let path = path.as_ref();
        must_be_writable(path).map_err(|source| StorageError::Open { place: path.display().to_string(), source })?;
        match Self::open_for_reading(path, !has_log(path)).await {
            Err(StorageError::Outdated { .. }) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// `immutable`: nothing writes to the file.
    async fn open_for_reading(path: &Path, immutable: bool) -> Result<Self, StorageError> {
        let place = path.display().to_string();
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
        let options = options.pragma("trusted_schema", "OFF").immutable(immutable);
        let pool = SqlitePoolOptions::new().max_connections(READERS).acquire_timeout(BUSY_TIMEOUT);
        let opened = pool.connect_lazy_with(options);
        let version: Result<Option<i64>, _> =
            query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success").fetch_one(&opened).await;
        let newest = MIGRATIONS.iter().map(|migration| migration.version).max();
        match version.map(|version| version.cmp(&newest)) {
            Err(error) => Err(StorageError::Open { place, source: explained(error) }),
            Ok(Ordering::Less) => Err(StorageError::Outdated { place }),
            Ok(Ordering::Equal) => {
                Ok(Self { readers: opened.clone(), writer: opened, file: None, sealer: Arc::default() })
            }
            Ok(Ordering::Greater) => Err(of_later_release(place)),
        }
    }

    /// Opens a new database in memory, which is lost when it is dropped.
    ///
    /// # Errors
    /// [`StorageError::Open`].
    pub async fn in_memory() -> Result<Self, StorageError> {
        // Each SQLite connection to memory is a separate database, so there is one connection, and
        // it is kept.
        let pool = SqlitePoolOptions::new().max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
        let options = with_pragmas(SqliteConnectOptions::new().in_memory(true));
        let only = Self::connect(&options, &pool, "in memory".into()).await?;
        Ok(Self { readers: only.clone(), writer: only, file: None, sealer: Arc::default() })
    }

    async fn connect(
        options: &SqliteConnectOptions,
        pool: &SqlitePoolOptions,
        place: String,
    ) -> Result<SqlitePool, StorageError> {
        let deadline = Instant::now() + BUSY_TIMEOUT;
        loop {
            match Self::try_connect(options.clone(), pool.clone()).await {
                Ok(pool) => return Ok(pool),
                Err(error) if another_was_first(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                    return Err(StorageError::Open { place, source: explained(error) });
                }
                Err(MigrateError::VersionMissing(_)) => return Err(of_later_release(place)),
                Err(error) => return Err(StorageError::Open { place, source: error.into() }),
            }
        }
    }

    async fn try_connect(options: SqliteConnectOptions, pool: SqlitePoolOptions) -> Result<SqlitePool, MigrateError> {
        let pool = pool.connect_with(options).await?;
        MIGRATIONS.run(&pool).await?;
        Ok(pool)
    }

    /// The connection for changes. A file that was removed or replaced meanwhile gets none: they
    /// would be acknowledged, and gone with the process.
    fn writer(&self) -> Result<&SqlitePool, StorageError> {
        let is_in_place = |(path, file): &(PathBuf, FileId)| identity(path).is_ok_and(|found| found == *file);
        match self.file.as_deref() {
            Some(file) if !is_in_place(file) => {
                let path = file.0.display();
                let why = format!(
                    "its file {path} was removed or replaced. Put it back, or stop this process and restore a backup"
                );
                Err(StorageError::Failed(why.into()))
            }
            _ => Ok(&self.writer),
        }
    }

    /// A transaction that holds the write lock from its beginning: one that takes it later cannot
    /// wait for another writer.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StorageError> {
        Ok(self.writer()?.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// The record of a workspace with this id.
    async fn record<R: Sealed>(&self, workspace: WorkspaceId, id: Uuid) -> Result<Option<R>, StorageError> {
        let sql = AssertSqlSafe(format!("SELECT * FROM {} WHERE workspace_id = ? AND id = ?", R::TABLE));
        self.one(query(sql).bind(workspace.as_uuid()).bind(id)).await
    }

    /// The records of a workspace in the order of their creation.
    async fn records_of<R: Sealed>(&self, workspace: WorkspaceId) -> Result<Vec<R>, StorageError> {
        let sql = AssertSqlSafe(format!("SELECT * FROM {} WHERE workspace_id = ? ORDER BY id", R::TABLE));
        self.all(query(sql).bind(workspace.as_uuid())).await
    }

    /// Puts another count in the place of one that something else has removed or spoiled. It is one
    /// that no host has seen: the time is ahead of every count that began at 0 or at an earlier
    /// time, because a change takes longer than a microsecond.
    async fn restart_count(&self) -> Result<u64, StorageError> {
        tracing::error!("the count of changes in the database was damaged; it begins again");
        let number = jiff::Timestamp::now().as_microsecond();
        let mut transaction = self.write().await?;
        query("DELETE FROM record_changes").execute(&mut *transaction).await?;
        let restart = query("INSERT INTO record_changes (only, number) VALUES (1, ?)").bind(number);
        restart.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(number.unsigned_abs())
    }

    /// Closes the database after the running operations. Acknowledged changes are safe without
    /// this; it tidies up the write-ahead log.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

#[async_trait]
impl Storage for SqliteStorage {
    async fn record_changes(&self) -> Result<u64, StorageError> {
        let stored = query("SELECT number FROM record_changes").fetch_all(&self.readers).await?;
        match stored.first().map(|row| rows::read(row, "number")) {
            Some(Ok(number)) if number < COUNT_LIMIT => Ok(number),
            _ => self.restart_count().await,
        }
    }
}

fn identity(path: &Path) -> std::io::Result<FileId> {
    std::fs::metadata(path).map(|file| id_of(&file))
}

fn with_pragmas(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .synchronous(SqliteSynchronous::Full)
        .pragma("secure_delete", "ON")
        .pragma("trusted_schema", "OFF")
}

/// Whether opening failed because another process was preparing the same new file. A retry finds it
/// prepared. Two steps fail at once instead of waiting for the lock: turning on write-ahead
/// logging, and a migration whose transaction began by reading.
fn another_was_first(error: &MigrateError) -> bool {
    match error {
        MigrateError::ExecuteMigration(..) => true,
        MigrateError::Execute(sqlx::Error::Database(error)) => rows::is_busy(&**error) || error.is_unique_violation(),
        _ => false,
    }
}

fn of_later_release(place: String) -> StorageError {
    StorageError::Open { place, source: "it was made by a later release; use that".into() }
}

/// The files of a database: itself, and those that exist only while a process has it open.
const FILES: [&str; 3] = ["", "-wal", "-shm"];

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut file = path.as_os_str().to_owned();
    file.push(suffix);
    file.into()
}

/// Refuses a file or a folder that cannot be written. SQLite would open the file for reading, and a
/// host would begin to serve that can do nothing.
fn must_be_writable(path: &Path) -> Result<(), Cause> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = FILES.map(|suffix| beside(path, suffix));
    for (path, is_folder) in files.iter().map(|file| (file.as_path(), false)).chain([(folder, true)]) {
        #[cfg(unix)]
        match rustix::fs::access(path, rustix::fs::Access::WRITE_OK) {
            Ok(()) => {}
            // A file that is not there yet is made.
            Err(rustix::io::Errno::NOENT) if !is_folder => {}
            Err(error) => {
                let name = path.file_name().unwrap_or_default().display();
                let what = if is_folder { "folder".to_owned() } else { format!("file {name}") };
                let error = std::io::Error::from(error);
                return Err(format!("its {what} cannot be written ({error}); make it writable for this user").into());
            }
        }
    }
    Ok(())
}

/// Whether the database has a write-ahead log with something in it.
fn has_log(path: &Path) -> bool {
    std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// Creates the file with mode 0600, or removes other users' rights from an existing file and its
/// write-ahead log. (The log takes its mode from the database only when it is new.)
///
/// The database file itself is never opened here: closing it would release the locks that SQLite
/// holds on it elsewhere in this process (<https://www.sqlite.org/howtocorrupt.html>, section 2.2).
fn make_private(path: &Path) -> std::io::Result<()> {
    if !std::fs::exists(path)? {
        match private_file::create(path, b"") {
            // Another process was first.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => return created,
        }
    }
    for suffix in FILES {
        let file = beside(path, suffix);
        let is_private = match private_file::is_private(&file) {
            Err(error) if !suffix.is_empty() && error.kind() == ErrorKind::NotFound => continue,
            is_private => is_private?,
        };
        if !is_private {
            tracing::warn!(path = %file.display(), "users other than the owner could access a file of the database; removing their permissions");
            private_file::make_private(&file)?;
        }
    }
    Ok(())
}
