//! What the host offers to a component.

use std::time::Duration;

use zeroize::Zeroizing;

use super::bindings::keyway::provider::{call_context, durable_state, host_log, session};
use super::transport::WasiTransport;
use crate::session::{Renewal, SessionState, SessionStore};
use crate::store::{StateStore, StoredState};
use crate::{Clock, Host, Level, Log, Result};

/// The [`Host`] that a component's functions receive.
pub fn host() -> Host<'static> {
    Host { http: &WasiTransport, session: &HostSession, store: &HostStore, clock: &HostClock, log: &HostLog }
}

/// `keyway:provider/session`.
#[derive(Debug, Clone, Copy)]
pub struct HostSession;

impl SessionStore for HostSession {
    fn get(&self) -> Option<SessionState> {
        session::get().map(Into::into)
    }

    fn put(&self, data: &[u8], ttl_seconds: u32) -> Result<u64> {
        Ok(session::put(data, ttl_seconds)?)
    }

    fn renew(&self, refused: Option<u64>) -> Result<Renewal> {
        Ok(match session::renew(refused)? {
            session::Renewal::Granted => Renewal::Granted,
            session::Renewal::Renewed(state) => Renewal::Renewed(state.into()),
        })
    }

    fn counter(&self) -> u64 {
        session::counter()
    }
}

impl From<session::State> for SessionState {
    fn from(state: session::State) -> Self {
        Self { data: Zeroizing::new(state.data), generation: state.generation }
    }
}

/// `keyway:provider/durable-state`.
#[derive(Debug, Clone, Copy)]
pub struct HostStore;

impl StateStore for HostStore {
    fn get(&self) -> Result<Option<StoredState>> {
        let state = durable_state::get()?;
        Ok(state.map(|state| StoredState { data: Zeroizing::new(state.data), version: state.version }))
    }

    fn put(&self, data: &[u8], expected: Option<u64>, refresh_by: Option<u64>) -> Result<u64> {
        Ok(durable_state::put(data, expected, refresh_by)?)
    }
}

/// `wasi:clocks/wall-clock`, and the remaining time from `keyway:provider/call-context`.
#[derive(Debug, Clone, Copy)]
pub struct HostClock;

impl Clock for HostClock {
    fn now(&self) -> u64 {
        wasip2::clocks::wall_clock::now().seconds
    }

    fn time_left(&self) -> Duration {
        Duration::from_millis(call_context::remaining_milliseconds().into())
    }
}

/// `keyway:provider/host-log`.
#[derive(Debug, Clone, Copy)]
pub struct HostLog;

impl Log for HostLog {
    fn write(&self, level: Level, message: &str) {
        let level = match level {
            Level::Error => host_log::Level::Error,
            Level::Warn => host_log::Level::Warn,
            Level::Info => host_log::Level::Info,
            Level::Debug => host_log::Level::Debug,
        };
        host_log::log(level, message);
    }
}
