//! The statements about the anchors of the audit log.

use async_trait::async_trait;
use sqlx::{query, query_as};

use super::SqliteStorage;
use super::rows::signed;
use crate::{AuditAnchorRecord, AuditAnchorStorage, StorageError};

#[async_trait]
impl AuditAnchorStorage for SqliteStorage {
    async fn audit_anchors(&self) -> Result<Vec<AuditAnchorRecord>, StorageError> {
        Ok(query_as("SELECT * FROM audit_anchors ORDER BY series").fetch_all(&self.pool).await?)
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
}
