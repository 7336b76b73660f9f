//! What providers keep for good: at most one state for each connection.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{ConnectionId, StorageError, WorkspaceId};

/// What a provider keeps for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStateRecord {
    /// Its connection.
    pub connection_id: ConnectionId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The version of the connection's settings that it belongs to.
    pub settings_version: u64,
    /// Envelope with what the provider stored.
    pub sealed_state: Vec<u8>,
    /// Greater with each state that the provider stored, part of what the state is bound to.
    pub version: u64,
    /// When the provider is to be called next to renew it; `None` when it asked for no such call.
    pub refresh_at: Option<Timestamp>,
    /// How many such calls were begun since the provider stored it.
    pub refresh_attempts: u32,
    /// When it was last stored, or a call to renew it was put off.
    pub updated_at: Timestamp,
}

/// Durable states of connections. A state comes with its connection
/// ([`insert_connection`](crate::ConnectionStorage::insert_connection)), goes with the settings
/// that it belongs to ([`update_connection`](crate::ConnectionStorage::update_connection)) and with
/// the connection.
#[async_trait]
pub trait ConnectionStateStorage: Send + Sync + 'static {
    /// The state of a connection.
    async fn connection_state(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
    ) -> Result<Option<ConnectionStateRecord>, StorageError>;

    /// Stores a state in place of the one at version `expected` (`None`: where there is none).
    /// Returns whether it did. [`Constraint::Reference`](crate::Constraint::Reference) when the
    /// connection is gone or has other settings;
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm) unless the state is sealed under the
    /// workspace's current key.
    async fn put_connection_state(
        &self,
        state: &ConnectionStateRecord,
        expected: Option<u64>,
    ) -> Result<bool, StorageError>;

    /// The first `limit` states of all workspaces that are to be renewed by `now`, or were last
    /// changed after `future`, which is a moment that no right clock has reached.
    async fn connection_states_to_refresh(
        &self,
        now: Timestamp,
        future: Timestamp,
        limit: u32,
    ) -> Result<Vec<ConnectionStateRecord>, StorageError>;

    /// Gives the state that is still as in `read` (its version, and when it is to be renewed) the
    /// `refresh_at`, `refresh_attempts` and `updated_at` of `changed`. Returns whether it did: of
    /// several who ask, one.
    async fn put_off_refresh(
        &self,
        read: &ConnectionStateRecord,
        changed: &ConnectionStateRecord,
    ) -> Result<bool, StorageError>;
}
