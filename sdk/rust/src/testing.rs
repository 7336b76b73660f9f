//! A replacement of the sandbox for native unit tests: scripted answers, a session slot in memory,
//! a clock that stands still.
//!
//! ```
//! use keyway_sdk::http::Response;
//! use keyway_sdk::testing::{TestHost, json_response};
//!
//! let sandbox = TestHost::new(|request| match request.url.path() {
//!     "/me" => Ok(json_response(200, r#"{"name":"Ada"}"#)),
//!     _ => Ok(Response { status: 404, ..Response::default() }),
//! });
//! let answer = sandbox.host().client("https://vault.example.com".parse().unwrap()).get("me").send()?;
//! assert_eq!(answer.status(), 200);
//! assert_eq!(sandbox.http.requests().len(), 1);
//! # Ok::<(), keyway_sdk::Error>(())
//! ```

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::http::{Headers, HttpError, Request, Response, Transport};
use crate::session::{Renewal, SessionState, SessionStore};
use crate::store::{MAX_BYTES, StateStore, StoredState};
use crate::{Clock, Error, Host, Level, Log, Result};

/// All parts of a [`Host`].
pub struct TestHost {
    /// The way out.
    pub http: FakeTransport,
    /// The session slot.
    pub session: MemorySession,
    /// The durable state.
    pub store: MemoryStore,
    /// The clock.
    pub clock: FixedClock,
    /// The log.
    pub log: MemoryLog,
}

impl TestHost {
    /// A host whose requests are answered by a function. Its clock shows 1,700,000,000.
    pub fn new(answer: impl FnMut(&Request) -> std::result::Result<Response, HttpError> + 'static) -> Self {
        Self {
            http: FakeTransport::new(answer),
            session: MemorySession::default(),
            store: MemoryStore::default(),
            log: MemoryLog::default(),
            clock: FixedClock::new(1_700_000_000),
        }
    }

    /// The host to pass to a provider's functions.
    pub fn host(&self) -> Host<'_> {
        Host { http: &self.http, session: &self.session, store: &self.store, clock: &self.clock, log: &self.log }
    }
}

type AnswerFn = dyn FnMut(&Request) -> std::result::Result<Response, HttpError>;

/// A transport that answers from a function or a script, and records the requests.
pub struct FakeTransport {
    answer: RefCell<Box<AnswerFn>>,
    requests: RefCell<Vec<Request>>,
}

impl FakeTransport {
    /// Answers with a function.
    pub fn new(answer: impl FnMut(&Request) -> std::result::Result<Response, HttpError> + 'static) -> Self {
        Self { answer: RefCell::new(Box::new(answer)), requests: RefCell::default() }
    }

    /// Answers with these in turn; a request beyond them fails.
    pub fn scripted(answers: impl IntoIterator<Item = std::result::Result<Response, HttpError>>) -> Self {
        let mut answers: VecDeque<_> = answers.into_iter().collect();
        Self::new(move |_| {
            answers.pop_front().unwrap_or_else(|| Err(HttpError::Other("the script has no further answer".into())))
        })
    }

    /// The requests sent so far. Drop the borrow before the next request is sent.
    pub fn requests(&self) -> Ref<'_, [Request]> {
        Ref::map(self.requests.borrow(), Vec::as_slice)
    }
}

impl Transport for FakeTransport {
    fn send(&self, request: Request) -> std::result::Result<Response, HttpError> {
        let answer = (self.answer.borrow_mut())(&request);
        self.requests.borrow_mut().push(request);
        answer
    }
}

/// An answer with a JSON body.
pub fn json_response(status: u16, body: impl Into<Vec<u8>>) -> Response {
    Response {
        status,
        headers: Headers::new().with("content-type", "application/json"),
        body: Zeroizing::new(body.into()),
    }
}

/// Durable state in memory, usable from any number of threads.
#[derive(Default)]
pub struct MemoryStore(Mutex<Option<(StoredState, Option<u64>)>>);

impl MemoryStore {
    /// The latest time at which the provider wants to be called.
    pub fn refresh_by(&self) -> Option<u64> {
        self.kept().as_ref().and_then(|(_, refresh_by)| *refresh_by)
    }

    fn kept(&self) -> MutexGuard<'_, Option<(StoredState, Option<u64>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for MemoryStore {
    fn get(&self) -> Result<Option<StoredState>> {
        Ok(self.kept().as_ref().map(|(state, _)| state.clone()))
    }

    fn put(&self, data: &[u8], expected: Option<u64>, refresh_by: Option<u64>) -> Result<u64> {
        if data.len() > MAX_BYTES {
            return Err(Error::unsupported("A stored state may be at most 8 KiB."));
        }
        let mut kept = self.kept();
        if kept.as_ref().map(|(state, _)| state.version) != expected {
            return Err(Error::conflict("The stored state has changed since it was read. Read it again."));
        }
        let version = expected.unwrap_or(0) + 1;
        *kept = Some((StoredState { data: Zeroizing::new(data.to_vec()), version }, refresh_by));
        Ok(version)
    }
}

/// Keeps the lines of the log.
#[derive(Debug, Default)]
pub struct MemoryLog(RefCell<Vec<(Level, String)>>);

impl MemoryLog {
    /// The lines logged so far.
    pub fn lines(&self) -> Vec<(Level, String)> {
        self.0.borrow().clone()
    }
}

impl Log for MemoryLog {
    fn write(&self, level: Level, message: &str) {
        self.0.borrow_mut().push((level, message.to_owned()));
    }
}

/// A session slot that follows the contract for one call at a time. Nothing expires.
#[derive(Debug, Default)]
pub struct MemorySession {
    state: RefCell<Option<(Zeroizing<Vec<u8>>, u32)>>,
    generation: Cell<u64>,
    renewing: Cell<bool>,
    granted: Cell<u32>,
    counter: Cell<u64>,
}

impl MemorySession {
    /// Drops the state, as a host may at any time.
    pub fn clear(&self) {
        self.state.take();
    }

    /// How often a login was granted.
    pub fn logins(&self) -> u32 {
        self.granted.get()
    }

    /// The lifetime of the current state in seconds; `None` if there is none.
    pub fn ttl_seconds(&self) -> Option<u32> {
        self.state.borrow().as_ref().map(|(_, ttl_seconds)| *ttl_seconds)
    }
}

impl SessionStore for MemorySession {
    fn get(&self) -> Option<SessionState> {
        let state = self.state.borrow();
        state.as_ref().map(|(data, _)| SessionState { data: data.clone(), generation: self.generation.get() })
    }

    fn put(&self, data: &[u8], ttl_seconds: u32) -> Result<u64> {
        // The contract's 256 KiB.
        if data.len() > 256 * 1024 {
            return Err(Error::unsupported("A session may be at most 256 KiB."));
        }
        self.renewing.set(false);
        self.generation.set(self.generation.get() + 1);
        self.state.replace((ttl_seconds > 0).then(|| (Zeroizing::new(data.to_vec()), ttl_seconds)));
        Ok(self.generation.get())
    }

    fn renew(&self, refused: Option<u64>) -> Result<Renewal> {
        match self.get() {
            Some(state) if refused.is_none_or(|refused| refused < state.generation) => Ok(Renewal::Renewed(state)),
            _ => {
                if !self.renewing.replace(true) {
                    self.granted.set(self.granted.get() + 1);
                }
                Ok(Renewal::Granted)
            }
        }
    }

    fn counter(&self) -> u64 {
        self.counter.set(self.counter.get() + 1);
        self.counter.get()
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct FixedClock(Cell<u64>);

impl FixedClock {
    /// A clock that shows this time, in seconds since 1970.
    pub fn new(unix_seconds: u64) -> Self {
        Self(Cell::new(unix_seconds))
    }

    /// Sets the clock.
    pub fn set(&self, unix_seconds: u64) {
        self.0.set(unix_seconds);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> u64 {
        self.0.get()
    }

    /// The time that a call has by default.
    fn time_left(&self) -> Duration {
        Duration::from_secs(30)
    }
}
