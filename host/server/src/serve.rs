//! Serves the HTTP API: accepts connections, bounds them, and ends in order.
//!
//! **Invariants:** a client that is slow to send its request is cut off; no more than 4,096 connections are open at a time, further ones wait to be accepted; after
//! the wish to end no request is begun, those that run have 8 seconds to finish, and then the server is gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use keyway::Broker;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::http;

/// Connections at a time. Far above what clients of one host need, far below what the system lets a process open.
const CONNECTIONS: usize = 4_096;

/// Until the head of a request has arrived, and for how long a connection may wait for its next one: longer than the keep-alive of common clients and proxies (60 s).
const HEAD_TIME: Duration = Duration::from_secs(75);

/// What is read ahead of the head of a request; hyper lets a head be a little larger than that, and ends the connection beyond.
const HEAD_LIMIT: usize = 64 << 10;

/// For requests that are under way when the server ends; shorter than the 10 s after which supervisors commonly use force.
const GRACE: Duration = Duration::from_secs(8);

/// After a failed accept, which usually means that the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server that listens, and serves once it [runs](Self::run).
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
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
        let failed = |source| BindError { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, router: http::router(broker) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves until `end` completes, and then until the requests under way are answered, at most for 8 seconds.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let open = GracefulShutdown::new();
        let mut end = std::pin::pin!(end);
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (self.listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                next = next => next,
                () = &mut end => break,
            };
            match accepted {
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
        drop(self.listener);
        let under_way = open.count();
        tracing::info!(connections = under_way, "ending");
        if tokio::time::timeout(GRACE, open.shutdown()).await.is_err() {
            tracing::warn!("requests that did not finish within {} s are cut off", GRACE.as_secs());
        }
    }
}

type Connection = http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>>;

fn connection(stream: TcpStream, router: Router) -> Connection {
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}

/// Completes when the process is asked to end: Ctrl-C, or SIGTERM from a supervisor.
pub async fn asked_to_end() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
