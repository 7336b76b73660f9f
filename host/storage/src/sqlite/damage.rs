//! Finding and deleting damaged rows, and indexes that differ from their tables.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, FromRow, Row, query, query_scalar};
use uuid::Uuid;

use super::SqliteStorage;
use super::explain::damaged_file;
use super::rows::{PLACE, Record, Sealed, id_in, key_in, place_in};
use crate::{
    ApiKeyRecord, ConnectionRecord, ConnectionStateRecord, Constraint, DamageStorage, DamagedRow, EntryRecord, INDEX,
    RotationRecord, StorageError, WorkspaceId, WorkspaceKeyRecord, WorkspaceKeyRows, WorkspaceRecord,
};

/// How many rows are read at a time.
const PAGE: u32 = 100;

#[async_trait]
impl DamageStorage for SqliteStorage {
    // SQLite names an index at the end of each line about it. Lines about values are about rows,
    // whose seals are checked elsewhere. All others are about pages, with which making an index
    // anew fails as well.
    async fn damaged_indexes(&self) -> Result<Vec<DamagedRow>, StorageError> {
        let told: Vec<String> = query_scalar("PRAGMA integrity_check(1000)").fetch_all(&self.readers).await?;
        let mut found: Vec<DamagedRow> = Vec::new();
        for line in told.iter().flat_map(|told| told.lines()) {
            if let Some((_, index)) = line.split_once(" index ") {
                if found.iter().all(|row| row.id != index) {
                    found.push(DamagedRow { table: INDEX, id: index.to_owned(), workspace: None });
                }
            } else if line != "ok" && !line.contains(" value in ") && !line.starts_with("CHECK constraint ") {
                return Err(damaged_file());
            }
        }
        Ok(found)
    }

    async fn damaged_rows(
        &self,
        of: Option<(&str, Option<WorkspaceId>)>,
        limit: usize,
    ) -> Result<Vec<DamagedRow>, StorageError> {
        let mut found = Vec::new();
        self.damaged_of::<WorkspaceRecord>(of, &mut found, limit).await?;
        self.damaged_of::<ApiKeyRecord>(of, &mut found, limit).await?;
        self.damaged_of::<ConnectionRecord>(of, &mut found, limit).await?;
        self.damaged_of::<ConnectionStateRecord>(of, &mut found, limit).await?;
        self.damaged_of::<EntryRecord>(of, &mut found, limit).await?;
        self.damaged_of::<RotationRecord>(of, &mut found, limit).await?;
        Ok(found)
    }

    async fn workspace_key_rows(&self) -> Result<Vec<WorkspaceKeyRows>, StorageError> {
        let sql = "SELECT coalesce(workspaces.id, workspace_id) AS owner, workspaces.id IS NOT NULL AS is_there,
                       keys.rowid AS place, keys.*
                   FROM workspaces FULL JOIN workspace_keys AS keys ON keys.workspace_id = workspaces.id
                   ORDER BY owner, term";
        let mut found: Vec<WorkspaceKeyRows> = Vec::new();
        for row in query(sql).fetch_all(&self.readers).await? {
            let (workspace, exists) = (id_in(&row, "owner").map(WorkspaceId::from), row.try_get("is_there")?);
            if found.last().is_none_or(|last| last.workspace != workspace) {
                found.push(WorkspaceKeyRows { workspace, exists, keys: Vec::new(), unreadable: Vec::new() });
            }
            let (Some(last), Some(_)) = (found.last_mut(), row.try_get::<Option<i64>, _>("place")?) else { continue };
            match WorkspaceKeyRecord::from_row(&row) {
                Ok(key) if workspace.is_some() => last.keys.push(key),
                _ => last.unreadable.push(key_in(&row)),
            }
        }
        Ok(found)
    }

    async fn delete_row(&self, table: &str, id: &str, workspace: Option<WorkspaceId>) -> Result<bool, StorageError> {
        if table == INDEX {
            let sql = format!("REINDEX \"{}\"", id.replace('"', "\"\""));
            return match query(AssertSqlSafe(sql)).execute(self.writer()?).await.map_err(StorageError::from) {
                // Its table has rows that no host could have added.
                Err(StorageError::Conflict(Constraint::Unique)) => Err(damaged_file()),
                made => made.map(|_| true),
            };
        }
        let Some(table) = TABLES.into_iter().find(|known| *known == table) else { return Ok(false) };
        let delete = |which: &str| query(AssertSqlSafe(format!("DELETE FROM {table} WHERE {which}")));
        let delete = if let Some(place) = id.strip_prefix(PLACE) {
            delete("rowid = ?").bind(place.parse::<i64>().ok())
        } else if table == WorkspaceKeyRecord::TABLE {
            let (workspace, term) = id.split_once('/').unwrap_or_default();
            let key = delete("workspace_id = ? AND term = ?");
            key.bind(workspace.parse::<Uuid>().ok()).bind(term.parse::<i64>().ok())
        } else if table == WorkspaceRecord::TABLE {
            let Ok(workspace) = id.parse::<Uuid>() else { return Ok(false) };
            let has_key = "SELECT EXISTS (SELECT 1 FROM workspace_keys WHERE workspace_id = ?)";
            // Its row may be the one that is missing.
            let has_key: bool = query_scalar(has_key).bind(workspace).fetch_one(&self.readers).await?;
            let rotations = "DELETE FROM rotations WHERE workspace_id = ?";
            return Ok(self.delete_with_rotations(workspace.into(), rotations).await? || has_key);
        } else {
            // Two workspaces may have rows of one identifier.
            delete("workspace_id = ? AND id = ?").bind(workspace.map(|id| id.as_uuid())).bind(id.parse::<Uuid>().ok())
        };
        Ok(delete.execute(self.writer()?).await?.rows_affected() > 0)
    }
}

const TABLES: [&str; 7] = [
    WorkspaceRecord::TABLE,
    WorkspaceKeyRecord::TABLE,
    ApiKeyRecord::TABLE,
    ConnectionRecord::TABLE,
    ConnectionStateRecord::TABLE,
    EntryRecord::TABLE,
    RotationRecord::TABLE,
];

impl SqliteStorage {
    async fn damaged_of<R: Sealed>(
        &self,
        of: Option<(&str, Option<WorkspaceId>)>,
        found: &mut Vec<DamagedRow>,
        limit: usize,
    ) -> Result<(), StorageError> {
        if of.is_some_and(|(table, _)| table != R::TABLE) {
            return Ok(());
        }
        let workspace = of.and_then(|(_, workspace)| workspace);
        let sql = format!(
            "SELECT *, rowid AS place FROM {} WHERE rowid > ?1 AND (?2 IS NULL OR {} = ?2) ORDER BY rowid LIMIT ?3",
            R::TABLE,
            R::WORKSPACE
        );
        // By their place, because also the identifier of a row may be damaged.
        let mut after = i64::MIN;
        loop {
            let rows = query(AssertSqlSafe(sql.clone())).bind(after).bind(workspace.map(|id| id.as_uuid())).bind(PAGE);
            let rows = rows.fetch_all(&self.readers).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.try_get("place")?;
            for row in &rows {
                match self.verified::<R>(row) {
                    Ok(_) => {}
                    Err(StorageError::Damaged { .. }) if found.len() >= limit => return Ok(()),
                    Err(StorageError::Damaged { .. }) => found.push(damaged::<R>(row)),
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

fn damaged<R: Sealed>(row: &SqliteRow) -> DamagedRow {
    let workspace = id_in(row, R::WORKSPACE).map(WorkspaceId::from);
    // Without its workspace, its identifier may be that of a row that is in order.
    let id = id_in(row, "id").filter(|_| workspace.is_some());
    DamagedRow { table: R::TABLE, id: id.map_or_else(|| place_in(row), |id| id.to_string()), workspace }
}
