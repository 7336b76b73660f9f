//! `keyway backup`: copies the database and the audit log into a new folder.
//!
//! **Invariants:** the folder is a data folder, from which a host works with the master key, and
//! whose audit log verifies. It appears complete or not at all, and never in the place of another
//! one. A running server is not disturbed. The master key is not in it, and is not needed.
//!
//! The database is copied first, as of one moment, with the root that says how far the audit log
//! had come by then. Records that were added under that root until the log is copied do no harm:
//! after a crash, too, the log is ahead of the root. Records and segments that name a later root
//! are left out: they would prove that the database is older.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use keyway::storage::StorageError;
use keyway::storage::private_file;
use keyway::{ErrorKind, SqliteStorage};
use serde::{Deserialize, Serialize};

use super::app::App;
use super::exit::CliError;
use super::output::{FAINT, facts};
use crate::config::HostConfig;
use crate::host::OpenError;
use crate::installation;

pub(super) async fn run(app: &App, folder: PathBuf) -> Result<(), CliError> {
    let config = app.config()?;
    installation::check(&config)?;
    let failed = |error: io::Error| {
        let kind = if error.kind() == io::ErrorKind::AlreadyExists { ErrorKind::Conflict } else { ErrorKind::Invalid };
        CliError::new(kind, format!("cannot make a backup in {}: {error}", folder.display()))
    };
    if fs::symlink_metadata(&folder).is_ok() {
        return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, "it already exists; name a new folder")));
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Private, on the same file system, and removed unless it becomes the backup.
    let mut unfinished = tempfile::Builder::new();
    #[cfg(unix)]
    unfinished.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let unfinished = unfinished.prefix(".keyway-backup-").tempdir_in(parent).map_err(failed)?;
    let in_backup = HostConfig::new(unfinished.path());
    let storage = SqliteStorage::open_read_only(config.database()).await.map_err(OpenError::from)?;
    let copied = storage.copy_to(&in_backup.database()).await;
    storage.close().await;
    let root = copied.map_err(|error| not_copied(error, &folder))?.iter().filter_map(|line| number_of_root(line)).max();
    let segments = copy_log(&config.audit.folder, &in_backup.audit.folder, root.unwrap_or(0)).map_err(failed)?;
    let finish = || {
        File::open(unfinished.path())?.sync_all()?;
        fs::rename(unfinished.path(), &folder)?;
        File::open(parent)?.sync_all()
    };
    finish().map_err(failed)?;
    // Its name is another one now.
    let _ = unfinished.keep();
    let database_bytes = fs::metadata(HostConfig::new(&folder).database()).map_or(0, |file| file.len());
    let made = Made { backup: fs::canonicalize(&folder).unwrap_or(folder), database_bytes, audit_segments: segments };
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

fn not_copied(error: StorageError, folder: &Path) -> CliError {
    CliError::new(ErrorKind::Internal, format!("cannot copy the database to {}: {error}", folder.display()))
}

/// Copies what the segments have of this root and earlier ones, and says how many segments.
fn copy_log(from: &Path, to: &Path, root: u64) -> io::Result<u64> {
    let files = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        files => files?,
    };
    crate::config::make_private_folder(to)?;
    let mut number = 0;
    for file in files {
        let file = file?;
        let path = file.path();
        if path.extension().is_none_or(|end| end != "jsonl") {
            continue;
        }
        // A pipe would hang, and a link leads elsewhere.
        if !file.file_type()?.is_file() {
            return Err(io::Error::other(format!("{} is not a regular file; remove it", path.display())));
        }
        if number_of_first_line(&path)? > Some(root) {
            continue;
        }
        let copy = to.join(file.file_name());
        private_file::create(&copy, b"")?;
        let mut copy = File::options().append(true).open(copy)?;
        copy_lines(&path, &mut copy, root)?;
        copy.sync_all()?;
        number += 1;
    }
    File::open(to)?.sync_all()?;
    Ok(number)
}

/// Copies the lines of a segment before the first one that names a later root. An unfinished line
/// names none.
fn copy_lines(from: &Path, to: &mut File, root: u64) -> io::Result<()> {
    let (mut lines, mut to, mut line) = (BufReader::new(File::open(from)?), BufWriter::new(to), Vec::new());
    while lines.read_until(b'\n', &mut line)? > 0 && number_of_root(&line).is_none_or(|number| number <= root) {
        to.write_all(&line)?;
        line.clear();
    }
    to.flush()
}

/// A root, or a line of a segment, which names the root of its time.
#[derive(Deserialize)]
struct Line {
    root: Option<u64>,
}

fn number_of_root(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Line>(line).ok()?.root
}

fn number_of_first_line(segment: &Path) -> io::Result<Option<u64>> {
    let mut line = Vec::new();
    BufReader::new(File::open(segment)?).read_until(b'\n', &mut line)?;
    Ok(number_of_root(&line))
}

#[derive(Serialize)]
struct Made {
    backup: PathBuf,
    database_bytes: u64,
    audit_segments: u64,
}
