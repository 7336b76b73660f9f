//! The statements. Each method is one statement, which SQLite runs as a whole or not at all, or a transaction: where
//! sealed values are written, which key they may be under is decided in the same one. The longer ones of key rotation are
//! in [`super::keys`].

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{Row, SqliteConnection, query, query_scalar};
use uuid::Uuid;

use super::keys::{insert_workspace_key, must_be_current_key, must_be_current_master};
use super::rows::signed;
use super::{SqliteStorage, rotations, rows};
use crate::connection::DependentEntries;
use crate::id::{ApiKeyId, ConnectionId, EntryId, RotationId, WorkspaceId};
use crate::rotation::RotationFilter;
use crate::storage::{
    ApiKeyRecord, AuditAnchorRecord, BreakerRecord, ConnectionRecord, EntryRecord, EntrySelector, HostKeyRecord,
    MasterKeyRecord, RequestCount, RequestKind, RequestReservation, ReservedRequests, RotationRecord, SealedColumn,
    SealedValue, Storage, StorageError, WorkspaceKeyRecord, WorkspaceRecord,
};

#[async_trait]
impl Storage for SqliteStorage {
    async fn master_keys(&self) -> Result<Vec<MasterKeyRecord>, StorageError> {
        query("SELECT term, key_id, created_at FROM master_keys ORDER BY term")
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(rows::master_key)
            .collect()
    }

    async fn insert_master_key(&self, key: &MasterKeyRecord) -> Result<(), StorageError> {
        query("INSERT INTO master_keys (term, key_id, created_at) VALUES (?, ?, ?)")
            .bind(key.term)
            .bind(key.key_id.as_slice())
            .bind(key.created_at.as_millisecond())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn count_master_key_uses(&self, term: u32, uses: u64) -> Result<u64, StorageError> {
        let row = query("UPDATE master_keys SET uses = uses + ? WHERE term = ? RETURNING uses")
            .bind(signed(uses))
            .bind(term)
            .fetch_one(&self.pool)
            .await?;
        rows::number(&row, "uses")
    }

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
        query("SELECT * FROM workspaces WHERE id = ?")
            .bind(id.as_uuid())
            .fetch_optional(&self.pool)
            .await?
            .as_ref()
            .map(rows::workspace)
            .transpose()
    }

    async fn workspaces(&self) -> Result<Vec<WorkspaceRecord>, StorageError> {
        query("SELECT * FROM workspaces ORDER BY id").fetch_all(&self.pool).await?.iter().map(rows::workspace).collect()
    }

    async fn workspace_keys(&self, workspace: WorkspaceId) -> Result<Vec<WorkspaceKeyRecord>, StorageError> {
        query("SELECT * FROM workspace_keys WHERE workspace_id = ? ORDER BY term")
            .bind(workspace.as_uuid())
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(rows::workspace_key)
            .collect()
    }

    async fn workspace_key_terms(&self, workspace: WorkspaceId) -> Result<Vec<u32>, StorageError> {
        let sql = "SELECT term FROM workspace_keys WHERE workspace_id = ? ORDER BY term";
        Ok(query_scalar(sql).bind(workspace.as_uuid()).fetch_all(&self.pool).await?)
    }

    async fn all_workspace_keys(&self) -> Result<Vec<WorkspaceKeyRecord>, StorageError> {
        let keys = query("SELECT * FROM workspace_keys ORDER BY workspace_id, term").fetch_all(&self.pool).await?;
        keys.iter().map(rows::workspace_key).collect()
    }

    async fn unfinished_key_rotations(&self) -> Result<Vec<WorkspaceId>, StorageError> {
        let sql = "SELECT workspace_id FROM workspace_keys GROUP BY workspace_id HAVING count(*) > 1";
        let found: Vec<Uuid> = query_scalar(sql).fetch_all(&self.pool).await?;
        Ok(found.into_iter().map(Into::into).collect())
    }

    async fn count_workspace_key_uses(
        &self,
        workspace: WorkspaceId,
        term: u32,
        uses: u64,
    ) -> Result<Option<u64>, StorageError> {
        query("UPDATE workspace_keys SET uses = uses + ? WHERE workspace_id = ? AND term = ? RETURNING uses")
            .bind(signed(uses))
            .bind(workspace.as_uuid())
            .bind(term)
            .fetch_optional(&self.pool)
            .await?
            .map(|row| rows::number(&row, "uses"))
            .transpose()
    }

    async fn replace_master_key(
        &self,
        master_key: &MasterKeyRecord,
        uses: u64,
        workspace_keys: &[WorkspaceKeyRecord],
        host_keys: &[HostKeyRecord],
    ) -> Result<(), StorageError> {
        self.replace_all_wrapped_keys(master_key, uses, workspace_keys, host_keys).await
    }

    async fn insert_workspace_key(&self, key: &WorkspaceKeyRecord) -> Result<(), StorageError> {
        self.add_workspace_key(key).await
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
        self.values_not_under(workspace, column, term, after, rows, bytes).await
    }

    async fn replace_sealed_values(
        &self,
        workspace: WorkspaceId,
        column: SealedColumn,
        values: &[(SealedValue, Vec<u8>)],
    ) -> Result<u64, StorageError> {
        self.replace_values(workspace, column, values).await
    }

    async fn delete_replaced_workspace_keys(&self, workspace: WorkspaceId, term: u32) -> Result<bool, StorageError> {
        self.delete_keys_before(workspace, term).await
    }

    async fn insert_api_key(&self, key: &ApiKeyRecord) -> Result<(), StorageError> {
        insert_api_key(&self.pool, key).await
    }

    async fn api_key(&self, lookup: &str) -> Result<Option<ApiKeyRecord>, StorageError> {
        query("SELECT * FROM api_keys WHERE lookup = ?")
            .bind(lookup)
            .fetch_optional(&self.pool)
            .await?
            .as_ref()
            .map(rows::api_key)
            .transpose()
    }

    async fn api_keys(&self, workspace: WorkspaceId) -> Result<Vec<ApiKeyRecord>, StorageError> {
        query("SELECT * FROM api_keys WHERE workspace_id = ? ORDER BY id")
            .bind(workspace.as_uuid())
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(rows::api_key)
            .collect()
    }

    async fn revoke_api_key(
        &self,
        workspace: WorkspaceId,
        id: ApiKeyId,
        at: Timestamp,
    ) -> Result<Option<ApiKeyRecord>, StorageError> {
        query("UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?) WHERE workspace_id = ? AND id = ? RETURNING *")
            .bind(at.as_millisecond())
            .bind(workspace.as_uuid())
            .bind(id.as_uuid())
            .fetch_optional(&self.pool)
            .await?
            .as_ref()
            .map(rows::api_key)
            .transpose()
    }

    async fn insert_connection(&self, connection: &ConnectionRecord) -> Result<(), StorageError> {
        let mut transaction = self.write().await?;
        must_be_current_key(&mut transaction, connection.workspace_id, &[Some(&connection.sealed_settings)]).await?;
        query(
            "INSERT INTO connections (id, workspace_id, name, provider_type, sealed_settings, hints, account, read_only,
                 cache_ttl_seconds, cache_generation, version, created_at, updated_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
        .bind(signed(connection.version))
        .bind(connection.created_at.as_millisecond())
        .bind(connection.updated_at.as_millisecond())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn update_connection(
        &self,
        connection: &ConnectionRecord,
        expected: u64,
        clear_cached_secrets: bool,
    ) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        must_be_current_key(&mut transaction, connection.workspace_id, &[Some(&connection.sealed_settings)]).await?;
        let done = query(
            "UPDATE connections SET name = ?, provider_type = ?, sealed_settings = ?, hints = ?, account = ?, read_only = ?,
                 cache_ttl_seconds = ?, cache_generation = cache_generation + ?, version = ?, updated_at = ?
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

    async fn clear_cached_secrets(&self, workspace: WorkspaceId, id: ConnectionId) -> Result<bool, StorageError> {
        let done =
            query("UPDATE connections SET cache_generation = cache_generation + 1 WHERE workspace_id = ? AND id = ?")
                .bind(workspace.as_uuid())
                .bind(id.as_uuid())
                .execute(&self.pool)
                .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn connection(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
    ) -> Result<Option<ConnectionRecord>, StorageError> {
        query("SELECT * FROM connections WHERE workspace_id = ? AND id = ?")
            .bind(workspace.as_uuid())
            .bind(id.as_uuid())
            .fetch_optional(&self.pool)
            .await?
            .as_ref()
            .map(rows::connection)
            .transpose()
    }

    async fn connections(&self, workspace: WorkspaceId) -> Result<Vec<ConnectionRecord>, StorageError> {
        query("SELECT * FROM connections WHERE workspace_id = ? ORDER BY id")
            .bind(workspace.as_uuid())
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(rows::connection)
            .collect()
    }

    async fn delete_connection(&self, workspace: WorkspaceId, id: ConnectionId) -> Result<bool, StorageError> {
        let done = query("DELETE FROM connections WHERE workspace_id = ? AND id = ?")
            .bind(workspace.as_uuid())
            .bind(id.as_uuid())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn entries_of_connection(
        &self,
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
        .fetch_all(&self.pool)
        .await?;
        let total = rows.first().map_or(Ok(0), |row| rows::number(row, "total"))?;
        Ok(DependentEntries { entries: rows.iter().map(rows::dependent_entry).collect::<Result<_, _>>()?, total })
    }

    async fn connections_of_item(
        &self,
        workspace: WorkspaceId,
        secret_ref: &str,
    ) -> Result<Vec<ConnectionId>, StorageError> {
        query("SELECT DISTINCT connection_id FROM vault_entries WHERE workspace_id = ? AND secret_ref = ?")
            .bind(workspace.as_uuid())
            .bind(secret_ref)
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| Ok(row.try_get::<Uuid, _>("connection_id")?.into()))
            .collect()
    }

    async fn insert_entry(&self, entry: &EntryRecord) -> Result<(), StorageError> {
        let mut transaction = self.write().await?;
        must_be_current_key(&mut transaction, entry.workspace_id, &sealed_of(entry)).await?;
        query(
            "INSERT INTO vault_entries (id, workspace_id, permissioned_user_id, domain, user_alias, tfa_method, passkey,
                 connection_id, secret_ref, cache_ttl_seconds, sealed_credentials, sealed_attributes, session_data_set_at,
                 version, created_at, updated_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(entry.id.as_uuid())
        .bind(entry.workspace_id.as_uuid())
        .bind(&entry.permissioned_user_id)
        .bind(&entry.domain)
        .bind(&entry.user_alias)
        .bind(entry.tfa_method.map(|method| method.to_string()))
        .bind(entry.passkey)
        .bind(entry.connection_id.map(|id| id.as_uuid()))
        .bind(&entry.secret_ref)
        .bind(entry.cache_ttl_seconds)
        .bind(&entry.sealed_credentials)
        .bind(&entry.sealed_attributes)
        .bind(entry.session_data_set_at.map(Timestamp::as_millisecond))
        .bind(signed(entry.version))
        .bind(entry.created_at.as_millisecond())
        .bind(entry.updated_at.as_millisecond())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn update_entry(&self, entry: &EntryRecord, expected: u64) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        if !update_entry(&mut transaction, entry, expected).await? {
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn delete_entry(
        &self,
        workspace: WorkspaceId,
        entry: &EntrySelector,
    ) -> Result<Option<EntryRecord>, StorageError> {
        match entry {
            EntrySelector::Id(id) => query("DELETE FROM vault_entries WHERE workspace_id = ? AND id = ? RETURNING *")
                .bind(workspace.as_uuid())
                .bind(id.as_uuid()),
            EntrySelector::Pair { permissioned_user_id, domain } => query(
                "DELETE FROM vault_entries WHERE workspace_id = ? AND permissioned_user_id = ? AND domain = ? RETURNING *",
            )
            .bind(workspace.as_uuid())
            .bind(permissioned_user_id)
            .bind(domain),
        }
        .fetch_optional(&self.pool)
        .await?
        .as_ref()
        .map(rows::entry)
        .transpose()
    }

    async fn entry(&self, workspace: WorkspaceId, entry: &EntrySelector) -> Result<Option<EntryRecord>, StorageError> {
        match entry {
            EntrySelector::Id(id) => query("SELECT * FROM vault_entries WHERE workspace_id = ? AND id = ?")
                .bind(workspace.as_uuid())
                .bind(id.as_uuid()),
            EntrySelector::Pair { permissioned_user_id, domain } => {
                query("SELECT * FROM vault_entries WHERE workspace_id = ? AND permissioned_user_id = ? AND domain = ?")
                    .bind(workspace.as_uuid())
                    .bind(permissioned_user_id)
                    .bind(domain)
            }
        }
        .fetch_optional(&self.pool)
        .await?
        .as_ref()
        .map(rows::entry)
        .transpose()
    }

    async fn entries(
        &self,
        workspace: WorkspaceId,
        after: Option<EntryId>,
        limit: u32,
    ) -> Result<Vec<EntryRecord>, StorageError> {
        // Every identifier is greater than the nil UUID.
        query("SELECT * FROM vault_entries WHERE workspace_id = ? AND id > ? ORDER BY id LIMIT ?")
            .bind(workspace.as_uuid())
            .bind(after.map_or(Uuid::nil(), |id| id.as_uuid()))
            .bind(limit)
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(rows::entry)
            .collect()
    }

    // The rest is in keys.rs and budgets.rs.

    async fn record_changes(&self) -> Result<u64, StorageError> {
        let row = query("SELECT number FROM record_changes").fetch_one(&self.pool).await?;
        rows::number(&row, "number")
    }

    async fn host_key(&self, name: &str) -> Result<Option<HostKeyRecord>, StorageError> {
        self.select_host_key(name).await
    }

    async fn host_keys(&self) -> Result<Vec<HostKeyRecord>, StorageError> {
        self.select_host_keys().await
    }

    async fn insert_host_key(&self, key: &HostKeyRecord) -> Result<(), StorageError> {
        self.add_host_key(key).await
    }

    async fn reserve_requests(&self, reservation: &RequestReservation) -> Result<ReservedRequests, StorageError> {
        self.reserve(reservation).await
    }

    async fn request_counts(
        &self,
        subject: &[u8; 16],
        kind: RequestKind,
        from: Timestamp,
    ) -> Result<Vec<RequestCount>, StorageError> {
        self.select_request_counts(subject, kind, from).await
    }

    async fn breaker(&self, subject: &[u8; 16]) -> Result<Option<BreakerRecord>, StorageError> {
        self.select_breaker(subject).await
    }

    async fn save_breaker(&self, breaker: &BreakerRecord, expected: Option<u64>) -> Result<bool, StorageError> {
        self.put_breaker(breaker, expected).await
    }

    async fn forget_budgets(&self, before: Timestamp) -> Result<(), StorageError> {
        self.delete_budgets(before).await
    }

    async fn audit_anchors(&self) -> Result<Vec<AuditAnchorRecord>, StorageError> {
        query("SELECT * FROM audit_anchors ORDER BY series")
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(rows::audit_anchor)
            .collect()
    }

    async fn put_audit_anchor(&self, anchor: &AuditAnchorRecord) -> Result<(), StorageError> {
        query(
            "INSERT INTO audit_anchors (series, number, head, mac, at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (series) DO UPDATE SET number = excluded.number, head = excluded.head, mac = excluded.mac, at = excluded.at
             WHERE excluded.number > audit_anchors.number",
        )
        .bind(anchor.series)
        .bind(signed(anchor.number))
        .bind(anchor.head.as_slice())
        .bind(anchor.mac.as_slice())
        .bind(anchor.at.as_millisecond())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    // And here in rotations.rs.

    async fn insert_rotation(&self, rotation: &RotationRecord, entry_version: u64) -> Result<bool, StorageError> {
        rotations::insert(self.write().await?, rotation, entry_version).await
    }

    async fn update_rotation(&self, rotation: &RotationRecord, expected: u64) -> Result<bool, StorageError> {
        rotations::update(self.write().await?, rotation, expected).await
    }

    async fn fail_rotation(&self, rotation: &RotationRecord) -> Result<bool, StorageError> {
        rotations::fail(&self.pool, rotation).await
    }

    async fn finish_own_rotation(
        &self,
        rotation: &RotationRecord,
        expected: u64,
        entry: &EntryRecord,
        entry_expected: u64,
    ) -> Result<bool, StorageError> {
        rotations::finish_own(self.write().await?, rotation, expected, entry, entry_expected).await
    }

    async fn rotation(&self, workspace: WorkspaceId, id: RotationId) -> Result<Option<RotationRecord>, StorageError> {
        rotations::get(&self.pool, workspace, id).await
    }

    async fn rotations(
        &self,
        workspace: WorkspaceId,
        filter: &RotationFilter,
        after: Option<RotationId>,
        limit: u32,
    ) -> Result<Vec<RotationRecord>, StorageError> {
        rotations::list(&self.pool, workspace, filter, after, limit).await
    }

    async fn open_rotation_of_item(
        &self,
        workspace: WorkspaceId,
        item: &str,
    ) -> Result<Option<RotationRecord>, StorageError> {
        rotations::open_of_item(&self.pool, workspace, item).await
    }

    async fn due_rotations(
        &self,
        now: Timestamp,
        too_late: Timestamp,
        limit: u32,
    ) -> Result<Vec<RotationRecord>, StorageError> {
        rotations::due(&self.pool, now, too_late, limit).await
    }

    async fn item_state(
        &self,
        workspace: WorkspaceId,
        item: &str,
    ) -> Result<(u64, Option<RotationRecord>), StorageError> {
        rotations::item_state(&self.pool, workspace, item).await
    }
}

/// What is sealed of an entry.
fn sealed_of(entry: &EntryRecord) -> [Option<&[u8]>; 2] {
    [entry.sealed_credentials.as_deref(), entry.sealed_attributes.as_deref()]
}

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

/// Replaces an entry, also within a transaction.
/// Part of a transaction that holds the lock for writing.
pub(super) async fn update_entry(
    connection: &mut SqliteConnection,
    entry: &EntryRecord,
    expected: u64,
) -> Result<bool, StorageError> {
    must_be_current_key(connection, entry.workspace_id, &sealed_of(entry)).await?;
    let done = query(
        "UPDATE vault_entries SET permissioned_user_id = ?, domain = ?, user_alias = ?, tfa_method = ?, passkey = ?,
             connection_id = ?, secret_ref = ?, cache_ttl_seconds = ?, sealed_credentials = ?, sealed_attributes = ?,
             session_data_set_at = ?, version = ?, updated_at = ?
         WHERE workspace_id = ? AND id = ? AND version = ? AND NOT EXISTS (
                 SELECT 1 FROM rotations WHERE open_entry_id = vault_entries.id
                     AND (rotations.connection_id IS NOT ? OR rotations.secret_ref IS NOT ?))",
    )
    .bind(&entry.permissioned_user_id)
    .bind(&entry.domain)
    .bind(&entry.user_alias)
    .bind(entry.tfa_method.map(|method| method.to_string()))
    .bind(entry.passkey)
    .bind(entry.connection_id.map(|id| id.as_uuid()))
    .bind(&entry.secret_ref)
    .bind(entry.cache_ttl_seconds)
    .bind(&entry.sealed_credentials)
    .bind(&entry.sealed_attributes)
    .bind(entry.session_data_set_at.map(Timestamp::as_millisecond))
    .bind(signed(entry.version))
    .bind(entry.updated_at.as_millisecond())
    .bind(entry.workspace_id.as_uuid())
    .bind(entry.id.as_uuid())
    .bind(signed(expected))
    .bind(entry.connection_id.map(|id| id.as_uuid()))
    .bind(&entry.secret_ref)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}
