//! Runs a provider natively: the same Rust code as in the component, without the sandbox around it.
//!
//! It serves two purposes: a provider's own tests against a server that speaks its protocol,
//! without building a component; and measuring the cost of the sandbox. So it does what a host
//! does, with the same HTTP library: a pooled client that redirects some names (plain HTTP only),
//! one session slot for any number of threads, the system's clock.
//!
//! ```no_run
//! use keyway_native_host::NativeHost;
//! use keyway_sdk::{Host, SecretProvider, Selection, Settings};
//!
//! fn resolve<P: SecretProvider>(settings: &Settings, reference: &str) -> keyway_sdk::Result<()> {
//!     let native = NativeHost::new([("my.1password.com", "127.0.0.1:9000")])?;
//!     native.call(|host: &Host<'_>| P::resolve(host, settings, reference, &Selection::ALL))?;
//!     Ok(())
//! }
//! ```
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod session;
mod transport;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use keyway_sdk::{Clock, Error, Host, Level, Log, Result, testing::MemoryStore};

pub use session::SessionSlot;
pub use transport::HttpTransport;

/// A host for one connection, shared by any number of threads.
pub struct NativeHost {
    transport: HttpTransport,
    session: SessionSlot,
    store: MemoryStore,
    clock: AdjustableClock,
}

impl NativeHost {
    /// A host that sends requests for these names to these addresses instead, in plain HTTP.
    /// Requests to any other name fail.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Other`](keyway_sdk::ErrorCode::Other) if an address is malformed, or the system
    /// cannot create a thread.
    pub fn new<'n>(connect_to: impl IntoIterator<Item = (&'n str, &'n str)>) -> Result<Self> {
        let routes = connect_to
            .into_iter()
            .map(|(name, address)| Ok((name.to_owned(), address.parse::<SocketAddr>().map_err(|_| not_an_address())?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            transport: HttpTransport::new(routes)?,
            session: SessionSlot::default(),
            store: MemoryStore::default(),
            clock: AdjustableClock::default(),
        })
    }

    /// Makes one call of the provider. As the contract says, an error ends the call's right to log
    /// in, and is returned to all calls that wait for it.
    ///
    /// # Errors
    ///
    /// The error of the call.
    pub fn call<T>(&self, call: impl FnOnce(&Host<'_>) -> Result<T>) -> Result<T> {
        let session = self.session.begin();
        let result = call(&Host {
            http: &self.transport,
            session: &session,
            store: &self.store,
            clock: &self.clock,
            log: &StandardError,
        });
        session.end(result.as_ref().err());
        result
    }

    /// The session slot.
    pub fn session(&self) -> &SessionSlot {
        &self.session
    }

    /// Moves the clock ahead of the system's by this many more seconds.
    pub fn advance_clock(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

/// The system's clock, ahead by some seconds.
#[derive(Default)]
struct AdjustableClock(AtomicU64);

impl Clock for AdjustableClock {
    fn now(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        now + self.0.load(Ordering::Relaxed)
    }

    /// Native calls have no time limit.
    fn time_left(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// The log of a native call.
struct StandardError;

impl Log for StandardError {
    fn write(&self, level: Level, message: &str) {
        eprintln!("{level:?}: {message}");
    }
}

fn not_an_address() -> Error {
    Error::other("invalid-address", "An address to connect to is not of the form 127.0.0.1:9000.")
}
