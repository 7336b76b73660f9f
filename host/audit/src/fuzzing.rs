//! What holds for every log that somebody without the key has changed, and for every text in the
//! place of what the log gave out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;

use crate::chain::{AuditKey, Head};
use crate::query::{AuditQuery, Cursor, Order, Positions};
use crate::read;
use crate::root::{AuditRoot, Judged, Root};
use crate::segment::{Header, LINE_LIMIT, Name};
use crate::verify;

/// Records in each of the two segments.
const RECORDS: u64 = 3;

/// More pages than lines that a changed log of this size can have.
const PAGES: usize = 10_000;

/// One change of a segment. Places count modulo the file's length, in bytes or in lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Other bits in one byte.
    Alter(usize, u8),
    /// Bytes are gone.
    Remove(usize, usize),
    /// Bytes are added.
    Insert(usize, Vec<u8>),
    /// A line, of either segment, is there once more.
    Copy(bool, usize, usize),
    /// A line is gone.
    Drop(usize),
    /// All of it is something else.
    Replace(Vec<u8>),
}

struct Log {
    key: AuditKey,
    segments: [Vec<u8>; 2],
    end: Head,
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let (key, mut head) = (AuditKey::new(&[7; 32]), Head::NONE);
        let segments = [1, 2].map(|segment| {
            let (at, root, heads) = (Timestamp::UNIX_EPOCH, Some(1), BTreeMap::new());
            let Head { number, tag: previous } = head;
            let header = Header { segment, series: 1, key: 1, number, previous, at, root, heads };
            let mut text = serde_json::to_vec(&header).expect("numbers and texts");
            text.pop();
            head.tag = key.finish(&head.tag, &mut text, 0);
            for _ in 0..RECORDS {
                let from = text.len();
                head.number += 1;
                let rest = r#""at":"2026-01-01T00:00:00Z","actor":{"type":"system"},"operation":"x","outcome":"ok""#;
                text.extend_from_slice(format!("{{\"number\":{},{rest}", head.number).as_bytes());
                head.tag = key.finish(&head.tag, &mut text, from);
            }
            text
        });
        Log { key, segments, end: head }
    })
}

/// The log as it was, or with an unfinished line at an end, is good. After any other change it is
/// not. Reading it ends, and gives the same records from both ends.
pub fn segments(folder: &Path, changes: &[(bool, Change)]) {
    let log = log();
    let mut files = log.segments.clone();
    for (second, change) in changes {
        apply(&mut files, usize::from(*second), change);
    }
    std::fs::create_dir_all(folder).expect("a folder of its own");
    for (segment, contents) in (1..).zip(&files) {
        let path = Name { series: 1, segment }.in_folder(folder);
        // A new file: some file systems write to the disk at once when one is truncated.
        let _ = std::fs::remove_file(&path);
        std::fs::write(path, contents).expect("a folder that can be written");
    }
    let root = Root { number: 1, heads: BTreeMap::from([(1, log.end)]), ..Root::default() };
    let judged = Judged { root, row: None, found: Vec::new() };
    let survey = verify::survey(folder, &log.key).expect("a folder that can be read");
    let verified = verify::verify(folder, &log.key, &survey, &judged, None).expect("a folder that can be read");
    let is_same = files.iter().zip(&log.segments).all(|(now, before)| is_as_before(now, before));
    assert_eq!(verified.is_good(), is_same, "{verified:?}");
    // A copy of a record counts again, behind the finding that it is there.
    let lines = files.iter().flatten().filter(|byte| **byte == b'\n').count() as u64;
    assert!(verified.records <= lines && verified.findings.len() <= 100);
    let (mut newest, unreadable) = numbers(folder, Order::Newest);
    newest.reverse();
    let (oldest, also_unreadable) = numbers(folder, Order::Oldest);
    assert_eq!(newest, oldest);
    // Text that is longer than a line comes in pieces, and how many depends on where they begin.
    let is_long = |contents: &Vec<u8>| contents.split(|byte| *byte == b'\n').any(|line| line.len() >= LINE_LIMIT);
    if !files.iter().any(is_long) {
        // An empty first line has no end before it.
        let begins_empty = files.iter().filter(|contents| contents.starts_with(b"\n")).count() as u64;
        assert_eq!(unreadable + begins_empty, also_unreadable);
    }
}

/// Unchanged, or with the beginning of a line at the end, which was never confirmed.
fn is_as_before(now: &[u8], before: &[u8]) -> bool {
    now.strip_prefix(before).is_some_and(|more| !more.contains(&b'\n') && more.len() < LINE_LIMIT)
}

fn apply(files: &mut [Vec<u8>; 2], of: usize, change: &Change) {
    let lines = |text: &[u8]| text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let length = files[of].len();
    match change {
        Change::Alter(at, by) if length > 0 => files[of][at % length] ^= by,
        Change::Remove(at, count) if length > 0 => {
            let from = at % length;
            files[of].drain(from..from + count % (length - from + 1));
        }
        Change::Insert(at, bytes) => {
            let at = at % (length + 1);
            files[of].splice(at..at, bytes.iter().copied());
        }
        Change::Copy(second, from, to) => {
            let line = lines(&files[usize::from(*second)]).into_iter().cycle().nth(from % 16);
            let mut all = lines(&files[of]);
            let to = to % (all.len() + 1);
            all.splice(to..to, line);
            files[of] = all.concat();
        }
        Change::Drop(at) if length > 0 => {
            let mut all = lines(&files[of]);
            all.remove(at % all.len());
            files[of] = all.concat();
        }
        Change::Replace(bytes) => files[of].clone_from(bytes),
        Change::Alter(..) | Change::Remove(..) | Change::Drop(_) => {}
    }
}

/// The numbers of all records, read in pages of two, and how many lines are none.
fn numbers(folder: &Path, order: Order) -> (Vec<u64>, u64) {
    let key = &log().key;
    let mut query = AuditQuery { order, limit: Some(2), ..AuditQuery::default() };
    let (mut numbers, mut unreadable) = (Vec::new(), 0);
    for _ in 0..PAGES {
        let start = query.cursor.as_ref().map(|cursor| Positions::open(key, cursor).expect("its own cursor"));
        let page = read::page(folder, key, &query, start.as_ref(), &AtomicBool::new(false)).expect("readable");
        assert!(page.records.len() <= 2);
        numbers.extend(page.records.iter().map(|record| record.number));
        unreadable += page.unreadable;
        let Some(next) = page.next else { return (numbers, unreadable) };
        query.cursor = Some(next);
    }
    panic!("the pages do not end");
}

/// A text that is not a root or a cursor of this log is refused, if not when it is read then when
/// it is compared. The name of a file has one spelling.
pub fn text(text: &str) {
    let key = &log().key;
    if let Ok(root) = text.parse::<AuditRoot>() {
        assert_eq!(root.to_string(), text.trim());
        assert_eq!(root.to_string().parse(), Ok(root.clone()));
        assert_eq!(Root::open(key, root.as_bytes()), None, "a root that this log did not make");
    }
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string(), text);
        assert!(Positions::open(key, &cursor).is_err(), "a cursor that this log did not make");
    }
    if let Some(name) = Name::parse(text) {
        assert_eq!(name.file_name(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_hold_for_changes_of_every_kind() {
        let folder = tempfile::tempdir().unwrap();
        for changes in [
            vec![],
            vec![(true, Change::Insert(usize::MAX, b"{\"number\":7,".to_vec()))],
            vec![(false, Change::Alter(700, 1))],
            vec![(false, Change::Remove(0, 1)), (true, Change::Drop(0))],
            vec![(true, Change::Copy(false, 2, 3))],
            vec![(true, Change::Replace(vec![b'"'; LINE_LIMIT + 1]))],
            vec![(false, Change::Copy(true, 1, 4)), (false, Change::Copy(true, 2, 5))],
            vec![(true, Change::Replace(Vec::new())), (false, Change::Replace(b"\n{}\nx".to_vec()))],
        ] {
            segments(folder.path(), &changes);
        }
        for other in ["", "AAAA", "00001-00000001.jsonl", "1-1.jsonl", "{\"root\":1}"] {
            text(other);
        }
    }
}
