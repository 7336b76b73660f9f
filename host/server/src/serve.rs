//! Serves the HTTP API: accepts connections, bounds them, and ends in order.
//!
//! **Invariants:** a client that is slow to send its request is cut off, and so is one that does not read its answer (`slow_reader.rs`); no more than 4,096 connections are open at a time, further ones wait to be accepted; after
//! the wish to end no request is begun, those that run have 8 seconds to finish, and then the server is gone. As long as they run, whoever comes is told
//! so (503) instead of being left in front of a closed door, and `/readyz` is not ready.

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

/// Connections at a time. Far above what clients of one host need, far below what the system lets a process open.
const CONNECTIONS: usize = 4_096;

/// Until the head of a request has arrived, and for how long a connection may wait for its next one: longer than the keep-alive of common clients and proxies (60 s).
const HEAD_TIME: Duration = Duration::from_secs(75);

/// What is read ahead of the head of a request; hyper lets a head be a little larger than that, and ends the connection beyond.
const HEAD_LIMIT: usize = 64 << 10;

/// For requests that are under way when the server ends; shorter than the 10 s after which supervisors commonly use force.
const GRACE: Duration = Duration::from_secs(8);

/// For those who came while it ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// After a failed accept, which usually means that the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server that listens, and serves once it [runs](Self::run).
#[derive(Debug)]
pub struct Server {
    clients: Entrance,
    /// Where operators look, if that is a place of its own.
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
    /// Listens at `address`, written `host:port`; port 0 is any free one.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(address: &str, broker: Broker) -> Result<Self, BindError> {
        Self::bind_with(address, None, broker).await
    }

    /// Listens at `address`, and at `metrics` for those who read the metrics, which are then nowhere else. (`/healthz` and
    /// `/readyz` are at both.)
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

    /// Serves until `end` completes, and then until the requests under way are answered, at most for 8 seconds.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let open = GracefulShutdown::new();
        let Self { clients, operators, observer } = self;
        // Cut off with the server: they may look until its end.
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
            // They were told in microseconds that it is over.
            let _ = tokio::time::timeout(LAST_WORDS, late.shutdown()).await;
        };
        tokio::select! {
            () = serve => {}
            () = look => {}
        }
    }
}

/// Where connections come in.
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

    /// Accepts connections for as long as it is polled; those that are open are in `open`.
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
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    slow_reader::bound(&stream);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(Impatient::new(stream)), TowerToHyperService::new(router))
}

/// Completes when the process is asked to end: Ctrl-C, or SIGTERM from a supervisor. It counts from the call, not from when it is first waited
/// for: whoever calls it before saying that the server listens can be ended properly from then on.
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
