//! The statements about connections, and about what is bound to them.

use sqlx::sqlite::SqlitePool;
use sqlx::{Row, Sqlite, Transaction, query};
use uuid::Uuid;

use super::keys::must_be_current_key;
use super::rows::{self, signed};
use crate::connection::DependentEntries;
use crate::id::{ConnectionId, WorkspaceId};
use crate::storage::{ConnectionRecord, StorageError};

/// Like all that write settings here, in a transaction that holds the lock for writing, because of the key that they
/// are sealed under.
pub(super) async fn insert(
    mut transaction: Transaction<'_, Sqlite>,
    connection: &ConnectionRecord,
) -> Result<(), StorageError> {
    must_be_current_key(&mut transaction, connection.workspace_id, &[Some(&connection.sealed_settings)]).await?;
    query(
        "INSERT INTO connections (id, workspace_id, name, provider_type, sealed_settings, hints, account, read_only,
             cache_ttl_seconds, cache_generation, settings_version, version, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(connection.id.as_uuid())
    .bind(connection.workspace_id.as_uuid())
    .bind(&connection.name)
    .bind(&connection.provider_type)
    .bind(&connection.sealed_settings)
    .bind(&connection.hints)
    .bind(&connection.account)
    .bind(connection.read_only)
    .bind(connection.cache_ttl_seconds)
    .bind(signed(connection.cache_generation))
    .bind(signed(connection.settings_version))
    .bind(signed(connection.version))
    .bind(connection.created_at.as_millisecond())
    .bind(connection.updated_at.as_millisecond())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn update(
    mut transaction: Transaction<'_, Sqlite>,
    connection: &ConnectionRecord,
    expected: u64,
    clear_cached_secrets: bool,
) -> Result<bool, StorageError> {
    must_be_current_key(&mut transaction, connection.workspace_id, &[Some(&connection.sealed_settings)]).await?;
    let done = query(
        "UPDATE connections SET name = ?, provider_type = ?, sealed_settings = ?, hints = ?, account = ?, read_only = ?,
             cache_ttl_seconds = ?, cache_generation = cache_generation + ?, settings_version = ?, version = ?,
             updated_at = ?
         WHERE workspace_id = ? AND id = ? AND version = ?",
    )
    .bind(&connection.name)
    .bind(&connection.provider_type)
    .bind(&connection.sealed_settings)
    .bind(&connection.hints)
    .bind(&connection.account)
    .bind(connection.read_only)
    .bind(connection.cache_ttl_seconds)
    .bind(clear_cached_secrets)
    .bind(signed(connection.settings_version))
    .bind(signed(connection.version))
    .bind(connection.updated_at.as_millisecond())
    .bind(connection.workspace_id.as_uuid())
    .bind(connection.id.as_uuid())
    .bind(signed(expected))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn clear_cached_secrets(
    pool: &SqlitePool,
    workspace: WorkspaceId,
    id: ConnectionId,
) -> Result<bool, StorageError> {
    let done =
        query("UPDATE connections SET cache_generation = cache_generation + 1 WHERE workspace_id = ? AND id = ?")
            .bind(workspace.as_uuid())
            .bind(id.as_uuid())
            .execute(pool)
            .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn get(
    pool: &SqlitePool,
    workspace: WorkspaceId,
    id: ConnectionId,
) -> Result<Option<ConnectionRecord>, StorageError> {
    query("SELECT * FROM connections WHERE workspace_id = ? AND id = ?")
        .bind(workspace.as_uuid())
        .bind(id.as_uuid())
        .fetch_optional(pool)
        .await?
        .as_ref()
        .map(rows::connection)
        .transpose()
}

pub(super) async fn list(pool: &SqlitePool, workspace: WorkspaceId) -> Result<Vec<ConnectionRecord>, StorageError> {
    query("SELECT * FROM connections WHERE workspace_id = ? ORDER BY id")
        .bind(workspace.as_uuid())
        .fetch_all(pool)
        .await?
        .iter()
        .map(rows::connection)
        .collect()
}

pub(super) async fn provider_types(pool: &SqlitePool) -> Result<Vec<String>, StorageError> {
    let rows = query("SELECT DISTINCT provider_type FROM connections ORDER BY provider_type").fetch_all(pool).await?;
    rows.iter().map(|row| Ok(row.try_get("provider_type")?)).collect()
}

pub(super) async fn delete(pool: &SqlitePool, workspace: WorkspaceId, id: ConnectionId) -> Result<bool, StorageError> {
    let done = query("DELETE FROM connections WHERE workspace_id = ? AND id = ?")
        .bind(workspace.as_uuid())
        .bind(id.as_uuid())
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn entries(
    pool: &SqlitePool,
    workspace: WorkspaceId,
    id: ConnectionId,
    limit: u32,
) -> Result<DependentEntries, StorageError> {
    let rows = query(
        "SELECT id, permissioned_user_id, domain, user_alias, count(*) OVER () AS total
         FROM vault_entries WHERE workspace_id = ? AND connection_id = ? ORDER BY id LIMIT ?",
    )
    .bind(workspace.as_uuid())
    .bind(id.as_uuid())
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let total = rows.first().map_or(Ok(0), |row| rows::number(row, "total"))?;
    Ok(DependentEntries { entries: rows.iter().map(rows::dependent_entry).collect::<Result<_, _>>()?, total })
}

pub(super) async fn of_item(
    pool: &SqlitePool,
    workspace: WorkspaceId,
    secret_ref: &str,
) -> Result<Vec<ConnectionId>, StorageError> {
    query("SELECT DISTINCT connection_id FROM vault_entries WHERE workspace_id = ? AND secret_ref = ?")
        .bind(workspace.as_uuid())
        .bind(secret_ref)
        .fetch_all(pool)
        .await?
        .iter()
        .map(|row| Ok(row.try_get::<Uuid, _>("connection_id")?.into()))
        .collect()
}
