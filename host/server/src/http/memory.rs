//! The memory of request and answer bodies in flight.
//!
//! A client decides how slowly it sends and reads. Without a limit in bytes, a few thousand
//! connections with the largest bodies would hold gigabytes. Each body that is not small holds room
//! for as long as it is in memory; an answer holds it until the connection has written its whole
//! body, not only its head. All workspaces share the room, and each can hold at most a quarter of
//! it, so a workspace can block itself but no other.
//!
//! A request with a body may wait a little for room. At most [`WAITING`] requests of a workspace
//! wait at a time, so that waiting requests do not fill the server; all others are refused at once.
//! There is no queue: a body that fits is let in, even while larger ones wait.
//!
//! **Invariant:** a change has room for its answer before it begins, and is always answered. A
//! request that only reads may be refused with its answer at hand.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http_body_util::BodyExt;
use keyway::WorkspaceId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// For all bodies together, in bytes.
const ROOM: usize = 256 << 20;

/// For the bodies of one workspace: 25 of the largest possible entries.
const SHARE: usize = ROOM / 4;

/// Answers up to this size are not counted. One on each possible connection makes 64 MiB, and
/// nearly all are smaller.
const SMALL: usize = 16 << 10;

/// Requests and stored entries up to this size are not counted either: an answer made of both is
/// small.
pub(super) const FREE: usize = SMALL / 4;

/// The largest possible entry, as JSON: 2 MiB of attributes, four values of 64 KiB that clients
/// have encrypted, and the rest.
pub(super) const LARGEST_ENTRY: usize = (2 << 20) + (512 << 10);

/// How long a request may wait for room. A longer wait means that clients do not read.
const WAIT: Duration = Duration::from_secs(10);

/// How often a waiting request looks for room. A queue would keep out bodies that fit while others
/// wait for more.
const LOOK: Duration = Duration::from_millis(20);

/// How many requests of a workspace may wait.
const WAITING: usize = 32;

/// The available room, in bytes.
#[derive(Debug)]
pub(super) struct Memory {
    room: Arc<Semaphore>,
    /// The shares of workspaces that hold room or wait for it. Requests without a key share one,
    /// too.
    shares: Mutex<HashMap<Option<WorkspaceId>, Weak<Share>>>,
}

#[derive(Debug)]
struct Share {
    room: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Default for Memory {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(ROOM)), shares: Mutex::default() }
    }
}

impl Memory {
    /// Runs the handler of a request, for which the functions of this module then work.
    pub(super) async fn scope<T>(self: &Arc<Self>, handle: impl Future<Output = T>) -> T {
        ACCOUNT.scope(Account::new(self.clone()), handle).await
    }

    fn share(&self, workspace: Option<WorkspaceId>) -> Arc<Share> {
        let mut shares = self.shares.lock();
        if let Some(share) = shares.get(&workspace).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Share { room: Arc::new(Semaphore::new(SHARE)), waiting: Semaphore::new(WAITING) });
        shares.insert(workspace, Arc::downgrade(&share));
        share
    }

    /// Takes from the share first: a workspace that lacks its own share must not take room from
    /// others meanwhile.
    fn try_hold(&self, share: &Arc<Share>, bytes: usize) -> Option<Held> {
        let permits = u32::try_from(bytes).ok()?;
        let of_share = share.room.clone().try_acquire_many_owned(permits).ok()?;
        let of_room = self.room.clone().try_acquire_many_owned(permits).ok()?;
        Some(Held { _share: share.clone(), of_share, of_room })
    }

    async fn hold(&self, workspace: Option<WorkspaceId>, bytes: usize) -> Option<Held> {
        let share = self.share(workspace);
        if let Some(held) = self.try_hold(&share, bytes) {
            return Some(held);
        }
        let _waiting = share.waiting.try_acquire().ok()?;
        let fits = async {
            loop {
                tokio::time::sleep(LOOK).await;
                if let Some(held) = self.try_hold(&share, bytes) {
                    return held;
                }
            }
        };
        tokio::time::timeout(WAIT, fits).await.ok()
    }
}

/// Room for a body, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _share: Arc<Share>,
    of_share: OwnedSemaphorePermit,
    of_room: OwnedSemaphorePermit,
}

impl Held {
    /// Releases all but this many bytes.
    fn shrink(&mut self, bytes: usize) {
        let more = self.of_room.num_permits().saturating_sub(bytes);
        drop((self.of_share.split(more), self.of_room.split(more)));
    }
}

tokio::task_local! {
    /// The account of the current request. Not in the request's extensions: that costs fast
    /// requests a twentieth of their time, and they hold nothing.
    static ACCOUNT: Account;
}

/// The room that one request holds.
struct Account {
    memory: Arc<Memory>,
    /// The workspace of the request, once its key was checked.
    workspace: Cell<Option<WorkspaceId>>,
    held: RefCell<Vec<Held>>,
}

/// Charges the request to this workspace from now on.
pub(super) fn charge_to(workspace: WorkspaceId) {
    // In tests, outside of a server, there is no account.
    let _ = ACCOUNT.try_with(|account| account.workspace.set(Some(workspace)));
}

/// Waits for so many bytes, and holds them until the answer was sent. Call this only while the
/// request holds nothing: requests that hold room and wait for more would wait for each other.
pub(super) async fn hold(bytes: usize) -> Result<(), ApiError> {
    let held = with_account(|account| account.hold(bytes))?.await?;
    with_account(|account| account.keep(held))
}

/// Holds so many bytes in addition, without waiting.
pub(super) fn hold_more(bytes: usize) -> Result<(), ApiError> {
    let held = hold_for_parts(bytes)?;
    with_account(|account| account.keep(held))
}

/// Room for a streamed answer, which keeps it itself.
pub(super) fn hold_for_parts(bytes: usize) -> Result<Held, ApiError> {
    with_account(|account| account.hold_for_parts(bytes))?
}

/// Returns the answer, with room that is held until it was written; an error when there is no room.
pub(super) fn cover(response: Response) -> Response {
    let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
    let Some(size) = size.filter(|size| *size > SMALL) else { return response };
    let held = match with_account(|account| account.cover(size)).flatten() {
        Ok(held) => held,
        Err(error) => return error.into_response(),
    };
    let (head, body) = response.into_parts();
    // A body of known size is in memory as a whole; a streamed one has no known size.
    match body.collect().now_or_never() {
        Some(Ok(text)) => {
            let covered = Covered { text: text.to_bytes(), _held: held };
            Response::from_parts(head, Body::from(Bytes::from_owner(covered)))
        }
        _ => ApiError::internal("an answer of a known size that is not there").into_response(),
    }
}

fn with_account<T>(of: impl FnOnce(&Account) -> T) -> Result<T, ApiError> {
    ACCOUNT.try_with(of).map_err(|_| ApiError::internal("a request without an account of its memory"))
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
        self.held.borrow_mut().push(more);
    }

    fn hold_for_parts(&self, bytes: usize) -> Result<Held, ApiError> {
        self.memory.try_hold(&self.memory.share(self.workspace.get()), bytes).ok_or_else(ApiError::no_memory)
    }

    /// Uses the room that the request holds. A request that holds room is always answered, because
    /// it may have changed something. It has asked for enough, unless another request changed the
    /// same thing meanwhile.
    fn cover(&self, size: usize) -> Result<Vec<Held>, ApiError> {
        let mut held = self.held.take();
        if held.is_empty() {
            return Ok(vec![self.hold_for_parts(size)?]);
        }
        let mut missing = size;
        for part in &mut held {
            part.shrink(missing);
            missing -= part.of_room.num_permits();
        }
        held.extend(self.hold_for_parts(missing));
        Ok(held)
    }
}

/// The text of an answer, which holds its room until it is dropped, wherever that happens.
struct Covered {
    text: Bytes,
    _held: Vec<Held>,
}

impl AsRef<[u8]> for Covered {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

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
        memory.room.available_permits()
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
        assert!(memory.shares.lock().values().all(|share| share.strong_count() == 0));
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
        // A request that has changed something is answered.
        let changed = async {
            hold_more(1).unwrap();
            let _others = hold_for_parts(SHARE - 1).unwrap();
            cover(answer(size)).status()
        };
        assert_eq!(memory.scope(changed).await, 200);
    }

    /// The connection takes a whole body at once, and drops it long before it has written it.
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
