//! The database as a whole: finding the rows that are damaged, and deleting them.
//!
//! Everywhere else a damaged row costs that row alone: it opens nothing, lists leave it out, and
//! the log names it. What it still stops is a rotation of keys, because sealing everything again
//! would destroy for ever what a backup might still repair. So a person decides here.

use std::collections::HashSet;
use std::sync::Arc;

use keyway_audit::{Operation, Subject, Trail};
use keyway_storage::{Constraint, StorageError, WorkspaceId};
pub use keyway_storage::{DamagedRow, INDEX};

use crate::connections::DEPENDENTS_TOLD;
use crate::core::Core;
use crate::error::{BrokerError, Thing};
use crate::keys::damaged_values;

/// How many damaged rows are reported. More are hardly looked at one by one, and take memory.
pub const DAMAGED_ROWS: usize = 1_000;

/// The table of the keys of workspaces. Its rows go by the id of their workspace here.
pub(crate) const WORKSPACE_KEYS: &str = "workspace_keys";

/// The database as a whole: see [`Broker::database`](crate::Broker::database). For the code that
/// embeds the broker.
pub struct Database {
    pub(crate) core: Arc<Core>,
}

impl Database {
    /// The damaged rows, at most [`DAMAGED_ROWS`]: rows that something else than a host has
    /// changed, and sealed values that do not open. Indexes that differ from their tables come
    /// first and alone, in the table [`INDEX`]: with them, rows may be overlooked. A workspace
    /// without a key that opens is in the table `workspace_keys`, with its own id; a damaged key
    /// beside one that opens, with that id, a slash and the key's number. A workspace that has a
    /// key and no row is in the table `workspaces`. Reads and opens everything.
    ///
    /// # Errors
    /// Those of the database and of a key service.
    pub async fn damaged_rows(&self) -> Result<Vec<DamagedRow>, BrokerError> {
        self.core.ensure_open()?;
        let mut found = self.core.storage.damaged_indexes().await?;
        if !found.is_empty() {
            return Ok(found);
        }
        found = self.core.storage.damaged_rows(None, DAMAGED_ROWS).await?;
        for rows in self.core.storage.workspace_key_rows().await? {
            let row = |table, id| DamagedRow { table, id, workspace: rows.workspace };
            let mut damaged = rows.unreadable;
            let mut usable = None;
            if let Some(workspace) = rows.workspace {
                let (keys, do_not_open) = self.core.keyring.usable(workspace, &rows.keys).await?;
                if keys.is_none() && rows.exists {
                    found.push(row(WORKSPACE_KEYS, workspace.to_string()));
                    continue;
                }
                if keys.is_some() && !rows.exists {
                    found.push(row("workspaces", workspace.to_string()));
                }
                damaged.extend(do_not_open.into_iter().map(|term| format!("{workspace}/{term}")));
                usable = keys;
            }
            found.extend(damaged.into_iter().map(|id| row(WORKSPACE_KEYS, id)));
            let Some(keys) = usable else { continue };
            let limit = DAMAGED_ROWS.saturating_sub(found.len());
            let values = damaged_values(&self.core, &keys, limit).await?;
            found.extend(values.into_iter().map(|(column, id)| row(column.table(), id.to_string())));
        }
        let mut known = HashSet::new();
        found.retain(|row| known.insert((row.table, row.id.clone())));
        found.truncate(DAMAGED_ROWS);
        Ok(found)
    }

    /// How many rows of a table, or of a workspace's part of it, lists leave out because they are
    /// damaged. Reads only these.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn left_out(&self, table: &str, workspace: Option<WorkspaceId>) -> Result<usize, BrokerError> {
        self.core.ensure_open()?;
        Ok(self.core.storage.damaged_rows(Some((table, workspace)), DAMAGED_ROWS).await?.len())
    }

    /// Deletes a row that is [damaged](Self::damaged_rows), and what only it held. With a workspace
    /// or its only key goes everything that the workspace has, open rotations included. An index is
    /// made anew instead.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`] when no damaged row has that name;
    /// [`BrokerError::ConnectionInUse`], [`BrokerError::RotationOpen`] and
    /// [`BrokerError::RowInUse`] while others depend on it.
    pub async fn delete_damaged_row(&self, table: &str, id: &str) -> Result<(), BrokerError> {
        let trail = Trail::new();
        let delete = async {
            let damaged = self.damaged_rows().await?;
            let row = damaged.iter().find(|row| row.table == table && row.id == id);
            let row = row.ok_or(BrokerError::NotFound(Thing::DamagedRow))?;
            trail.note(|subject| name(subject, row));
            trail.begin().await?;
            let is_whole_workspace = row.table == WORKSPACE_KEYS && !row.id.contains(['/', ':']);
            let table = if is_whole_workspace { "workspaces" } else { row.table };
            match self.core.storage.delete_row(table, &row.id, row.workspace).await {
                Err(StorageError::Conflict(Constraint::Reference)) => return Err(self.why_in_use(row).await?),
                Ok(false) => return Err(BrokerError::NotFound(Thing::DamagedRow)),
                deleted => drop(deleted?),
            }
            if let Some(workspace) = row.workspace {
                self.core.keyring.remove(workspace).await;
            }
            Ok(())
        };
        self.core.audited_for_operator(Operation::DeleteDamagedRow, &trail, delete).await
    }

    async fn why_in_use(&self, row: &DamagedRow) -> Result<BrokerError, BrokerError> {
        let connection = row.id.parse().ok().filter(|_| row.table == "connections");
        if let Some((workspace, connection)) = row.workspace.zip(connection) {
            let entries = self.core.storage.entries_of_connection(workspace, connection, DEPENDENTS_TOLD).await?;
            return Ok(BrokerError::ConnectionInUse(entries));
        }
        Ok(if row.table == "vault_entries" { BrokerError::RotationOpen } else { BrokerError::RowInUse })
    }
}

/// Names a row in the audit log, if its identifier is one.
fn name(subject: &mut Subject, row: &DamagedRow) {
    match row.table {
        "vault_entries" => subject.entry = row.id.parse().ok(),
        "connections" | "connection_states" => subject.connection = row.id.parse().ok(),
        "rotations" => subject.rotation = row.id.parse().ok(),
        "api_keys" => subject.api_key = row.id.parse().ok(),
        _ => {}
    }
}
