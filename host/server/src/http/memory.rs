//! The memory of request and answer bodies in flight.
//!
//! A client decides how slowly it sends and reads. Without a limit in bytes, a few thousand
//! connections with the largest bodies would hold gigabytes. Each body that is not small holds room
//! for as long as it is in memory; an answer holds it until the connection has written its whole
//! body, not only its head. Workspaces share the room ([`Shares`]).
//!
//! A request with a body may wait a little for room. There is no queue: a body that fits is let in,
//! even while larger ones wait. Waiting requests hold a place (`places.rs`), which bounds their
//! number.
//!
//! **Invariant:** a change has room for its answer before it begins, and is always answered. A
//! request that only reads may be refused with its answer at hand.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http_body_util::BodyExt;
use keyway::WorkspaceId;
use keyway::budgets::{Share, Shares};

use super::error::ApiError;
use super::places::{Place, Places};
use crate::peer::Peer;

/// For all bodies together, in bytes.
const ROOM: usize = 256 << 20;

/// Answers up to this size are not counted. One on each possible connection makes 64 MiB, and
/// nearly all are smaller. (Those of HTTP/2 connections are bounded by their places.)
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

/// What requests hold: room for their bodies, in bytes, and places.
#[derive(Debug)]
pub(super) struct Memory {
    /// Requests without a key share one share.
    room: Arc<Shares<Option<WorkspaceId>>>,
    places: Places,
}

/// Room for a body, until it is dropped.
pub(super) type Held = Share<Option<WorkspaceId>>;

impl Default for Memory {
    fn default() -> Self {
        Self { room: Shares::new(ROOM), places: Places::default() }
    }
}

impl Memory {
    /// Runs the handler of a request, for which the functions of this module then work.
    pub(super) async fn scope<T>(self: &Arc<Self>, handle: impl Future<Output = T>) -> T {
        ACCOUNT.scope(Account::new(self.clone()), handle).await
    }

    async fn hold(&self, workspace: Option<WorkspaceId>, bytes: usize) -> Option<Held> {
        let fits = async {
            loop {
                match self.room.take(workspace, bytes) {
                    Some(held) => return held,
                    None => tokio::time::sleep(LOOK).await,
                }
            }
        };
        tokio::time::timeout(WAIT, fits).await.ok()
    }
}

tokio::task_local! {
    /// The account of the current request. Not in the request's extensions: that costs fast
    /// requests a twentieth of their time, and they hold nothing.
    static ACCOUNT: Account;
}

/// What one request holds.
struct Account {
    memory: Arc<Memory>,
    /// The workspace of the request, once its key was checked.
    workspace: Cell<Option<WorkspaceId>>,
    place: RefCell<Option<Place>>,
    held: RefCell<Vec<Held>>,
}

/// Charges the request to this workspace from now on, and gives it a place.
pub(super) fn charge_to(workspace: WorkspaceId) -> Result<(), ApiError> {
    // In tests, outside of a server, there is no account.
    let charge = |account: &Account| {
        account.workspace.set(Some(workspace));
        account.move_to(Places::work)
    };
    ACCOUNT.try_with(charge).unwrap_or(Ok(()))
}

/// Waits for a body that is not all there yet, in a place of its own kind.
pub(super) async fn arrive<T>(body: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    with_account(|account| account.move_to(Places::arrive))??;
    let arrived = body.await?;
    with_account(|account| account.move_to(Places::work))??;
    Ok(arrived)
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
    let Some(size) = size else { return response };
    // An HTTP/2 connection may have many unread answers, so each keeps its place.
    let keeps_place = Peer::current().is_some_and(|peer| peer.is_multiplexed());
    if size <= SMALL && !keeps_place {
        return response;
    }
    let held = match with_account(|account| account.cover(size)).flatten() {
        Ok(held) => held,
        Err(error) => return error.into_response(),
    };
    let place = with_account(|account| account.place.take()).ok().flatten().filter(|_| keeps_place);
    let (head, body) = response.into_parts();
    // A body of known size is in memory as a whole; a streamed one has no known size.
    match body.collect().now_or_never() {
        Some(Ok(text)) => {
            let covered = Covered { text: text.to_bytes(), _held: held, _place: place };
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
        Self { memory, workspace: Cell::default(), place: RefCell::default(), held: RefCell::default() }
    }

    /// Leaves its place for another one. A request without a key has none.
    fn move_to(&self, take: fn(&Places, WorkspaceId) -> Result<Place, ApiError>) -> Result<(), ApiError> {
        self.place.take();
        let place = self.workspace.get().map(|workspace| take(&self.memory.places, workspace)).transpose()?;
        *self.place.borrow_mut() = place;
        Ok(())
    }

    fn hold(&self, bytes: usize) -> impl Future<Output = Result<Held, ApiError>> + use<> {
        let (memory, workspace) = (self.memory.clone(), self.workspace.get());
        async move { memory.hold(workspace, bytes).await.ok_or_else(ApiError::no_memory) }
    }

    fn keep(&self, more: Held) {
        self.held.borrow_mut().push(more);
    }

    fn hold_for_parts(&self, bytes: usize) -> Result<Held, ApiError> {
        self.memory.room.take(self.workspace.get(), bytes).ok_or_else(ApiError::no_memory)
    }

    /// Uses the room that the request holds. A request that holds room is always answered, because
    /// it may have changed something. It has asked for enough, unless another request changed the
    /// same thing meanwhile.
    fn cover(&self, size: usize) -> Result<Vec<Held>, ApiError> {
        if size <= SMALL {
            return Ok(Vec::new());
        }
        let mut held = self.held.take();
        if held.is_empty() {
            return Ok(vec![self.hold_for_parts(size)?]);
        }
        let mut missing = size;
        for part in &mut held {
            part.shrink(missing);
            missing -= part.amount();
        }
        held.extend(self.hold_for_parts(missing));
        Ok(held)
    }
}

/// The text of an answer, which holds its room until it is dropped, wherever that happens.
struct Covered {
    text: Bytes,
    _held: Vec<Held>,
    _place: Option<Place>,
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

    use parking_lot::Mutex;

    use super::*;

    /// What a workspace can hold while the others hold nothing.
    const SHARE: usize = ROOM / 2;

    fn of_somebody(memory: &Arc<Memory>) -> Account {
        let account = Account::new(memory.clone());
        account.workspace.set(Some(uuid::Uuid::now_v7().to_string().parse().unwrap()));
        account
    }

    fn free(memory: &Memory) -> usize {
        memory.room.free()
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
    }

    #[tokio::test]
    async fn waiting_requests_keep_out_no_body_that_fits() {
        let memory = Arc::<Memory>::default();
        let account = of_somebody(&memory);
        let others = account.hold_for_parts(SHARE - LARGEST_ENTRY + 1).unwrap();
        let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(account.hold(LARGEST_ENTRY))).collect();
        for wait in &mut waiting {
            assert!(futures::poll!(wait).is_pending());
        }
        assert!(account.hold_for_parts(LARGEST_ENTRY - 1).is_ok());
        assert!(of_somebody(&memory).hold(LARGEST_ENTRY).now_or_never().unwrap().is_ok(), "another workspace");
        drop(waiting);
        drop(others);
        assert!(account.hold(LARGEST_ENTRY).now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_body_that_arrives_has_no_place_of_those_that_are_worked_on() {
        let memory = Arc::<Memory>::default();
        let workspace = uuid::Uuid::now_v7().to_string().parse().unwrap();
        let work =
            |memory: &Arc<Memory>| std::iter::from_fn(|| memory.places.work(workspace).ok()).collect::<Vec<_>>().len();
        let all = work(&memory);
        let request = async {
            charge_to(workspace).unwrap();
            let working = work(&memory);
            let arriving = arrive(async { Ok(work(&memory)) }).await.unwrap();
            (working, arriving, work(&memory))
        };
        assert_eq!(memory.scope(request).await, (all - 1, all, all - 1));
        assert_eq!(work(&memory), all);
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
