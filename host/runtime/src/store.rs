//! Durable state: what a provider keeps across restarts, such as a refresh token that rotates with
//! each use.
//!
//! The embedder stores it, through one [`StateStore`] for each connection; this crate only passes
//! it on. Without a store, the answer is `unsupported`: a store that forgets when the process ends
//! would lose a refresh token, and the loss would show only at the next start.

use std::sync::{Mutex, PoisonError};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::error::{ErrorCode, ProviderError};

/// The most that one connection may keep, as the contract promises.
pub(crate) const MAX_BYTES: usize = 8 << 10;

/// The stored state of a connection. Wiped when dropped.
#[derive(Clone)]
// Clone: a store in memory returns copies of its state.
#[non_exhaustive]
pub struct StoredState {
    /// The provider's bytes. May hold secrets.
    pub data: Zeroizing<Vec<u8>>,
    /// Increases with each change.
    pub version: u64,
    /// The latest time at which the provider wants to be called, in seconds since 1970.
    pub refresh_by: Option<u64>,
}

impl StoredState {
    /// A state with its version.
    pub fn new(data: Zeroizing<Vec<u8>>, version: u64, refresh_by: Option<u64>) -> Self {
        Self { data, version, refresh_by }
    }
}

impl std::fmt::Debug for StoredState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredState").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Why durable state could not be read or stored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The state is at another version than expected.
    #[error("the stored state has changed since it was read; read it again")]
    Conflict,
    /// The connection's settings have changed since, and with them its state, or it was deleted.
    #[error("the connection was deleted, or its settings have changed; start again")]
    Outdated,
    /// The embedder gave the connection no store.
    #[error("this host keeps no durable state for this connection")]
    NotKept,
    /// The state is larger than the contract allows.
    #[error("a stored state may have {} KiB at most", MAX_BYTES >> 10)]
    TooLarge,
    /// The state cannot be opened: it was changed outside of the host, or its key is lost. The
    /// message tells a person whose state it is and what to do.
    #[error("{0}")]
    Damaged(String),
    /// The store does not answer now. The embedder logs the reason.
    #[error("the host cannot reach its store now; try again later")]
    Unavailable,
}

impl From<StoreError> for ProviderError {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Conflict | StoreError::Outdated => ErrorCode::Conflict,
            StoreError::TooLarge | StoreError::NotKept => ErrorCode::Unsupported,
            StoreError::Damaged(_) => ErrorCode::ActionRequired,
            StoreError::Unavailable => ErrorCode::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

/// The store of one connection's durable state.
#[async_trait::async_trait]
pub trait StateStore: Send + Sync {
    /// The state; `None` if nothing has been stored.
    async fn get(&self) -> Result<Option<StoredState>, StoreError>;

    /// Stores the state if the current version is `expected` (`None`: if there is no state), and
    /// returns the new, greater version. The state must be durable when this returns.
    async fn put(&self, data: &[u8], expected: Option<u64>, refresh_by: Option<u64>) -> Result<u64, StoreError>;
}

/// Keeps the state in memory, for checks before a connection is saved and for tests. The state is
/// lost when the process ends.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Option<StoredState>>);

impl MemoryStore {
    /// Removes and returns the state.
    pub fn take(&self) -> Option<StoredState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait::async_trait]
impl StateStore for MemoryStore {
    async fn get(&self) -> Result<Option<StoredState>, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn put(&self, data: &[u8], expected: Option<u64>, refresh_by: Option<u64>) -> Result<u64, StoreError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().map(|state| state.version) != expected {
            return Err(StoreError::Conflict);
        }
        let version = expected.unwrap_or(0) + 1;
        *kept = Some(StoredState::new(Zeroizing::new(data.to_vec()), version, refresh_by));
        Ok(version)
    }
}
