//! Copies the log for a backup. Neither the key nor the database is needed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use keyway_storage::private_file;
use serde::Deserialize;
use thiserror::Error;

use crate::chain::{Head, Line};
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

/// A copy of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// How many segments it has.
    pub segments: u64,
    /// The series that do not come as far as the roots say, or not with those records.
    pub incomplete: Vec<u32>,
}

/// Copies into a new folder what the segments in `from` have of these roots and earlier ones.
/// Records that name a later root are left out: they would prove that the database is older. Where
/// there is no log, and the roots name none, nothing is made.
///
/// # Errors
/// [`CopyError`]. What is in the place of a segment and is no regular file is an error, too.
pub fn copy(from: &Path, to: &Path, roots: &[Vec<u8>]) -> Result<Copied, CopyError> {
    let roots: Vec<Root> = roots.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let last = roots.iter().map(|root| root.number).max().unwrap_or(0);
    // What is found of it is taken out.
    let mut vouched = roots.into_iter().max_by_key(|root| root.number).map(|root| root.heads).unwrap_or_default();
    vouched.retain(|_, head| head.number > 0);
    let files = segment::list(from)?;
    if files.is_empty() {
        return if vouched.is_empty() { Ok(Copied::default()) } else { Err(CopyError::NoLog(from.to_owned())) };
    }
    private_file::create_folder(to)?;
    let mut segments = 0;
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
            if vouched.get(&name.series).is_some_and(|head| head_of(&line).as_ref() == Some(head)) {
                vouched.remove(&name.series);
            }
            copy.write_all(&line)?;
            line.clear();
            lines.read_until(b'\n', &mut line)?;
        }
        copy.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        segments += 1;
    }
    segment::sync_folder(to)?;
    Ok(Copied { segments, incomplete: vouched.into_keys().collect() })
}

/// The head that a line of a segment says it forms.
fn head_of(line: &[u8]) -> Option<Head> {
    let line = line.strip_suffix(b"\n")?;
    let number = segment::number_of(line).or_else(|| Some(segment::parse_header(line)?.number))?;
    Some(Head { number, tag: Line::parse(line)?.tag })
}

/// The number of the root that a line of a segment names.
fn root_of(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Line {
        root: Option<u64>,
    }
    serde_json::from_slice::<Line>(line).ok()?.root
}
