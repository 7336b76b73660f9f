//! Durable state: what a provider keeps for good, such as a refresh token that rotates with each
//! use.
//!
//! The embedder says where it is kept, one [`StateStore`] for each connection; this crate only
//! passes it on. A connection without one answers `unsupported`: a store that forgets at the end of
//! the process would lose a refresh token, and nobody would know before the next start.

use std::sync::{Mutex, PoisonError};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::error::{ErrorCode, ProviderError};

/// The most that one connection may keep, as the contract promises.
pub(crate) const MAX_BYTES: usize = 8 << 10;

/// What is kept for a connection. Wiped when dropped.
#[derive(Clone)]
// Clone: a store in memory gives out what it keeps.
#[non_exhaustive]
pub struct StoredState {
    /// The provider's bytes. May hold secrets.
    pub data: Zeroizing<Vec<u8>>,
    /// Greater with each change.
    pub version: u64,
    /// When the provider wants to be called at the latest, in seconds since 1970.
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
    /// It is at another version than expected.
    #[error("the stored state was changed meanwhile; read it again")]
    Conflict,
    /// The connection has other settings by now, whose state is another one, or was deleted.
    #[error("the connection's settings were changed meanwhile, or it was deleted; begin anew")]
    Outdated,
    /// The embedder gave the connection no store.
    #[error("this host keeps no durable state for this connection")]
    NotKept,
    /// More than the contract allows.
    #[error("a stored state may have {} KiB at most", MAX_BYTES >> 10)]
    TooLarge,
    /// It cannot be opened: it was changed outside of the host, or its key is gone. With a message
    /// for a person, which says whose state it is and what to do.
    #[error("{0}")]
    Damaged(String),
    /// The store does not answer now. The reason is the embedder's to log.
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

/// Where the durable state of one connection is kept.
#[async_trait::async_trait]
pub trait StateStore: Send + Sync {
    /// The state; `None` when nothing was stored yet.
    async fn get(&self) -> Result<Option<StoredState>, StoreError>;

    /// Stores the state if the present one is at version `expected` (`None`: if there is none), and
    /// returns the new version, which is greater. It must be safe when this returns.
    async fn put(&self, data: &[u8], expected: Option<u64>, refresh_by: Option<u64>) -> Result<u64, StoreError>;
}

/// Keeps the state in memory: for checks before a connection is saved, and for tests. It forgets at
/// the end of the process.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Option<StoredState>>);

impl MemoryStore {
    /// Takes what is kept out of it.
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
