//! The files of the log: their names, headers and locks, and how a series is continued.
//!
//! ```text
//! audit/00001-00000007.jsonl        segment 7 of series 1
//!   {"segment":7,"series":1,"key":1,"number":5012,"previous":"<mac of record 5012>","at":...,
//!    "root":17,"heads":{"2":{"number":9,"mac":"<mac of its record 9>"}},"mac":...}
//!   {"number":5013,"root":17,"at":...,...,"mac":...}
//! ```
//!
//! **Each writing process has its own series,** so the command line is audited while a server runs.
//! A process owns a series while it holds the lock of the series' last segment. The lock ends with
//! the process, however the process ends. A new writer continues the first series that is unlocked,
//! or begins a new one. There are therefore as many series as there have ever been concurrent
//! writers.
//!
//! **A segment appears complete with its header or not at all.** A truncated line at the end of the
//! last segment was never acknowledged. The process that continues the series cuts it off and
//! records that.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use keyway_storage::private_file::{self, FileId, id_of};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::chain::{AuditKey, Head, Line, Tag};
use crate::root::{Root, Seen};

/// The limit of a line, in bytes. The longest parts are a reference (2 KiB) and names; JSON escapes
/// can make them six times as long.
pub(crate) const LINE_LIMIT: usize = 64 << 10;

/// How many other series' heads a header names, the latest series first. They take a hundred bytes
/// each, so a header stays below [`LINE_LIMIT`].
const NAMED_HEADS: usize = 256;

/// The first line of a segment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) segment: u32,
    pub(crate) series: u32,
    /// The term of the audit key.
    pub(crate) key: u32,
    /// The number of the last record before this segment.
    pub(crate) number: u64,
    /// Its MAC.
    #[serde(with = "crate::hexadecimal")]
    pub(crate) previous: Tag,
    pub(crate) at: Timestamp,
    /// The number of the root under which the segment was begun; `None` in segments of releases
    /// that had no root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<u64>,
    /// How far the other series had come then, so that series vouch for each other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) heads: BTreeMap<u32, Head>,
}

/// The name of a segment's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) series: u32,
    pub(crate) segment: u32,
}

impl Name {
    pub(crate) fn file_name(self) -> String {
        format!("{:05}-{:08}.jsonl", self.series, self.segment)
    }

    pub(crate) fn in_folder(self, folder: &Path) -> PathBuf {
        folder.join(self.file_name())
    }

    pub(crate) fn parse(file_name: &str) -> Option<Self> {
        let (series, segment) = file_name.strip_suffix(".jsonl")?.split_once('-')?;
        let name = Self { series: series.parse().ok()?, segment: segment.parse().ok()? };
        (name.file_name() == file_name).then_some(name)
    }
}

/// The segments of each series, in order. A missing folder has none.
pub(crate) fn list(folder: &Path) -> io::Result<BTreeMap<u32, Vec<Name>>> {
    let mut all: BTreeMap<u32, Vec<Name>> = BTreeMap::new();
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        files => files?,
    };
    for file in files {
        if let Some(name) = file?.file_name().to_str().and_then(Name::parse) {
            all.entry(name.series).or_default().push(name);
        }
    }
    all.values_mut().for_each(|segments| segments.sort_unstable());
    Ok(all)
}

/// A segment that this process appends to.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: Name,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
    id: FileId,
    /// The length in bytes, up to the end of the last good line.
    pub(crate) length: u64,
}

impl Segment {
    pub(crate) fn of(name: Name, path: PathBuf, file: File, length: u64) -> io::Result<Self> {
        let id = id_of(&file.metadata()?);
        Ok(Self { name, path, file: Arc::new(file), id, length })
    }

    /// Begins a segment after `head`. When this returns, header and name are safe on the disk.
    ///
    /// Fails with [`io::ErrorKind::AlreadyExists`] when a segment of this name exists, and with
    /// [`io::ErrorKind::WouldBlock`] when another process locked the new file first.
    pub(crate) fn begin(
        folder: &Path,
        name: Name,
        head: Head,
        key: &AuditKey,
        at: Timestamp,
        root: &Root,
    ) -> io::Result<(Self, Head)> {
        let others = root.heads.iter().rev().filter(|(series, head)| **series != name.series && head.number > 0);
        let header = Header {
            segment: name.segment,
            series: name.series,
            key: 1,
            number: head.number,
            previous: head.tag,
            at,
            root: Some(root.number),
            heads: others.take(NAMED_HEADS).map(|(series, head)| (*series, *head)).collect(),
        };
        let mut line = serde_json::to_vec(&header)?;
        line.pop();
        let tag = key.finish(&head.tag, &mut line, 0);
        private_file::create_folder(folder)?;
        let path = name.in_folder(folder);
        private_file::create(&path, &line)?;
        sync_folder(folder)?;
        let file = open_to_append(&path)?;
        file.try_lock().map_err(io::Error::from)?;
        let segment = Self::of(name, path, file, line.len() as u64)?;
        Ok((segment, Head { number: head.number, tag }))
    }

    /// Locks a segment for appending if it is the last of its series. `None` when another process
    /// holds it, or when it is not the last.
    pub(crate) fn take_up(folder: &Path, name: Name, key: &AuditKey) -> io::Result<Option<TakenUp>> {
        let path = name.in_folder(folder);
        let file = match open_to_append(&path) {
            Err(error) if is_not_a_file(&error) => return Ok(Some(TakenUp::Broken)),
            opened => opened?,
        };
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            locked => locked?,
        }
        // Its last owner may have begun the next segment after the caller listed the folder.
        if list(folder)?.get(&name.series).and_then(|segments| segments.last()) != Some(&name) {
            return Ok(None);
        }
        let size = file.metadata()?.len();
        let (lines, length) = last_lines(&file, size)?;
        let (Some(heads), Some(_)) = (head_of(&lines, key, name), header(&path, key, name)?) else {
            return Ok(Some(TakenUp::Broken));
        };
        if length < size {
            file.set_len(length)?;
        }
        let segment = Self::of(name, path, file, length)?;
        Ok(Some(TakenUp::Good { segment, heads, cut_off: size - length }))
    }

    /// Reserves space on the disk behind the end of the file, without making the file longer.
    /// Always succeeds where the file system cannot reserve.
    pub(crate) fn reserve(&self, bytes: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            use rustix::io::Errno;
            let refused = fallocate(&*self.file, FallocateFlags::KEEP_SIZE, self.length, bytes);
            if let Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO)) = refused {
                return Err(error.into());
            }
        }
        let _ = bytes;
        Ok(())
    }

    /// Whether the open file is still the one under its name in the folder: not removed, not moved.
    pub(crate) fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| id_of(&found) == self.id)
    }
}

/// The result of taking up the last segment of a series.
pub(crate) enum TakenUp {
    /// It can be appended to.
    Good {
        segment: Segment,
        /// Its head. For a segment without records also the head that its header follows.
        heads: (Head, Option<Head>),
        /// How many bytes of an unfinished line were cut off.
        cut_off: u64,
    },
    /// Its last line was not written by this log, or it is no file. It is left unchanged, for
    /// `verify` to report.
    Broken,
}

/// The last two whole lines (or the only one), and where the last one ends.
fn last_lines(mut file: &File, size: u64) -> io::Result<(Vec<Vec<u8>>, u64)> {
    let wanted = 3 * LINE_LIMIT as u64;
    let from = size.saturating_sub(wanted);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(wanted).read_to_end(&mut tail)?;
    let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else { return Ok((Vec::new(), 0)) };
    let length = from + end as u64 + 1;
    tail.truncate(end);
    let mut lines: Vec<_> = tail.rsplit(|byte| *byte == b'\n').take(2).map(<[u8]>::to_vec).collect();
    lines.reverse();
    Ok((lines, length))
}

/// The head that a segment ends with, as [`TakenUp::Good`] has it. `None` unless this log has
/// written its end.
pub(crate) fn end(path: &Path, key: &AuditKey, name: Name) -> io::Result<Option<(Head, Option<Head>)>> {
    let file = open(path, OpenOptions::new().read(true))?;
    let size = file.metadata()?.len();
    Ok(head_of(&last_lines(&file, size)?.0, key, name))
}

/// The length of a file up to the end of its last whole line.
pub(crate) fn whole_lines(path: &Path) -> io::Result<u64> {
    let file = open(path, OpenOptions::new().read(true))?;
    let size = file.metadata()?.len();
    Ok(last_lines(&file, size)?.1)
}

/// The head of a series that ends with these lines, if the last one follows from the one before it.
/// With the head that it follows, if the only line is a header.
fn head_of(lines: &[Vec<u8>], key: &AuditKey, name: Name) -> Option<(Head, Option<Head>)> {
    match lines {
        [only] => {
            let (header, head) = first_head(only, key, name)?;
            Some((head, Some(Head { number: header.number, tag: header.previous })))
        }
        [before, last] => {
            let line = Line::parse(last)?;
            let number = number_of(line.body)?;
            key.follows(&Line::parse(before)?.tag, &line).then_some((Head { number, tag: line.tag }, None))
        }
        _ => None,
    }
}

/// The header of a segment, and the head that it forms. `None` unless the line was written as the
/// header of this segment.
pub(crate) fn first_head(line: &[u8], key: &AuditKey, name: Name) -> Option<(Header, Head)> {
    let (header, line) = (parse_header(line)?, Line::parse(line)?);
    let is_this = header.series == name.series && header.segment == name.segment;
    let head = Head { number: header.number, tag: line.tag };
    (is_this && key.follows(&header.previous, &line)).then_some((header, head))
}

/// The header of a segment's file, if it was written as that.
pub(crate) fn header(path: &Path, key: &AuditKey, name: Name) -> io::Result<Option<Header>> {
    let mut line = Vec::new();
    BufReader::new(open(path, OpenOptions::new().read(true))?).take(LINE_LIMIT as u64).read_until(b'\n', &mut line)?;
    line.pop_if(|byte| *byte == b'\n');
    Ok(first_head(&line, key, name).map(|(header, _)| header))
}

/// The number of the newest root that a segment names: in its last record, or in its header. They
/// ascend in a series.
pub(crate) fn newest_root(path: &Path, key: &AuditKey, name: Name) -> io::Result<u64> {
    let named = header(path, key, name)?.and_then(|header| header.root).unwrap_or(0);
    let file = open(path, OpenOptions::new().read(true))?;
    let (lines, _) = last_lines(&file, file.metadata()?.len())?;
    let is_good = head_of(&lines, key, name).is_some();
    Ok(lines.last().filter(|_| is_good).and_then(|line| root_of(line)).map_or(named, |root| root.max(named)))
}

/// What the last segments of these series say about the root.
pub(crate) fn seen(folder: &Path, key: &AuditKey, all: &BTreeMap<u32, Vec<Name>>) -> io::Result<Seen> {
    let mut seen = Seen { series: all.keys().copied().collect(), root: 0 };
    for name in all.values().filter_map(|segments| segments.last()) {
        // A file that is gone by now, or that was never a segment, says nothing.
        seen.root = seen.root.max(newest_root(&name.in_folder(folder), key, *name).unwrap_or(0));
    }
    Ok(seen)
}

/// Parses a header. `None` when the line is none.
pub(crate) fn parse_header(line: &[u8]) -> Option<Header> {
    line.starts_with(br#"{"segment":"#).then(|| serde_json::from_slice(line).ok())?
}

/// The number of a record, from the beginning of its line.
pub(crate) fn number_of(line: &[u8]) -> Option<u64> {
    Some(number_at(line.strip_prefix(br#"{"number":"#)?)?.0)
}

/// The number of the root that a record names, likewise. `None` in records of earlier releases.
fn root_of(line: &[u8]) -> Option<u64> {
    let (_, rest) = number_at(line.strip_prefix(br#"{"number":"#)?)?;
    Some(number_at(rest.strip_prefix(br#","root":"#)?)?.0)
}

/// The number at the beginning of a text, and what follows it.
fn number_at(text: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest) = text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count());
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

/// Opens a segment. What is no regular file is refused: a pipe would hang, and a link leads
/// elsewhere.
pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    let opened = options.open(path);
    let is_file = match &opened {
        Ok(file) => file.metadata()?.is_file(),
        // What cannot be opened at all may be a link or a socket.
        Err(_) => fs::symlink_metadata(path).map_or(true, |found| found.is_file()),
    };
    if is_file { opened } else { Err(io::Error::new(io::ErrorKind::InvalidInput, NotAFile(path.to_owned()))) }
}

fn open_to_append(path: &Path) -> io::Result<File> {
    let opened = open(path, OpenOptions::new().read(true).append(true));
    opened.map_err(|error| match is_not_a_file(&error) {
        true => error,
        false => io::Error::new(error.kind(), format!("{}: {error}", path.display())),
    })
}

/// Finds out whether the log in a folder could be continued or begun, as far as files and their
/// rights decide that. Changes nothing.
///
/// # Errors
/// What a host would say that cannot write the log.
pub fn rehearse(folder: &Path) -> io::Result<()> {
    private_file::may_create_folder(folder)?;
    for name in list(folder)?.values().filter_map(|segments| segments.last()) {
        match open_to_append(&name.in_folder(folder)) {
            // It is left alone.
            Err(error) if is_not_a_file(&error) => {}
            opened => drop(opened?),
        }
    }
    Ok(())
}

/// In the place of a segment is something else than a file.
#[derive(Debug, Error)]
#[error("{} is not a regular file; remove it", .0.display())]
struct NotAFile(PathBuf);

/// Whether an error is that of [`open`] about what is no regular file.
pub(crate) fn is_not_a_file(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|source| source.is::<NotAFile>())
}

/// Makes the names in a folder safe on the disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    let _ = folder;
    Ok(())
}
