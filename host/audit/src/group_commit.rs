//! Who writes: the caller itself when nobody else does, else the thread `audit-writer`.
//!
//! A caller that finds the file free appends its record there and then, because waking another
//! thread takes several times as long as writing a record. Everything else goes to the thread: what
//! comes while somebody writes, which it writes in one go, and whatever is more than appending to
//! the file that is open.
//!
//! **Invariants**
//!
//! 1. A disk that hangs holds up one of the runtime's threads at most: the one that was writing,
//!    whose caller has its answer when the disk has. All others wait without a thread, and go away
//!    at the recorder's deadline; only the task that this thread has woken last tokio keeps for it.
//!    The one thread of a runtime that has no other is never held up.
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

/// How much is written at a time. Who comes meanwhile is in the next group.
const GROUP_BYTES: usize = 1 << 20;

pub(crate) type Reply = oneshot::Sender<Result<Receipt, AuditError>>;

/// What the thread is to do.
pub(crate) enum Request {
    /// Append an event, encoded.
    Append(Vec<u8>, Durability, Reply),
    /// See whether an event could be appended.
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
    /// What hands over to [`run`], which is to run with the other end.
    pub(crate) fn new(writer: Arc<Mutex<Writer>>, requests: Sender<Request>) -> Self {
        Self { writer, requests }
    }

    /// Appends an event, and returns when it is written, or synced if that is what was asked for.
    pub(crate) async fn append(&self, event: Vec<u8>, durability: Durability) -> Result<Receipt, AuditError> {
        if durability == Durability::Written
            && others_go_on()
            && let Some(written) = self.append_here(&event)
        {
            return written;
        }
        self.ask(|reply| Request::Append(event, durability, reply)).await
    }

    /// Appends here and now, if nobody else writes and that is all there is to do.
    fn append_here(&self, event: &[u8]) -> Option<Result<Receipt, AuditError>> {
        let number = self.writer.try_lock()?.try_append(event)?;
        Some(number.map(|number| Receipt { number }).map_err(AuditError::unwritable))
    }

    /// Has the thread do something.
    pub(crate) async fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Result<Receipt, AuditError> {
        let (reply, done) = oneshot::channel();
        // When the thread is gone, so is the reply.
        drop(self.requests.send(request(reply)));
        done.await.unwrap_or_else(|_| Err(AuditError::failed("its writer has panicked or ended")))
    }
}

/// The thread: until nobody can ask any more.
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

/// Whether this thread may wait for the disk: other threads of the same runtime go on meanwhile.
fn others_go_on() -> bool {
    Handle::try_current().is_ok_and(|runtime| {
        runtime.runtime_flavor() == RuntimeFlavor::MultiThread && runtime.metrics().num_workers() > 1
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
