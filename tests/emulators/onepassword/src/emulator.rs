//! Starting and ending an emulator.
//!
//! It has its own runtime on its own thread. So it can be started from synchronous and asynchronous
//! tests alike, and never waits for the tasks of a client in the same process.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::knobs::Knobs;
use crate::random::Seed;
use crate::rules::Rules;
use crate::seed::Bulk;
use crate::world::World;
use crate::{api, control, server};

/// Options for starting an emulator.
#[derive(Clone, Debug)]
pub struct Options {
    /// The protocol's address. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// The control endpoint's address.
    pub control_listen: SocketAddr,
    /// The server that tokens name and that requests are signed for. `None`: the emulator's own
    /// address, with `http://`, for clients that support it.
    pub sign_in_address: Option<String>,
    /// Determines ids, tokens and keys: the same seed gives the same ones at each start.
    pub seed: u64,
    /// The number of logins in the vault "Bulk"; 0 for no such vault.
    pub bulk_items: usize,
    /// The number of further vaults with one login each, named "Bulk 0001" and so on.
    pub bulk_vaults: usize,
    /// The initial rules.
    pub rules: Rules,
}

impl Default for Options {
    fn default() -> Self {
        let free_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: free_port,
            control_listen: free_port,
            sign_in_address: Some("my.1password.com".to_owned()),
            seed: 1,
            bulk_items: 0,
            bulk_vaults: 0,
            rules: Rules::default(),
        }
    }
}

/// Why an emulator failed to start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is in use, or not an address of this machine.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The system cannot create a thread or a runtime.
    #[error("cannot start the emulator's threads: {0}")]
    Threads(#[from] std::io::Error),
    /// A checked-in file is malformed.
    #[error("a checked-in data file cannot be read: {0}")]
    Data(#[from] serde_json::Error),
    /// A checked-in RSA key is invalid.
    #[error("a checked-in RSA key cannot be used: {0}")]
    Rsa(#[from] rsa::Error),
    /// The catalogue names an RSA key that is not checked in.
    #[error("the catalogue names an RSA key '{0}' that is not checked in")]
    UnknownRsaKey(String),
    /// The catalogue names an account that it does not have.
    #[error("the catalogue gives access to an account '{0}' that it does not have")]
    UnknownAccount(String),
    /// The emulator's thread ended while it started.
    #[error("the emulator ended while it started")]
    Ended,
}

/// A running emulator. Dropping it stops it.
pub struct Emulator {
    knobs: Knobs,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Emulator {
    /// Starts an emulator with the default options, on free ports.
    pub fn start() -> Result<Self, StartError> {
        Self::start_with(Options::default())
    }

    /// Starts an emulator with these options.
    pub fn start_with(options: Options) -> Result<Self, StartError> {
        let (stop, stopped) = oneshot::channel();
        let (started, start) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("1password-emulator".to_owned())
            .spawn(move || run(options, &started, stopped))?;
        let (knobs, address) = start.recv().map_err(|_| StartError::Ended)??;
        Ok(Self { knobs, address, stop: Some(stop), thread: Some(thread) })
    }

    /// The protocol's URL, for example `http://127.0.0.1:40123`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.knobs.url
    }

    /// The protocol's socket address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The control endpoint's URL.
    #[must_use]
    pub fn control_url(&self) -> &str {
        &self.knobs.control_url
    }

    /// The host that its tokens name, for example `my.1password.com`. A client must send its
    /// requests for this host to the emulator instead.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.knobs.world.host
    }

    /// The knobs, as a separate handle. They work as long as the emulator runs.
    #[must_use]
    pub fn knobs(&self) -> Knobs {
        self.knobs.clone()
    }
}

impl Deref for Emulator {
    type Target = Knobs;

    fn deref(&self) -> &Knobs {
        &self.knobs
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Started = Result<(Knobs, SocketAddr), StartError>;

fn run(options: Options, started: &mpsc::Sender<Started>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("1password-emulator")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(error.into()));
            return;
        }
    };
    runtime.block_on(async {
        match prepare(options).await {
            Err(error) => {
                let _ = started.send(Err(error));
            }
            Ok((knobs, address, [protocol, control])) => {
                let world = Arc::clone(&knobs.world);
                tokio::spawn(server::serve(protocol, api::router(&world)));
                tokio::spawn(server::serve(control, control::router(knobs.clone())));
                let _ = started.send(Ok((knobs, address)));
                let _ = stopped.await;
            }
        }
    });
    runtime.shutdown_background();
}

async fn prepare(options: Options) -> Result<(Knobs, SocketAddr, [TcpListener; 2]), StartError> {
    let (protocol, address) = listen(options.listen).await?;
    let (control, control_address) = listen(options.control_listen).await?;
    let url = format!("http://{address}");
    let sign_in_address = options.sign_in_address.unwrap_or_else(|| url.clone());
    let bulk = Bulk { items: options.bulk_items, vaults: options.bulk_vaults };
    let world = World::new(sign_in_address, Seed(options.seed), bulk, options.rules)?;
    let knobs = Knobs { world: Arc::new(world), url, control_url: format!("http://{control_address}") };
    Ok((knobs, address, [protocol, control]))
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen(address, error);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
