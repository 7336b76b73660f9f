//! Serves the HTTP API: accepts connections, bounds them, and shuts down in order.
//!
//! **Invariants:** a client that is slow to send its request is cut off, and so is one that does
//! not read its answer (`slow_reader.rs`). At most 4,096 connections are open at a time; further
//! ones wait to be accepted. Once asked to end, the server begins no request; running ones have 8
//! seconds to finish, and then the server exits. Meanwhile it still accepts connections and answers
//! their requests with 503, and `/readyz` is not ready.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use keyway::Broker;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;

use crate::http;
use crate::http::observe::Observer;
use crate::slow_reader::{self, Impatient};

/// The maximum number of open connections. Far above what the clients of one host need, far below
/// what the system lets a process open.
const CONNECTIONS: usize = 4_096;

/// How long the head of a request may take to arrive, and how long a connection may wait for its
/// next request: longer than the keep-alive of common clients and proxies (60 s).
const HEAD_TIME: Duration = Duration::from_secs(75);

/// The read buffer for the head of a request, in bytes. hyper accepts a slightly larger head, and
/// closes the connection beyond that.
const HEAD_LIMIT: usize = 64 << 10;

/// How long requests in flight may take when the server ends; shorter than the 10 s after which
/// supervisors commonly kill a process.
const GRACE: Duration = Duration::from_secs(8);

/// How long connections accepted during the shutdown may take.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The pause after a failed accept, which usually means that the process has run out of file
/// descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server that listens, and serves once it [runs](Self::run).
#[derive(Debug)]
pub struct Server {
    clients: Entrance,
    /// The operators' address, if it is a separate one.
    operators: Option<Entrance>,
    observer: Arc<Observer>,
}

/// The server cannot listen.
#[derive(Debug, Error)]
#[error("cannot listen at {address}: {source}")]
pub struct BindError {
    /// Where.
    pub address: String,
    /// Why.
    pub source: std::io::Error,
}

impl Server {
    /// Listens at `address`, written `host:port`; port 0 picks a free one.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(address: &str, broker: Broker) -> Result<Self, BindError> {
        Self::bind_with(address, None, broker).await
    }

    /// Listens at `address`, and serves the metrics only at the separate address `metrics`, if one
    /// is given. (`/healthz` and `/readyz` are at both.)
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind_with(address: &str, metrics: Option<&str>, broker: Broker) -> Result<Self, BindError> {
        let routers = http::routers(broker, metrics.is_none());
        let clients = Entrance::bind(address, routers.api).await?;
        let operators = match metrics {
            Some(metrics) => Some(Entrance::bind(metrics, routers.operations).await?),
            None => None,
        };
        Ok(Self { clients, operators, observer: routers.observer })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.clients.address
    }

    /// Where it listens, as a URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.clients.address)
    }

    /// Where the metrics are, as a URL without a path.
    pub fn metrics_url(&self) -> String {
        format!("http://{}", self.operators.as_ref().unwrap_or(&self.clients).address)
    }

    /// Serves until `end` completes, and then until the requests in flight are answered, for at
    /// most 8 seconds.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let open = GracefulShutdown::new();
        let Self { clients, operators, observer } = self;
        // Operators' connections stay open until the server exits, and are then cut off.
        let of_operators = GracefulShutdown::new();
        let look = async {
            match &operators {
                Some(entrance) => entrance.accept(&of_operators).await,
                None => std::future::pending().await,
            }
        };
        let serve = async {
            tokio::select! {
                () = clients.accept(&open) => {}
                () = end => {}
            }
            observer.ending.store(true, Ordering::Relaxed);
            tracing::info!(connections = open.count(), "ending");
            let late = GracefulShutdown::new();
            tokio::select! {
                () = clients.accept(&late) => {}
                ended = tokio::time::timeout(GRACE, open.shutdown()) => if ended.is_err() {
                    tracing::warn!("requests that did not finish within {} s are cut off", GRACE.as_secs());
                }
            }
            // Late connections are answered within microseconds.
            let _ = tokio::time::timeout(LAST_WORDS, late.shutdown()).await;
        };
        tokio::select! {
            () = serve => {}
            () = look => {}
        }
    }
}

/// A listener and its connections.
#[derive(Debug)]
struct Entrance {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    places: Arc<Semaphore>,
}

impl Entrance {
    async fn bind(address: &str, router: Router) -> Result<Self, BindError> {
        let failed = |source| BindError { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, router, places: Arc::new(Semaphore::new(CONNECTIONS)) })
    }

    /// Accepts connections while it is polled; `open` tracks the open ones.
    async fn accept(&self, open: &GracefulShutdown) {
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await;
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let connection = open.watch(connection(stream, self.router.clone()));
                    tokio::spawn(async move {
                        let _place = place;
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "connection");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

type Connection = http1::Connection<TokioIo<Impatient<TcpStream>>, TowerToHyperService<Router>>;

fn connection(stream: TcpStream, router: Router) -> Connection {
    // Answers are written whole; waiting for more data would only delay them.
    let _ = stream.set_nodelay(true);
    slow_reader::bound(&stream);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(Impatient::new(stream)), TowerToHyperService::new(router))
}

/// Completes when the process is asked to end: Ctrl-C, or SIGTERM from a supervisor. Signals count
/// from the call, not from the first poll: a caller that creates this future before it announces
/// that the server listens can be ended in order from then on.
///
/// # Panics
/// Outside of a Tokio runtime.
pub fn asked_to_end() -> impl Future<Output = ()> {
    let [interrupt, terminate] = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let asked = async |listening: std::io::Result<Signal>| match listening {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    };
    async move {
        tokio::select! {
            () = asked(interrupt) => {}
            () = asked(terminate) => {}
        }
    }
}
