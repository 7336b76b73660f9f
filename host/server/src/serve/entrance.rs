//! A listener and its connections: which get in, and which are closed.
//!
//! **Invariants:** a new connection gets in unless every open one has a request in flight. At the
//! limit, the connections that have been idle longest are closed, and those that never presented a
//! valid key go first. A connection is also closed when the head of a request takes too long, and
//! after an idle time that is too long. None of this ends a request in flight.
//!
//! There is no limit for each address: behind a load balancer, all clients share one.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use keyway_runtime::WipingIo;
use parking_lot::Mutex;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use super::listen::{Accepted, Listener};
use super::tls::{self, Tls};
use super::unread::ReadToEnd;
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

/// What HTTP/2 without TLS begins with (RFC 9113, section 3.4), and no method of HTTP/1.
const PREFACE: &[u8] = b"PRI";

/// Changes when connections are to end: requests in flight are answered, others not read. Each open
/// connection has one.
type Ending = watch::Receiver<()>;

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

    /// Accepts connections while it is polled, and looks after them. They end when `ending` sends,
    /// and are its receivers until then.
    pub(super) async fn accept(&self, ending: &watch::Sender<()>) {
        tokio::select! {
            () = self.let_in(ending) => {}
            () = self.look_after() => {}
        }
    }

    async fn let_in(&self, ending: &watch::Sender<()>) {
        let mut warned: Option<Instant> = None;
        loop {
            match self.listener.accept().await {
                Ok(accepted) => {
                    while !self.open.has_room() {
                        sleep(PAUSE).await;
                    }
                    self.serve(accepted, ending.subscribe());
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
    fn serve(&self, accepted: Accepted, mut ending: Ending) {
        let router = self.router.clone();
        match accepted {
            Accepted::Tcp(stream, address) => {
                // Answers are written whole; waiting for more data would only delay them.
                let _ = stream.set_nodelay(true);
                slow_reader::bound(&stream);
                let peer = Peer::new(Some(address.ip()));
                let Some(tls) = &self.tls else {
                    return self.open.add(peer.clone(), async move {
                        let begun = stream.async_io(Interest::READABLE, || begins_http2(&stream));
                        let Some(http2) = unless_ended(begun, &mut ending).await else { return };
                        let stream = Impatient::new(stream, peer.clone());
                        connection(stream, http2, peer, router, ending).await;
                    });
                };
                // TLS has buffers of its own.
                let handshake = tls.accept(Impatient::new(WipingIo::new(stream), peer.clone()));
                self.open.add(peer.clone(), async move {
                    let shaken = tokio::select! {
                        shaken = handshake => shaken,
                        _ = ending.changed() => return,
                    };
                    match shaken {
                        Ok(stream) => {
                            peer.rests();
                            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                            connection(stream, http2, peer, router, ending).await;
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
                self.open.add(peer.clone(), async move {
                    let begun = stream.async_io(Interest::READABLE, || begins_http2(&stream));
                    let Some(http2) = unless_ended(begun, &mut ending).await else { return };
                    let stream = Impatient::new(stream, peer.clone());
                    connection(stream, http2, peer, router, ending).await;
                });
            }
        }
    }
}

/// What a connection without TLS begins with. `None` if it fails, or if it is to end before.
async fn unless_ended<T>(begun: impl Future<Output = io::Result<T>>, ending: &mut Ending) -> Option<T> {
    tokio::select! {
        begun = begun => begun.inspect_err(|error| tracing::debug!(%error, "connection")).ok(),
        _ = ending.changed() => None,
    }
}

/// Whether a client without TLS speaks HTTP/2. Its first bytes stay to be read.
///
/// hyper could find out by itself, but would then read the first request in two pieces: see
/// [`WipingIo`].
fn begins_http2(socket: &impl AsFd) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    let (_, seen) = recv(socket, &mut first[..], RecvFlags::PEEK)?;
    Ok(seen == first.len() && first == PREFACE)
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
async fn connection<S>(stream: S, http2: bool, peer: Arc<Peer>, router: Router, ending: Ending)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(WipingIo::new(stream));
    if http2 {
        let service = TowerToHyperService::new(router);
        let mut builder = http2::Builder::new(OfPeer(peer.clone()));
        let (of_stream, of_connection) = WINDOWS;
        builder
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(of_stream)
            .initial_connection_window_size(of_connection)
            // The table would keep API keys for as long as the connection is open.
            .header_table_size(0);
        let connection = builder.serve_connection(stream, service);
        peer.clone().scope(to_its_end(connection, ending, &peer)).await;
    } else {
        let mut builder = http1::Builder::new();
        // This module has time limits of its own. A client that closes its sending side still gets
        // its answer.
        builder.header_read_timeout(None::<Duration>).half_close(true).max_buf_size(HEAD_LIMIT);
        let of_peer = peer.clone();
        let read_to_end = move |request: Request<Incoming>| request.map(|body| ReadToEnd::new(body, of_peer.clone()));
        let service = TowerToHyperService::new(router.map_request(read_to_end));
        let connection = builder.serve_connection(stream, service);
        peer.clone().scope(to_its_end(connection, ending, &peer)).await;
    }
}

async fn to_its_end<E: std::fmt::Display>(
    connection: impl GracefulConnection<Error = E>,
    mut ending: Ending,
    peer: &Peer,
) {
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = ending.changed() => {
            peer.ends();
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
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
