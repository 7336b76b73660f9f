//! How far the audit log has certainly come, kept apart from the log.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StorageError;

/// How far a series of the audit log has certainly come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditAnchorRecord {
    /// Which series.
    pub series: u32,
    /// The number of its last record at that time.
    pub number: u64,
    /// The MAC of that record.
    pub head: [u8; 32],
    /// A MAC over all of this except the time, under the audit key.
    pub mac: [u8; 32],
    /// When it was made.
    pub at: Timestamp,
}

/// The anchors of the audit log.
#[async_trait]
pub trait AuditAnchorStorage: Send + Sync + 'static {
    /// The anchors of the audit log in the order of their series.
    async fn audit_anchors(&self) -> Result<Vec<AuditAnchorRecord>, StorageError>;

    /// Adds an anchor, or replaces the anchor of its series if that has a lower number. An anchor
    /// with a higher number stays.
    async fn put_audit_anchor(&self, anchor: &AuditAnchorRecord) -> Result<(), StorageError>;
}
