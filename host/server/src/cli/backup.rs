//! `keyway backup`: copies the database and the audit log into a new folder.
//!
//! **Invariants:** the folder is a data folder, from which a host works with the master key, and
//! whose audit log verifies. It appears complete or not at all, and never in the place of another
//! one. A running server is not disturbed. The master key is not in it, and is not needed.
//!
//! The database is copied first, as of one moment, with the root that says how far the audit log
//! had come by then. Records that were added under that root until the log is copied do no harm:
//! after a crash, too, the log is ahead of the root.
//!
//! A killed backup leaves a folder of another name. The next backup beside it removes that.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use keyway::audit::{self, CopyError};
use keyway::storage::StorageError;
use keyway::{ErrorKind, SqliteStorage};
use serde::Serialize;

use super::app::App;
use super::exit::CliError;
use super::output::{FAINT, Output, facts};
use crate::config::HostConfig;
use crate::host::OpenError;
use crate::installation;

/// How the name of a backup begins that is not complete.
const UNFINISHED: &str = ".keyway-backup-";

pub(super) async fn run(app: &App, folder: PathBuf) -> Result<(), CliError> {
    let config = app.config()?;
    installation::check(&config)?;
    let failed = |error: io::Error| {
        let place = folder.display();
        match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let message = format!("cannot make a backup in {place}: it already exists; name a new folder");
                CliError::new(ErrorKind::Conflict, message)
            }
            _ => CliError::new(ErrorKind::Invalid, format!("cannot make a backup in {place}: {error}")),
        }
    };
    if fs::symlink_metadata(&folder).is_ok() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED)) {
        let message = format!("{} has a name that marks unfinished backups; name it otherwise", folder.display());
        return Err(CliError::new(ErrorKind::Invalid, message));
    }
    if !parent.is_dir() {
        let message = format!("cannot make a backup in {}: there is no folder {}", folder.display(), parent.display());
        return Err(CliError::new(ErrorKind::NotFound, message).hint("create that folder, or name another place"));
    }
    refuse_inside(&config, parent, &folder)?;
    remove_leftovers(parent);
    // Private, on the same file system, and removed unless it becomes the backup.
    let mut unfinished = tempfile::Builder::new();
    #[cfg(unix)]
    unfinished.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let unfinished = unfinished.prefix(UNFINISHED).tempdir_in(parent).map_err(failed)?;
    let lock = File::open(unfinished.path()).and_then(|folder| folder.try_lock().map(|()| folder).map_err(Into::into));
    let _lock = lock.map_err(failed)?;
    let in_backup = HostConfig::new(unfinished.path());
    let storage = SqliteStorage::open_read_only(config.database()).await.map_err(OpenError::from)?;
    let copied = storage.copy_to(&in_backup.database()).await;
    storage.close().await;
    let roots = copied.map_err(|error| not_copied(error, &folder))?;
    let log = audit::copy(&config.audit.folder, &in_backup.audit.folder, &roots).map_err(|error| match error {
        CopyError::NoLog(_) => CliError::new(ErrorKind::NotFound, error.to_string())
            .hint("--audit-dir names its folder; if the log is lost, a start of the server begins a new one"),
        CopyError::Io(error) => failed(error),
        error => failed(io::Error::other(error)),
    })?;
    let finish = || {
        File::open(unfinished.path())?.sync_all()?;
        rename_new(unfinished.path(), &folder)?;
        File::open(parent)?.sync_all()
    };
    finish().map_err(failed)?;
    // Its name is another one now.
    let _ = unfinished.keep();
    let database_bytes = fs::metadata(HostConfig::new(&folder).database()).map_or(0, |file| file.len());
    let made = Made {
        backup: fs::canonicalize(&folder).unwrap_or(folder),
        database_bytes,
        audit_segments: log.segments,
        incomplete_audit_series: log.incomplete,
    };
    if !made.incomplete_audit_series.is_empty() {
        let series: Vec<_> = made.incomplete_audit_series.iter().map(ToString::to_string).collect();
        Output::warning(&format!(
            "the audit log lacks records that its root vouches for, in series {}; `keyway audit verify` shows which. \
             Restore them from an earlier backup, and keep that",
            series.join(", ")
        ));
    }
    app.output.result(&made, |out| {
        writeln!(out, "Made a backup of the database and the audit log.")?;
        let size = format!("{} KiB", made.database_bytes.div_ceil(1_024));
        let segments = made.audit_segments.to_string();
        facts(
            out,
            &[("backup", &made.backup.display().to_string()), ("database", &size), ("audit segments", &segments)],
        )?;
        writeln!(out, "{FAINT}The master key is not in it: keep that in another place.{FAINT:#}")
    })
}

/// Renames a folder unless its new name is taken: a plain renaming would replace an empty folder.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // A file system that does not support it.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            renamed => return Ok(renamed?),
        }
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

fn not_copied(error: StorageError, folder: &Path) -> CliError {
    CliError::new(ErrorKind::Internal, format!("cannot copy the database to {}: {error}", folder.display()))
}

/// Refuses a place in a folder that is backed up: the copy would be part of the next one, and is
/// lost with what it is a copy of.
fn refuse_inside(config: &HostConfig, parent: &Path, folder: &Path) -> Result<(), CliError> {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    for (what, of) in [("data", &config.data_dir), ("audit", &config.audit.folder)] {
        if real(parent).starts_with(real(of)) {
            let message = format!("{} is in the {what} folder {}", folder.display(), of.display());
            return Err(
                CliError::new(ErrorKind::Invalid, message).hint("name a folder elsewhere, best on another disk")
            );
        }
    }
    Ok(())
}

/// Removes what backups left here that were killed. A backup holds the lock of its folder while it
/// lives.
fn remove_leftovers(parent: &Path) {
    let names = fs::read_dir(parent).into_iter().flatten().flatten().map(|file| file.path());
    let of_backups = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED)) && !path.is_symlink()
    };
    for path in names.filter(of_backups) {
        if File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok())
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::warn!(%error, path = %path.display(), "what a killed backup left here cannot be removed");
        }
    }
}

#[derive(Serialize)]
struct Made {
    backup: PathBuf,
    database_bytes: u64,
    audit_segments: u64,
    /// The series of the audit log that lack records that its root vouches for.
    incomplete_audit_series: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_made_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (from, taken, free) = (folder.path().join("from"), folder.path().join("taken"), folder.path().join("free"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&taken).unwrap();
        assert_eq!(rename_new(&from, &taken).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(from.exists() && taken.exists());
        rename_new(&from, &free).unwrap();
        assert!(free.exists() && !from.exists());
    }
}
