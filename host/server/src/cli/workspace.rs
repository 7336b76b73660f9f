//! `keyway workspace`.

use std::io::{self, BufRead, IsTerminal};

use jiff::Timestamp;
use keyway::keys::RotatedWorkspaceKey;
use keyway::workspaces::{CreatedWorkspace, NewWorkspace, Workspace};
use keyway::{ErrorKind, Scopes, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::app::App;
use super::args::WorkspaceCommand;
use super::args::target::WorkspaceOption;
use super::exit::CliError;
use super::output::{FAINT, Output, day_and_time, facts, printable};
use super::select;
use crate::host::Host;
use crate::view::secret::exposed;
use crate::view::view;

pub(super) async fn run(app: &App, command: WorkspaceCommand) -> Result<(), CliError> {
    let host = app.open_without_providers().await?;
    match command {
        WorkspaceCommand::Create { name, scopes, same_name, external_id } => {
            if !same_name {
                let hint = "choose another name, or add --same-name and tell the two apart by their ids";
                refuse_second(host, &name, None, hint).await?;
            }
            let scopes: Scopes = scopes.into_iter().collect();
            let mut new = NewWorkspace::from(name);
            new.external_id = external_id;
            let created = host.broker().workspaces().create(new, scopes).await?;
            let created = Created::from((created, scopes));
            app.output.result_with_a_key(&created, |out| {
                writeln!(out, "Created the workspace {}.", printable(&created.workspace.name))?;
                facts(
                    out,
                    &[
                        ("id", &created.workspace.id.to_string()),
                        ("API key", created.api_key.expose_secret()),
                        ("allows", &created.api_key_scopes),
                        ("encryption key", created.encryption_key.expose_secret()),
                    ],
                )?;
                writeln!(out, "{FAINT}Copy the API key now; it is shown only once.{FAINT:#}")
            })
        }
        WorkspaceCommand::List => {
            let workspaces = host.broker().workspaces().list().await?;
            let rows: Vec<_> = workspaces.into_iter().map(Row::from).collect();
            let none_yet = "There is no workspace yet. `keyway workspace create NAME` creates one.";
            let empty = select::instead_of(&rows, host.broker(), ("workspaces", None), none_yet).await;
            app.output.list(&rows, ["NAME", "ID", "CREATED"], &empty, |table, row| {
                table.row([&row.name, &row.id, &day_and_time(row.created_at)]);
            })
        }
        WorkspaceCommand::Rename { name, workspace } => {
            let access = select::workspace(host.broker(), &workspace).await?;
            refuse_second(host, &name, Some(access.workspace()), "choose another name").await?;
            let renamed = Row::from(host.broker().workspaces().rename(&access, &name).await?);
            app.output.result(&renamed, |out| writeln!(out, "Renamed the workspace to {}.", printable(&renamed.name)))
        }
        WorkspaceCommand::Delete { workspace, yes } => {
            let access = select::workspace(host.broker(), &WorkspaceOption { workspace: Some(workspace) }).await?;
            let deleted = Row::from(host.broker().workspaces().get(access.workspace()).await?);
            if !yes {
                confirm(&deleted.name)?;
            }
            host.broker().workspaces().delete(&access).await?;
            app.output.result(&deleted, |out| {
                let name = printable(&deleted.name);
                writeln!(out, "Deleted the workspace {name}. Running servers follow within a second.")
            })
        }
        WorkspaceCommand::EncryptionKey(workspace) => {
            let access = select::workspace(host.broker(), &workspace).await?;
            let encryption_key = host.broker().keys().encryption_key(&access).await?;
            let key = EncryptionKey { workspace_id: access.workspace(), encryption_key };
            app.output.result(&key, |out| writeln!(out, "{}", key.encryption_key.expose_secret()))
        }
        WorkspaceCommand::RotateKey(workspace) => {
            let access = select::workspace(host.broker(), &workspace).await?;
            let rotated = host.broker().keys().rotate_workspace(&access).await?;
            let rotated = Rotated::from((access.workspace(), rotated));
            app.output.result(&rotated, |out| {
                let done = match rotated.resumed {
                    true => "Finished the interrupted rotation of the workspace key",
                    false => "Rotated the workspace key",
                };
                let values = match rotated.values {
                    1 => "1 value was".to_owned(),
                    values => format!("{values} values were"),
                };
                writeln!(out, "{done}; {values} re-encrypted.")?;
                let (id, key) = (rotated.workspace_id.to_string(), rotated.encryption_key.expose_secret());
                facts(out, &[("id", &id), ("encryption key", key)])?;
                writeln!(
                    out,
                    "{FAINT}Give clients the new encryption key; values encrypted under the old one are refused.{FAINT:#}"
                )
            })
        }
    }
}

/// Refuses a name that another workspace has.
async fn refuse_second(host: &Host, name: &str, own: Option<WorkspaceId>, hint: &str) -> Result<(), CliError> {
    let all = host.broker().workspaces().list().await?;
    match all.iter().any(|other| other.name == name && Some(other.id) != own) {
        true => Err(CliError::new(ErrorKind::Conflict, format!("a workspace `{name}` already exists")).hint(hint)),
        false => Ok(()),
    }
}

/// Has the user of a terminal type the name of what is about to be deleted.
fn confirm(name: &str) -> Result<(), CliError> {
    let refused =
        |message: String| Err(CliError::usage(message).hint("nothing was deleted; --yes deletes without asking"));
    if !io::stdin().is_terminal() {
        return refused(format!("deleting the workspace `{name}` has to be confirmed"));
    }
    let name = printable(name);
    Output::note(&format!(
        "This deletes the workspace {name} with its connections, vault entries and keys. Type its name:"
    ));
    let mut typed = String::new();
    match io::stdin().lock().read_line(&mut typed) {
        Ok(_) if printable(typed.trim()) == name.trim() => Ok(()),
        _ => refused("that is not its name".to_owned()),
    }
}

view! {
    struct Row of workspace: Workspace {
        id: WorkspaceId = workspace.id,
        name: String = workspace.name,
        #[serde(skip_serializing_if = "Option::is_none")]
        external_id: Option<String> = workspace.external_id,
        created_at: Timestamp = workspace.created_at,
    }
}

view! {
    struct Created of of: (CreatedWorkspace, Scopes) {
        #[serde(flatten)]
        workspace: Row = of.0.workspace.into(),
        #[serde(serialize_with = "exposed")]
        api_key: SecretString = of.0.api_key,
        api_key_scopes: String = of.1.to_string(),
        #[serde(serialize_with = "exposed")]
        encryption_key: SecretString = of.0.encryption_key,
    }
}

#[derive(Serialize)]
struct EncryptionKey {
    workspace_id: WorkspaceId,
    #[serde(serialize_with = "exposed")]
    encryption_key: SecretString,
}

view! {
    struct Rotated of of: (WorkspaceId, RotatedWorkspaceKey) {
        workspace_id: WorkspaceId = of.0,
        /// Counts the workspace's keys from 1.
        key_term: u32 = of.1.term,
        /// How many values were re-encrypted.
        values: u64 = of.1.values,
        /// Whether this finished a rotation that was cut off, in place of beginning one.
        resumed: bool = of.1.resumed,
        #[serde(serialize_with = "exposed")]
        encryption_key: SecretString = of.1.encryption_key,
    }
}
