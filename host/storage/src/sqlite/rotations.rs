//! The statements about password rotations.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, ValueRef, query, query_scalar};
use uuid::Uuid;

use super::SqliteStorage;
use super::keys::must_be_current_key;
use super::rows::{Record, Sealed, signed, update};
use crate::{
    EntryRecord, ItemId, RotationFilter, RotationId, RotationRecord, RotationState, RotationStorage, StorageError,
    WorkspaceId,
};

#[async_trait]
impl RotationStorage for SqliteStorage {
    // Rotations are always written in a transaction that holds the write lock, so that the key
    // their password is sealed under stays the current one.
    async fn insert_rotation(&self, rotation: &RotationRecord, entry_version: u64) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        must_be_current_key(&mut transaction, rotation.workspace_id, &[rotation.sealed_password.as_deref()]).await?;
        let sql = "SELECT EXISTS (SELECT 1 FROM vault_entries WHERE workspace_id = ? AND id = ? AND version = ?)";
        let is_current: bool = query_scalar(sql)
            .bind(rotation.workspace_id.as_uuid())
            .bind(rotation.entry_id.as_uuid())
            .bind(signed(entry_version))
            .fetch_one(&mut *transaction)
            .await?;
        if is_current {
            self.add(&mut transaction, rotation, "").await?;
            transaction.commit().await?;
        }
        Ok(is_current)
    }

    // Updates the item's generation in the same transaction: at no moment may the rotation be done
    // while older cached values still count as valid.
    async fn update_rotation(&self, rotation: &RotationRecord, expected: u64) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        if !self.update_rotation_row(&mut transaction, rotation, expected).await? {
            return Ok(false);
        }
        if rotation.secret_ref.is_some() && rotation.state.outdates_the_item() {
            outdate_item(&mut transaction, rotation.workspace_id, &rotation.item()).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    // The envelope is not written, because it may be sealed again at the same moment.
    async fn fail_rotation(&self, rotation: &RotationRecord) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        let fail = query(
            "UPDATE rotations SET state = ?, reason = ?, message = ?, attempt_until = NULL, next_attempt_at = NULL,
                 failed_settings = NULL, updated_at = ?
             WHERE workspace_id = ? AND id = ? AND version = ? AND state IN ('committing', 'write_back_failed')
                 AND sealed_password = ?",
        )
        .bind(RotationState::WriteBackFailed.name())
        .bind(&rotation.reason)
        .bind(&rotation.message)
        .bind(rotation.updated_at.as_millisecond())
        .bind(rotation.workspace_id.as_uuid())
        .bind(rotation.id.as_uuid())
        .bind(signed(rotation.version))
        .bind(&rotation.sealed_password);
        let failed = self.change(&mut transaction, rotation.key(), fail, |before: RotationRecord| RotationRecord {
            state: RotationState::WriteBackFailed,
            reason: rotation.reason.clone(),
            message: rotation.message.clone(),
            attempt_until: None,
            next_attempt_at: None,
            failed_settings: None,
            updated_at: rotation.updated_at,
            ..before
        });
        let failed = failed.await?;
        transaction.commit().await?;
        Ok(failed.is_some())
    }

    // Both rows change or none.
    async fn finish_own_rotation(
        &self,
        rotation: &RotationRecord,
        expected: u64,
        entry: &EntryRecord,
        entry_expected: u64,
    ) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        let both = self.update_entry_row(&mut transaction, entry, entry_expected).await?
            && self.update_rotation_row(&mut transaction, rotation, expected).await?;
        if !both {
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn rotation(&self, workspace: WorkspaceId, id: RotationId) -> Result<Option<RotationRecord>, StorageError> {
        self.record(workspace, id.as_uuid()).await
    }

    async fn rotations(
        &self,
        workspace: WorkspaceId,
        filter: &RotationFilter,
        after: Option<RotationId>,
        limit: u32,
    ) -> Result<Vec<RotationRecord>, StorageError> {
        let mut list = QueryBuilder::<Sqlite>::new("SELECT * FROM rotations WHERE workspace_id = ");
        list.push_bind(workspace.as_uuid());
        // Every identifier is greater than the nil UUID.
        list.push(" AND id > ").push_bind(after.map_or(Uuid::nil(), |id| id.as_uuid()));
        if let Some(entry) = filter.entry {
            list.push(" AND entry_id = ").push_bind(entry.as_uuid());
        }
        if !filter.states.is_empty() {
            list.push(" AND state IN (");
            let mut states = list.separated(", ");
            for state in &filter.states {
                states.push_bind(state.name());
            }
            list.push(")");
        }
        list.push(" ORDER BY id LIMIT ").push_bind(limit);
        self.all(list.build()).await
    }

    async fn open_rotation_of_item(
        &self,
        workspace: WorkspaceId,
        item: &ItemId,
    ) -> Result<Option<RotationRecord>, StorageError> {
        let sql = "SELECT * FROM rotations WHERE workspace_id = ? AND ifnull(account_id, '') = ? AND open_item = ?";
        self.one(query(sql).bind(workspace.as_uuid()).bind(&*item.account).bind(&*item.reference)).await
    }

    async fn due_rotations(
        &self,
        now: Timestamp,
        future: Timestamp,
        failed_before: Timestamp,
        limit: u32,
    ) -> Result<Vec<RotationRecord>, StorageError> {
        // A row may be due for two reasons: hence no UNION ALL.
        let due = query(
            "SELECT * FROM rotations WHERE state = 'committing' AND (next_attempt_at <= ? OR updated_at > ?)
             UNION
             SELECT rotations.* FROM rotations JOIN connections
                 ON connections.id = rotations.connection_id AND connections.workspace_id = rotations.workspace_id
             WHERE state = 'committing' AND failed_settings < settings_version
             UNION
             SELECT rotations.* FROM rotations JOIN connections
                 ON connections.id = rotations.connection_id AND connections.workspace_id = rotations.workspace_id
             WHERE state = 'write_back_failed' AND failed_settings IS NOT NULL
                 AND (failed_settings < settings_version OR rotations.updated_at <= ?)
             ORDER BY next_attempt_at LIMIT ?",
        );
        let due = due.bind(now.as_millisecond()).bind(future.as_millisecond()).bind(failed_before.as_millisecond());
        self.all(due.bind(limit)).await
    }

    async fn outdate_item(&self, workspace: WorkspaceId, item: &ItemId) -> Result<(), StorageError> {
        outdate_item(&mut *self.writer()?.acquire().await?, workspace, item).await
    }

    // One statement, so that generation and rotation are from the same moment.
    async fn item_state(
        &self,
        workspace: WorkspaceId,
        item: &ItemId,
    ) -> Result<(u64, Option<RotationRecord>), StorageError> {
        let row = query(
            "SELECT CASE typeof(item.generation) WHEN 'integer' THEN item.generation ELSE 0 END AS generation, rotations.*
             FROM (SELECT 1) LEFT JOIN item_generations AS item
                     ON item.workspace_id = ?1 AND item.account_id = ?2 AND item.secret_ref = ?3
                 LEFT JOIN rotations ON rotations.workspace_id = ?1 AND ifnull(rotations.account_id, '') = ?2
                     AND rotations.open_item = ?3 AND rotations.state IN ('committing', 'write_back_failed')",
        )
        .bind(workspace.as_uuid())
        .bind(&*item.account)
        .bind(&*item.reference)
        .fetch_one(&self.readers)
        .await?;
        let is_there = !row.try_get_raw("id")?.is_null();
        let ahead = if is_there { Some(self.verified(&row)?) } else { None };
        // Only whether it stays the same counts, so any number will do.
        Ok((row.try_get::<i64, _>("generation")?.cast_unsigned(), ahead))
    }
}

/// Adds 1 to an item's generation, as part of a transaction.
pub(super) async fn outdate_item(
    connection: &mut SqliteConnection,
    workspace: WorkspaceId,
    item: &ItemId,
) -> Result<(), StorageError> {
    query(
        "INSERT INTO item_generations (workspace_id, account_id, secret_ref, generation) VALUES (?, ?, ?, 1)
         ON CONFLICT (workspace_id, account_id, secret_ref) DO UPDATE SET generation =
             CASE WHEN typeof(generation) = 'integer' AND generation < 4611686018427387904
                 THEN generation + 1 ELSE -1 END",
    )
    .bind(workspace.as_uuid())
    .bind(&*item.account)
    .bind(&*item.reference)
    .execute(connection)
    .await?;
    Ok(())
}

impl SqliteStorage {
    async fn update_rotation_row(
        &self,
        connection: &mut SqliteConnection,
        rotation: &RotationRecord,
        expected: u64,
    ) -> Result<bool, StorageError> {
        must_be_current_key(connection, rotation.workspace_id, &[rotation.sealed_password.as_deref()]).await?;
        let (workspace, id) = rotation.key();
        let update = update(rotation, " WHERE workspace_id = ? AND id = ? AND version = ?");
        let update = update.bind(workspace).bind(id).bind(signed(expected));
        let changed = |before: RotationRecord| before.changed_to(rotation);
        Ok(self.change(connection, rotation.key(), update, changed).await?.is_some())
    }
}
