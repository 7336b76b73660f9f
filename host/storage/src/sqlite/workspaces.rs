//! The statements about workspaces and API keys.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::query;

use super::SqliteStorage;
use super::keys::must_be_current_master;
use super::rows::insert;
use crate::{ApiKeyId, ApiKeyRecord, StorageError, WorkspaceId, WorkspaceKeyRecord, WorkspaceRecord, WorkspaceStorage};

#[async_trait]
impl WorkspaceStorage for SqliteStorage {
    // In a transaction that holds the write lock, so that the master key that wraps the workspace's
    // key stays the current one.
    async fn insert_workspace(
        &self,
        workspace: &WorkspaceRecord,
        key: &WorkspaceKeyRecord,
        api_key: &ApiKeyRecord,
    ) -> Result<(), StorageError> {
        let mut transaction = self.write().await?;
        must_be_current_master(&mut transaction, key.master_term).await?;
        self.add(&mut transaction, workspace, "").await?;
        insert(key, "").execute(&mut *transaction).await?;
        self.add(&mut transaction, api_key, "").await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn workspace(&self, id: WorkspaceId) -> Result<Option<WorkspaceRecord>, StorageError> {
        self.one(query("SELECT * FROM workspaces WHERE id = ?").bind(id.as_uuid())).await
    }

    async fn workspace_by_external_id(&self, external_id: &str) -> Result<Option<WorkspaceRecord>, StorageError> {
        self.one(query("SELECT * FROM workspaces WHERE external_id = ?").bind(external_id)).await
    }

    async fn rename_workspace(
        &self,
        id: WorkspaceId,
        name: &str,
        at: Timestamp,
    ) -> Result<Option<WorkspaceRecord>, StorageError> {
        let mut transaction = self.write().await?;
        let rename = query("UPDATE workspaces SET name = ?, updated_at = ? WHERE id = ?");
        let rename = rename.bind(name).bind(at.as_millisecond()).bind(id.as_uuid());
        let renamed =
            self.change(&mut transaction, (id.as_uuid(), id.as_uuid()), rename, |workspace: WorkspaceRecord| {
                WorkspaceRecord { name: name.to_owned(), updated_at: at, ..workspace }
            });
        let renamed = renamed.await?;
        transaction.commit().await?;
        Ok(renamed)
    }

    async fn delete_workspace(&self, id: WorkspaceId) -> Result<bool, StorageError> {
        // An open rotation holds a password that the site may already have. It stays, and so does
        // its entry, which makes the next statement fail.
        self.delete_with_rotations(id, "DELETE FROM rotations WHERE workspace_id = ? AND sealed_password IS NULL").await
    }

    async fn workspaces(&self) -> Result<Vec<WorkspaceRecord>, StorageError> {
        self.all(query("SELECT * FROM workspaces ORDER BY id")).await
    }

    async fn insert_api_key(&self, key: &ApiKeyRecord) -> Result<(), StorageError> {
        let mut transaction = self.write().await?;
        self.add(&mut transaction, key, "").await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn api_key(&self, lookup: &str) -> Result<Option<ApiKeyRecord>, StorageError> {
        self.one(query("SELECT * FROM api_keys WHERE lookup = ?").bind(lookup)).await
    }

    async fn api_keys(&self, workspace: WorkspaceId) -> Result<Vec<ApiKeyRecord>, StorageError> {
        self.records_of(workspace).await
    }

    async fn revoke_api_key(
        &self,
        workspace: WorkspaceId,
        id: ApiKeyId,
        at: Timestamp,
    ) -> Result<Option<ApiKeyRecord>, StorageError> {
        let mut transaction = self.write().await?;
        let sql = "UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?) WHERE workspace_id = ? AND id = ?";
        let key = (workspace.as_uuid(), id.as_uuid());
        let revoke = query(sql).bind(at.as_millisecond()).bind(key.0).bind(key.1);
        let revoked = self.change(&mut transaction, key, revoke, |key: ApiKeyRecord| ApiKeyRecord {
            revoked_at: key.revoked_at.or(Some(at)),
            ..key
        });
        let revoked = revoked.await?;
        transaction.commit().await?;
        Ok(revoked)
    }
}

impl SqliteStorage {
    /// Deletes a workspace with everything in it; the statement deletes its rotations.
    pub(super) async fn delete_with_rotations(
        &self,
        id: WorkspaceId,
        rotations: &'static str,
    ) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        for sql in [
            rotations,
            "DELETE FROM vault_entries WHERE workspace_id = ?",
            "DELETE FROM item_generations WHERE workspace_id = ?",
            "DELETE FROM connections WHERE workspace_id = ?",
            "DELETE FROM api_keys WHERE workspace_id = ?",
            "DELETE FROM workspace_keys WHERE workspace_id = ?",
        ] {
            query(sql).bind(id.as_uuid()).execute(&mut *transaction).await?;
        }
        let done = query("DELETE FROM workspaces WHERE id = ?").bind(id.as_uuid()).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }
}
