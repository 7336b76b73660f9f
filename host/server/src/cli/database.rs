//! `keyway database`: damaged rows.

use keyway::database::{DamagedRow, INDEX};
use keyway::{ErrorKind, WorkspaceId};
use serde::Serialize;

use super::app::App;
use super::args::DatabaseCommand;
use super::exit::CliError;
use super::output::{FAINT, printable};
use crate::view::view;

pub(super) async fn run(app: &App, command: DatabaseCommand) -> Result<(), CliError> {
    let host = app.open_without_providers().await?;
    let database = host.broker().database();
    match command {
        DatabaseCommand::Check => {
            let damaged: Vec<_> = database.damaged_rows().await?.into_iter().map(Damaged::from).collect();
            let empty = "No row is damaged, and everything that is sealed opens.";
            app.output.list(&damaged, ["TABLE", "ID", "WORKSPACE"], empty, |table, row| {
                let workspace = row.workspace_id.map(|id| id.to_string()).unwrap_or_default();
                table.row([&row.table, &row.id, &workspace]);
            })?;
            if damaged.is_empty() {
                return Ok(());
            }
            if damaged.iter().any(|row| row.table == INDEX) {
                let message = "an index differs from its table, so rows are overlooked";
                let hint =
                    "`keyway database delete-damaged index ID` makes it anew and loses nothing; then check again";
                return Err(CliError::new(ErrorKind::Internal, message).hint(hint).in_result());
            }
            let count = if damaged.len() == 1 { "1 row is".to_owned() } else { format!("{} rows are", damaged.len()) };
            let message = format!("{count} damaged, or changed by something else than this program");
            let hint = "restore a backup, or delete each with `keyway database delete-damaged TABLE ID --yes`";
            Err(CliError::new(ErrorKind::Internal, message).hint(hint).in_result())
        }
        DatabaseCommand::DeleteDamaged { table, id, yes } => {
            if !yes && table != INDEX {
                let message = "what only this row held is lost for ever, unless a backup has it";
                let hint = match &*table {
                    "workspace_keys" if id.contains(['/', ':']) => {
                        "--yes deletes this key alone, and the workspace keeps the others"
                    }
                    "workspaces" | "workspace_keys" => {
                        "--yes deletes the workspace with everything in it, also the passwords of open rotations, \
                         which sites may already have"
                    }
                    "rotations" => "--yes deletes it; the site may have a password that only this rotation held",
                    _ => "--yes deletes it",
                };
                return Err(CliError::usage(message).hint(hint));
            }
            database.delete_damaged_row(&table, &id).await?;
            let deleted = Deleted { table, id };
            app.output.result(&deleted, |out| {
                if deleted.table == INDEX {
                    return writeln!(out, "Made the index {} anew.", printable(&deleted.id));
                }
                writeln!(out, "Deleted the row {} of {}.", printable(&deleted.id), printable(&deleted.table))?;
                writeln!(out, "{FAINT}Running servers follow within a second.{FAINT:#}")
            })
        }
    }
}

view! {
    struct Damaged of row: DamagedRow {
        table: &'static str = row.table,
        id: String = row.id,
        #[serde(skip_serializing_if = "Option::is_none")]
        workspace_id: Option<WorkspaceId> = row.workspace,
    }
}

#[derive(Serialize)]
struct Deleted {
    table: String,
    id: String,
}
