//! The statements about workspaces.

use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, Transaction, query};

use super::keys::{insert_workspace_key, must_be_current_master};
use super::{api_keys, rows};
use crate::id::WorkspaceId;
use crate::storage::{ApiKeyRecord, StorageError, WorkspaceKeyRecord, WorkspaceRecord};

/// In a transaction that holds the lock for writing, because of the master key that the workspace's key is wrapped by.
pub(super) async fn insert(
    mut transaction: Transaction<'_, Sqlite>,
    workspace: &WorkspaceRecord,
    key: &WorkspaceKeyRecord,
    api_key: &ApiKeyRecord,
) -> Result<(), StorageError> {
    must_be_current_master(&mut transaction, key.master_term).await?;
    query("INSERT INTO workspaces (id, name, created_at, updated_at) VALUES (?, ?, ?, ?)")
        .bind(workspace.id.as_uuid())
        .bind(&workspace.name)
        .bind(workspace.created_at.as_millisecond())
        .bind(workspace.updated_at.as_millisecond())
        .execute(&mut *transaction)
        .await?;
    insert_workspace_key(&mut transaction, key).await?;
    api_keys::insert(&mut *transaction, api_key).await?;
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn get(pool: &SqlitePool, id: WorkspaceId) -> Result<Option<WorkspaceRecord>, StorageError> {
    query("SELECT * FROM workspaces WHERE id = ?")
        .bind(id.as_uuid())
        .fetch_optional(pool)
        .await?
        .as_ref()
        .map(rows::workspace)
        .transpose()
}

pub(super) async fn list(pool: &SqlitePool) -> Result<Vec<WorkspaceRecord>, StorageError> {
    query("SELECT * FROM workspaces ORDER BY id").fetch_all(pool).await?.iter().map(rows::workspace).collect()
}
