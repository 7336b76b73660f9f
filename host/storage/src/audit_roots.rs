//! How far the audit log has certainly come, kept apart from the log.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StorageError;

/// How far a series of the audit log has certainly come. Releases before the first root kept one
/// for each series.
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

/// The root of the audit log. It is opaque here: a line that carries its own MAC.
#[async_trait]
pub trait AuditRootStorage: Send + Sync + 'static {
    /// The stored roots: one, unless something else has written to the database.
    async fn audit_roots(&self) -> Result<Vec<Vec<u8>>, StorageError>;

    /// Writes a root in the place of `old`, or adds it. Adding removes the anchors. Does nothing
    /// and returns `false` unless the stored roots are exactly `known`.
    async fn put_audit_root(&self, known: &[Vec<u8>], old: Option<&[u8]>, new: &[u8]) -> Result<bool, StorageError>;

    /// The anchors of a release before the first root, in the order of their series. A row with an
    /// impossible value has a MAC of zeros.
    async fn audit_anchors(&self) -> Result<Vec<AuditAnchorRecord>, StorageError>;
}
