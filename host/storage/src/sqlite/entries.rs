//! The statements about vault entries.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, QueryBuilder, Row, Sqlite, SqliteConnection, query, query_as};
use uuid::Uuid;

use super::SqliteStorage;
use super::keys::must_be_current_key;
use super::rotations;
use super::rows::{IS_ID, Record, Sealed, fitting, read, signed, update};
use crate::{EntryId, EntryRecord, EntryRecords, EntrySelector, EntryStorage, ItemId, StorageError, WorkspaceId};

/// The total size of an entry's sealed values, in bytes.
const SIZE: &str = "coalesce(length(sealed_credentials), 0) + coalesce(length(sealed_attributes), 0) AS size";

#[async_trait]
impl EntryStorage for SqliteStorage {
    // Sealed values are always written in a transaction that holds the write lock, so that the key
    // they are sealed under stays the current one.
    async fn insert_entry(&self, entry: &EntryRecord) -> Result<(), StorageError> {
        let mut transaction = self.write().await?;
        must_be_current_key(&mut transaction, entry.workspace_id, &sealed_of(entry)).await?;
        self.add(&mut transaction, entry, "").await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn update_entry(&self, entry: &EntryRecord, expected: u64) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        let binding = binding(&mut transaction, entry).await?;
        if !self.update_entry_row(&mut transaction, entry, expected).await? {
            return Ok(false);
        }
        if let Some((connection, item)) = binding
            && (connection != entry.connection_id.map(|id| id.as_uuid()) || item != entry.secret_ref)
        {
            // In the same transaction: it invalidates what any host on this database has cached of
            // either item.
            let now = (entry.connection_id.map(|id| id.as_uuid()), entry.secret_ref.clone());
            for (connection, reference) in [(connection, item), now] {
                outdate(&mut transaction, entry.workspace_id, connection, reference.as_deref()).await?;
            }
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn delete_entry(
        &self,
        workspace: WorkspaceId,
        entry: &EntrySelector,
    ) -> Result<Option<EntryRecord>, StorageError> {
        let mut transaction = self.write().await?;
        let mut delete = selected("DELETE", workspace, entry);
        let deleted: Option<EntryRecord> =
            delete.push(" RETURNING *").build_query_as().fetch_all(&mut *transaction).await?.pop();
        if let Some(entry) = &deleted {
            let connection = entry.connection_id.map(|id| id.as_uuid());
            outdate(&mut transaction, workspace, connection, entry.secret_ref.as_deref()).await?;
        }
        transaction.commit().await?;
        Ok(deleted)
    }

    // The database knows the length of a value without reading it.
    async fn entry_size(&self, workspace: WorkspaceId, entry: &EntrySelector) -> Result<Option<u64>, StorageError> {
        let row = selected(&format!("SELECT {SIZE}"), workspace, entry).build().fetch_optional(&self.readers).await?;
        Ok(row.map(|row| read(&row, "size")).transpose()?)
    }

    async fn entry(&self, workspace: WorkspaceId, entry: &EntrySelector) -> Result<Option<EntryRecord>, StorageError> {
        self.one(selected("SELECT *", workspace, entry).build()).await
    }

    // A page of a workspace's entries, which may be large.
    async fn entries(
        &self,
        workspace: WorkspaceId,
        after: Option<EntryId>,
        limit: u32,
        bytes: u64,
    ) -> Result<EntryRecords, StorageError> {
        // Every identifier is greater than the nil UUID.
        let after = after.map_or(Uuid::nil(), |id| id.as_uuid());
        // First find the rows that fit, and whether more follow; then read them. The length of a
        // value is known without reading the value.
        let sql = format!(
            "SELECT id, {SIZE} FROM vault_entries WHERE workspace_id = ? AND id > ? AND {IS_ID} ORDER BY id LIMIT ?"
        );
        let sizes = query(AssertSqlSafe(sql))
            .bind(workspace.as_uuid())
            .bind(after)
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.readers)
            .await?;
        let fitting = fitting(&sizes, limit, bytes)?;
        let Some(last) = fitting.last() else { return Ok(EntryRecords { entries: Vec::new(), next: None }) };
        let sql = "SELECT * FROM vault_entries WHERE workspace_id = ? AND id > ? AND id <= ? ORDER BY id";
        let entries = self.all(query(sql).bind(workspace.as_uuid()).bind(after).bind(last)).await?;
        let next = (fitting.len() < sizes.len()).then_some(EntryId::from(*last));
        Ok(EntryRecords { entries, next })
    }
}

/// A statement about one entry of a workspace; `what` is its beginning.
fn selected(what: &str, workspace: WorkspaceId, entry: &EntrySelector) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(what);
    statement.push(" FROM vault_entries WHERE workspace_id = ").push_bind(workspace.as_uuid());
    match entry {
        EntrySelector::Id(id) => statement.push(" AND id = ").push_bind(id.as_uuid()),
        EntrySelector::Pair { user, domain } => {
            statement.push(" AND permissioned_user_id = ").push_bind(user).push(" AND domain = ").push_bind(domain)
        }
    };
    statement
}

/// The current binding of an entry: a connection and an item.
async fn binding(
    connection: &mut SqliteConnection,
    entry: &EntryRecord,
) -> Result<Option<(Option<Uuid>, Option<String>)>, StorageError> {
    let sql = "SELECT connection_id, secret_ref FROM vault_entries WHERE workspace_id = ? AND id = ?";
    let row = query_as(sql).bind(entry.workspace_id.as_uuid()).bind(entry.id.as_uuid());
    Ok(row.fetch_optional(connection).await?)
}

/// Adds 1 to the generation of the item of a current or former binding, if there is one.
async fn outdate(
    connection: &mut SqliteConnection,
    workspace: WorkspaceId,
    bound_to: Option<Uuid>,
    reference: Option<&str>,
) -> Result<(), StorageError> {
    let Some((bound_to, reference)) = bound_to.zip(reference) else { return Ok(()) };
    let account = query("SELECT account_id FROM connections WHERE workspace_id = ? AND id = ?")
        .bind(workspace.as_uuid())
        .bind(bound_to)
        .fetch_optional(&mut *connection)
        .await?;
    // Nothing is resolved over a damaged connection, and entries must leave it.
    let Some(account) = account.and_then(|row| row.try_get::<String, _>(0).ok()) else { return Ok(()) };
    let item = ItemId { account: account.into(), reference: reference.into() };
    rotations::outdate_item(connection, workspace, &item).await
}

impl SqliteStorage {
    /// Replaces an entry, as part of a transaction that holds the write lock.
    pub(super) async fn update_entry_row(
        &self,
        connection: &mut SqliteConnection,
        entry: &EntryRecord,
        expected: u64,
    ) -> Result<bool, StorageError> {
        must_be_current_key(connection, entry.workspace_id, &sealed_of(entry)).await?;
        let rest = " WHERE workspace_id = ? AND id = ? AND version = ? AND NOT EXISTS (
                     SELECT 1 FROM rotations WHERE open_entry_id = vault_entries.id
                         AND (rotations.connection_id IS NOT ? OR rotations.secret_ref IS NOT ?))";
        let update = update(entry, rest)
            .bind(entry.workspace_id.as_uuid())
            .bind(entry.id.as_uuid())
            .bind(signed(expected))
            .bind(entry.connection_id.map(|id| id.as_uuid()))
            .bind(entry.secret_ref.clone());
        let changed = |before: EntryRecord| before.changed_to(entry);
        Ok(self.change(connection, entry.key(), update, changed).await?.is_some())
    }
}

/// The sealed values of an entry.
fn sealed_of(entry: &EntryRecord) -> [Option<&[u8]>; 2] {
    [entry.sealed_credentials.as_deref(), entry.sealed_attributes.as_deref()]
}
