//! The database as a whole: finding the rows that are damaged, and deleting them.
//!
//! Everywhere else a damaged row costs that row alone: it opens nothing, lists leave it out, and
//! the log names it. What it still stops is a rotation of keys, because sealing everything again
//! would destroy for ever what a backup might still repair. So a person decides here.

use std::collections::HashSet;
use std::sync::Arc;

use keyway_audit::{Operation, Subject, Trail};
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
    /// changed, and sealed values that do not open. A workspace without a key that opens is in the
    /// table `workspace_keys`, with its own id; a damaged key beside one that opens, with that id,
    /// a slash and the key's number. A workspace that has a key and no row is in the table
    /// `workspaces`. Reads and opens everything.
    ///
    /// # Errors
    /// Those of the database and of a key service.
    pub async fn damaged_rows(&self) -> Result<Vec<DamagedRow>, BrokerError> {
        self.core.ensure_open()?;
        let mut found = self.core.storage.damaged_rows(DAMAGED_ROWS).await?;
        for rows in self.core.storage.workspace_key_rows().await? {
            let row = |table, id| DamagedRow { table, id, workspace: rows.workspace };
            let key = |term: i64| row(WORKSPACE_KEYS, format!("{}/{term}", rows.owner));
            let Some(workspace) = rows.workspace else {
                found.extend(rows.keys.iter().map(|(term, _)| key(*term)));
                continue;
            };
            let readable = rows.keys.iter().filter_map(|(_, record)| record.as_ref());
            let (keys, do_not_open) = self.core.keyring.usable(workspace, readable).await?;
            let Some(keys) = keys else {
                match rows.exists {
                    true => found.push(row(WORKSPACE_KEYS, rows.owner.clone())),
                    false => found.extend(rows.keys.iter().map(|(term, _)| key(*term))),
                }
                continue;
            };
            let unreadable = rows.keys.iter().filter(|(_, record)| record.is_none()).map(|(term, _)| *term);
            found.extend(unreadable.chain(do_not_open.into_iter().map(i64::from)).map(key));
            if !rows.exists {
                found.push(row("workspaces", rows.owner.clone()));
            }
            let limit = DAMAGED_ROWS.saturating_sub(found.len());
            let values = damaged_values(&self.core, &keys, limit).await?;
            found.extend(values.into_iter().map(|(column, id)| row(column.table(), id.to_string())));
        }
        let mut known = HashSet::new();
        found.retain(|row| known.insert((row.table, row.id.clone())));
        found.truncate(DAMAGED_ROWS);
        Ok(found)
    }

    /// Deletes a row that is [damaged](Self::damaged_rows), and what only it held. With a workspace
    /// or its only key goes everything that the workspace has.
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
            let is_whole_workspace = row.table == WORKSPACE_KEYS && !row.id.contains('/');
            let table = if is_whole_workspace { "workspaces" } else { row.table };
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
