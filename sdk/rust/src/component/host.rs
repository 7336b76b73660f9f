//! The host's session and clock, as a component sees them.

use zeroize::Zeroizing;

use super::bindings::keyway::provider::session;
use super::transport::WasiTransport;
use crate::session::{Renewal, SessionState, SessionStore};
use crate::{Clock, Host, Result};

/// What a component's functions run with.
pub fn host() -> Host<'static> {
    Host { http: &WasiTransport, session: &HostSession, clock: &WallClock }
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

/// `wasi:clocks/wall-clock`.
#[derive(Debug, Clone, Copy)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> u64 {
        wasip2::clocks::wall_clock::now().seconds
    }
}
