//! Durable state: what a provider keeps across restarts, such as a refresh token that rotates with
//! each use.
//!
//! ```
//! use keyway_sdk::testing::TestHost;
//! use keyway_sdk::{Error, ErrorCode, Host, Result};
//!
//! fn access_token(host: &Host<'_>, exchange: impl Fn(&[u8]) -> Result<Vec<u8>>) -> Result<()> {
//!     let stored = host.store.get()?;
//!     let (token, version) = match &stored {
//!         Some(state) => (state.data.as_slice(), Some(state.version)),
//!         None => (b"the first token, from a setting".as_slice(), None),
//!     };
//!     let next = exchange(token)?;
//!     host.store.put(&next, version, Some(host.clock.now() + 86_400)).map(drop)
//! }
//!
//! let sandbox = TestHost::new(|_| unreachable!());
//! access_token(&sandbox.host(), |_| Ok(b"second".to_vec())).unwrap();
//! let conflict = sandbox.store.put(b"lost", None, None).unwrap_err();
//! assert_eq!(conflict.code, ErrorCode::Conflict);
//! # use keyway_sdk::store::StateStore;
//! ```

use zeroize::Zeroizing;

use crate::Result;

/// The most that one connection may store, in bytes.
pub const MAX_BYTES: usize = 8 << 10;

/// The stored state.
#[derive(Clone)]
// Clone: a store in memory returns copies of its state.
pub struct StoredState {
    /// Exactly the bytes that were put. Wiped when dropped.
    pub data: Zeroizing<Vec<u8>>,
    /// Increases with each `put`.
    pub version: u64,
}

/// The durable state of a connection: one slot of opaque bytes, encrypted in the host's database.
/// It is dropped when the connection's settings change.
pub trait StateStore {
    /// The state; `None` if there was no `put` yet.
    fn get(&self) -> Result<Option<StoredState>>;

    /// Stores the state if the current version is `expected` (`None`: if there is no state), and
    /// returns the new version. When this returns, the state survives a crash of the host. Another
    /// version is [`ErrorCode::Conflict`](crate::ErrorCode::Conflict); more than [`MAX_BYTES`] are
    /// [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported).
    ///
    /// `refresh_by`: the latest time, in seconds since 1970, at which the host calls
    /// [`Refresh`](crate::Refresh) unless another call has stored a state by then.
    fn put(&self, data: &[u8], expected: Option<u64>, refresh_by: Option<u64>) -> Result<u64>;
}
