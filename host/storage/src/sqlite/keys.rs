//! The statements about keys: reading them, adding them and counting their uses. Also the checks
//! that keys are wrapped, and values sealed, only under the current key. [`super::key_rotation`]
//! replaces keys.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, FromRow, Row, SqliteConnection, query, query_scalar};

use super::SqliteStorage;
use super::rows::{Record, insert, key_in, read, signed, update};
use crate::{
    Constraint, HostKeyRecord, KEY_TERM, KeyStorage, MasterKeyRecord, RowSealer, StorageError, WorkspaceId,
    WorkspaceKeyRecord,
};

/// Adds `?1` to a count of uses. One that something else has spoiled counts as used up.
const ADD_USES: &str = "uses = CASE WHEN typeof(uses) = 'integer' AND uses BETWEEN 0 AND 4611686018427387903
                             THEN uses + ?1 ELSE 4611686018427387904 END";

pub(super) const MASTER_KEYS: &str = "SELECT term, key_id, created_at FROM master_keys ORDER BY term";

#[async_trait]
impl KeyStorage for SqliteStorage {
    async fn master_keys(&self) -> Result<Vec<MasterKeyRecord>, StorageError> {
        readable_master_keys(&query(MASTER_KEYS).fetch_all(&self.readers).await?)
    }

    async fn insert_master_key(&self, key: &MasterKeyRecord) -> Result<(), StorageError> {
        insert(key, "").execute(self.writer()?).await?;
        Ok(())
    }

    async fn count_master_key_uses(&self, term: u32, uses: u64) -> Result<u64, StorageError> {
        let rows = query(AssertSqlSafe(format!("UPDATE master_keys SET {ADD_USES} WHERE term = ?2 RETURNING uses")))
            .bind(signed(uses))
            .bind(term)
            .fetch_all(self.writer()?)
            .await?;
        Ok(read(rows.first().ok_or(sqlx::Error::RowNotFound)?, "uses")?)
    }

    fn unlock_rows(&self, sealer: Arc<dyn RowSealer>) {
        // Another broker on this database has the same key.
        let _ = self.sealer.set(sealer);
    }

    async fn seal_rows(&self, host_key: &HostKeyRecord) -> Result<(), StorageError> {
        let mut transaction = self.write().await?;
        replace_host_key(&mut transaction, host_key).await?;
        self.seal_all(&mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn replace_host_key(&self, host_key: &HostKeyRecord) -> Result<(), StorageError> {
        let mut transaction = self.write().await?;
        replace_host_key(&mut transaction, host_key).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn workspace_keys(&self, workspace: WorkspaceId) -> Result<Vec<WorkspaceKeyRecord>, StorageError> {
        let rows = query("SELECT rowid AS place, * FROM workspace_keys WHERE workspace_id = ? ORDER BY term")
            .bind(workspace.as_uuid())
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(workspace_key).collect()
    }

    async fn workspace_key_terms(&self, workspace: WorkspaceId) -> Result<Vec<u32>, StorageError> {
        let sql = "SELECT rowid AS place, workspace_id, term FROM workspace_keys WHERE workspace_id = ? ORDER BY term";
        let rows = query(sql).bind(workspace.as_uuid()).fetch_all(&self.readers).await?;
        rows.iter().map(|row| read(row, "term").map_err(|_| damaged_workspace_key(row))).collect()
    }

    async fn all_workspace_keys(&self) -> Result<Vec<WorkspaceKeyRecord>, StorageError> {
        let sql = "SELECT rowid AS place, * FROM workspace_keys ORDER BY workspace_id, term";
        query(sql).fetch_all(&self.readers).await?.iter().map(workspace_key).collect()
    }

    async fn count_workspace_key_uses(
        &self,
        workspace: WorkspaceId,
        term: u32,
        uses: u64,
    ) -> Result<Option<u64>, StorageError> {
        let sql = format!("UPDATE workspace_keys SET {ADD_USES} WHERE workspace_id = ?2 AND term = ?3 RETURNING uses");
        let done = query(AssertSqlSafe(sql))
            .bind(signed(uses))
            .bind(workspace.as_uuid())
            .bind(term)
            .fetch_all(self.writer()?)
            .await?;
        Ok(done.first().map(|row| read(row, "uses")).transpose()?)
    }

    async fn host_key(&self, name: &str) -> Result<Option<HostKeyRecord>, StorageError> {
        let row = query("SELECT * FROM host_keys WHERE name = ?").bind(name).fetch_optional(&self.readers).await?;
        row.as_ref().map(host_key).transpose()
    }

    async fn host_keys(&self) -> Result<Vec<HostKeyRecord>, StorageError> {
        query("SELECT * FROM host_keys ORDER BY name").fetch_all(&self.readers).await?.iter().map(host_key).collect()
    }

    async fn insert_host_key(&self, key: &HostKeyRecord) -> Result<(), StorageError> {
        let mut transaction = self.write().await?;
        must_be_current_master(&mut transaction, key.master_term).await?;
        insert(key, "").execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// The master keys of these rows. The last one must be readable. The others only tell what was
/// replaced, and are left out when they cannot be read.
pub(super) fn readable_master_keys(rows: &[SqliteRow]) -> Result<Vec<MasterKeyRecord>, StorageError> {
    let mut keys = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        match MasterKeyRecord::from_row(row) {
            Ok(key) => keys.push(key),
            Err(_) => {
                let row = row.try_get::<i64, _>("term").map_or_else(|_| "?".to_owned(), |term| term.to_string());
                let damaged = StorageError::DamagedKey { table: MasterKeyRecord::TABLE, row };
                if index + 1 == rows.len() {
                    return Err(damaged);
                }
                tracing::error!("{damaged}");
            }
        }
    }
    Ok(keys)
}

fn workspace_key(row: &SqliteRow) -> Result<WorkspaceKeyRecord, StorageError> {
    WorkspaceKeyRecord::from_row(row).map_err(|_| damaged_workspace_key(row))
}

fn damaged_workspace_key(row: &SqliteRow) -> StorageError {
    StorageError::DamagedKey { table: WorkspaceKeyRecord::TABLE, row: key_in(row) }
}

fn host_key(row: &SqliteRow) -> Result<HostKeyRecord, StorageError> {
    HostKeyRecord::from_row(row).map_err(|_| StorageError::DamagedKey {
        table: HostKeyRecord::TABLE,
        row: row.try_get("name").unwrap_or_default(),
    })
}

async fn replace_host_key(connection: &mut SqliteConnection, key: &HostKeyRecord) -> Result<(), StorageError> {
    let done = update(key, " WHERE name = ? AND version = ? AND master_term = ?")
        .bind(&key.name)
        .bind(signed(key.version.saturating_sub(1)))
        .bind(key.master_term)
        .execute(connection)
        .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(StorageError::Conflict(Constraint::KeyTerm)) }
}

/// A key may only be added under the current master key: a replacement of the master key would miss
/// any other.
pub(super) async fn must_be_current_master(
    connection: &mut SqliteConnection,
    master_term: u32,
) -> Result<(), StorageError> {
    let current: Option<u32> = query_scalar("SELECT max(term) FROM master_keys").fetch_one(connection).await?;
    if current == Some(master_term) { Ok(()) } else { Err(StorageError::Conflict(Constraint::KeyTerm)) }
}

/// A sealed value may only be written under the workspace's current key: a rotation of the key
/// would miss any other.
pub(super) async fn must_be_current_key(
    connection: &mut SqliteConnection,
    workspace: WorkspaceId,
    envelopes: &[Option<&[u8]>],
) -> Result<(), StorageError> {
    let current: Option<u32> = query_scalar("SELECT max(term) FROM workspace_keys WHERE workspace_id = ?")
        .bind(workspace.as_uuid())
        .fetch_one(connection)
        .await?;
    // If the workspace does not exist, its foreign key rejects the row.
    let Some(current) = current.map(u32::to_be_bytes) else { return Ok(()) };
    if envelopes.iter().flatten().all(|envelope| envelope.get(KEY_TERM) == Some(current.as_slice())) {
        Ok(())
    } else {
        Err(StorageError::Conflict(Constraint::KeyTerm))
    }
}
