//! The statements about the anchors of the audit log.

use sqlx::query;
use sqlx::sqlite::SqlitePool;

use super::rows::{self, signed};
use crate::storage::{AuditAnchorRecord, StorageError};

pub(super) async fn list(pool: &SqlitePool) -> Result<Vec<AuditAnchorRecord>, StorageError> {
    query("SELECT * FROM audit_anchors ORDER BY series").fetch_all(pool).await?.iter().map(rows::audit_anchor).collect()
}

pub(super) async fn put(pool: &SqlitePool, anchor: &AuditAnchorRecord) -> Result<(), StorageError> {
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
    .execute(pool)
    .await?;
    Ok(())
}
