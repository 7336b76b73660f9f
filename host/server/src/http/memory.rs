//! How much memory the bodies of requests and answers take that are under way.
//!
//! A client decides how slowly it sends and reads, so without a limit in bytes a few thousand connections with the largest bodies that there may be would hold gigabytes.
//! Each body that is not small holds room for as long as it is in memory; an answer's until the connection has written it, and not only until its head
//! was. There is so much room for everybody, and a quarter of that for one workspace, which can hold up itself but no other.
//!
//! Whoever has a body to send may wait a little for room, [`WAITING`] of a workspace at a time, so that those who wait do not fill the server; everything else is refused at
//! once. Nobody gets in line: what fits is let in, whoever waits for more.
//!
//! **Invariant:** what changes something has the room for its answer before it begins, and is answered. Whoever only reads may be refused with the answer at hand.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};
use keyway::WorkspaceId;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::error::ApiError;

/// For all bodies together.
const ROOM: usize = 256 << 20;

/// For those of one workspace: 25 of the largest entries there can be.
const SHARE: usize = ROOM / 4;

/// An answer of this size costs nothing: with one on each connection that there can be it is 64 MiB, and nearly all are smaller.
const SMALL: usize = 16 << 10;

/// Neither does a request, or a stored entry, of this size: an answer that is made of both is small.
pub(super) const FREE: usize = SMALL / 4;

/// The largest entry there can be, as JSON: 2 MiB of attributes, four values of 64 KiB that clients have encrypted, and the rest.
pub(super) const LARGEST_ENTRY: usize = (2 << 20) + (512 << 10);

/// For how long a request may wait for room. What takes longer than that are clients who do not read.
const WAIT: Duration = Duration::from_secs(10);

/// How many requests of a workspace may wait.
const WAITING: u32 = 32;

/// The room there is.
#[derive(Debug, Default)]
pub(super) struct Memory {
    taken: Mutex<Taken>,
    given_back: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    /// Of those who hold something, or wait. Nobody is a workspace, too: whoever asks without a key.
    shares: HashMap<Option<WorkspaceId>, Share>,
}

#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    waiting: u32,
}

impl Memory {
    /// Runs what handles a request, which the functions of this module are for then.
    pub(super) async fn scope<T>(self: &Arc<Self>, handle: impl Future<Output = T>) -> T {
        ACCOUNT.scope(Account::new(self.clone()), handle).await
    }

    fn try_hold(self: &Arc<Self>, workspace: Option<WorkspaceId>, bytes: usize) -> Option<Held> {
        let mut taken = self.lock();
        let share = taken.shares.get(&workspace).map_or(0, |share| share.bytes);
        if taken.bytes + bytes > ROOM || share + bytes > SHARE {
            return None;
        }
        taken.bytes += bytes;
        taken.shares.entry(workspace).or_default().bytes += bytes;
        Some(Held { memory: self.clone(), workspace, bytes })
    }

    async fn hold(self: &Arc<Self>, workspace: Option<WorkspaceId>, bytes: usize) -> Option<Held> {
        if let Some(held) = self.try_hold(workspace, bytes) {
            return Some(held);
        }
        let _waiting = Waiting::begin(self, workspace)?;
        let fits = async {
            loop {
                let mut given_back = pin!(self.given_back.notified());
                // From here on it is not missed.
                given_back.as_mut().enable();
                if let Some(held) = self.try_hold(workspace, bytes) {
                    return held;
                }
                given_back.await;
            }
        };
        tokio::time::timeout(WAIT, fits).await.ok()
    }

    fn change(&self, workspace: Option<WorkspaceId>, change: impl FnOnce(&mut Share)) {
        let mut taken = self.lock();
        let share = taken.shares.entry(workspace).or_default();
        change(share);
        if share.bytes == 0 && share.waiting == 0 {
            taken.shares.remove(&workspace);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing in here can panic half-way through a change.
        self.taken.lock()
    }
}

/// A place among those of a workspace who wait.
struct Waiting<'a> {
    memory: &'a Memory,
    workspace: Option<WorkspaceId>,
}

impl<'a> Waiting<'a> {
    fn begin(memory: &'a Memory, workspace: Option<WorkspaceId>) -> Option<Self> {
        let mut may = false;
        memory.change(workspace, |share| {
            may = share.waiting < WAITING;
            share.waiting += u32::from(may);
        });
        // Not one that is dropped at once, which would be counted out.
        may.then(|| Self { memory, workspace })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.memory.change(self.workspace, |share| share.waiting -= 1);
    }
}

/// Room for a body, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    memory: Arc<Memory>,
    workspace: Option<WorkspaceId>,
    bytes: usize,
}

impl Held {
    /// Gives back what is more than that.
    fn shrink(&mut self, bytes: usize) {
        let more = self.bytes.saturating_sub(bytes);
        self.bytes -= more;
        self.memory.change(self.workspace, |share| share.bytes -= more);
        self.memory.lock().bytes -= more;
        self.memory.given_back.notify_waiters();
    }

    fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

tokio::task_local! {
    /// That of the request at hand. Not in the extensions of the request: that costs the fast ones a twentieth of their time, and none of them holds anything.
    static ACCOUNT: Account;
}

/// What one request holds.
struct Account {
    memory: Arc<Memory>,
    /// Whose request it is, once its key was looked at.
    workspace: Cell<Option<WorkspaceId>>,
    held: RefCell<Option<Held>>,
}

/// The request is this workspace's, from now on.
pub(super) fn charge_to(workspace: WorkspaceId) {
    // Outside of a server, in tests, there is nothing to charge.
    let _ = ACCOUNT.try_with(|account| account.workspace.set(Some(workspace)));
}

/// Has so many bytes held until the answer was sent, and waits for them. To be called while the request holds nothing yet: those that wait for more than
/// they have wait for each other.
pub(super) async fn hold(bytes: usize) -> Result<(), ApiError> {
    let held = ACCOUNT.try_with(|account| account.hold(bytes)).map_err(|_| no_account())?.await?;
    ACCOUNT.try_with(|account| account.keep(held)).map_err(|_| no_account())
}

/// The same in addition to what the request holds, without waiting.
pub(super) fn hold_more(bytes: usize) -> Result<(), ApiError> {
    let held = hold_for_parts(bytes)?;
    ACCOUNT.try_with(|account| account.keep(held)).map_err(|_| no_account())
}

/// Room for an answer that comes in parts, which keeps it itself.
pub(super) fn hold_for_parts(bytes: usize) -> Result<Held, ApiError> {
    ACCOUNT.try_with(|account| account.hold_for_parts(bytes)).map_err(|_| no_account())?
}

/// The answer, with room for it until it was written; or another one, when there is none.
pub(super) fn cover(response: Response) -> Response {
    let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
    match size.filter(|size| *size > SMALL) {
        None => response,
        Some(size) => match ACCOUNT.try_with(|account| account.cover(size)) {
            Ok(Ok(held)) => response.map(|body| Body::new(Covered { body, held: Arc::new(held) })),
            Ok(Err(error)) => error.into_response(),
            Err(_) => no_account().into_response(),
        },
    }
}

fn no_account() -> ApiError {
    ApiError::internal("a request without an account of its memory")
}

impl Account {
    fn new(memory: Arc<Memory>) -> Self {
        Self { memory, workspace: Cell::default(), held: RefCell::default() }
    }

    fn hold(&self, bytes: usize) -> impl Future<Output = Result<Held, ApiError>> + use<> {
        let (memory, workspace) = (self.memory.clone(), self.workspace.get());
        async move { memory.hold(workspace, bytes).await.ok_or_else(ApiError::no_memory) }
    }

    fn keep(&self, more: Held) {
        match &mut *self.held.borrow_mut() {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
    }

    fn hold_for_parts(&self, bytes: usize) -> Result<Held, ApiError> {
        self.memory.try_hold(self.workspace.get(), bytes).ok_or_else(ApiError::no_memory)
    }

    /// Out of what the request held. One that holds something is answered: it may have changed something, and has asked for enough unless somebody else
    /// changed the same thing meanwhile.
    fn cover(&self, size: usize) -> Result<Held, ApiError> {
        let Some(mut held) = self.held.take() else { return self.hold_for_parts(size) };
        match size.checked_sub(held.bytes) {
            None | Some(0) => held.shrink(size),
            Some(missing) => {
                if let Some(more) = self.memory.try_hold(self.workspace.get(), missing) {
                    held.merge(more);
                }
            }
        }
        Ok(held)
    }
}

/// The body of an answer, whose parts hold room until the last of them is dropped, wherever they are then.
struct Covered {
    body: Body,
    held: Arc<Held>,
}

impl HttpBody for Covered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let held = self.held.clone();
        let frame = Pin::new(&mut self.body).poll_frame(context);
        frame.map_ok(|frame| frame.map_data(|bytes| Bytes::from_owner(Part { bytes, _held: held })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Part {
    bytes: Bytes,
    _held: Arc<Held>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::FutureExt;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn of_somebody(memory: &Arc<Memory>) -> Account {
        let account = Account::new(memory.clone());
        account.workspace.set(Some(uuid::Uuid::now_v7().to_string().parse().unwrap()));
        account
    }

    fn free(memory: &Memory) -> usize {
        ROOM - memory.lock().bytes
    }

    #[tokio::test]
    async fn a_workspace_has_its_share_whatever_others_hold_and_all_together_have_the_room() {
        let memory = Arc::<Memory>::default();
        let accounts: Vec<_> = (0..4).map(|_| of_somebody(&memory)).collect();
        let held: Vec<_> = accounts.iter().map(|account| account.hold_for_parts(SHARE).unwrap()).collect();
        assert!(accounts[0].hold_for_parts(1).is_err());
        assert!(
            of_somebody(&memory).hold_for_parts(1).is_err() && Account::new(memory.clone()).hold_for_parts(1).is_err()
        );
        drop(held);
        assert_eq!(free(&memory), ROOM);
        let _held = accounts[0].hold_for_parts(SHARE).unwrap();
        assert!(accounts[0].hold_for_parts(1).is_err());
        assert!(
            accounts[1].hold_for_parts(SHARE).is_ok() && Account::new(memory.clone()).hold_for_parts(SHARE).is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_room_and_not_for_ever() {
        let memory = Arc::<Memory>::default();
        let account = of_somebody(&memory);
        let others = account.hold_for_parts(SHARE - 1).unwrap();
        let refused = account.hold(LARGEST_ENTRY).await.unwrap_err().into_response();
        assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
        let read = async {
            tokio::time::sleep(WAIT / 2).await;
            drop(others);
        };
        let (held, ()) = tokio::join!(account.hold(LARGEST_ENTRY), read);
        account.keep(held.unwrap());
        assert_eq!(free(&memory), ROOM - LARGEST_ENTRY);
        drop(account);
        assert_eq!(free(&memory), ROOM);
        assert!(memory.lock().shares.is_empty());
    }

    #[tokio::test]
    async fn those_who_wait_keep_nobody_out_whose_body_fits_and_are_only_so_many() {
        let memory = Arc::<Memory>::default();
        let account = of_somebody(&memory);
        let _others = account.hold_for_parts(SHARE - LARGEST_ENTRY).unwrap();
        let byte = account.hold_for_parts(1).unwrap();
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(account.hold(LARGEST_ENTRY))).collect();
        for wait in &mut waiting {
            assert!(futures::poll!(wait).is_pending());
        }
        assert!(account.hold(LARGEST_ENTRY).now_or_never().unwrap().is_err(), "one too many");
        assert!(account.hold_for_parts(LARGEST_ENTRY - 1).is_ok());
        assert!(of_somebody(&memory).hold(LARGEST_ENTRY).now_or_never().unwrap().is_ok(), "another workspace");
        drop(waiting);
        drop(byte);
        assert!(account.hold(LARGEST_ENTRY).now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn an_answer_has_what_it_takes_of_what_its_request_held_and_more_if_there_is_more() {
        let memory = Arc::<Memory>::default();
        let size = 100 << 10;
        let answer = |size: usize| Response::new(Body::from(vec![b'x'; size]));
        for before in [0, size / 2, size, 2 * size] {
            let covered = async {
                if before > 0 {
                    hold(before).await.unwrap();
                }
                cover(answer(size))
            };
            let covered = memory.scope(covered).await;
            assert_eq!((covered.status().as_u16(), covered.body().size_hint().exact()), (200, Some(size as u64)));
            assert_eq!(ROOM - free(&memory), size, "{before}");
        }
        assert_eq!(free(&memory), ROOM);
        let others = async {
            let _others = hold_for_parts(SHARE).unwrap();
            (cover(answer(SMALL)).status(), cover(answer(SMALL + 1)).status())
        };
        let (small, large) = memory.scope(others).await;
        assert_eq!((small.as_u16(), large.as_u16()), (200, 503));
        // What has changed something is answered.
        let changed = async {
            hold_more(1).unwrap();
            let _others = hold_for_parts(SHARE - 1).unwrap();
            cover(answer(size)).status()
        };
        assert_eq!(memory.scope(changed).await, 200);
    }

    /// The connection takes the whole of a body at once, and drops the body long before it has written it.
    #[tokio::test]
    async fn an_answer_holds_its_room_until_its_client_has_read_it() {
        let memory = Arc::<Memory>::default();
        let size = 1 << 20;
        let (mut client, server) = duplex(4_096);
        let answer = memory.scope(async { cover(Response::new(Body::from(vec![b'x'; size]))) }).await;
        let answer = Mutex::new(Some(answer));
        let service = service_fn(move |_| {
            let answer = answer.lock().take().unwrap();
            async { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service));
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut read = vec![0; 2_048];
        client.read_exact(&mut read).await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(free(&memory), ROOM - size);
        client.read_to_end(&mut read).await.unwrap();
        assert!(read.len() > size);
        assert_eq!(free(&memory), ROOM);
    }
}
