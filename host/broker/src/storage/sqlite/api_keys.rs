//! The statements about API keys.

use jiff::Timestamp;
use sqlx::query;
use sqlx::sqlite::SqlitePool;

use super::rows;
use crate::id::{ApiKeyId, WorkspaceId};
use crate::storage::{ApiKeyRecord, StorageError};

/// Also within a transaction: a workspace is added with its first API key.
pub(super) async fn insert<'e>(
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

pub(super) async fn get(pool: &SqlitePool, lookup: &str) -> Result<Option<ApiKeyRecord>, StorageError> {
    query("SELECT * FROM api_keys WHERE lookup = ?")
        .bind(lookup)
        .fetch_optional(pool)
        .await?
        .as_ref()
        .map(rows::api_key)
        .transpose()
}

pub(super) async fn list(pool: &SqlitePool, workspace: WorkspaceId) -> Result<Vec<ApiKeyRecord>, StorageError> {
    query("SELECT * FROM api_keys WHERE workspace_id = ? ORDER BY id")
        .bind(workspace.as_uuid())
        .fetch_all(pool)
        .await?
        .iter()
        .map(rows::api_key)
        .collect()
}

pub(super) async fn revoke(
    pool: &SqlitePool,
    workspace: WorkspaceId,
    id: ApiKeyId,
    at: Timestamp,
) -> Result<Option<ApiKeyRecord>, StorageError> {
    query("UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?) WHERE workspace_id = ? AND id = ? RETURNING *")
        .bind(at.as_millisecond())
        .bind(workspace.as_uuid())
        .bind(id.as_uuid())
        .fetch_all(pool)
        .await?
        .first()
        .map(rows::api_key)
        .transpose()
}
