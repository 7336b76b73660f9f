//! `keyway workspace`.

use std::io::{self, Write};

use jiff::Timestamp;
use keyway::{CreatedWorkspace, ErrorKind, RotatedWorkspaceKey, Scopes, Workspace, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::app::App;
use super::args::WorkspaceCommand;
use super::exit::CliError;
use super::output::{FAINT, Show, Table, facts};
use super::select;
use crate::view::secret::exposed;

pub(super) async fn run(app: &App, command: WorkspaceCommand) -> Result<(), CliError> {
    let host = app.open_without_providers().await?;
    match command {
        WorkspaceCommand::Create { name, scopes, same_name } => {
            if !same_name && host.broker().workspaces().list().await?.iter().any(|workspace| workspace.name == name) {
                let message = format!("there is a workspace `{name}` already");
                let hint = "choose another name, or add --same-name and tell the two apart by their ids";
                return Err(CliError::new(ErrorKind::Conflict, message).hint(hint));
            }
            let scopes: Scopes = scopes.into_iter().collect();
            let created = host.broker().workspaces().create(&name, scopes).await?;
            app.output.result(&Created::new(created, scopes))?;
        }
        WorkspaceCommand::List => {
            let workspaces = host.broker().workspaces().list().await?;
            app.output.result(&List(workspaces.into_iter().map(Row::from).collect()))?;
        }
        WorkspaceCommand::EncryptionKey { workspace } => {
            let access = select::workspace(host.broker(), &workspace).await?;
            let encryption_key = host.broker().keys().encryption_key(&access).await?;
            app.output.result(&EncryptionKey { workspace_id: access.workspace(), encryption_key })?;
        }
        WorkspaceCommand::RotateKey { workspace } => {
            let access = select::workspace(host.broker(), &workspace).await?;
            let rotated = host.broker().keys().rotate_workspace(&access).await?;
            app.output.result(&Rotated::new(access.workspace(), rotated))?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Created {
    #[serde(flatten)]
    workspace: Row,
    #[serde(serialize_with = "exposed")]
    api_key: SecretString,
    api_key_scopes: String,
    #[serde(serialize_with = "exposed")]
    encryption_key: SecretString,
}

impl Created {
    fn new(created: CreatedWorkspace, scopes: Scopes) -> Self {
        Self {
            workspace: created.workspace.into(),
            api_key: created.api_key,
            api_key_scopes: scopes.to_string(),
            encryption_key: created.encryption_key,
        }
    }
}

impl Show for Created {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Created the workspace {}.", super::output::printable(&self.workspace.name))?;
        facts(
            out,
            &[
                ("id", &self.workspace.id.to_string()),
                ("API key", self.api_key.expose_secret()),
                ("allows", &self.api_key_scopes),
                ("encryption key", self.encryption_key.expose_secret()),
            ],
        )?;
        writeln!(out, "{FAINT}Copy the API key now; it is shown only once.{FAINT:#}")
    }
}

#[derive(Serialize)]
struct Row {
    id: WorkspaceId,
    name: String,
    created_at: Timestamp,
}

impl From<Workspace> for Row {
    fn from(workspace: Workspace) -> Self {
        Self { id: workspace.id, name: workspace.name, created_at: workspace.created_at }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<Row>);

impl Show for List {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["NAME", "ID", "CREATED"]);
        for row in &self.0 {
            table.row([&row.name, &row.id.to_string(), &super::output::day_and_time(row.created_at)]);
        }
        table.write(out, 0, "There is no workspace yet. `keyway workspace create NAME` creates one.")
    }
}

#[derive(Serialize)]
struct EncryptionKey {
    workspace_id: WorkspaceId,
    #[serde(serialize_with = "exposed")]
    encryption_key: SecretString,
}

impl Show for EncryptionKey {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.encryption_key.expose_secret())
    }
}

#[derive(Serialize)]
struct Rotated {
    workspace_id: WorkspaceId,
    /// Counts the workspace's keys from 1.
    key_term: u32,
    /// How many values were encrypted anew.
    values: u64,
    /// Whether this finished a rotation that was cut off, in place of beginning one.
    resumed: bool,
    #[serde(serialize_with = "exposed")]
    encryption_key: SecretString,
}

impl Rotated {
    fn new(workspace_id: WorkspaceId, rotated: RotatedWorkspaceKey) -> Self {
        let RotatedWorkspaceKey { encryption_key, term, values, resumed, .. } = rotated;
        Self { workspace_id, key_term: term, values, resumed, encryption_key }
    }
}

impl Show for Rotated {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let done = if self.resumed {
            "Finished the rotation of the workspace's key that was interrupted"
        } else {
            "Rotated the workspace's key"
        };
        let values = if self.values == 1 { "1 value was".to_owned() } else { format!("{} values were", self.values) };
        writeln!(out, "{done}; {values} encrypted anew.")?;
        facts(out, &[("id", &self.workspace_id.to_string()), ("encryption key", self.encryption_key.expose_secret())])?;
        writeln!(
            out,
            "{FAINT}Give clients the new encryption key; what they encrypt under the old one is refused.{FAINT:#}"
        )
    }
}
