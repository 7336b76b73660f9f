//! Which thread writes: a caller's, or the thread `audit-writer`.
//!
//! A caller queues its record and, while callers come together, lets the tasks that are ready run
//! first; these queue theirs. Then it writes the whole queue as one group if the file is free,
//! because waking another thread takes several times as long as writing. If another thread has the
//! file, that one looks at the queue again when it lets go. Anything beyond an append to the open
//! file goes to the thread.
//!
//! Whether callers come together shows in the last groups. A caller that has been alone for some
//! time ([`PROBES`]) lets others run first only now and then: it takes several times as long as its
//! write.
//!
//! **Invariants**
//!
//! 1. A disk that hangs blocks at most one thread of the runtime: the one that was writing, whose
//!    caller gets its answer when the disk responds. All other callers wait without a thread, and
//!    time out at the recorder's deadline. The exception is the task that this thread woke last:
//!    tokio keeps it for the thread. The only thread of a runtime is never blocked.
//! 2. A queued record is written even if its caller goes away.
//! 3. A record that need only be written waits for no sync: the thread `audit-sync` does those.
//! 4. A panic while a group is written is a failure of that group: its replies are dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use crate::error::AuditError;
use crate::sink::{Durability, Receipt};
use crate::writer::Writer;

pub(crate) type Reply = oneshot::Sender<Result<Receipt, AuditError>>;

/// How many groups a caller writes before it leaves the rest to the thread: its own answer waits
/// meanwhile. Two workers rarely queue more than one group during a write.
const GROUPS: usize = 4;

/// After so many groups of one, only one caller in so many waits for company. Among 64 callers that
/// come together there are groups of one too, but not so many in a row; and when many come after a
/// time with one, company is found within a few microseconds.
const PROBES: usize = 16;

/// Events that are written together, and their callers.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) events: Vec<Vec<u8>>,
    pub(crate) callers: Vec<(Durability, Reply)>,
}

/// A request to the thread. Before it does anything else, it writes what is queued.
pub(crate) enum Request {
    /// Write what is queued.
    Write,
    /// Check whether an event could be appended.
    Check(Reply),
    /// Make everything safe on the disk.
    Flush(Reply),
}

/// What the callers and the thread share.
pub(crate) struct Shared {
    writer: Mutex<Writer>,
    queue: Mutex<Group>,
    /// How many groups of one callers wrote since the last group of more.
    alone: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer: Mutex::new(writer), queue: Mutex::default(), alone: AtomicUsize::new(PROBES) }
    }

    /// Whether a caller may find others that come with it.
    fn expects_company(&self) -> bool {
        let alone = self.alone.load(Ordering::Relaxed);
        alone < PROBES || alone.is_multiple_of(PROBES)
    }
}

/// Appends to the log.
pub(crate) struct GroupCommit {
    shared: Arc<Shared>,
    requests: Sender<Request>,
}

impl GroupCommit {
    /// Sends its requests to [`run`], which must have the receiving end.
    pub(crate) fn new(shared: Arc<Shared>, requests: Sender<Request>) -> Self {
        Self { shared, requests }
    }

    /// Appends an event. Returns when it is written, or synced if `durability` asks for that.
    pub(crate) async fn append(&self, event: Vec<u8>, durability: Durability) -> Result<Receipt, AuditError> {
        let (reply, done) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            queue.events.push(event);
            queue.callers.push((durability, reply));
        }
        let queued = Queued(self);
        // A caller that waits for the disk anyway loses nothing by leaving the write to the thread.
        if durability == Durability::Written && others_go_on() {
            if self.shared.expects_company() {
                tokio::task::yield_now().await;
            }
            std::mem::forget(queued);
            self.write_here();
        } else {
            drop(queued);
        }
        answer(done).await
    }

    /// Writes what is queued on this thread, if the file is free and an append is all that is
    /// needed.
    fn write_here(&self) {
        for _ in 0..GROUPS {
            if self.shared.queue.lock().events.is_empty() {
                return;
            }
            let Some(mut writer) = self.shared.writer.try_lock() else { return };
            let mut queue = self.shared.queue.lock();
            if !writer.can_append(queue.events.iter().map(Vec::len).sum()) {
                break;
            }
            let group = std::mem::take(&mut *queue);
            drop(queue);
            if group.events.len() > 1 {
                self.shared.alone.store(0, Ordering::Relaxed);
            } else {
                self.shared.alone.fetch_add(1, Ordering::Relaxed);
            }
            writer.write_group(group);
        }
        drop(self.requests.send(Request::Write));
    }

    /// Sends a request to the thread and waits for the reply.
    pub(crate) async fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Result<Receipt, AuditError> {
        let (reply, done) = oneshot::channel();
        // If the thread has ended, the reply is dropped with the request.
        drop(self.requests.send(request(reply)));
        answer(done).await
    }
}

/// Leaves the queue to the thread when dropped.
struct Queued<'a>(&'a GroupCommit);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        drop(self.0.requests.send(Request::Write));
    }
}

async fn answer(done: oneshot::Receiver<Result<Receipt, AuditError>>) -> Result<Receipt, AuditError> {
    done.await.unwrap_or_else(|_| Err(AuditError::failed("its writer has panicked or ended")))
}

/// The thread's loop, until all senders are dropped.
pub(crate) fn run(requests: &Receiver<Request>, shared: &Shared) {
    while let Ok(request) = requests.recv() {
        let mut request = Some(request);
        while request.is_some() || !shared.queue.lock().events.is_empty() {
            let request = request.take();
            drop(catch_unwind(AssertUnwindSafe(|| {
                let mut writer = shared.writer.lock();
                let group = std::mem::take(&mut *shared.queue.lock());
                writer.write_group(group);
                match request {
                    Some(Request::Check(reply)) => drop(reply.send(writer.check().map_err(AuditError::unwritable))),
                    Some(Request::Flush(reply)) => writer.hand_over(vec![(Receipt { number: 0 }, reply)]),
                    Some(Request::Write) | None => {}
                }
            })));
        }
    }
}

/// Whether this thread may block on the disk: other threads of the runtime keep running.
fn others_go_on() -> bool {
    Handle::try_current().is_ok_and(|runtime| {
        runtime.runtime_flavor() == RuntimeFlavor::MultiThread && runtime.metrics().num_workers() > 1
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
