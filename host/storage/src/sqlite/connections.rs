//! The statements about connections and the entries bound to them.

use async_trait::async_trait;
use sqlx::{Row, SqliteConnection, query, query_scalar};
use uuid::Uuid;

use super::SqliteStorage;
use super::connection_states::delete_of_other_settings;
use super::keys::must_be_current_key;
use super::rows::{Record, Sealed, signed, update};
use crate::{
    ConnectionId, ConnectionRecord, ConnectionStateRecord, ConnectionStorage, DependentEntries, DependentEntry,
    EntryRecord, ItemId, RotationRecord, StorageError, WorkspaceId, account_id,
};

#[async_trait]
impl ConnectionStorage for SqliteStorage {
    // Settings are always written in a transaction that holds the write lock, so that the key they
    // are sealed under stays the current one.
    async fn insert_connection(
        &self,
        connection: &ConnectionRecord,
        state: Option<&ConnectionStateRecord>,
    ) -> Result<(), StorageError> {
        let mut transaction = self.write().await?;
        let sealed = [Some(&*connection.sealed_settings), state.map(|state| &*state.sealed_state)];
        must_be_current_key(&mut transaction, connection.workspace_id, &sealed).await?;
        self.add(&mut transaction, connection, "").await?;
        if let Some(state) = state {
            self.add_state(&mut transaction, state).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn update_connection(
        &self,
        connection: &ConnectionRecord,
        expected: u64,
        clear_cached_secrets: bool,
        state: Option<&ConnectionStateRecord>,
    ) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        let sealed = [Some(&*connection.sealed_settings), state.map(|state| &*state.sealed_state)];
        must_be_current_key(&mut transaction, connection.workspace_id, &sealed).await?;
        let rest = ", cache_generation = cache_generation + ? WHERE workspace_id = ? AND id = ? AND version = ?";
        let (workspace, id) = connection.key();
        let update = update(connection, rest).bind(clear_cached_secrets);
        let update = update.bind(workspace).bind(id).bind(signed(expected));
        let meant = |before: ConnectionRecord| {
            let mut after = before.changed_to(connection);
            after.cache_generation += u64::from(clear_cached_secrets);
            after
        };
        if self.change(&mut transaction, connection.key(), update, meant).await?.is_none() {
            return Ok(false);
        }
        self.name_account_of_rotations(&mut transaction, connection).await?;
        delete_of_other_settings(&mut transaction, connection.id, connection.settings_version).await?;
        if let Some(state) = state {
            self.add_state(&mut transaction, state).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn clear_cached_secrets(&self, workspace: WorkspaceId, id: ConnectionId) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        let sql = "UPDATE connections SET cache_generation = cache_generation + 1 WHERE workspace_id = ? AND id = ?";
        let key = (workspace.as_uuid(), id.as_uuid());
        let clear = query(sql).bind(key.0).bind(key.1);
        let cleared = self.change(&mut transaction, key, clear, |connection: ConnectionRecord| ConnectionRecord {
            cache_generation: connection.cache_generation + 1,
            ..connection
        });
        let cleared = cleared.await?;
        transaction.commit().await?;
        Ok(cleared.is_some())
    }

    async fn connection(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
    ) -> Result<Option<ConnectionRecord>, StorageError> {
        self.record(workspace, id.as_uuid()).await
    }

    async fn connections(&self, workspace: WorkspaceId) -> Result<Vec<ConnectionRecord>, StorageError> {
        self.records_of(workspace).await
    }

    async fn provider_types(&self) -> Result<Vec<String>, StorageError> {
        let sql = "SELECT DISTINCT provider_type FROM connections ORDER BY provider_type";
        let rows = query(sql).fetch_all(&self.readers).await?;
        // One that cannot be read costs its connection only.
        Ok(rows.iter().filter_map(|row| row.try_get(0).ok()).collect())
    }

    async fn delete_connection(&self, workspace: WorkspaceId, id: ConnectionId) -> Result<bool, StorageError> {
        let done = query("DELETE FROM connections WHERE workspace_id = ? AND id = ?")
            .bind(workspace.as_uuid())
            .bind(id.as_uuid())
            .execute(self.writer()?)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn entries_of_connection(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
        limit: u32,
    ) -> Result<DependentEntries, StorageError> {
        let total = query_scalar("SELECT count(*) FROM vault_entries WHERE workspace_id = ? AND connection_id = ?");
        let total: i64 = total.bind(workspace.as_uuid()).bind(id.as_uuid()).fetch_one(&self.readers).await?;
        let sql = "SELECT * FROM vault_entries WHERE workspace_id = ? AND connection_id = ? ORDER BY id LIMIT ?";
        let entries = self.all(query(sql).bind(workspace.as_uuid()).bind(id.as_uuid()).bind(limit)).await?;
        let dependent = |EntryRecord { id, user, domain, alias, .. }| DependentEntry { id, user, domain, alias };
        let entries = entries.into_iter().map(dependent).collect();
        Ok(DependentEntries { entries, total: total.unsigned_abs() })
    }

    async fn connections_of_item(
        &self,
        workspace: WorkspaceId,
        item: &ItemId,
    ) -> Result<Vec<ConnectionId>, StorageError> {
        let found: Vec<Uuid> = query_scalar(
            "SELECT DISTINCT connection_id FROM vault_entries JOIN connections ON connections.id = connection_id
             WHERE vault_entries.workspace_id = ? AND secret_ref = ? AND account_id = ?",
        )
        .bind(workspace.as_uuid())
        .bind(&*item.reference)
        .bind(&*item.account)
        .fetch_all(&self.readers)
        .await?;
        Ok(found.into_iter().map(Into::into).collect())
    }
}

impl SqliteStorage {
    /// Moves open rotations to the account of their connection, as part of a transaction: until its
    /// provider named the account, the connection counted as its own account. (A conflict is
    /// ignored: the account already has an open rotation of the same item.)
    async fn name_account_of_rotations(
        &self,
        transaction: &mut SqliteConnection,
        connection: &ConnectionRecord,
    ) -> Result<(), StorageError> {
        let sql = "SELECT id FROM rotations
                   WHERE workspace_id = ? AND connection_id = ? AND account_id = ? AND open_item IS NOT NULL";
        let of_it: Vec<Uuid> = query_scalar(sql)
            .bind(connection.workspace_id.as_uuid())
            .bind(connection.id.as_uuid())
            .bind(&*account_id(&connection.provider_type, None, connection.id))
            .fetch_all(&mut *transaction)
            .await?;
        for id in of_it {
            let key = (connection.workspace_id.as_uuid(), id);
            let name = query("UPDATE OR IGNORE rotations SET account_id = ? WHERE workspace_id = ? AND id = ?");
            let name = name.bind(&*connection.account_id).bind(key.0).bind(key.1);
            let named = |rotation: RotationRecord| RotationRecord {
                account_id: Some(connection.account_id.clone()),
                ..rotation
            };
            self.change(transaction, key, name, named).await?;
        }
        Ok(())
    }
}
