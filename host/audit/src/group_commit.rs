//! Which thread writes: the caller's when the log is idle, otherwise the thread `audit-writer`.
//!
//! A caller that finds the file free appends its record at once, because waking another thread
//! takes several times as long as writing a record. Everything else goes to the thread: records
//! that arrive during a write, which it writes as one group, and anything beyond an append to the
//! open file.
//!
//! **Invariants**
//!
//! 1. A disk that hangs blocks at most one thread of the runtime: the one that was writing, whose
//!    caller gets its answer when the disk responds. All other callers wait without a thread, and
//!    time out at the recorder's deadline. The exception is the task that this thread woke last:
//!    tokio keeps it for the thread. The only thread of a runtime is never blocked.
//! 2. A record that need only be written waits for no sync: the thread `audit-sync` does those.
//! 3. A panic while a group is written is a failure of that group: its replies are dropped.

use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use crate::error::AuditError;
use crate::sink::{Durability, Receipt};
use crate::writer::Writer;

/// How many bytes are written at a time. Records that arrive meanwhile are in the next group.
const GROUP_BYTES: usize = 1 << 20;

pub(crate) type Reply = oneshot::Sender<Result<Receipt, AuditError>>;

/// A request to the thread.
pub(crate) enum Request {
    /// Append an encoded event.
    Append(Vec<u8>, Durability, Reply),
    /// Check whether an event could be appended.
    Check(Reply),
    /// Make everything safe on the disk.
    Flush(Reply),
}

/// Appends to the log.
pub(crate) struct GroupCommit {
    writer: Arc<Mutex<Writer>>,
    requests: Sender<Request>,
}

impl GroupCommit {
    /// Sends its requests to [`run`], which must have the receiving end.
    pub(crate) fn new(writer: Arc<Mutex<Writer>>, requests: Sender<Request>) -> Self {
        Self { writer, requests }
    }

    /// Appends an event. Returns when it is written, or synced if `durability` asks for that.
    pub(crate) async fn append(&self, event: Vec<u8>, durability: Durability) -> Result<Receipt, AuditError> {
        if durability == Durability::Written
            && others_go_on()
            && let Some(written) = self.append_here(&event)
        {
            return written;
        }
        self.ask(|reply| Request::Append(event, durability, reply)).await
    }

    /// Appends on this thread, if the file is free and an append is all that is needed.
    fn append_here(&self, event: &[u8]) -> Option<Result<Receipt, AuditError>> {
        let number = self.writer.try_lock()?.try_append(event)?;
        Some(number.map(|number| Receipt { number }).map_err(AuditError::unwritable))
    }

    /// Sends a request to the thread and waits for the reply.
    pub(crate) async fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Result<Receipt, AuditError> {
        let (reply, done) = oneshot::channel();
        // If the thread has ended, the reply is dropped with the request.
        drop(self.requests.send(request(reply)));
        done.await.unwrap_or_else(|_| Err(AuditError::failed("its writer has panicked or ended")))
    }
}

/// The thread's loop, until all senders are dropped.
pub(crate) fn run(requests: &Receiver<Request>, writer: &Mutex<Writer>) {
    while let Ok(first) = requests.recv() {
        let (mut events, mut callers, mut bytes, mut then) = (Vec::new(), Vec::new(), 0, None);
        for request in iter::once(first).chain(requests.try_iter()) {
            match request {
                Request::Append(event, durability, reply) => {
                    bytes += event.len();
                    events.push(event);
                    callers.push((durability, reply));
                }
                other => then = Some(other),
            }
            if bytes >= GROUP_BYTES || then.is_some() {
                break;
            }
        }
        drop(catch_unwind(AssertUnwindSafe(|| {
            let mut writer = writer.lock();
            if !events.is_empty() {
                writer.write_group(&events, callers);
            }
            match then {
                Some(Request::Check(reply)) => drop(reply.send(writer.check().map_err(AuditError::unwritable))),
                Some(Request::Flush(reply)) => writer.hand_over(vec![(Receipt { number: 0 }, reply)]),
                _ => {}
            }
        })));
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
