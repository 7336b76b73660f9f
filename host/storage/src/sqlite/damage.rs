//! Finding and deleting damaged rows.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, query};
use uuid::Uuid;

use super::SqliteStorage;
use super::rows::{Record, Sealed};
use crate::{
    ApiKeyRecord, ConnectionRecord, ConnectionStateRecord, DamageStorage, DamagedRow, EntryRecord, RotationRecord,
    StorageError, WorkspaceId, WorkspaceRecord, WorkspaceStorage,
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

    async fn delete_row(&self, table: &str, id: &str, workspace: Option<WorkspaceId>) -> Result<bool, StorageError> {
        let uuid = id.parse::<Uuid>();
        if let (WorkspaceRecord::TABLE, Ok(workspace)) = (table, &uuid) {
            return self.delete_workspace((*workspace).into()).await;
        }
        let Some(table) = TABLES.into_iter().find(|known| *known == table) else { return Ok(false) };
        let digits = uuid.map_or_else(|_| id.to_owned(), |id| id.simple().to_string());
        // Two workspaces may have rows of one identifier.
        let sql = format!("DELETE FROM {table} WHERE lower(hex(id)) = ?1 AND (?2 IS NULL OR {} = ?2)", owner(table));
        let delete = query(AssertSqlSafe(sql)).bind(digits).bind(workspace.map(|workspace| workspace.as_uuid()));
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

/// The column of the workspace.
fn owner(table: &str) -> &'static str {
    if table == WorkspaceRecord::TABLE { WorkspaceRecord::WORKSPACE } else { "workspace_id" }
}

fn damaged(table: &'static str, row: &SqliteRow) -> Result<DamagedRow, StorageError> {
    let digits: String = row.try_get("digits")?;
    let id = row.try_get::<Uuid, _>("id").map_or(digits, |id| id.to_string());
    Ok(DamagedRow { table, id, workspace: row.try_get::<Uuid, _>(owner(table)).ok().map(Into::into) })
}
