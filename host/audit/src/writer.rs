//! Writes events to the segments, a group at a time. `group_commit.rs` decides who calls it and
//! when.
//!
//! **Invariant:** an acknowledged record is complete, follows all records before it, and is in a
//! file that has its name in the folder. A record that a failed write left in part is never
//! acknowledged: before anything else is written, the file is cut back to its last good line. A
//! file counts as torn from before a write until the write ends, so a panic is handled like any
//! other failure.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keyway_clock::Clock;
use keyway_storage::StorageError;
use tokio::runtime::Handle;
use tracing::error;

use crate::chain::{AuditKey, Head};
use crate::error::AuditError;
use crate::event::{AuditActor, AuditEvent};
use crate::group_commit::Group;
use crate::missing::Missing;
use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::root_store::Roots;
use crate::segment::{self, LINE_LIMIT, Name, Segment, TakenUp};
use crate::sink::{Durability, Receipt};
use crate::sync::{Syncing, Unsynced, Waiting};

/// The free space, in bytes, at which the log still counts as writable: a few hundred records.
const ROOM: u64 = 256 << 10;

/// How long taking up or beginning a series may wait for the database.
const ROOT_TIME: Duration = Duration::from_secs(4);

/// How often another segment is tried when other processes take each one first.
const ATTEMPTS: usize = 64;

/// The state of the writer.
pub(crate) struct Writer {
    pub(crate) folder: PathBuf,
    pub(crate) segment_bytes: u64,
    pub(crate) key: AuditKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) roots: Arc<Roots>,
    pub(crate) runtime: Handle,
    pub(crate) syncing: Arc<Syncing>,
    pub(crate) missing: Arc<Missing>,
    /// Where the next record goes; `None` until a segment is found.
    pub(crate) open: Option<Open>,
    /// The lines of a group; reused, to save an allocation for each group.
    pub(crate) buffer: Vec<u8>,
}

/// The segment that is written to, and the state of its end.
pub(crate) struct Open {
    pub(crate) segment: Segment,
    pub(crate) head: Head,
    pub(crate) end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The file ends with its head.
    Whole,
    /// A failed write may have left a part of a record after the head, to be cut off.
    Torn,
    /// Not continued, because the file was removed or the disk may have lost some of it. A new
    /// segment follows.
    Left,
}

impl Writer {
    /// Whether events of this size only take an append to the open file. Anything else may wait for
    /// the disk or the database.
    pub(crate) fn can_append(&self, bytes: usize) -> bool {
        let open = self.open.as_ref().filter(|open| open.end == End::Whole);
        open.is_some_and(|open| self.has_room(open, bytes)) && !self.syncing.has_failed()
    }

    /// Writes the events, and replies to their callers. Callers that wait for a sync get their
    /// reply from the thread that syncs.
    pub(crate) fn write_group(&mut self, Group { events, callers }: Group) {
        if events.is_empty() {
            return;
        }
        let first = match self.write(&events) {
            Ok(first) => first,
            Err(error) => {
                let error = Arc::new(error);
                // A caller that went away has dropped its receiver.
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

    /// Does everything that an append does, without an event, and asks whether the disk has room
    /// for more.
    pub(crate) fn check(&mut self) -> io::Result<Receipt> {
        let next = self.write(&[])?;
        self.open.as_ref().map_or(Ok(()), |open| open.segment.reserve(ROOM))?;
        Ok(Receipt { number: next - 1 })
    }

    /// Hands written records to the thread that syncs, with the callers that wait for it.
    pub(crate) fn hand_over(&self, waiting: Waiting) {
        // A file that is torn or left was handed over after its last good group.
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
        let root = self.roots.known().number;
        self.buffer.clear();
        for event in events {
            head = add_line(&mut self.buffer, &self.key, &head, root, event.as_ref())?;
        }
        open.end = End::Torn;
        (&*open.segment.file).write_all(&self.buffer)?;
        // Also for a file that is left: it may come back with these records, so the numbers
        // continue after them.
        open.head = head;
        open.segment.length += self.buffer.len() as u64;
        if !open.segment.is_in_place() {
            open.end = End::Left;
            self.missing.moved(&self.folder, open.segment.name);
            let removed = format!("{} was removed", open.segment.name.file_name());
            return Err(io::Error::new(io::ErrorKind::NotFound, removed));
        }
        open.end = End::Whole;
        Ok(first)
    }

    /// Makes sure that a segment is open and has room for `bytes` more. Returns how many bytes of
    /// an unfinished line were cut off.
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

    /// A segment that has only its header takes a group of any size.
    fn has_room(&self, open: &Open, bytes: usize) -> bool {
        let length = open.segment.length;
        length + bytes as u64 <= self.segment_bytes || length < LINE_LIMIT as u64
    }

    /// Begins the next segment of a series; finds another series when another process has taken
    /// this one.
    fn begin_after(&mut self, name: Name, head: Head) -> io::Result<u64> {
        let Some(segment) = name.segment.checked_add(1) else { return self.find() };
        match self.begin(Name { segment, ..name }, head) {
            Err(error) if taken(&error) => self.find(),
            begun => begun.map(|()| 0),
        }
    }

    fn begin(&mut self, name: Name, head: Head) -> io::Result<()> {
        let at = self.clock.now().timestamp();
        let (segment, head) = Segment::begin(&self.folder, name, head, &self.key, at, &self.roots.known())?;
        self.open = Some(Open { segment, head, end: End::Whole });
        Ok(())
    }

    /// Continues the first series that is unlocked, or begins a new one.
    fn find(&mut self) -> io::Result<u64> {
        for _ in 0..ATTEMPTS {
            let all = segment::list(&self.folder)?;
            let seen = segment::seen(&self.folder, &self.key, &all)?;
            for name in all.values().filter_map(|segments| segments.last()) {
                match Segment::take_up(&self.folder, *name, &self.key)? {
                    None => continue,
                    Some(TakenUp::Good { segment, heads: (head, before), cut_off }) => {
                        // Read the root now that no other process writes the series. An earlier one
                        // may predate another process's records, and a series that was cut off
                        // since would be continued as if nothing had happened.
                        let root = self.wait_for(self.roots.settle(&seen))?;
                        self.missing.compare(&self.folder, &self.key, &root)?;
                        let vouched = root.heads.get(&name.series);
                        if vouched.is_some_and(|vouched| head.may_follow(before.as_ref(), vouched)) {
                            self.open = Some(Open { segment, head, end: End::Whole });
                            return Ok(cut_off);
                        }
                    }
                    Some(TakenUp::Broken) => {}
                }
                error!(
                    file = name.file_name(),
                    "this audit segment does not end where it was left, so it is not continued; verify the log for details"
                );
            }
            // In the root first: a series that is not in it would look as if the root was changed.
            let series = self.wait_for(self.roots.begin_series(&seen))?;
            self.missing.compare(&self.folder, &self.key, &self.roots.known())?;
            match self.begin(Name { series, segment: 1 }, Head::NONE) {
                Err(error) if taken(&error) => {}
                begun => return begun.map(|()| 0),
            }
        }
        Err(io::Error::other("other processes keep taking every audit segment first"))
    }

    /// Waits for the database.
    fn wait_for<T>(&self, work: impl Future<Output = Result<T, StorageError>>) -> io::Result<T> {
        match self.runtime.block_on(async { tokio::time::timeout(ROOT_TIME, work).await }) {
            Ok(done) => done.map_err(io::Error::other),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the database did not answer")),
        }
    }

    /// The event that records that an unfinished line was cut off.
    fn recovered(&self, cut_off: u64) -> io::Result<Vec<u8>> {
        let at = self.clock.now().timestamp();
        let mut event = AuditEvent::new(at, AuditActor::System, Operation::AuditRecovered, Outcome::OK);
        event.subject.count = Some(cut_off);
        event.encode().map_err(io::Error::other)
    }
}

/// Adds an event to the buffer, as the line after `head`. It names the root of its time, so a root
/// that is older than the log is noticed.
fn add_line(buffer: &mut Vec<u8>, key: &AuditKey, head: &Head, root: u64, event: &[u8]) -> io::Result<Head> {
    let members = event.strip_prefix(b"{").and_then(|event| event.strip_suffix(b"}"));
    let members = members.ok_or_else(|| io::Error::other("an event is not an object"))?;
    let (from, number) = (buffer.len(), head.number + 1);
    write!(buffer, "{{\"number\":{number},\"root\":{root},")?;
    buffer.extend_from_slice(members);
    let tag = key.finish(&head.tag, buffer, from);
    Ok(Head { number, tag })
}

/// Whether another process has begun or taken up that segment.
fn taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::WouldBlock)
}
