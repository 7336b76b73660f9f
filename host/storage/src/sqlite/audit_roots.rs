//! The statements about the root of the audit log.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row, query, query_scalar};

use super::SqliteStorage;
use crate::{AuditAnchorRecord, AuditRootStorage, StorageError};

/// What is no root is kept as evidence too, and must not stop the log.
pub(super) const ROOTS: &str = "SELECT coalesce(CAST(root AS BLOB), x'') FROM audit_roots ORDER BY rowid";

#[async_trait]
impl AuditRootStorage for SqliteStorage {
    async fn audit_roots(&self) -> Result<Vec<Vec<u8>>, StorageError> {
        Ok(query_scalar(ROOTS).fetch_all(&self.readers).await?)
    }

    async fn put_audit_root(&self, known: &[Vec<u8>], old: Option<&[u8]>, new: &[u8]) -> Result<bool, StorageError> {
        let mut transaction = self.write().await?;
        let stored: Vec<Vec<u8>> = query_scalar(ROOTS).fetch_all(&mut *transaction).await?;
        if stored != known {
            return Ok(false);
        }
        if let Some(old) = old {
            let update = query("UPDATE audit_roots SET root = ? WHERE root = ?").bind(new.to_vec()).bind(old.to_vec());
            update.execute(&mut *transaction).await?;
        } else {
            query("INSERT INTO audit_roots (root) VALUES (?)").bind(new.to_vec()).execute(&mut *transaction).await?;
            query("DELETE FROM audit_anchors").execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn audit_anchors(&self) -> Result<Vec<AuditAnchorRecord>, StorageError> {
        let rows: Vec<SqliteRow> =
            query("SELECT * FROM audit_anchors ORDER BY series").fetch_all(&self.readers).await?;
        Ok(rows.iter().map(|row| AuditAnchorRecord::from_row(row).unwrap_or_else(|_| impossible(row))).collect())
    }
}

/// Stands for a row with a value that this crate never writes. It must not stop the log, and its
/// MAC makes it a finding.
fn impossible(row: &SqliteRow) -> AuditAnchorRecord {
    let series = row.try_get("series").ok().and_then(|series: i64| series.try_into().ok()).unwrap_or(0);
    AuditAnchorRecord { series, number: 0, head: [0; 32], mac: [0; 32], at: Timestamp::UNIX_EPOCH }
}
