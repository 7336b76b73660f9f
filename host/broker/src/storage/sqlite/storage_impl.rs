//! [`Storage`], method by method. Each is one statement, which SQLite runs as a whole or not at all, or a transaction:
//! where sealed values are written, which key they may be under is decided in the same one. The statements are in the
//! files of what they are about.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::query;
use uuid::Uuid;

use super::{ERASING, SqliteStorage, api_keys, audit_anchors, connections, entries, rotations, rows, workspaces};
use crate::connection::DependentEntries;
use crate::id::{ApiKeyId, ConnectionId, EntryId, RotationId, WorkspaceId};
use crate::rotation::RotationFilter;
use crate::storage::{
    ApiKeyRecord, AuditAnchorRecord, BreakerRecord, ConnectionRecord, EntryRecord, EntryRecords, EntrySelector,
    HostKeyRecord, MasterKeyRecord, RequestCount, RequestKind, RequestReservation, ReservedRequests, RotationRecord,
    SealedColumn, SealedValue, Storage, StorageError, WorkspaceKeyRecord, WorkspaceRecord,
};

#[async_trait]
impl Storage for SqliteStorage {
    async fn master_keys(&self) -> Result<Vec<MasterKeyRecord>, StorageError> {
        self.select_master_keys().await
    }

    async fn insert_master_key(&self, key: &MasterKeyRecord) -> Result<(), StorageError> {
        self.add_master_key(key).await
    }

    async fn count_master_key_uses(&self, term: u32, uses: u64) -> Result<u64, StorageError> {
        self.add_master_key_uses(term, uses).await
    }

    async fn insert_workspace(
        &self,
        workspace: &WorkspaceRecord,
        key: &WorkspaceKeyRecord,
        api_key: &ApiKeyRecord,
    ) -> Result<(), StorageError> {
        workspaces::insert(self.write().await?, workspace, key, api_key).await
    }

    async fn workspace(&self, id: WorkspaceId) -> Result<Option<WorkspaceRecord>, StorageError> {
        workspaces::get(&self.pool, id).await
    }

    async fn workspaces(&self) -> Result<Vec<WorkspaceRecord>, StorageError> {
        workspaces::list(&self.pool).await
    }

    async fn workspace_keys(&self, workspace: WorkspaceId) -> Result<Vec<WorkspaceKeyRecord>, StorageError> {
        self.select_workspace_keys(workspace).await
    }

    async fn workspace_key_terms(&self, workspace: WorkspaceId) -> Result<Vec<u32>, StorageError> {
        self.select_workspace_key_terms(workspace).await
    }

    async fn all_workspace_keys(&self) -> Result<Vec<WorkspaceKeyRecord>, StorageError> {
        self.select_all_workspace_keys().await
    }

    async fn unfinished_key_rotations(&self) -> Result<Vec<WorkspaceId>, StorageError> {
        self.select_unfinished_key_rotations().await
    }

    async fn count_workspace_key_uses(
        &self,
        workspace: WorkspaceId,
        term: u32,
        uses: u64,
    ) -> Result<Option<u64>, StorageError> {
        self.add_workspace_key_uses(workspace, term, uses).await
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

    async fn erase_traces(&self) -> Result<bool, StorageError> {
        self.erase_within(ERASING).await
    }

    async fn insert_api_key(&self, key: &ApiKeyRecord) -> Result<(), StorageError> {
        api_keys::insert(&self.pool, key).await
    }

    async fn api_key(&self, lookup: &str) -> Result<Option<ApiKeyRecord>, StorageError> {
        api_keys::get(&self.pool, lookup).await
    }

    async fn api_keys(&self, workspace: WorkspaceId) -> Result<Vec<ApiKeyRecord>, StorageError> {
        api_keys::list(&self.pool, workspace).await
    }

    async fn revoke_api_key(
        &self,
        workspace: WorkspaceId,
        id: ApiKeyId,
        at: Timestamp,
    ) -> Result<Option<ApiKeyRecord>, StorageError> {
        api_keys::revoke(&self.pool, workspace, id, at).await
    }

    async fn insert_connection(&self, connection: &ConnectionRecord) -> Result<(), StorageError> {
        connections::insert(self.write().await?, connection).await
    }

    async fn update_connection(
        &self,
        connection: &ConnectionRecord,
        expected: u64,
        clear_cached_secrets: bool,
    ) -> Result<bool, StorageError> {
        connections::update(self.write().await?, connection, expected, clear_cached_secrets).await
    }

    async fn clear_cached_secrets(&self, workspace: WorkspaceId, id: ConnectionId) -> Result<bool, StorageError> {
        connections::clear_cached_secrets(&self.pool, workspace, id).await
    }

    async fn connection(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
    ) -> Result<Option<ConnectionRecord>, StorageError> {
        connections::get(&self.pool, workspace, id).await
    }

    async fn connections(&self, workspace: WorkspaceId) -> Result<Vec<ConnectionRecord>, StorageError> {
        connections::list(&self.pool, workspace).await
    }

    async fn provider_types(&self) -> Result<Vec<String>, StorageError> {
        connections::provider_types(&self.pool).await
    }

    async fn delete_connection(&self, workspace: WorkspaceId, id: ConnectionId) -> Result<bool, StorageError> {
        connections::delete(&self.pool, workspace, id).await
    }

    async fn entries_of_connection(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
        limit: u32,
    ) -> Result<DependentEntries, StorageError> {
        connections::entries(&self.pool, workspace, id, limit).await
    }

    async fn connections_of_item(
        &self,
        workspace: WorkspaceId,
        secret_ref: &str,
    ) -> Result<Vec<ConnectionId>, StorageError> {
        connections::of_item(&self.pool, workspace, secret_ref).await
    }

    async fn insert_entry(&self, entry: &EntryRecord) -> Result<(), StorageError> {
        entries::insert(self.write().await?, entry).await
    }

    async fn update_entry(&self, entry: &EntryRecord, expected: u64) -> Result<bool, StorageError> {
        entries::update(self.write().await?, entry, expected).await
    }

    async fn delete_entry(
        &self,
        workspace: WorkspaceId,
        entry: &EntrySelector,
    ) -> Result<Option<EntryRecord>, StorageError> {
        entries::delete(self.write().await?, workspace, entry).await
    }

    async fn entry_size(&self, workspace: WorkspaceId, entry: &EntrySelector) -> Result<Option<u64>, StorageError> {
        entries::size(&self.pool, workspace, entry).await
    }

    async fn entry(&self, workspace: WorkspaceId, entry: &EntrySelector) -> Result<Option<EntryRecord>, StorageError> {
        entries::get(&self.pool, workspace, entry).await
    }

    async fn entries(
        &self,
        workspace: WorkspaceId,
        after: Option<EntryId>,
        rows: u32,
        bytes: u64,
    ) -> Result<EntryRecords, StorageError> {
        entries::list(&self.pool, workspace, after, rows, bytes).await
    }

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
        audit_anchors::list(&self.pool).await
    }

    async fn put_audit_anchor(&self, anchor: &AuditAnchorRecord) -> Result<(), StorageError> {
        audit_anchors::put(&self.pool, anchor).await
    }

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
        future: Timestamp,
        limit: u32,
    ) -> Result<Vec<RotationRecord>, StorageError> {
        rotations::due(&self.pool, now, future, limit).await
    }

    async fn item_state(
        &self,
        workspace: WorkspaceId,
        item: &str,
    ) -> Result<(u64, Option<RotationRecord>), StorageError> {
        rotations::item_state(&self.pool, workspace, item).await
    }
}
