//! Rows that are not what a host wrote.

use async_trait::async_trait;

use crate::{StorageError, WorkspaceId, WorkspaceKeyRecord};

/// What stands in the place of a table for an index.
pub const INDEX: &str = "index";

/// A row that was damaged, or changed by something else than a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRow {
    /// Its table.
    pub table: &'static str,
    /// Its identifier: a UUID; for one key of a workspace, that of the workspace, a slash and the
    /// key's number. Where that cannot be read, `rowid:` and the number of the row in its table.
    /// Of an [index](INDEX) its name.
    pub id: String,
    /// The workspace that it names. It may be wrong, like everything else in the row.
    pub workspace: Option<WorkspaceId>,
}

/// The rows of a workspace's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceKeyRows {
    /// The workspace; `None` for rows that name none.
    pub workspace: Option<WorkspaceId>,
    /// Whether the workspace has a row, damaged or not.
    pub exists: bool,
    /// What the rows say.
    pub keys: Vec<WorkspaceKeyRecord>,
    /// The rows that cannot be read, as in [`DamagedRow::id`].
    pub unreadable: Vec<String>,
}

/// Finds and deletes damaged rows.
#[async_trait]
pub trait DamageStorage: Send + Sync + 'static {
    /// The indexes that differ from their tables. With one of them, queries overlook rows. Reads
    /// the whole database; fails with [`StorageError::Failed`] if it has pages that cannot be read.
    async fn damaged_indexes(&self) -> Result<Vec<DamagedRow>, StorageError>;

    /// The rows of sealed tables without a good seal, at most `limit`. Sealed values in the rows
    /// are not opened. Reads all tables, or only the one that is given, and of that only the rows
    /// of the workspace that is given.
    async fn damaged_rows(
        &self,
        of: Option<(&str, Option<WorkspaceId>)>,
        limit: usize,
    ) -> Result<Vec<DamagedRow>, StorageError>;

    /// The rows of the keys of all workspaces, also of those without any.
    async fn workspace_key_rows(&self) -> Result<Vec<WorkspaceKeyRows>, StorageError>;

    /// Deletes the row of this table with this identifier, and this workspace if it names one,
    /// damaged or not, without reading it. A workspace is deleted with everything in it, open
    /// rotations included, and an index is made anew. Returns whether there was one. Fails with
    /// [`Constraint::Reference`](crate::Constraint::Reference) while another row depends on it.
    async fn delete_row(&self, table: &str, id: &str, workspace: Option<WorkspaceId>) -> Result<bool, StorageError>;
}
