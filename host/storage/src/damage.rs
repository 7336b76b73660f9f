//! Rows that are not what a host wrote.

use async_trait::async_trait;

use crate::{StorageError, WorkspaceId, WorkspaceKeyRecord};

/// A row that was damaged, or changed by something else than a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRow {
    /// Its table.
    pub table: &'static str,
    /// Its identifier: a UUID, or the hexadecimal digits of what stands in the place of one. For
    /// one key of a workspace, that of the workspace, a slash and the key's number.
    pub id: String,
    /// The workspace that it names. It may be wrong, like everything else in the row.
    pub workspace: Option<WorkspaceId>,
}

/// The rows of a workspace's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceKeyRows {
    /// The workspace's identifier, as in [`DamagedRow::id`].
    pub owner: String,
    /// The same, if it is one.
    pub workspace: Option<WorkspaceId>,
    /// Whether the workspace has a row, damaged or not.
    pub exists: bool,
    /// The number of each key, and what its row says; `None` for a row that cannot be read.
    pub keys: Vec<(i64, Option<WorkspaceKeyRecord>)>,
}

/// Finds and deletes damaged rows.
#[async_trait]
pub trait DamageStorage: Send + Sync + 'static {
    /// The rows of sealed tables without a good seal, at most `limit`. Sealed values in the rows
    /// are not opened. Reads the whole database.
    async fn damaged_rows(&self, limit: usize) -> Result<Vec<DamagedRow>, StorageError>;

    /// The rows of the keys of all workspaces, also of those without any.
    async fn workspace_key_rows(&self) -> Result<Vec<WorkspaceKeyRows>, StorageError>;

    /// Deletes the row of this table with this identifier, and this workspace if it names one,
    /// damaged or not, without reading it. A workspace is deleted with everything in it. Returns
    /// whether there was one. Fails with [`Constraint::Reference`](crate::Constraint::Reference)
    /// while another row depends on it.
    async fn delete_row(&self, table: &str, id: &str, workspace: Option<WorkspaceId>) -> Result<bool, StorageError>;
}
