//! The database as a whole: finding the rows that are damaged, and deleting them.
//!
//! Everywhere else a damaged row costs that row alone: it opens nothing, lists leave it out, and
//! the log names it. What it still stops is a rotation of keys, because sealing everything again
//! would destroy for ever what a backup might still repair. So a person decides here.

use std::collections::HashSet;
use std::sync::Arc;

use keyway_audit::{Operation, Subject, Trail};
use keyway_keys::KeyError;
pub use keyway_storage::DamagedRow;
use keyway_storage::{Constraint, StorageError};

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
    /// changed, sealed values that do not open, and workspaces whose key does not open (table
    /// `workspace_keys`, with the id of the workspace). Reads and opens everything.
    ///
    /// # Errors
    /// Those of the database and of a key service.
    pub async fn damaged_rows(&self) -> Result<Vec<DamagedRow>, BrokerError> {
        self.core.ensure_open()?;
        let mut found = self.core.storage.damaged_rows(DAMAGED_ROWS).await?;
        let mut workspaces: Vec<_> =
            self.core.storage.all_workspace_keys().await?.into_iter().map(|key| key.workspace_id).collect();
        workspaces.dedup();
        for workspace in workspaces {
            let row = |table, id: String| DamagedRow { table, id, workspace: Some(workspace) };
            match self.core.keyring.get(workspace).await {
                Ok(keys) => {
                    let limit = DAMAGED_ROWS.saturating_sub(found.len());
                    let values = damaged_values(&self.core, &keys, limit).await?;
                    found.extend(values.into_iter().map(|(column, id)| row(column.table(), id.to_string())));
                }
                Err(BrokerError::Key(KeyError::Envelope(_))) => found.push(row(WORKSPACE_KEYS, workspace.to_string())),
                // It was deleted meanwhile.
                Err(BrokerError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let mut known = HashSet::new();
        found.retain(|row| known.insert((row.table, row.id.clone())));
        found.truncate(DAMAGED_ROWS);
        Ok(found)
    }

    /// Deletes a row that is [damaged](Self::damaged_rows), and what only it held. With a workspace
    /// or its key goes everything that the workspace has.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`] when no damaged row has that name; [`BrokerError::RowInUse`].
    pub async fn delete_damaged_row(&self, table: &str, id: &str) -> Result<(), BrokerError> {
        let trail = Trail::new();
        let delete = async {
            let damaged = self.damaged_rows().await?;
            let row = damaged.iter().find(|row| row.table == table && row.id == id);
            let row = row.ok_or(BrokerError::NotFound(Thing::DamagedRow))?;
            trail.note(|subject| name(subject, row));
            trail.begin().await?;
            let table = if row.table == WORKSPACE_KEYS { "workspaces" } else { row.table };
            let deleted =
                self.core.storage.delete_row(table, &row.id, row.workspace).await.map_err(|error| match error {
                    StorageError::Conflict(Constraint::Reference) => BrokerError::RowInUse,
                    error => error.into(),
                })?;
            if !deleted {
                return Err(BrokerError::NotFound(Thing::DamagedRow));
            }
            if let Some(workspace) = row.workspace {
                self.core.keyring.remove(workspace).await;
            }
            Ok(())
        };
        self.core.audited_for_operator(Operation::DeleteDamagedRow, &trail, delete).await
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
