//! A listener and its connections: which get in, and which are closed.
//!
//! **Invariants:** a new connection gets in unless every open one has a request in flight. At the
//! limit, the connections that have been idle longest are closed, and those that never presented a
//! valid key go first. A connection is also closed when the head of a request takes too long, and
//! after an idle time that is too long. None of this ends a request in flight.
//!
//! There is no limit for each address: behind a load balancer, all clients share one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::listen::{Accepted, Listener};
use super::tls::{self, Tls};
use crate::peer::{Patience, Peer};
use crate::slow_reader::{self, Impatient};

/// The read buffer for the head of a request, in bytes. hyper accepts a slightly larger head, and
/// closes the connection beyond that.
const HEAD_LIMIT: usize = 64 << 10;

/// How many requests of an HTTP/2 connection may be in flight. With the limit of connections, this
/// bounds what clients without a key can keep the server busy with.
const STREAMS: u32 = 64;

/// The windows of an HTTP/2 stream and of a connection, in bytes: what a client may send before the
/// server reads it. The first is the protocol's default (RFC 9113, section 6.9.2). These bytes are
/// not counted elsewhere.
const WINDOWS: (u32, u32) = (65_535, 256 << 10);

/// How often to look for connections whose time is over, and for a new certificate.
const LOOK: Duration = Duration::from_secs(1);

/// One in so many connections is closed at a time at the limit. Finding the idle ones means looking
/// at all of them.
const PART: usize = 64;

/// The pause when all connections have requests in flight, or no file descriptor is left.
const PAUSE: Duration = Duration::from_millis(10);

/// How often to warn that connections cannot be accepted.
const WARN: Duration = Duration::from_secs(1);

/// A listener and its connections.
#[derive(Debug)]
pub(super) struct Entrance {
    pub(super) listener: Listener,
    tls: Option<Tls>,
    router: Router,
    patience: Patience,
    open: Arc<Open>,
}

/// The open connections.
#[derive(Debug)]
struct Open {
    limit: usize,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    last: u64,
    by_number: HashMap<u64, (Arc<Peer>, AbortHandle)>,
}

impl Entrance {
    /// At most `limit` connections.
    pub(super) fn new(listener: Listener, tls: Option<Tls>, router: Router, patience: Patience, limit: usize) -> Self {
        let open = Arc::new(Open { limit, connections: Mutex::default() });
        Self { listener, tls, router, patience, open }
    }

    /// Accepts connections while it is polled, and looks after them; `ending` tracks them.
    pub(super) async fn accept(&self, ending: &GracefulShutdown) {
        tokio::select! {
            () = self.let_in(ending) => {}
            () = self.look_after() => {}
        }
    }

    async fn let_in(&self, ending: &GracefulShutdown) {
        let mut warned: Option<Instant> = None;
        loop {
            match self.listener.accept().await {
                Ok(accepted) => {
                    while !self.open.has_room() {
                        sleep(PAUSE).await;
                    }
                    self.serve(accepted, ending.watcher());
                }
                Err(error) => {
                    // Usually the process has run out of file descriptors.
                    if warned.is_none_or(|at| at.elapsed() >= WARN) {
                        warned = Some(Instant::now());
                        tracing::warn!(%error, "cannot accept connections; the ones that have been idle longest are closed");
                    }
                    self.open.close_idlest();
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn look_after(&self) {
        loop {
            sleep(LOOK).await;
            self.open.close_overdue(self.patience);
            if let Some(tls) = &self.tls {
                tls.reload().await;
            }
        }
    }

    /// Serves a connection in a task of its own.
    fn serve(&self, accepted: Accepted, ending: Watcher) {
        let router = self.router.clone();
        match accepted {
            Accepted::Tcp(stream, address) => {
                // Answers are written whole; waiting for more data would only delay them.
                let _ = stream.set_nodelay(true);
                slow_reader::bound(&stream);
                let peer = Peer::new(Some(address.ip()));
                let stream = Impatient::new(stream, peer.clone());
                let Some(tls) = &self.tls else {
                    return self.open.add(peer.clone(), connection(stream, peer, router, ending));
                };
                let handshake = tls.accept(stream);
                self.open.add(peer.clone(), async move {
                    match handshake.await {
                        Ok(stream) => {
                            peer.rests();
                            connection(stream, peer, router, ending).await;
                        }
                        // The client learns little, so the operator has to.
                        Err(error) if tls::is_about_client(&error) => {
                            tracing::info!(client = %address.ip(), %error, "a client was refused for its certificate");
                        }
                        Err(error) => tracing::debug!(%error, "TLS handshake"),
                    }
                });
            }
            Accepted::Unix(stream) => {
                let peer = Peer::new(None);
                let stream = Impatient::new(stream, peer.clone());
                self.open.add(peer.clone(), connection(stream, peer, router, ending));
            }
        }
    }
}

impl Open {
    /// Whether one more may be opened. At the limit, it first closes idle connections if there are
    /// any.
    fn has_room(&self) -> bool {
        let is_full = || self.connections.lock().by_number.len() >= self.limit;
        if is_full() {
            self.close_idlest();
        }
        !is_full()
    }

    fn add(self: &Arc<Self>, peer: Arc<Peer>, run: impl Future<Output = ()> + Send + 'static) {
        // Locked until it is there, so that a task that ends at once finds it.
        let mut connections = self.connections.lock();
        connections.last += 1;
        let registered = Registered { open: self.clone(), number: connections.last };
        let number = registered.number;
        let task = tokio::spawn(async move {
            let _registered = registered;
            run.await;
        });
        connections.by_number.insert(number, (peer, task.abort_handle()));
    }

    fn close_overdue(&self, patience: Patience) {
        let connections = self.connections.lock();
        let overdue = connections.by_number.values().filter(|(peer, _)| peer.is_overdue(patience));
        overdue.for_each(|(_, task)| task.abort());
    }

    /// Closes those that have been idle longest.
    fn close_idlest(&self) {
        let mut connections = self.connections.lock();
        let ranked = connections.by_number.iter().filter_map(|(number, (peer, _))| Some((peer.rank()?, *number)));
        let mut ranked: Vec<_> = ranked.collect();
        let part = self.limit.div_ceil(PART);
        if ranked.len() > part {
            ranked.select_nth_unstable(part);
            ranked.truncate(part);
        }
        for (_, number) in ranked {
            // Its place is free at once; the connection closes when its task next runs.
            if let Some((_, task)) = connections.by_number.remove(&number) {
                task.abort();
            }
        }
    }
}

/// An open connection, until its task ends.
struct Registered {
    open: Arc<Open>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.open.connections.lock().by_number.remove(&self.number);
    }
}

/// Serves a connection to its end.
async fn connection<S>(stream: S, peer: Arc<Peer>, router: Router, ending: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(OfPeer(peer.clone()));
    // This module has time limits of its own. A client that closes its sending side still gets its
    // answer.
    builder.http1().header_read_timeout(None::<Duration>).half_close(true).max_buf_size(HEAD_LIMIT);
    let (of_stream, of_connection) = WINDOWS;
    builder
        .http2()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(of_stream)
        .initial_connection_window_size(of_connection);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = peer.scope(ending.watch(connection)).await {
        tracing::debug!(%error, "connection");
    }
}

/// Runs the requests of an HTTP/2 connection, each in a task of its own.
#[derive(Debug, Clone)]
struct OfPeer(Arc<Peer>);

impl<F> hyper::rt::Executor<F> for OfPeer
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, run: F) {
        TokioExecutor::new().execute(self.0.clone().scope(run));
    }
}
