//! The writing itself: takes a group of events, writes them in one go, and then tells those who
//! wait. Who calls it, and when, is `group_commit.rs`.
//!
//! **Invariant:** whoever is told that a record is written can rely on it being in a file that has
//! its name in the folder, whole, after all records before it. Nobody is told so for a record that
//! a failed write has left in part: before the next one is written, the file is cut back to its
//! last good line.
//!
//! A panic is a failure of the group in hand; the next group begins a new segment.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use keyway_clock::Clock;
use keyway_storage::StorageError;
use tokio::runtime::Handle;
use tracing::warn;

use crate::anchor::Anchors;
use crate::chain::AuditKey;
use crate::error::AuditError;
use crate::event::{AuditActor, AuditEvent};
use crate::group_commit::{Append, Reply, Request};
use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::segment::{self, Head, LINE_LIMIT, Name, Segment, TakenUp};
use crate::sink::{Durability, Receipt};
use crate::sync::{Synced, Unsynced};

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
    pub(crate) sync_every_record: bool,
    pub(crate) key: AuditKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) anchors: Arc<Anchors>,
    pub(crate) runtime: Handle,
    pub(crate) unsynced: Sender<Unsynced>,
    pub(crate) synced: Arc<Synced>,
    pub(crate) place: Place,
    /// Whether something was written that is not handed over to be synced yet.
    pub(crate) has_unsynced: bool,
    /// The lines of a group; kept, so that it is not allocated for each.
    pub(crate) buffer: Vec<u8>,
}

/// Where the next record goes.
#[derive(Debug)]
pub(crate) enum Place {
    /// It is to be found: nothing was written yet.
    Unknown,
    /// Into this segment, after this head.
    In(Segment, Head),
    /// Into this segment, once what a failed write has left in it is cut off.
    Torn(Segment, Head),
    /// Into a new segment after this one.
    After(Name, Head),
}

impl Writer {
    /// Whether so many bytes of events can be appended to the file that is open, and nothing else
    /// has to be done first.
    pub(crate) fn can_append(&self, bytes: usize) -> bool {
        matches!(&self.place, Place::In(segment, _) if !self.synced.has_failed() && self.has_room(segment, bytes as u64))
    }

    /// Whether something was written that is not [handed over](Self::hand_over).
    pub(crate) fn has_unsynced(&self) -> bool {
        self.has_unsynced
    }

    /// Writes the events, and tells those who wait; for those who wait until they are safe the
    /// thread that syncs does. `only_append` is for whom [`can_append`](Self::can_append) has just
    /// said so: nothing but that is done, whatever has become known since.
    pub(crate) fn write_group(&mut self, group: Vec<Append>, only_append: bool) {
        let written = catch_unwind(AssertUnwindSafe(|| self.write(&group, only_append))).unwrap_or_else(|_| {
            // Where the panic has left it is unknown; what is on the disk decides.
            self.place = Place::Unknown;
            Err(io::Error::other("the writer panicked"))
        });
        let first = match written {
            Ok(first) => first,
            Err(error) => {
                let error = Arc::new(error);
                group
                    .into_iter()
                    .for_each(|Append { reply, .. }| drop(reply.send(Err(AuditError::Unwritable(error.clone())))));
                return;
            }
        };
        let mut until_synced = Vec::new();
        for (number, Append { durability, reply, .. }) in (first..).zip(group) {
            let receipt = Receipt { number };
            if durability == Durability::Synced || self.sync_every_record {
                until_synced.push((receipt, reply));
            } else {
                // Who has gone does not listen any more.
                drop(reply.send(Ok(receipt)));
            }
        }
        self.has_unsynced = true;
        // Not after each group: waking the other thread takes longer than writing a group.
        if !until_synced.is_empty() {
            self.hand_over(until_synced);
        }
    }

    pub(crate) fn answer(&mut self, request: Request) {
        match request {
            Request::Check(reply) => drop(reply.send(self.check())),
            Request::Flush(reply) => self.flush(reply),
        }
    }

    /// Does all that appending does, for no event at all, and asks whether the disk has room for
    /// some.
    fn check(&mut self) -> Result<Receipt, AuditError> {
        let checked = catch_unwind(AssertUnwindSafe(|| {
            self.write(&[], false)?;
            match &self.place {
                Place::In(segment, head) => segment.reserve(ROOM).map(|()| Receipt { number: head.number }),
                _ => Err(io::Error::other("its file cannot be written to its end")),
            }
        }))
        .unwrap_or_else(|_| {
            self.place = Place::Unknown;
            Err(io::Error::other("the writer panicked"))
        });
        checked.map_err(AuditError::unwritable)
    }

    fn flush(&mut self, reply: Reply) {
        match &self.place {
            Place::In(_, head) => {
                let receipt = Receipt { number: head.number };
                self.has_unsynced = true;
                self.hand_over(vec![(receipt, reply)]);
            }
            _ => drop(reply.send(Ok(Receipt { number: 0 }))),
        }
    }

    /// Leaves what was written to the thread that syncs.
    pub(crate) fn hand_over(&mut self, waiting: Vec<(Receipt, Reply)>) {
        if !std::mem::take(&mut self.has_unsynced) {
            return;
        }
        if let Place::In(segment, head) | Place::Torn(segment, head) = &self.place {
            let (file, series, head) = (segment.file.clone(), segment.name.series, *head);
            // When that thread is gone, the replies are dropped, which is an error to those who
            // wait.
            drop(self.unsynced.send(Unsynced { file, series, head, waiting }));
        }
    }

    /// Writes the events, and returns the number of the first one.
    fn write(&mut self, group: &[Append], only_append: bool) -> io::Result<u64> {
        let bytes = group.iter().map(|append| append.event.len()).sum::<usize>() as u64;
        let (segment, head, cut_off) = self.ready(bytes, only_append)?;
        let recovered = if cut_off > 0 { Some(self.recovered(cut_off)?) } else { None };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut next = head;
        for event in recovered.iter().chain(group.iter().map(|append| &append.event)) {
            match self.line(&next, event, &mut buffer) {
                Ok(line) => next = line,
                Err(error) => {
                    self.place = Place::In(segment, head);
                    return Err(error);
                }
            }
        }
        let (written, length) = ((&*segment.file).write_all(&buffer), segment.length + buffer.len() as u64);
        self.buffer = buffer;
        if let Err(error) = written {
            self.place = Place::Torn(segment, head);
            return Err(error);
        }
        if !segment.is_in_place() {
            // What was just written may come back with the file, so the numbers go on after it.
            self.place = Place::After(segment.name, next);
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} was removed", segment.name.file_name())));
        }
        self.place = Place::In(Segment { length, ..segment }, next);
        Ok(next.number + 1 - group.len() as u64)
    }

    /// A segment that so many bytes can be appended to, taken out of `self.place`; and how many
    /// bytes of an unfinished line were cut off when it was taken up. On failure `self.place` is
    /// what it was.
    fn ready(&mut self, bytes: u64, only_append: bool) -> io::Result<(Segment, Head, u64)> {
        let failed = !only_append && self.synced.take_failure();
        let stays = matches!(&self.place, Place::In(segment, _) if !failed && self.has_room(segment, bytes));
        if !stays {
            // The records before belong to a file that is left, or may be left.
            self.hand_over(Vec::new());
        }
        if failed && let Place::In(segment, head) | Place::Torn(segment, head) = &self.place {
            // What the disk did not take may be lost, so this file is not to be relied on any more.
            self.place = Place::After(segment.name, *head);
        }
        match std::mem::replace(&mut self.place, Place::Unknown) {
            Place::Unknown => self.find(),
            Place::In(segment, head) => {
                if self.has_room(&segment, bytes) {
                    return Ok((segment, head, 0));
                }
                self.begin_after(segment.name, head).inspect_err(|_| self.place = Place::In(segment, head))
            }
            Place::Torn(segment, head) => match segment.file.set_len(segment.length) {
                Ok(()) => Ok((segment, head, 0)),
                Err(error) => {
                    self.place = Place::Torn(segment, head);
                    Err(error)
                }
            },
            Place::After(name, head) => {
                self.begin_after(name, head).inspect_err(|_| self.place = Place::After(name, head))
            }
        }
    }

    /// A segment that has nothing but its header takes a group of any size.
    fn has_room(&self, segment: &Segment, bytes: u64) -> bool {
        segment.length + bytes <= self.segment_bytes || segment.length < LINE_LIMIT as u64
    }

    /// Begins the next segment of a series; another series when somebody else has taken this one
    /// up.
    fn begin_after(&mut self, name: Name, head: Head) -> io::Result<(Segment, Head, u64)> {
        let Some(segment) = name.segment.checked_add(1) else { return self.find() };
        let next = Name { segment, ..name };
        match Segment::begin(&self.folder, next, head, &self.key, self.clock.now().timestamp()) {
            Err(error) if taken(&error) => self.find(),
            begun => begun.map(|(segment, head)| (segment, head, 0)),
        }
    }

    /// Takes up the first series that is free, or begins a new one.
    fn find(&mut self) -> io::Result<(Segment, Head, u64)> {
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
                            return Ok((segment, head, cut_off));
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
            match self.begin_series(series) {
                Err(error) if taken(&error) => {}
                begun => return begun.map(|(segment, head)| (segment, head, 0)),
            }
        }
        Err(io::Error::other("other processes take every audit segment first"))
    }

    fn begin_series(&mut self, series: u32) -> io::Result<(Segment, Head)> {
        // The anchor first: a series that has none would look as if somebody had removed it.
        self.wait_for(self.anchors.store(series, Head::NONE))?;
        let name = Name { series, segment: 1 };
        Segment::begin(&self.folder, name, Head::NONE, &self.key, self.clock.now().timestamp())
    }

    /// Waits for the database.
    fn wait_for(&self, work: impl Future<Output = Result<(), StorageError>>) -> io::Result<()> {
        match self.runtime.block_on(async { tokio::time::timeout(ANCHOR_TIME, work).await }) {
            Ok(done) => done.map_err(io::Error::other),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the database did not answer")),
        }
    }

    /// Adds an event to the buffer as the line after `head`.
    fn line(&self, head: &Head, event: &[u8], buffer: &mut Vec<u8>) -> io::Result<Head> {
        let members = event.strip_prefix(b"{").and_then(|event| event.strip_suffix(b"}"));
        let members = members.ok_or_else(|| io::Error::other("an event is no object"))?;
        let (from, number) = (buffer.len(), head.number + 1);
        write!(buffer, "{{\"number\":{number},")?;
        buffer.extend_from_slice(members);
        let tag = self.key.finish(&head.tag, buffer, from);
        Ok(Head { number, tag })
    }

    /// The event that says that an unfinished line was cut off.
    fn recovered(&self, cut_off: u64) -> io::Result<Vec<u8>> {
        let at = self.clock.now().timestamp();
        let mut event = AuditEvent::new(at, AuditActor::System, Operation::AuditRecovered, Outcome::OK);
        event.subject.count = Some(cut_off);
        event.encode().map_err(io::Error::other)
    }
}

/// Somebody else has begun or taken up that segment.
fn taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::WouldBlock)
}
