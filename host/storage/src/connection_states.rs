//! The durable states of providers: at most one for each connection.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{ConnectionId, StorageError, WorkspaceId};

/// The durable state that a provider keeps for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStateRecord {
    /// Its connection.
    pub connection_id: ConnectionId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The version of the settings that it belongs to.
    pub settings_version: u64,
    /// Envelope with what the provider stored.
    pub sealed_state: Vec<u8>,
    /// Grows with each state that the provider stores; part of what the state is bound to.
    pub version: u64,
    /// When the provider is next called to renew it; `None` when it asked for no call.
    pub refresh_at: Option<Timestamp>,
    /// How many of these calls were begun since the provider stored it.
    pub refresh_attempts: u32,
    /// When it was last stored, or its renewal was last postponed.
    pub updated_at: Timestamp,
}

/// Durable states of connections. A state is created with its connection
/// ([`insert_connection`](crate::ConnectionStorage::insert_connection)). It is removed with the
/// settings that it belongs to ([`update_connection`](crate::ConnectionStorage::update_connection))
/// and with the connection.
#[async_trait]
pub trait ConnectionStateStorage: Send + Sync + 'static {
    /// The state of a connection.
    async fn connection_state(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
    ) -> Result<Option<ConnectionStateRecord>, StorageError>;

    /// Stores a state in place of the one at version `expected`; `None` expects that there is none.
    /// Returns whether it did. Fails with [`Constraint::Reference`](crate::Constraint::Reference)
    /// when the connection is gone or has other settings, and with
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm) unless the state is sealed under the
    /// workspace's current key.
    async fn put_connection_state(
        &self,
        state: &ConnectionStateRecord,
        expected: Option<u64>,
    ) -> Result<bool, StorageError>;

    /// The first `limit` states, in all workspaces, that are due for renewal by `now`, or were last
    /// changed after `future`, a moment that no correct clock has reached.
    async fn connection_states_to_refresh(
        &self,
        now: Timestamp,
        future: Timestamp,
        limit: u32,
    ) -> Result<Vec<ConnectionStateRecord>, StorageError>;

    /// Sets `refresh_at`, `refresh_attempts` and `updated_at` to those of `changed`, if the state
    /// is unchanged since `read` (its version and its renewal time). Returns whether it did; of
    /// concurrent callers, one succeeds.
    async fn put_off_refresh(
        &self,
        read: &ConnectionStateRecord,
        changed: &ConnectionStateRecord,
    ) -> Result<bool, StorageError>;
}
