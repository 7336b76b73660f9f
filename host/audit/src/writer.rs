//! The writing itself: takes events, and writes them in one go. Who calls it, and when, is
//! `group_commit.rs`.
//!
//! **Invariant:** whoever is told that a record is written can rely on it being in a file that has
//! its name in the folder, whole, after all records before it. Nobody is told so for a record that
//! a failed write has left in part: before anything else is written, the file is cut back to its
//! last good line. It counts as torn from before a write to its end, so a panic is such a failure,
//! too.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keyway_clock::Clock;
use keyway_storage::StorageError;
use tokio::runtime::Handle;
use tracing::warn;

use crate::anchor::Anchors;
use crate::chain::AuditKey;
use crate::error::AuditError;
use crate::event::{AuditActor, AuditEvent};
use crate::group_commit::Reply;
use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::segment::{self, Head, LINE_LIMIT, Name, Segment, TakenUp};
use crate::sink::{Durability, Receipt};
use crate::sync::{Syncing, Unsynced, Waiting};

/// What must be free on the disk for the log to count as writable: a few hundred records.
const ROOM: u64 = 256 << 10;

/// How long beginning a new series may wait for the database.
const ANCHOR_TIME: Duration = Duration::from_secs(4);

/// How often another segment is tried when others are quicker.
const ATTEMPTS: usize = 64;

/// What writing needs, and where it is.
pub(crate) struct Writer {
    pub(crate) folder: PathBuf,
    pub(crate) segment_bytes: u64,
    pub(crate) key: AuditKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) anchors: Arc<Anchors>,
    pub(crate) runtime: Handle,
    pub(crate) syncing: Arc<Syncing>,
    /// Where the next record goes; `None` when that is to be found.
    pub(crate) open: Option<Open>,
    /// The lines of a group; kept, so that it is not allocated for each.
    pub(crate) buffer: Vec<u8>,
}

/// The segment that is written to, and how it ends.
pub(crate) struct Open {
    pub(crate) segment: Segment,
    pub(crate) head: Head,
    pub(crate) end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With its head.
    Whole,
    /// With what a failed write may have left behind its head, to be cut off.
    Torn,
    /// For good, because it was removed or the disk may have lost some of it: a new one follows.
    Left,
}

impl Writer {
    /// Writes the event if that is no more than appending to the file that is open. Anything else
    /// may wait for the disk or the database.
    pub(crate) fn try_append(&mut self, event: &[u8]) -> Option<io::Result<u64>> {
        let open = self.open.as_ref()?;
        let can_append = open.end == End::Whole && self.has_room(open, event.len()) && !self.syncing.has_failed();
        can_append.then(|| self.append(&[event]).inspect(|_| self.hand_over(Vec::new())))
    }

    /// Writes the events, and tells those who wait; for those who wait until they are safe the
    /// thread that syncs does.
    pub(crate) fn write_group(&mut self, events: &[Vec<u8>], callers: Vec<(Durability, Reply)>) {
        let first = match self.write(events) {
            Ok(first) => first,
            Err(error) => {
                let error = Arc::new(error);
                // Who has gone does not listen any more.
                callers.into_iter().for_each(|(_, reply)| drop(reply.send(Err(AuditError::Unwritable(error.clone())))));
                return;
            }
        };
        let mut until_synced = Vec::new();
        for (number, (durability, reply)) in (first..).zip(callers) {
            let receipt = Receipt { number };
            match durability {
                Durability::Synced => until_synced.push((receipt, reply)),
                Durability::Written => drop(reply.send(Ok(receipt))),
            }
        }
        self.hand_over(until_synced);
    }

    /// Does all that appending does, for no event at all, and asks whether the disk has room for
    /// some.
    pub(crate) fn check(&mut self) -> io::Result<Receipt> {
        let next = self.write(&[])?;
        self.open.as_ref().map_or(Ok(()), |open| open.segment.reserve(ROOM))?;
        Ok(Receipt { number: next - 1 })
    }

    /// Has the thread that syncs make safe what was written, for those who wait for it.
    pub(crate) fn hand_over(&self, waiting: Waiting) {
        // A file that is torn or left was handed over after each group that was written well.
        let written = self.open.as_ref().filter(|open| open.end == End::Whole).map(|open| Unsynced {
            file: open.segment.file.clone(),
            series: open.segment.name.series,
            head: open.head,
        });
        self.syncing.add(written, waiting);
    }

    /// Writes the events, and returns the number of the first one.
    fn write(&mut self, events: &[Vec<u8>]) -> io::Result<u64> {
        let cut_off = self.ready(events.iter().map(Vec::len).sum())?;
        if cut_off > 0 {
            let recovered = self.recovered(cut_off)?;
            self.append(&[recovered])?;
            self.hand_over(Vec::new());
        }
        self.append(events)
    }

    /// Appends the events to the segment that is [ready](Self::ready).
    fn append(&mut self, events: &[impl AsRef<[u8]>]) -> io::Result<u64> {
        let Some(open) = &mut self.open else { return Err(io::Error::other("no segment is open")) };
        let (first, mut head) = (open.head.number + 1, open.head);
        self.buffer.clear();
        for event in events {
            head = add_line(&mut self.buffer, &self.key, &head, event.as_ref())?;
        }
        open.end = End::Torn;
        (&*open.segment.file).write_all(&self.buffer)?;
        // Left, too: what was just written may come back with the file, so the numbers go on after
        // it.
        open.head = head;
        open.segment.length += self.buffer.len() as u64;
        if !open.segment.is_in_place() {
            open.end = End::Left;
            let removed = format!("{} was removed", open.segment.name.file_name());
            return Err(io::Error::new(io::ErrorKind::NotFound, removed));
        }
        open.end = End::Whole;
        Ok(first)
    }

    /// Opens a segment that so many bytes can be appended to, unless that is done; and returns how
    /// many bytes of an unfinished line were cut off.
    fn ready(&mut self, bytes: usize) -> io::Result<u64> {
        let Some(open) = &mut self.open else { return self.find() };
        if open.end == End::Torn {
            open.segment.file.set_len(open.segment.length)?;
            open.end = End::Whole;
        }
        if self.syncing.take_failure() {
            open.end = End::Left;
        }
        match &self.open {
            Some(open) if open.end == End::Left || !self.has_room(open, bytes) => {
                self.begin_after(open.segment.name, open.head)
            }
            _ => Ok(0),
        }
    }

    /// A segment that has nothing but its header takes a group of any size.
    fn has_room(&self, open: &Open, bytes: usize) -> bool {
        let length = open.segment.length;
        length + bytes as u64 <= self.segment_bytes || length < LINE_LIMIT as u64
    }

    /// Begins the next segment of a series; another series when somebody else has taken this one
    /// up.
    fn begin_after(&mut self, name: Name, head: Head) -> io::Result<u64> {
        let Some(segment) = name.segment.checked_add(1) else { return self.find() };
        match self.begin(Name { segment, ..name }, head) {
            Err(error) if taken(&error) => self.find(),
            begun => begun.map(|()| 0),
        }
    }

    fn begin(&mut self, name: Name, head: Head) -> io::Result<()> {
        let at = self.clock.now().timestamp();
        let (segment, head) = Segment::begin(&self.folder, name, head, &self.key, at)?;
        self.open = Some(Open { segment, head, end: End::Whole });
        Ok(())
    }

    /// Takes up the first series that is free, or begins a new one.
    fn find(&mut self) -> io::Result<u64> {
        for _ in 0..ATTEMPTS {
            let all = segment::list(&self.folder)?;
            for name in all.values().filter_map(|segments| segments.last()) {
                match Segment::take_up(&self.folder, *name, &self.key)? {
                    None => continue,
                    Some(TakenUp::Good { segment, head, cut_off }) => {
                        // Now that nobody else writes it: what was known of it may be from before
                        // another process did, and a series that was cut off since would be
                        // continued as if nothing had happened.
                        self.wait_for(self.anchors.refresh())?;
                        if self.anchors.may_follow(name.series, &head) {
                            self.open = Some(Open { segment, head, end: End::Whole });
                            return Ok(cut_off);
                        }
                    }
                    Some(_) => {}
                }
                warn!(
                    file = name.file_name(),
                    "this audit segment does not end as it was left, so it is not continued; verifying the log says more"
                );
            }
            let last = all.last_key_value().map_or(0, |(series, _)| *series).max(self.anchors.last_series());
            let series = last.checked_add(1).ok_or_else(|| io::Error::other("there are too many audit series"))?;
            // The anchor first: a series that has none would look as if somebody had removed it.
            self.wait_for(self.anchors.store(series, Head::NONE))?;
            match self.begin(Name { series, segment: 1 }, Head::NONE) {
                Err(error) if taken(&error) => {}
                begun => return begun.map(|()| 0),
            }
        }
        Err(io::Error::other("other processes take every audit segment first"))
    }

    /// Waits for the database.
    fn wait_for(&self, work: impl Future<Output = Result<(), StorageError>>) -> io::Result<()> {
        match self.runtime.block_on(async { tokio::time::timeout(ANCHOR_TIME, work).await }) {
            Ok(done) => done.map_err(io::Error::other),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the database did not answer")),
        }
    }

    /// The event that says that an unfinished line was cut off.
    fn recovered(&self, cut_off: u64) -> io::Result<Vec<u8>> {
        let at = self.clock.now().timestamp();
        let mut event = AuditEvent::new(at, AuditActor::System, Operation::AuditRecovered, Outcome::OK);
        event.subject.count = Some(cut_off);
        event.encode().map_err(io::Error::other)
    }
}

/// Adds an event to the buffer as the line after `head`.
fn add_line(buffer: &mut Vec<u8>, key: &AuditKey, head: &Head, event: &[u8]) -> io::Result<Head> {
    let members = event.strip_prefix(b"{").and_then(|event| event.strip_suffix(b"}"));
    let members = members.ok_or_else(|| io::Error::other("an event is no object"))?;
    let (from, number) = (buffer.len(), head.number + 1);
    write!(buffer, "{{\"number\":{number},")?;
    buffer.extend_from_slice(members);
    let tag = key.finish(&head.tag, buffer, from);
    Ok(Head { number, tag })
}

/// Somebody else has begun or taken up that segment.
fn taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::WouldBlock)
}
