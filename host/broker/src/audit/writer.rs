//! The one who writes: a thread that takes all events that wait, writes them in one go, and then tells those who wait.
//!
//! **Invariant:** whoever is told that a record is written can rely on it being in a file that has its name in the folder,
//! whole, after all records before it. Nobody is told so for a record that a failed write has left in part: before the
//! next one is written, the file is cut back to its last good line.
//!
//! Being a thread of its own, a disk that hangs stops neither the runtime's threads nor the clock that ends the waiting.
//! A panic is a failure of the group in hand; the next group begins a new segment.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::warn;

use super::anchor::Anchors;
use super::chain::AuditKey;
use super::event::{AuditActor, AuditEvent, Outcome, Subject};
use super::operation::Operation;
use super::segment::{self, Head, LINE_LIMIT, Name, Segment, TakenUp};
use super::sink::{AuditError, Durability, Receipt};
use super::sync::{SYNC_INTERVAL, Synced, Unsynced};
use crate::clock::Clock;

/// How much is written at a time. Who comes meanwhile is in the next group.
const GROUP_BYTES: usize = 1 << 20;

/// What must be free on the disk for the log to count as writable: a few hundred records.
const ROOM: u64 = 256 << 10;

/// How often the thread lets others go first before it sleeps. Waking it costs whoever asks next more than writing a record
/// does; under load it is hardly ever asleep like this, and with nothing to do it is a few microseconds later.
const PATIENCE: u32 = 24;

/// How long beginning a new series may wait for the database.
const ANCHOR_TIME: Duration = Duration::from_secs(4);

/// How often another segment is tried when others are quicker.
const ATTEMPTS: usize = 64;

pub(crate) type Reply = oneshot::Sender<Result<Receipt, AuditError>>;

/// What the thread is asked for.
pub(crate) enum Job {
    /// Append an event, encoded.
    Append { event: Vec<u8>, durability: Durability, reply: Reply },
    /// See whether an event could be appended.
    Check { reply: Reply },
    /// Make everything safe on the disk.
    Flush { reply: Reply },
}

/// The thread's state.
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
    /// When the first record was written that is not handed over to be synced yet.
    pub(crate) unsynced_since: Option<Instant>,
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
    /// Writes until nobody can ask any more.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        let mut buffer = Vec::new();
        loop {
            let first = match self.next(jobs) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.hand_over(Vec::new());
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut group = Vec::new();
            let (mut checks, mut flushes) = (Vec::new(), Vec::new());
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    // Who has gone or was refused meanwhile needs no record: nothing was given out.
                    Job::Append { reply, .. } if reply.is_closed() => {}
                    Job::Append { event, durability, reply } => {
                        bytes += event.len();
                        group.push((event, durability, reply));
                    }
                    Job::Check { reply } => checks.push(reply),
                    Job::Flush { reply } => flushes.push(reply),
                }
                next = if bytes < GROUP_BYTES { jobs.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.write_group(group, &mut buffer);
            }
            if !checks.is_empty() {
                let checked = self.check(&mut buffer);
                checks.into_iter().for_each(|reply| drop(reply.send(checked.clone())));
            }
            for reply in flushes {
                self.flush(reply);
            }
        }
        if self.unsynced_since.is_some() {
            self.hand_over(Vec::new());
        }
    }

    /// Waits for the next job, or until what was written has to be synced.
    fn next(&self, jobs: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        for _ in 0..PATIENCE {
            match jobs.try_recv() {
                Ok(job) => return Ok(job),
                Err(TryRecvError::Empty) => thread::yield_now(),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            }
        }
        match self.unsynced_since {
            Some(since) => jobs.recv_timeout(SYNC_INTERVAL.saturating_sub(since.elapsed())),
            None => jobs.recv().map_err(RecvTimeoutError::from),
        }
    }

    fn write_group(&mut self, group: Vec<(Vec<u8>, Durability, Reply)>, buffer: &mut Vec<u8>) {
        let (events, who): (Vec<_>, Vec<_>) =
            group.into_iter().map(|(event, durability, reply)| (event, (durability, reply))).unzip();
        let written = catch_unwind(AssertUnwindSafe(|| self.write(&events, buffer))).unwrap_or_else(|_| {
            // Where the panic has left it is unknown; what is on the disk decides.
            self.place = Place::Unknown;
            Err(io::Error::other("the writer panicked"))
        });
        let first = match written {
            Ok(first) => first,
            Err(error) => {
                let error = AuditError::Unwritable(error.to_string());
                who.into_iter().for_each(|(_, reply)| drop(reply.send(Err(error.clone()))));
                return;
            }
        };
        let mut until_synced = Vec::new();
        for (number, (durability, reply)) in (first..).zip(who) {
            let receipt = Receipt { number };
            if durability == Durability::Synced || self.sync_every_record {
                until_synced.push((receipt, reply));
            } else {
                // Who has gone does not listen any more.
                drop(reply.send(Ok(receipt)));
            }
        }
        let since = *self.unsynced_since.get_or_insert_with(Instant::now);
        // Not after each group: waking the other thread takes longer than writing a group.
        if !until_synced.is_empty() || since.elapsed() >= SYNC_INTERVAL {
            self.hand_over(until_synced);
        }
    }

    /// Does all that appending does, for no event at all, and asks whether the disk has room for some.
    fn check(&mut self, buffer: &mut Vec<u8>) -> Result<Receipt, AuditError> {
        let checked = catch_unwind(AssertUnwindSafe(|| {
            self.write(&[], buffer)?;
            match &self.place {
                Place::In(segment, head) => segment.reserve(ROOM).map(|()| Receipt { number: head.number }),
                _ => Err(io::Error::other("its file cannot be written to its end")),
            }
        }))
        .unwrap_or_else(|_| {
            self.place = Place::Unknown;
            Err(io::Error::other("the writer panicked"))
        });
        checked.map_err(|error| AuditError::Unwritable(error.to_string()))
    }

    fn flush(&mut self, reply: Reply) {
        match &self.place {
            Place::In(_, head) => {
                let receipt = Receipt { number: head.number };
                self.hand_over(vec![(receipt, reply)]);
            }
            _ => drop(reply.send(Ok(Receipt { number: 0 }))),
        }
    }

    /// Leaves the rest to the thread that syncs.
    fn hand_over(&mut self, waiting: Vec<(Receipt, Reply)>) {
        self.unsynced_since = None;
        if let Place::In(segment, head) | Place::Torn(segment, head) = &self.place {
            let (file, series, head) = (segment.file.clone(), segment.name.series, *head);
            // When that thread is gone, the replies are dropped, which is an error to those who wait.
            drop(self.unsynced.send(Unsynced { file, series, head, waiting }));
        }
    }

    /// Writes the events, and returns the number of the first one.
    fn write(&mut self, events: &[Vec<u8>], buffer: &mut Vec<u8>) -> io::Result<u64> {
        let bytes = events.iter().map(Vec::len).sum::<usize>() as u64;
        let (segment, head, cut_off) = self.ready(bytes)?;
        let recovered = if cut_off > 0 { Some(self.recovered(cut_off)?) } else { None };
        buffer.clear();
        let mut next = head;
        for event in recovered.iter().chain(events) {
            match self.line(&next, event, buffer) {
                Ok(line) => next = line,
                Err(error) => {
                    self.place = Place::In(segment, head);
                    return Err(error);
                }
            }
        }
        if let Err(error) = (&*segment.file).write_all(buffer) {
            self.place = Place::Torn(segment, head);
            return Err(error);
        }
        if !segment.is_in_place() {
            // What was just written may come back with the file, so the numbers go on after it.
            self.place = Place::After(segment.name, next);
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} was removed", segment.name.file_name())));
        }
        let length = segment.length + buffer.len() as u64;
        self.place = Place::In(Segment { length, ..segment }, next);
        Ok(next.number + 1 - events.len() as u64)
    }

    /// A segment that so many bytes can be appended to, taken out of `self.place`; and how many bytes of an unfinished
    /// line were cut off when it was taken up. On failure `self.place` is what it was.
    fn ready(&mut self, bytes: u64) -> io::Result<(Segment, Head, u64)> {
        let failed = self.synced.take_failure();
        let stays = matches!(&self.place, Place::In(segment, _) if !failed && self.has_room(segment, bytes));
        if self.unsynced_since.is_some() && !stays {
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

    /// Begins the next segment of a series; another series when somebody else has taken this one up.
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
                    None => {}
                    Some(TakenUp::Good { segment, head, cut_off }) if self.anchors.may_follow(name.series, &head) => {
                        return Ok((segment, head, cut_off));
                    }
                    Some(_) => warn!(
                        file = name.file_name(),
                        "this audit segment does not end as it was left, so it is not continued; `keyway audit verify` says more"
                    ),
                }
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
        let anchored = self
            .runtime
            .block_on(async { tokio::time::timeout(ANCHOR_TIME, self.anchors.store(series, Head::NONE)).await });
        match anchored {
            Ok(stored) => stored.map_err(|error| io::Error::other(error.to_string()))?,
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the database did not answer")),
        }
        let name = Name { series, segment: 1 };
        Segment::begin(&self.folder, name, Head::NONE, &self.key, self.clock.now().timestamp())
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
        let event = AuditEvent {
            at: self.clock.now().timestamp(),
            workspace: None,
            actor: AuditActor::System,
            operation: Operation::AuditRecovered,
            outcome: Outcome::OK,
            begun: None,
            subject: Subject { count: Some(cut_off), ..Subject::default() },
            unrecorded: None,
            request_id: None,
        };
        event.encode().map_err(|error| io::Error::other(error.to_string()))
    }
}

/// Somebody else has begun or taken up that segment.
fn taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::WouldBlock)
}
