//! The statements about keys: reading them, adding them and counting their uses. Also the checks
//! that keys are wrapped, and values sealed, only under the current key. [`super::key_rotation`]
//! replaces keys.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{SqliteConnection, query, query_as, query_scalar};

use super::SqliteStorage;
use super::rows::{insert, read, signed, update};
use crate::{
    Constraint, HostKeyRecord, KEY_TERM, KeyStorage, MasterKeyRecord, RowSealer, StorageError, WorkspaceId,
    WorkspaceKeyRecord,
};

#[async_trait]
impl KeyStorage for SqliteStorage {
    async fn master_keys(&self) -> Result<Vec<MasterKeyRecord>, StorageError> {
        Ok(query_as("SELECT term, key_id, created_at FROM master_keys ORDER BY term").fetch_all(&self.readers).await?)
    }

    async fn insert_master_key(&self, key: &MasterKeyRecord) -> Result<(), StorageError> {
        insert(key, "").execute(self.writer()?).await?;
        Ok(())
    }

    async fn count_master_key_uses(&self, term: u32, uses: u64) -> Result<u64, StorageError> {
        let rows = query("UPDATE master_keys SET uses = uses + ? WHERE term = ? RETURNING uses")
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
        Ok(query_as("SELECT * FROM workspace_keys WHERE workspace_id = ? ORDER BY term")
            .bind(workspace.as_uuid())
            .fetch_all(&self.readers)
            .await?)
    }

    async fn workspace_key_terms(&self, workspace: WorkspaceId) -> Result<Vec<u32>, StorageError> {
        let sql = "SELECT term FROM workspace_keys WHERE workspace_id = ? ORDER BY term";
        Ok(query_scalar(sql).bind(workspace.as_uuid()).fetch_all(&self.readers).await?)
    }

    async fn all_workspace_keys(&self) -> Result<Vec<WorkspaceKeyRecord>, StorageError> {
        Ok(query_as("SELECT * FROM workspace_keys ORDER BY workspace_id, term").fetch_all(&self.readers).await?)
    }

    async fn count_workspace_key_uses(
        &self,
        workspace: WorkspaceId,
        term: u32,
        uses: u64,
    ) -> Result<Option<u64>, StorageError> {
        let sql = "UPDATE workspace_keys SET uses = uses + ? WHERE workspace_id = ? AND term = ? RETURNING uses";
        let done = query(sql).bind(signed(uses)).bind(workspace.as_uuid()).bind(term).fetch_all(self.writer()?).await?;
        Ok(done.first().map(|row| read(row, "uses")).transpose()?)
    }

    async fn host_key(&self, name: &str) -> Result<Option<HostKeyRecord>, StorageError> {
        Ok(query_as("SELECT * FROM host_keys WHERE name = ?").bind(name).fetch_optional(&self.readers).await?)
    }

    async fn host_keys(&self) -> Result<Vec<HostKeyRecord>, StorageError> {
        Ok(query_as("SELECT * FROM host_keys ORDER BY name").fetch_all(&self.readers).await?)
    }

    async fn insert_host_key(&self, key: &HostKeyRecord) -> Result<(), StorageError> {
        let mut transaction = self.write().await?;
        must_be_current_master(&mut transaction, key.master_term).await?;
        insert(key, "").execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
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
