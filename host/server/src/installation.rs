//! What an installation consists of, and the beginning of a new one.
//!
//! **Invariants:** a master key is only ever made for a new database, on a disk, and before that
//! database exists. Where a database or an audit log is, nothing new is made: a missing part was
//! lost, and has to be restored. A new key in its place could open nothing, and a new database
//! would hide that the old one is gone. What is not asked to begin a new installation creates
//! nothing, so a mistyped path is an error.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use keyway::storage::private_file;
use keyway::{MasterKey, SqliteStorage};

use crate::config::{self, HostConfig, MasterKeySource};
use crate::host::OpenError;

/// Checks that there is a database, or that one may be created.
///
/// # Errors
/// [`OpenError::NoDatabase`], [`OpenError::DatabaseLost`].
pub(crate) fn check(config: &HostConfig) -> Result<(), OpenError> {
    if has_content(&config.database()) { Ok(()) } else { without_database(config) }
}

/// Whether a database may be created where there is none, or an empty one.
///
/// # Errors
/// As [`check`].
pub(crate) fn without_database(config: &HostConfig) -> Result<(), OpenError> {
    let (database, audit) = (config.database(), config.audit.folder.clone());
    match (has_files(&audit), config.new_database) {
        (true, _) => Err(OpenError::DatabaseLost { database, audit }),
        (false, true) => Ok(()),
        (false, false) => Err(OpenError::NoDatabase(database)),
    }
}

/// Prepares a new installation, with a new database: checks that nothing is there of another one,
/// and makes the master key if it is missing. Returns the file of a key that was made.
///
/// # Errors
/// [`OpenError`]; nothing was made.
pub(crate) async fn prepare(config: &HostConfig) -> Result<Option<PathBuf>, OpenError> {
    let database = config.database();
    // A file that is there may be what a process left behind that was killed while it began.
    if has_content(&database) && !SqliteStorage::look_at_master_keys(&database).await?.is_empty() {
        return Err(OpenError::DatabaseExists(database));
    }
    without_database(config)?;
    let key = match config.master_key_source() {
        MasterKeySource::File(key) if !key.exists() => key,
        _ => return Ok(None),
    };
    if config.master_key.is_none() {
        let folder = config::default_config_dir().ok_or(OpenError::NoPlaceForKey)?;
        refuse_in_memory(&key)?;
        private_file::create_folder(&folder).map_err(|source| OpenError::Folder { folder, source })?;
    }
    make_key(&key).map(|_| Some(key))
}

/// The master key of a file; a missing one is made, unless it would be lost.
///
/// # Errors
/// [`OpenError::KeyInMemory`], [`OpenError::Key`].
pub(crate) fn make_key(file: &Path) -> Result<MasterKey, OpenError> {
    refuse_in_memory(file)?;
    Ok(MasterKey::from_file_or_generate(file)?)
}

/// Refuses a place for a new master key that is in memory.
pub(crate) fn refuse_in_memory(file: &Path) -> Result<(), OpenError> {
    // Where the file system cannot be told, making the file fails as well.
    match !file.exists() && private_file::is_in_memory(file).unwrap_or(false) {
        true => Err(OpenError::KeyInMemory(file.to_owned())),
        false => Ok(()),
    }
}

/// Whether there is more than an empty file. A file that cannot be looked at is there.
fn has_content(file: &Path) -> bool {
    match std::fs::metadata(file) {
        Ok(found) => found.len() > 0,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

fn has_files(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some())
}
