//! Finding and deleting damaged rows.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, FromRow, Row, query, query_scalar};
use uuid::Uuid;

use super::SqliteStorage;
use super::rows::{Record, Sealed};
use crate::{
    ApiKeyRecord, ConnectionRecord, ConnectionStateRecord, DamageStorage, DamagedRow, EntryRecord, RotationRecord,
    StorageError, WorkspaceId, WorkspaceKeyRecord, WorkspaceKeyRows, WorkspaceRecord, WorkspaceStorage,
};

/// How many rows are read at a time.
const PAGE: u32 = 100;

#[async_trait]
impl DamageStorage for SqliteStorage {
    async fn damaged_rows(&self, limit: usize) -> Result<Vec<DamagedRow>, StorageError> {
        let mut found = Vec::new();
        self.damaged_of::<WorkspaceRecord>(&mut found, limit).await?;
        self.damaged_of::<ApiKeyRecord>(&mut found, limit).await?;
        self.damaged_of::<ConnectionRecord>(&mut found, limit).await?;
        self.damaged_of::<ConnectionStateRecord>(&mut found, limit).await?;
        self.damaged_of::<EntryRecord>(&mut found, limit).await?;
        self.damaged_of::<RotationRecord>(&mut found, limit).await?;
        Ok(found)
    }

    async fn workspace_key_rows(&self) -> Result<Vec<WorkspaceKeyRows>, StorageError> {
        let sql = "SELECT workspaces.id AS owner, 1 AS is_there, keys.*
                   FROM workspaces LEFT JOIN workspace_keys AS keys ON keys.workspace_id = workspaces.id
                   UNION ALL
                   SELECT workspace_id AS owner, 0 AS is_there, * FROM workspace_keys
                   WHERE workspace_id NOT IN (SELECT id FROM workspaces)
                   ORDER BY owner, term";
        let mut found: Vec<WorkspaceKeyRows> = Vec::new();
        for row in query(sql).fetch_all(&self.readers).await? {
            let owner: Vec<u8> = row.try_get("owner")?;
            let uuid = Uuid::from_slice(&owner).ok();
            let owner = uuid.map_or_else(|| hex(&owner), |id| id.to_string());
            if found.last().is_none_or(|last| last.owner != owner) {
                let (workspace, exists) = (uuid.map(Into::into), row.try_get("is_there")?);
                found.push(WorkspaceKeyRows { owner, workspace, exists, keys: Vec::new() });
            }
            if let (Some(last), Some(term)) = (found.last_mut(), row.try_get("term")?) {
                last.keys.push((term, WorkspaceKeyRecord::from_row(&row).ok()));
            }
        }
        Ok(found)
    }

    async fn delete_row(&self, table: &str, id: &str, workspace: Option<WorkspaceId>) -> Result<bool, StorageError> {
        if let (WorkspaceKeyRecord::TABLE, Some((owner, term))) = (table, id.split_once('/')) {
            let sql = "DELETE FROM workspace_keys WHERE lower(hex(workspace_id)) = ? AND CAST(term AS TEXT) = ?";
            let delete = query(sql).bind(digits(owner)).bind(term.to_owned());
            return Ok(delete.execute(self.writer()?).await?.rows_affected() > 0);
        }
        let uuid = id.parse::<Uuid>();
        if let (WorkspaceRecord::TABLE, Ok(workspace)) = (table, &uuid) {
            let has_key = "SELECT EXISTS (SELECT 1 FROM workspace_keys WHERE workspace_id = ?)";
            // Its row may be the one that is missing.
            let has_key: bool = query_scalar(has_key).bind(*workspace).fetch_one(&self.readers).await?;
            return Ok(self.delete_workspace((*workspace).into()).await? || has_key);
        }
        let Some(table) = TABLES.into_iter().find(|known| *known == table) else { return Ok(false) };
        // Two workspaces may have rows of one identifier.
        let sql = format!("DELETE FROM {table} WHERE lower(hex(id)) = ?1 AND (?2 IS NULL OR {} = ?2)", owner(table));
        let delete = query(AssertSqlSafe(sql)).bind(digits(id)).bind(workspace.map(|workspace| workspace.as_uuid()));
        Ok(delete.execute(self.writer()?).await?.rows_affected() > 0)
    }
}

const TABLES: [&str; 6] = [
    WorkspaceRecord::TABLE,
    ApiKeyRecord::TABLE,
    ConnectionRecord::TABLE,
    ConnectionStateRecord::TABLE,
    EntryRecord::TABLE,
    RotationRecord::TABLE,
];

impl SqliteStorage {
    async fn damaged_of<R: Sealed>(&self, found: &mut Vec<DamagedRow>, limit: usize) -> Result<(), StorageError> {
        let sql = format!(
            "SELECT *, rowid AS place, lower(hex(id)) AS digits FROM {} WHERE rowid > ? ORDER BY rowid LIMIT ?",
            R::TABLE
        );
        // By their place, because also the identifier of a row may be damaged.
        let mut after = i64::MIN;
        loop {
            let rows = query(AssertSqlSafe(sql.clone())).bind(after).bind(PAGE).fetch_all(&self.readers).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.try_get("place")?;
            for row in &rows {
                match self.verified::<R>(row) {
                    Ok(_) => {}
                    Err(StorageError::Damaged { .. }) if found.len() >= limit => return Ok(()),
                    Err(StorageError::Damaged { .. }) => found.push(damaged(R::TABLE, row)?),
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// The hexadecimal digits of an identifier, as SQLite writes them.
fn digits(id: &str) -> String {
    id.parse::<Uuid>().map_or_else(|_| id.to_owned(), |id| id.simple().to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The column of the workspace.
fn owner(table: &str) -> &'static str {
    if table == WorkspaceRecord::TABLE { WorkspaceRecord::WORKSPACE } else { "workspace_id" }
}

fn damaged(table: &'static str, row: &SqliteRow) -> Result<DamagedRow, StorageError> {
    let digits: String = row.try_get("digits")?;
    let id = row.try_get::<Uuid, _>("id").map_or(digits, |id| id.to_string());
    Ok(DamagedRow { table, id, workspace: row.try_get::<Uuid, _>(owner(table)).ok().map(Into::into) })
}
