//! Copies the log for a backup. Neither the key nor the database is needed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use keyway_storage::private_file;
use serde::Deserialize;
use thiserror::Error;

use crate::root::Root;
use crate::segment;

/// Why the log could not be copied.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The root names records, but the folder has no segment.
    #[error("the database has an audit log, but there is none in {}", .0.display())]
    NoLog(PathBuf),
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Copies into a new folder what the segments in `from` have of these roots and earlier ones, and
/// returns how many segments it copied. Records that name a later root are left out: they would
/// prove that the database is older. Where there is no log, and the roots name none, nothing is
/// made.
///
/// # Errors
/// [`CopyError`]. What is in the place of a segment and is no regular file is an error, too.
pub fn copy(from: &Path, to: &Path, roots: &[Vec<u8>]) -> Result<u64, CopyError> {
    let roots: Vec<Root> = roots.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let last = roots.iter().map(|root| root.number).max().unwrap_or(0);
    let files = segment::list(from)?;
    if files.is_empty() {
        let has_records = roots.iter().flat_map(|root| root.heads.values()).any(|head| head.number > 0);
        return if has_records { Err(CopyError::NoLog(from.to_owned())) } else { Ok(0) };
    }
    segment::make_folder(to)?;
    let mut number = 0;
    for name in files.into_values().flatten() {
        let mut lines = BufReader::new(segment::open(&name.in_folder(from), OpenOptions::new().read(true))?);
        let mut line = Vec::new();
        lines.read_until(b'\n', &mut line)?;
        if root_of(&line) > Some(last) {
            continue;
        }
        let copy = name.in_folder(to);
        private_file::create(&copy, b"")?;
        let mut copy = BufWriter::new(File::options().append(true).open(copy)?);
        // An unfinished line names no root.
        while !line.is_empty() && root_of(&line).is_none_or(|root| root <= last) {
            copy.write_all(&line)?;
            line.clear();
            lines.read_until(b'\n', &mut line)?;
        }
        copy.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        number += 1;
    }
    segment::sync_folder(to)?;
    Ok(number)
}

/// The number of the root that a line of a segment names.
fn root_of(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Line {
        root: Option<u64>,
    }
    serde_json::from_slice::<Line>(line).ok()?.root
}
