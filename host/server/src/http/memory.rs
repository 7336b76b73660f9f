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

/// How often one that waits looks for room. It is in no queue, which would keep out what fits while others wait for more.
const LOOK: Duration = Duration::from_millis(20);

/// How many requests of a workspace may wait.
const WAITING: usize = 32;

/// The room there is, in bytes.
#[derive(Debug)]
pub(super) struct Memory {
    room: Arc<Semaphore>,
    /// Of those who hold something, or wait. Nobody is a workspace, too: whoever asks without a key.
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
    /// Runs what handles a request, which the functions of this module are for then.
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

    /// Of the share first: what only one workspace lacks is nothing that others miss meanwhile.
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
    /// Gives back what is more than that.
    fn shrink(&mut self, bytes: usize) {
        let more = self.of_room.num_permits().saturating_sub(bytes);
        drop((self.of_share.split(more), self.of_room.split(more)));
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
    held: RefCell<Vec<Held>>,
}

/// The request is this workspace's, from now on.
pub(super) fn charge_to(workspace: WorkspaceId) {
    // Outside of a server, in tests, there is nothing to charge.
    let _ = ACCOUNT.try_with(|account| account.workspace.set(Some(workspace)));
}

/// Has so many bytes held until the answer was sent, and waits for them. To be called while the request holds nothing yet: those that wait for more than
/// they have wait for each other.
pub(super) async fn hold(bytes: usize) -> Result<(), ApiError> {
    let held = with_account(|account| account.hold(bytes))?.await?;
    with_account(|account| account.keep(held))
}

/// The same in addition to what the request holds, without waiting.
pub(super) fn hold_more(bytes: usize) -> Result<(), ApiError> {
    let held = hold_for_parts(bytes)?;
    with_account(|account| account.keep(held))
}

/// Room for an answer that comes in parts, which keeps it itself.
pub(super) fn hold_for_parts(bytes: usize) -> Result<Held, ApiError> {
    with_account(|account| account.hold_for_parts(bytes))?
}

/// The answer, with room for it until it was written; or another one, when there is none.
pub(super) fn cover(response: Response) -> Response {
    let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
    let Some(size) = size.filter(|size| *size > SMALL) else { return response };
    let held = match with_account(|account| account.cover(size)).flatten() {
        Ok(held) => held,
        Err(error) => return error.into_response(),
    };
    let (head, body) = response.into_parts();
    // One of a known size is in memory as a whole, and one that comes in parts has no known size.
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

    /// Out of what the request held. One that holds something is answered: it may have changed something, and has asked for enough unless somebody else
    /// changed the same thing meanwhile.
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

/// The text of an answer, which holds its room until it is dropped, wherever it is then.
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
