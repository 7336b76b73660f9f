//! The statements about workspaces and API keys.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{query, query_as};

use super::SqliteStorage;
use super::keys::{insert_workspace_key, must_be_current_master};
use crate::{ApiKeyId, ApiKeyRecord, StorageError, WorkspaceId, WorkspaceKeyRecord, WorkspaceRecord, WorkspaceStorage};

#[async_trait]
impl WorkspaceStorage for SqliteStorage {
    // In a transaction that holds the lock for writing, because of the master key that the
    // workspace's key is wrapped by.
    async fn insert_workspace(
        &self,
        workspace: &WorkspaceRecord,
        key: &WorkspaceKeyRecord,
        api_key: &ApiKeyRecord,
    ) -> Result<(), StorageError> {
        let mut transaction = self.write().await?;
        must_be_current_master(&mut transaction, key.master_term).await?;
        query("INSERT INTO workspaces (id, name, created_at, updated_at) VALUES (?, ?, ?, ?)")
            .bind(workspace.id.as_uuid())
            .bind(&workspace.name)
            .bind(workspace.created_at.as_millisecond())
            .bind(workspace.updated_at.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        insert_workspace_key(&mut transaction, key).await?;
        insert_api_key(&mut *transaction, api_key).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn workspace(&self, id: WorkspaceId) -> Result<Option<WorkspaceRecord>, StorageError> {
        Ok(query_as("SELECT * FROM workspaces WHERE id = ?").bind(id.as_uuid()).fetch_optional(&self.pool).await?)
    }

    async fn workspaces(&self) -> Result<Vec<WorkspaceRecord>, StorageError> {
        Ok(query_as("SELECT * FROM workspaces ORDER BY id").fetch_all(&self.pool).await?)
    }

    async fn insert_api_key(&self, key: &ApiKeyRecord) -> Result<(), StorageError> {
        insert_api_key(&self.pool, key).await
    }

    async fn api_key(&self, lookup: &str) -> Result<Option<ApiKeyRecord>, StorageError> {
        Ok(query_as("SELECT * FROM api_keys WHERE lookup = ?").bind(lookup).fetch_optional(&self.pool).await?)
    }

    async fn api_keys(&self, workspace: WorkspaceId) -> Result<Vec<ApiKeyRecord>, StorageError> {
        Ok(query_as("SELECT * FROM api_keys WHERE workspace_id = ? ORDER BY id")
            .bind(workspace.as_uuid())
            .fetch_all(&self.pool)
            .await?)
    }

    async fn revoke_api_key(
        &self,
        workspace: WorkspaceId,
        id: ApiKeyId,
        at: Timestamp,
    ) -> Result<Option<ApiKeyRecord>, StorageError> {
        let sql =
            "UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?) WHERE workspace_id = ? AND id = ? RETURNING *";
        let revoked = query_as(sql).bind(at.as_millisecond()).bind(workspace.as_uuid()).bind(id.as_uuid());
        Ok(revoked.fetch_all(&self.pool).await?.pop())
    }
}

/// Also within a transaction: a workspace is added with its first API key.
async fn insert_api_key<'e>(
    executor: impl sqlx::Executor<'e, Database = sqlx::Sqlite>,
    key: &ApiKeyRecord,
) -> Result<(), StorageError> {
    query(
        "INSERT INTO api_keys (id, workspace_id, name, lookup, hash, scopes, created_at, revoked_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(key.id.as_uuid())
    .bind(key.workspace_id.as_uuid())
    .bind(key.name.clone())
    .bind(key.lookup.clone())
    .bind(key.hash.to_vec())
    .bind(key.scopes.to_string())
    .bind(key.created_at.as_millisecond())
    .bind(key.revoked_at.map(Timestamp::as_millisecond))
    .execute(executor)
    .await?;
    Ok(())
}
