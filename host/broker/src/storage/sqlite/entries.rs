//! Pages of vault entries, which may be large.

use sqlx::sqlite::SqlitePool;
use sqlx::{Row, query};
use uuid::Uuid;

use super::rows;
use crate::id::{EntryId, WorkspaceId};
use crate::storage::{EntryRecords, StorageError};

pub(super) async fn list(
    pool: &SqlitePool,
    workspace: WorkspaceId,
    after: Option<EntryId>,
    limit: u32,
    bytes: u64,
) -> Result<EntryRecords, StorageError> {
    // Every identifier is greater than the nil UUID.
    let after = after.map_or(Uuid::nil(), |id| id.as_uuid());
    // Which rows fit, and whether there is another one; then the rows. The length of a value is read without the value.
    let sizes = query(
        "SELECT id, coalesce(length(sealed_credentials), 0) + coalesce(length(sealed_attributes), 0) AS size
         FROM vault_entries WHERE workspace_id = ? AND id > ? ORDER BY id LIMIT ?",
    )
    .bind(workspace.as_uuid())
    .bind(after)
    .bind(i64::from(limit) + 1)
    .fetch_all(pool)
    .await?;
    let (mut last, mut next, mut sum) = (None, None, 0_u64);
    for (row, number) in sizes.iter().zip(0..) {
        sum = sum.saturating_add(rows::number(row, "size")?);
        if last.is_some() && (sum > bytes || number == limit) {
            next = last;
            break;
        }
        last = Some(row.try_get::<Uuid, _>("id")?);
    }
    let Some(last) = last else { return Ok(EntryRecords { entries: Vec::new(), next: None }) };
    let found = query("SELECT * FROM vault_entries WHERE workspace_id = ? AND id > ? AND id <= ? ORDER BY id")
        .bind(workspace.as_uuid())
        .bind(after)
        .bind(last)
        .fetch_all(pool)
        .await?;
    // Each row is gone when it is copied.
    let entries = found.into_iter().map(|row| rows::entry(&row)).collect::<Result<_, _>>()?;
    Ok(EntryRecords { entries, next: next.map(EntryId::from) })
}
