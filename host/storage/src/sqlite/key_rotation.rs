//! The statements of key rotation. A change of more than one row is a transaction that takes the
//! write lock first, so that its checks hold until it is done. No trace of a replaced key stays in
//! the database's files.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row, query, query_scalar};
use uuid::Uuid;

use super::keys::{must_be_current_key, must_be_current_master};
use super::rows::{IS_ID, fitting, insert, signed, update};
use super::{BUSY_TIMEOUT, ERASING, SqliteStorage};
use crate::{
    Constraint, HostKeyRecord, KEY_TERM, KeyRotationStorage, MasterKeyRecord, SealedColumn, SealedValue, StorageError,
    WorkspaceId, WorkspaceKeyRecord,
};

#[async_trait]
impl KeyRotationStorage for SqliteStorage {
    async fn replace_master_key(
        &self,
        master_key: &MasterKeyRecord,
        uses: u64,
        workspace_keys: &[WorkspaceKeyRecord],
        host_keys: &[HostKeyRecord],
    ) -> Result<(), StorageError> {
        let mut transaction = self.write().await?;
        must_be_current_master(&mut transaction, master_key.term.saturating_sub(1)).await?;
        query("INSERT INTO master_keys (term, key_id, uses, created_at) VALUES (?, ?, ?, ?)")
            .bind(master_key.term)
            .bind(master_key.key_id.as_slice())
            .bind(signed(uses))
            .bind(master_key.created_at.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        for key in workspace_keys {
            let done = update(key, " WHERE workspace_id = ? AND term = ? AND version = ?")
                .bind(key.workspace_id.as_uuid())
                .bind(key.term)
                .bind(signed(key.version.saturating_sub(1)))
                .execute(&mut *transaction)
                .await?;
            one(done.rows_affected())?;
        }
        for key in host_keys {
            let done = update(key, " WHERE name = ? AND version = ?")
                .bind(&key.name)
                .bind(signed(key.version.saturating_sub(1)))
                .execute(&mut *transaction)
                .await?;
            one(done.rows_affected())?;
        }
        let left: bool = query_scalar(
            "SELECT EXISTS (SELECT 1 FROM workspace_keys WHERE master_term <> ?1)
                 OR EXISTS (SELECT 1 FROM host_keys WHERE master_term <> ?1)",
        )
        .bind(master_key.term)
        .fetch_one(&mut *transaction)
        .await?;
        if left {
            return Err(StorageError::Conflict(Constraint::KeyTerm));
        }
        transaction.commit().await?;
        self.leave_no_trace().await;
        Ok(())
    }

    async fn insert_workspace_key(&self, key: &WorkspaceKeyRecord) -> Result<(), StorageError> {
        let mut transaction = self.write().await?;
        must_be_current_master(&mut transaction, key.master_term).await?;
        let terms: Vec<u32> = query_scalar("SELECT term FROM workspace_keys WHERE workspace_id = ?")
            .bind(key.workspace_id.as_uuid())
            .fetch_all(&mut *transaction)
            .await?;
        match terms.as_slice() {
            [] => return Err(StorageError::Conflict(Constraint::Reference)),
            [only] if only + 1 == key.term => {}
            _ => return Err(StorageError::Conflict(Constraint::Unique)),
        }
        insert(key, "").execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn unfinished_key_rotations(&self) -> Result<Vec<WorkspaceId>, StorageError> {
        // A key of what is no workspace is damaged, and delays no other.
        let sql = "SELECT workspace_id FROM workspace_keys
                   WHERE typeof(workspace_id) = 'blob' AND length(workspace_id) = 16 GROUP BY workspace_id HAVING count(*) > 1";
        let found: Vec<Uuid> = query_scalar(sql).fetch_all(&self.readers).await?;
        Ok(found.into_iter().map(Into::into).collect())
    }

    async fn sealed_values(
        &self,
        workspace: WorkspaceId,
        column: SealedColumn,
        term: u32,
        after: Uuid,
        rows: u32,
        bytes: u64,
    ) -> Result<Vec<SealedValue>, StorageError> {
        // First find the rows that fit; then read their values.
        let (wanted, name) = (other_term(column), column.name());
        let table = column.table();
        let sql =
            format!("SELECT id, length({name}) AS size FROM {table} WHERE {wanted} AND id > ?3 ORDER BY id LIMIT ?4");
        let sizes = query(AssertSqlSafe(sql))
            .bind(workspace.as_uuid())
            .bind(term.to_be_bytes().to_vec())
            .bind(after)
            .bind(rows)
            .fetch_all(&self.readers)
            .await?;
        let Some(last) = fitting(&sizes, rows, bytes)?.pop() else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT id, version, CAST({name} AS BLOB) AS envelope FROM {table}
             WHERE {wanted} AND id > ?3 AND id <= ?4 ORDER BY id"
        );
        let found = query(AssertSqlSafe(sql))
            .bind(workspace.as_uuid())
            .bind(term.to_be_bytes().to_vec())
            .bind(after)
            .bind(last)
            .fetch_all(&self.readers)
            .await?;
        found
            .iter()
            .map(|row| {
                let (id, envelope) = (row.try_get("id")?, row.try_get("envelope")?);
                // A version that no host writes, such as 0: the envelope does not open with it.
                let version = row.try_get::<i64, _>("version").unwrap_or_default().cast_unsigned();
                Ok(SealedValue { id, version, envelope })
            })
            .collect()
    }

    async fn replace_sealed_values(
        &self,
        workspace: WorkspaceId,
        column: SealedColumn,
        values: &[(SealedValue, Vec<u8>)],
    ) -> Result<u64, StorageError> {
        let (table, name) = (column.table(), column.name());
        let sql =
            format!("UPDATE {table} SET {name} = ? WHERE workspace_id = ? AND id = ? AND version = ? AND {name} = ?");
        let mut transaction = self.write().await?;
        let mut replaced = 0;
        for (value, envelope) in values {
            must_be_current_key(&mut transaction, workspace, &[Some(envelope)]).await?;
            let done = query(AssertSqlSafe(sql.clone()))
                .bind(envelope)
                .bind(workspace.as_uuid())
                .bind(value.id)
                .bind(signed(value.version))
                .bind(&value.envelope)
                .execute(&mut *transaction)
                .await?;
            replaced += done.rows_affected();
        }
        transaction.commit().await?;
        Ok(replaced)
    }

    async fn delete_replaced_workspace_keys(&self, workspace: WorkspaceId, term: u32) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        for column in SealedColumn::ALL {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {})", column.table(), other_term(column));
            let left: bool = query_scalar(AssertSqlSafe(sql))
                .bind(workspace.as_uuid())
                .bind(term.to_be_bytes().to_vec())
                .fetch_one(&mut *transaction)
                .await?;
            if left {
                return Ok(false);
            }
        }
        query("DELETE FROM workspace_keys WHERE workspace_id = ? AND term < ?")
            .bind(workspace.as_uuid())
            .bind(term)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        self.leave_no_trace().await;
        Ok(true)
    }

    async fn erase_traces(&self) -> Result<bool, StorageError> {
        self.erase_within(ERASING).await
    }
}

impl SqliteStorage {
    async fn leave_no_trace(&self) {
        let why = match self.erase_within(BUSY_TIMEOUT).await {
            Ok(true) => return,
            Ok(false) => "other connections read the database all the time".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(why, "a replaced key is still in the database's files; a server retries every minute");
    }

    /// Old pages with a deleted key stay in the write-ahead log until it is emptied, and in the
    /// database file until the pages of the log have overwritten them. Neither happens while a
    /// reader uses an older snapshot. Writers wait meanwhile.
    async fn erase_within(&self, patience: Duration) -> Result<bool, StorageError> {
        let pool = self.writer()?.clone();
        // Spawned, so that it runs to its end even if the caller is cancelled: the connection's
        // busy timeout has to be restored.
        let erased = tokio::spawn(async move {
            let mut connection = pool.acquire().await?;
            let waits = |time: Duration| query(AssertSqlSafe(format!("PRAGMA busy_timeout = {}", time.as_millis())));
            waits(patience).execute(&mut *connection).await?;
            let checkpoint = query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(&mut *connection).await;
            waits(BUSY_TIMEOUT).execute(&mut *connection).await?;
            // A busy database is not an error here but a column of the result.
            checkpoint?.first().map_or(Ok(true), |row| Ok(row.try_get::<i64, _>("busy")? == 0))
        });
        let erased = erased.await.unwrap_or_else(|error| Err(sqlx::Error::Protocol(error.to_string())));
        Ok(erased?)
    }
}

/// Selects values under another key than that of a term. The parameters are the workspace and the
/// term as an envelope spells it.
fn other_term(column: SealedColumn) -> String {
    let (name, begin, length) = (column.name(), KEY_TERM.start + 1, KEY_TERM.len());
    format!("workspace_id = ?1 AND {IS_ID} AND {name} IS NOT NULL AND substr({name}, {begin}, {length}) <> ?2")
}

fn one(rows: u64) -> Result<(), StorageError> {
    if rows == 1 { Ok(()) } else { Err(StorageError::Conflict(Constraint::KeyTerm)) }
}
