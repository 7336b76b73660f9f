//! The statements about the anchors of the audit log.

use async_trait::async_trait;
use sqlx::query_as;

use super::SqliteStorage;
use super::rows::insert;
use crate::{AuditAnchorRecord, AuditAnchorStorage, StorageError};

#[async_trait]
impl AuditAnchorStorage for SqliteStorage {
    async fn audit_anchors(&self) -> Result<Vec<AuditAnchorRecord>, StorageError> {
        Ok(query_as("SELECT * FROM audit_anchors ORDER BY series").fetch_all(&self.pool).await?)
    }

    async fn put_audit_anchor(&self, anchor: &AuditAnchorRecord) -> Result<(), StorageError> {
        let or_replace = "ON CONFLICT (series) DO UPDATE
             SET number = excluded.number, head = excluded.head, mac = excluded.mac, at = excluded.at
             WHERE excluded.number > audit_anchors.number";
        insert(anchor, or_replace).execute(&self.pool).await?;
        Ok(())
    }
}
