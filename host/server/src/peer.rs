//! The other end of a connection: what it does, and when it last did something.
//!
//! This decides which connections are closed (`serve/entrance.rs`), and tells a request where it
//! comes from. A request locks the mutex about five times, for nanoseconds each.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::futures::TaskLocalFuture;
use tokio::time::Instant;

tokio::task_local! {
    /// Not in the requests' extensions: looking there costs fast requests more.
    static PEER: Arc<Peer>;
}

/// The other end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    is_local: bool,
    ending: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many of its requests are in flight.
    working: usize,
    /// Whether it has ever presented a valid key.
    known: bool,
    /// Whether it multiplexes requests (HTTP/2). It then also sends frames that begin no request.
    multiplexed: bool,
    /// When it last took something of an answer, or a request of it ended.
    moved: Instant,
    /// When the head of a request began to arrive.
    head: Option<Instant>,
    /// Whether a head arrived in pieces.
    pieces: bool,
    /// How many requests were answered whose bodies it still sends, as far as is known.
    unread: usize,
}

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// From the first byte of a request to the end of its head; also for a TLS handshake.
    pub(crate) head: Duration,
    /// Between requests.
    pub(crate) idle: Duration,
}

impl Peer {
    /// `address` is `None` for a Unix socket.
    pub(crate) fn new(address: Option<IpAddr>) -> Arc<Self> {
        let state = State {
            working: 0,
            known: false,
            multiplexed: false,
            moved: Instant::now(),
            head: None,
            pieces: false,
            unread: 0,
        };
        let is_local = address.is_none_or(|address| address.to_canonical().is_loopback());
        Arc::new(Self { is_local, ending: watch::Sender::new(false), state: Mutex::new(state) })
    }

    /// Runs its connection, or a request of it.
    pub(crate) fn scope<F: Future>(self: Arc<Self>, run: F) -> TaskLocalFuture<Arc<Self>, F> {
        PEER.scope(self, run)
    }

    /// The peer of the current request; in tests without a connection there is none.
    pub(crate) fn current() -> Option<Arc<Self>> {
        PEER.try_with(Clone::clone).ok()
    }

    /// Whether it is a program on this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.is_local
    }

    /// Whether it may have several answers to read at a time.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.state.lock().multiplexed
    }

    /// Its connection is to end after the request in flight.
    pub(crate) fn ends(&self) {
        self.ending.send_replace(true);
    }

    /// Waits until its connection is to end.
    pub(crate) async fn ended(&self) {
        // It fails without a sender, and this has it.
        let _ = self.ending.subscribe().wait_for(|ends| *ends).await;
    }

    /// It has presented a valid key.
    pub(crate) fn is_known(&self) {
        self.state.lock().known = true;
    }

    /// Bytes of it have arrived.
    pub(crate) fn sent(&self) {
        let mut state = self.state.lock();
        if state.working == 0 && !state.multiplexed && state.unread == 0 {
            state.pieces |= state.head.is_some();
            state.head.get_or_insert_with(Instant::now);
        }
    }

    /// Whether the head of one of its requests arrived in pieces. hyper's buffer has then grown,
    /// and may keep what it no longer needs as long as the connection is open
    /// ([`WipingIo`](keyway_runtime::WipingIo)).
    pub(crate) fn sent_pieces(&self) -> bool {
        self.state.lock().pieces
    }

    /// It has taken bytes of an answer.
    pub(crate) fn took(&self) {
        self.state.lock().moved = Instant::now();
    }

    /// What it sends until [`has_sent_all`](Self::has_sent_all) is the body of a request that is
    /// answered, and no head.
    pub(crate) fn is_answered_early(&self) {
        self.state.lock().unread += 1;
    }

    /// The body has come. The next request may have come since.
    pub(crate) fn has_sent_all(&self) {
        let mut state = self.state.lock();
        state.unread = state.unread.saturating_sub(1);
        state.moved = Instant::now();
    }

    /// It is idle from now on.
    pub(crate) fn rests(&self) {
        let mut state = self.state.lock();
        (state.head, state.pieces, state.moved) = (None, false, Instant::now());
    }

    /// A request of it is in flight until the guard is dropped.
    pub(crate) fn work(self: Arc<Self>, multiplexed: bool) -> Working {
        let mut state = self.state.lock();
        state.working += 1;
        state.head = None;
        state.multiplexed = multiplexed;
        drop(state);
        Working(self)
    }

    /// Whether it has timed out.
    pub(crate) fn is_overdue(&self, patience: Patience) -> bool {
        let state = self.state.lock();
        state.working == 0
            && match state.head {
                Some(begun) => begun.elapsed() >= patience.head,
                None => state.moved.elapsed() >= patience.idle,
            }
    }

    /// At the limit of connections, the smallest is closed first. `None` while a request is in
    /// flight.
    pub(crate) fn rank(&self) -> Option<(bool, Instant)> {
        let state = self.state.lock();
        (state.working == 0).then_some((state.known, state.moved))
    }
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct Working(Arc<Peer>);

impl Drop for Working {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.working -= 1;
        state.moved = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { head: Duration::from_secs(30), idle: Duration::from_secs(75) };

    #[tokio::test(start_paused = true)]
    async fn a_head_has_less_time_than_a_rest_and_work_has_all_it_takes() {
        let seconds = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let peer = Peer::new(None);
        seconds(74).await;
        assert!(!peer.is_overdue(PATIENCE), "nothing was sent");
        peer.sent();
        assert!(!peer.sent_pieces());
        seconds(29).await;
        // A further byte is no further time.
        peer.sent();
        assert!(!peer.is_overdue(PATIENCE));
        seconds(1).await;
        assert!(peer.is_overdue(PATIENCE), "the head did not end");
        let working = peer.clone().work(false);
        assert!(peer.rank().is_none());
        seconds(1_000).await;
        peer.sent();
        assert!(!peer.is_overdue(PATIENCE), "a body may arrive meanwhile");
        drop(working);
        assert!(peer.sent_pieces());
        seconds(60).await;
        peer.took();
        seconds(74).await;
        assert!(!peer.is_overdue(PATIENCE), "it reads its answer");
        seconds(1).await;
        assert!(peer.is_overdue(PATIENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_between_requests_begin_no_head() {
        let peer = Peer::new(None);
        drop(peer.clone().work(true));
        peer.sent();
        tokio::time::advance(PATIENCE.head).await;
        assert!(!peer.is_overdue(PATIENCE));
        tokio::time::advance(PATIENCE.idle).await;
        assert!(peer.is_overdue(PATIENCE));
    }

    #[tokio::test]
    async fn everything_that_waits_for_the_end_is_told() {
        let peer = Peer::new(None);
        let waiting = [peer.ended(), peer.ended()];
        peer.ends();
        let all = futures::future::join_all(waiting.into_iter().chain([peer.ended()]));
        tokio::time::timeout(Duration::from_secs(5), all).await.unwrap();
    }

    #[test]
    fn this_machine_has_several_addresses() {
        let is_local = |address: &str| Peer::new(Some(address.parse().unwrap())).is_local();
        assert!(is_local("127.0.0.1") && is_local("::ffff:127.0.0.1") && is_local("::1") && !is_local("192.0.2.1"));
    }
}
