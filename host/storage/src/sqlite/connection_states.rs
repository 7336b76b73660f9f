//! The statements about the durable states of providers.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{SqliteConnection, query, query_scalar};

use super::SqliteStorage;
use super::keys::must_be_current_key;
use super::rows::{Record, Sealed, signed, update};
use crate::{ConnectionId, ConnectionStateRecord, ConnectionStateStorage, Constraint, StorageError, WorkspaceId};

#[async_trait]
impl ConnectionStateStorage for SqliteStorage {
    async fn connection_state(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
    ) -> Result<Option<ConnectionStateRecord>, StorageError> {
        self.record(workspace, id.as_uuid()).await
    }

    // In a transaction that holds the write lock: settings, key and version must be from one
    // moment.
    async fn put_connection_state(
        &self,
        state: &ConnectionStateRecord,
        expected: Option<u64>,
    ) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        must_be_current_key(&mut transaction, state.workspace_id, &[Some(&state.sealed_state)]).await?;
        let settings: Option<i64> =
            query_scalar("SELECT settings_version FROM connections WHERE workspace_id = ? AND id = ?")
                .bind(state.workspace_id.as_uuid())
                .bind(state.connection_id.as_uuid())
                .fetch_optional(&mut *transaction)
                .await?;
        if settings != Some(signed(state.settings_version)) {
            return Err(StorageError::Conflict(Constraint::Reference));
        }
        let stored = match expected {
            None => self.add_state(&mut transaction, state).await?,
            Some(expected) => {
                let (workspace, id) = state.key();
                let update = update(state, " WHERE workspace_id = ? AND id = ? AND version = ?");
                let update = update.bind(workspace).bind(id).bind(signed(expected));
                let changed = |before: ConnectionStateRecord| before.changed_to(state);
                self.change(&mut transaction, state.key(), update, changed).await?.is_some()
            }
        };
        transaction.commit().await?;
        Ok(stored)
    }

    async fn connection_states_to_refresh(
        &self,
        now: Timestamp,
        future: Timestamp,
        limit: u32,
    ) -> Result<Vec<ConnectionStateRecord>, StorageError> {
        let due = query(
            "SELECT * FROM connection_states WHERE refresh_at IS NOT NULL AND (refresh_at <= ? OR updated_at > ?)
             ORDER BY refresh_at LIMIT ?",
        );
        self.all(due.bind(now.as_millisecond()).bind(future.as_millisecond()).bind(limit)).await
    }

    async fn put_off_refresh(
        &self,
        read: &ConnectionStateRecord,
        changed: &ConnectionStateRecord,
    ) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        let put_off = query(
            "UPDATE connection_states SET refresh_at = ?, refresh_attempts = ?, updated_at = ?
             WHERE workspace_id = ? AND id = ? AND settings_version = ? AND version = ? AND refresh_at IS ?",
        )
        .bind(changed.refresh_at.map(Timestamp::as_millisecond))
        .bind(changed.refresh_attempts)
        .bind(changed.updated_at.as_millisecond())
        .bind(read.workspace_id.as_uuid())
        .bind(read.connection_id.as_uuid())
        .bind(signed(read.settings_version))
        .bind(signed(read.version))
        .bind(read.refresh_at.map(Timestamp::as_millisecond));
        let put = |state: ConnectionStateRecord| ConnectionStateRecord {
            refresh_at: changed.refresh_at,
            refresh_attempts: changed.refresh_attempts,
            updated_at: changed.updated_at,
            ..state
        };
        let done = self.change(&mut transaction, read.key(), put_off, put).await?;
        transaction.commit().await?;
        Ok(done.is_some())
    }
}

impl SqliteStorage {
    /// Adds a state where there is none, as part of a transaction. Returns whether it did.
    pub(super) async fn add_state(
        &self,
        connection: &mut SqliteConnection,
        state: &ConnectionStateRecord,
    ) -> Result<bool, StorageError> {
        self.add(connection, state, "ON CONFLICT (id) DO NOTHING").await
    }
}

/// Removes a connection's state if it belongs to other settings than these, as part of a
/// transaction.
pub(super) async fn delete_of_other_settings(
    connection: &mut SqliteConnection,
    id: ConnectionId,
    settings_version: u64,
) -> Result<(), StorageError> {
    query("DELETE FROM connection_states WHERE id = ? AND settings_version <> ?")
        .bind(id.as_uuid())
        .bind(signed(settings_version))
        .execute(connection)
        .await?;
    Ok(())
}
