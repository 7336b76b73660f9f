//! Serves the HTTP API: listens, serves until it is asked to end, and shuts down in order.
//!
//! **Invariants:** a client that is slow to send its request is cut off (`entrance.rs`,
//! `http/observe.rs`), and so is one that does not read its answer (`slow_reader.rs`). At most
//! 4,096 connections are open at a time; at the limit, an idle one makes room for a new one.
//! Operators can have an address of their own, with connections of its own. Once asked to end, the
//! server begins no request; running ones have 8 seconds to finish, and then the server exits.
//! Meanwhile it still accepts connections and answers their requests with 503, and `/readyz` is not
//! ready.

mod entrance;
pub(crate) mod listen;
mod tls;
mod unread;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyway::Broker;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::ServeConfig;
use crate::http;
use crate::http::observe::Observer;
use crate::peer::Patience;
use entrance::Entrance;
pub use listen::BindError;
use listen::Listener;
use tls::Tls;
pub use tls::TlsError;

/// The maximum number of open connections. Far above what the clients of one host need; above the
/// number of requests in flight (`http/places.rs`), so that some are always idle.
const CONNECTIONS: usize = 4_096;

/// The smallest limit of open files. Without any request, a server with a few providers has about
/// thirty open.
const FILES: u64 = 64;

/// The maximum number of connections at the operators' address: a few programs read there.
const OPERATORS: usize = 64;

/// How long requests in flight may take when the server ends; shorter than the 10 s after which
/// supervisors commonly kill a process.
const GRACE: Duration = Duration::from_secs(8);

/// How long connections accepted during the shutdown may take.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A server that listens, and serves once it [runs](Self::run).
#[derive(Debug)]
pub struct Server {
    clients: Entrance,
    url: String,
    /// The operators' address.
    operators: Option<Entrance>,
    observer: Arc<Observer>,
}

impl Server {
    /// Listens at `address` as [`ServeConfig::new`] has it; port 0 picks a free one.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(address: &str, broker: Broker) -> Result<Self, BindError> {
        Self::bind_with(&ServeConfig::new(address), broker).await
    }

    /// Listens as configured.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind_with(config: &ServeConfig, broker: Broker) -> Result<Self, BindError> {
        let routers = http::routers(broker);
        let patience = Patience { head: config.head_timeout, idle: config.idle_timeout };
        let Bound { listener, tls, operators } = Bound::new(config).await?;
        let url = listener.url(tls.is_some());
        let clients = Entrance::new(listener, tls, routers.api, patience, connections());
        let operators =
            operators.map(|listener| Entrance::new(listener, None, routers.operations, patience, OPERATORS));
        Ok(Self { clients, url, operators, observer: routers.observer })
    }

    /// Finds out whether a server could listen as configured, for a caller that has to prepare one.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn check(config: &ServeConfig) -> Result<(), BindError> {
        Bound::new(config).await.map(drop)
    }

    /// Where it listens; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.clients.listener.address()
    }

    /// Where it listens: a URL without a path, or `unix:` and the path of a socket.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where health and metrics are, in the same form, if they have an address of their own.
    pub fn metrics_url(&self) -> Option<String> {
        self.operators.as_ref().map(|operators| operators.listener.url(false))
    }

    /// Serves until `end` completes, and then until the requests in flight are answered, for at
    /// most 8 seconds.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let open = watch::Sender::new(());
        let Self { clients, operators, observer, .. } = self;
        // Operators' connections stay open until the server exits, and are then cut off.
        let of_operators = watch::Sender::new(());
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
            tracing::info!(connections = open.receiver_count(), "ending");
            let late = watch::Sender::new(());
            tokio::select! {
                () = clients.accept(&late) => {}
                ended = tokio::time::timeout(GRACE, ended(&open)) => if ended.is_err() {
                    tracing::warn!("requests that did not finish within {} s are cut off", GRACE.as_secs());
                }
            }
            // Late connections are answered within microseconds.
            let _ = tokio::time::timeout(LAST_WORDS, ended(&late)).await;
        };
        tokio::select! {
            () = serve => {}
            () = look => {}
        }
    }
}

/// What a server listens with.
struct Bound {
    listener: Listener,
    tls: Option<Tls>,
    operators: Option<Listener>,
}

impl Bound {
    async fn new(config: &ServeConfig) -> Result<Self, BindError> {
        Ok(Self { tls: tls(config)?, listener: listener(config).await?, operators: operators(config).await? })
    }
}

fn tls(config: &ServeConfig) -> Result<Option<Tls>, BindError> {
    Ok(config.tls.as_ref().map(Tls::open).transpose()?)
}

/// Raises the limit of open files to what the system grants this process: each connection is one,
/// and the usual default is 1,024.
pub(crate) fn allow_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the limit of open files was not raised");
    }
}

async fn listener(config: &ServeConfig) -> Result<Listener, BindError> {
    if let Some(limit) = getrlimit(Resource::Nofile).current.filter(|limit| *limit < FILES) {
        return Err(BindError::OpenFiles { limit, least: FILES });
    }
    let listener = Listener::bind(&config.listen).await?;
    if let Some(address) = listener.address() {
        listen::check_plain(address, config.tls.is_some() || config.insecure_plain_http)?;
    }
    Ok(listener)
}

async fn operators(config: &ServeConfig) -> Result<Option<Listener>, BindError> {
    match &config.metrics_listen {
        Some(address) => Ok(Some(Listener::bind(address).await?)),
        None => Ok(None),
    }
}

/// What a server would listen with, each part tried by itself, to report all that is wrong.
pub(crate) struct Parts {
    pub(crate) certificate: Result<(), BindError>,
    pub(crate) listen: Result<(), BindError>,
    pub(crate) metrics_listen: Result<(), BindError>,
    /// Whether the two addresses are one: each can be had only without the other.
    pub(crate) is_same_address: bool,
}

impl Parts {
    /// Tries them, and keeps nothing open.
    pub(crate) async fn of(config: &ServeConfig) -> Self {
        let listener = listener(config).await;
        let beside = operators(config).await.map(drop);
        let listen = listener.map(drop);
        let alone = operators(config).await.map(drop);
        let is_same_address = beside.is_err() && alone.is_ok();
        Self { certificate: tls(config).map(drop), listen, metrics_listen: alone, is_same_address }
    }
}

/// Asks connections to end, and waits for it.
async fn ended(open: &watch::Sender<()>) {
    open.send_replace(());
    open.closed().await;
}

/// As many connections as the limit of open files lets in, with as many left for everything else.
fn connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    files.map_or(CONNECTIONS, |files| CONNECTIONS.min(files / 2))
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
