//! Who writes: whoever comes first, for all who wait, and a thread of the log's own where nobody
//! else may.
//!
//! A caller puts its event into the queue. If nobody is writing, it then writes all that is there,
//! in its own thread: so one that is alone waits for no other thread to wake up, which takes
//! several times as long as writing a record. Under load it first lets the other tasks of its
//! thread go ahead, so that there is more to write in one go; most of them find their records
//! written when it is their turn again. Where nobody has come along lately ([`Company`]) it does
//! not do that, because a thread that is let go and has nothing else to do wakes another one.
//!
//! **Invariants**
//!
//! 1. What is in the queue is written, or refused, by somebody. Who finds somebody else writing
//!    leaves its event to them; whoever writes looks into the queue again after letting others
//!    write.
//! 2. A disk that hangs holds up one of the runtime's threads at most: the one that was writing,
//!    whose caller has its answer when the disk has. Everybody else waits without a thread, and
//!    goes away at the deadline; only the task that this thread has woken last tokio keeps for it.
//!    The thread `audit-writer` writes where the runtime has no other thread, where the disk was
//!    slow a moment ago, for whoever waits for a sync anyway, and whatever is more than appending
//!    to the file that is open.
//! 3. What was written is handed over to be synced within [`SYNC_INTERVAL`]: whoever writes the
//!    first record of an interval tells the thread, which sees to it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use crate::error::AuditError;
use crate::recorder::DEADLINE;
use crate::sink::{Durability, Receipt};
use crate::sync::SYNC_INTERVAL;
use crate::writer::Writer;

/// How much is written at a time. Who comes meanwhile is in the next group.
const GROUP_BYTES: usize = 1 << 20;

/// How many groups a caller writes before it leaves the others to the thread: its own answer waits,
/// too.
const TURNS: usize = 4;

/// A disk that takes longer for a group is slow. The page cache of a machine that is well takes it
/// in microseconds.
const SLOW: Duration = Duration::from_millis(5);

/// For how long callers do not write by themselves after that.
const WARY_FOR: Duration = Duration::from_secs(1);

pub(crate) type Reply = oneshot::Sender<Result<Receipt, AuditError>>;

/// An event to be appended, encoded, and who waits for it.
pub(crate) struct Append {
    pub(crate) event: Vec<u8>,
    pub(crate) durability: Durability,
    pub(crate) reply: Reply,
}

/// What only the thread does.
pub(crate) enum Request {
    /// See whether an event could be appended.
    Check(Reply),
    /// Make everything safe on the disk.
    Flush(Reply),
}

/// The queue, and who writes what is in it.
pub(crate) struct GroupCommit {
    queue: Mutex<Queue>,
    /// There is something for the thread to do.
    for_thread: Condvar,
    writer: Mutex<Writer>,
    sync_every_record: bool,
    opened: Instant,
    /// Until when callers do not write by themselves, because the disk was slow: in milliseconds
    /// after `opened`.
    wary_until: AtomicU64,
    company: Company,
}

/// Whether others come along when they are let go ahead, as far as the last groups tell.
#[derive(Default)]
struct Company {
    /// How many more groups of one it takes until nobody is expected.
    patience: AtomicU32,
    /// How often nobody was expected: now and then it is tried all the same.
    alone: AtomicU32,
}

impl Company {
    const PATIENCE: u32 = 8;
    const TRIED_EVERY: u32 = 32;

    fn is_expected(&self) -> bool {
        self.patience.load(Ordering::Relaxed) > 0
            || self.alone.fetch_add(1, Ordering::Relaxed).is_multiple_of(Self::TRIED_EVERY)
    }

    /// So many had something to record at the same time.
    fn came(&self, callers: usize) {
        let before = self.patience.load(Ordering::Relaxed);
        let patience = if callers > 1 { Self::PATIENCE } else { before.saturating_sub(1) };
        // Each write of it is seen by the other threads' processors; and that one gets lost does
        // not matter.
        if patience != before {
            self.patience.store(patience, Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
struct Queue {
    appends: Vec<Append>,
    bytes: usize,
    requests: Vec<Request>,
    /// The thread is to write what is there.
    left_to_thread: bool,
    /// When what was written has to be synced.
    sync_at: Option<Instant>,
    /// Nobody asks any more.
    closed: bool,
}

/// What the thread is to do next.
enum Turn {
    Write,
    Sync,
    End,
}

impl GroupCommit {
    pub(crate) fn new(writer: Writer) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            for_thread: Condvar::new(),
            sync_every_record: writer.sync_every_record,
            writer: Mutex::new(writer),
            opened: Instant::now(),
            wary_until: AtomicU64::new(0),
            company: Company::default(),
        })
    }

    /// Appends an event, and returns when it is written, or synced if that is what was asked for.
    pub(crate) async fn append(&self, event: Vec<u8>, durability: Durability) -> Result<Receipt, AuditError> {
        let (reply, mut done) = oneshot::channel();
        self.push(Append { event, durability, reply });
        // Who waits for a sync gains nothing by writing here, and the thread writes for more of
        // them at a time.
        let waits_for_sync = durability == Durability::Synced || self.sync_every_record;
        if waits_for_sync || self.is_wary() || !others_go_on() {
            self.leave_to_thread();
        } else {
            if self.company.is_expected() {
                // Whoever of this thread's tasks has something to record, too, is in the same
                // group.
                let_others_go_ahead().await;
                if let Ok(result) = done.try_recv() {
                    return result;
                }
            }
            self.write_or_leave();
            if let Ok(result) = done.try_recv() {
                return result;
            }
        }
        let waited = Box::pin(tokio::time::timeout(DEADLINE, done)).await;
        waited.map_err(|_| AuditError::Deadline(DEADLINE))?.map_err(|_| ended())?
    }

    /// Has the thread do something.
    pub(crate) async fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Result<Receipt, AuditError> {
        let (reply, done) = oneshot::channel();
        self.queue().requests.push(request(reply));
        self.for_thread.notify_one();
        done.await.map_err(|_| ended())?
    }

    /// Has the thread end when it has done what is there.
    pub(crate) fn close(&self) {
        self.queue().closed = true;
        self.for_thread.notify_one();
    }

    fn push(&self, append: Append) {
        let mut queue = self.queue();
        queue.bytes += append.event.len();
        queue.appends.push(append);
    }

    /// Writes what is in the queue here and now if that can be done, else sees that somebody does.
    fn write_or_leave(&self) {
        for _ in 0..TURNS {
            // Whoever has it looks into the queue again when they have given it back.
            let Some(mut writer) = self.try_writer() else {
                self.company.came(2);
                return;
            };
            let Some(group) = self.queue().take_if(|bytes| bytes <= GROUP_BYTES && writer.can_append(bytes)) else {
                break;
            };
            self.company.came(group.len());
            self.write(&mut writer, group);
            drop(writer);
            if self.queue().appends.is_empty() {
                return;
            }
        }
        self.leave_to_thread();
    }

    fn leave_to_thread(&self) {
        self.queue().left_to_thread = true;
        self.for_thread.notify_one();
    }

    /// The thread: until nobody can ask any more.
    pub(crate) fn run(&self) {
        loop {
            match self.turn() {
                Turn::Write => self.write_all(),
                Turn::Sync => self.writer().hand_over(Vec::new()),
                Turn::End => break,
            }
        }
        self.writer().hand_over(Vec::new());
    }

    fn write_all(&self) {
        let mut writer = self.writer();
        loop {
            let (group, requests) = {
                let mut queue = self.queue();
                (queue.take(), std::mem::take(&mut queue.requests))
            };
            if group.is_empty() && requests.is_empty() {
                return;
            }
            self.write(&mut writer, group);
            requests.into_iter().for_each(|request| writer.answer(request));
        }
    }

    /// Waits for something to do.
    fn turn(&self) -> Turn {
        let mut queue = self.queue();
        // Also what was left to this thread while it was writing.
        let mut is_left = !queue.appends.is_empty();
        loop {
            if is_left || queue.left_to_thread || !queue.requests.is_empty() {
                queue.left_to_thread = false;
                return Turn::Write;
            }
            if queue.closed {
                return Turn::End;
            }
            match queue.sync_at {
                None => self.for_thread.wait(&mut queue),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        queue.sync_at = None;
                        return Turn::Sync;
                    }
                    self.for_thread.wait_for(&mut queue, left);
                }
            }
            is_left = false;
        }
    }

    fn write(&self, writer: &mut Writer, group: Vec<Append>) {
        if group.is_empty() {
            return;
        }
        let bytes = group.iter().map(|append| append.event.len()).sum();
        let (only_appends, had_unsynced) = (writer.can_append(bytes), writer.has_unsynced());
        let started = Instant::now();
        writer.write_group(group, only_appends);
        if only_appends && started.elapsed() >= SLOW {
            let until = self.opened.elapsed() + WARY_FOR;
            self.wary_until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        if !had_unsynced && writer.has_unsynced() {
            self.queue().sync_at = Some(started + SYNC_INTERVAL);
            self.for_thread.notify_one();
        }
    }

    fn is_wary(&self) -> bool {
        let until = self.wary_until.load(Ordering::Relaxed);
        until > 0 && self.opened.elapsed().as_millis() < u128::from(until)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock()
    }

    fn try_writer(&self) -> Option<MutexGuard<'_, Writer>> {
        self.writer.try_lock()
    }
}

impl Queue {
    /// Takes out what is to be written, if so many bytes may be.
    fn take_if(&mut self, may: impl FnOnce(usize) -> bool) -> Option<Vec<Append>> {
        may(self.bytes).then(|| self.take())
    }

    /// Takes out what is to be written.
    fn take(&mut self) -> Vec<Append> {
        self.bytes = 0;
        std::mem::take(&mut self.appends)
    }
}

/// Whether this thread may wait for the disk: other threads of the same runtime go on meanwhile.
fn others_go_on() -> bool {
    Handle::try_current().is_ok_and(|runtime| {
        runtime.runtime_flavor() == RuntimeFlavor::MultiThread && runtime.metrics().num_workers() > 1
    })
}

/// Lets this thread's other tasks go ahead that are ready. The caller's task waits behind them,
/// where other threads find it, too: with tokio's `yield_now` it would wait in a place of this
/// thread, and be held up with it if the task that writes next hangs.
async fn let_others_go_ahead() {
    let mut they_went = false;
    poll_fn(|context| {
        if std::mem::replace(&mut they_went, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn ended() -> AuditError {
    AuditError::failed("its writer has ended")
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
