//! `keyway key`: the API keys of a workspace.

use std::io::{self, Write};

use jiff::Timestamp;
use keyway::{ApiKey, ApiKeyId, Scopes};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::app::App;
use super::args::KeyCommand;
use super::exit::CliError;
use super::output::{FAINT, Show, Table, day_and_time, facts, printable};
use super::select;
use crate::view::secret::exposed;

pub(super) async fn run(app: &App, command: KeyCommand) -> Result<(), CliError> {
    let host = app.open_without_providers().await?;
    let broker = host.broker();
    match command {
        KeyCommand::Create { name, scopes, workspace } => {
            let access = select::workspace(broker, &workspace).await?;
            let scopes: Scopes = scopes.into_iter().collect();
            let created = broker.api_keys().create(&access, &name, scopes).await?;
            app.output.result(&Created { key: created.info.into(), api_key: created.api_key })?;
        }
        KeyCommand::List { workspace } => {
            let access = select::workspace(broker, &workspace).await?;
            let keys = broker.api_keys().list(&access).await?;
            app.output.result(&List(keys.into_iter().map(Row::from).collect()))?;
        }
        KeyCommand::Revoke { id, workspace } => {
            let access = select::workspace(broker, &workspace).await?;
            let keys = broker.api_keys().list(&access).await?;
            let already_revoked = keys.iter().any(|key| key.id == id && key.revoked_at.is_some());
            let key = broker.api_keys().revoke(&access, id).await?.into();
            app.output.result(&Revoked { key, already_revoked })?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Row {
    id: ApiKeyId,
    name: String,
    begins_with: String,
    scopes: String,
    created_at: Timestamp,
    revoked_at: Option<Timestamp>,
}

impl From<ApiKey> for Row {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            begins_with: key.begins_with,
            scopes: key.scopes.to_string(),
            created_at: key.created_at,
            revoked_at: key.revoked_at,
        }
    }
}

#[derive(Serialize)]
struct Created {
    #[serde(flatten)]
    key: Row,
    #[serde(serialize_with = "exposed")]
    api_key: SecretString,
}

impl Show for Created {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Created the API key {}.", printable(&self.key.name))?;
        let id = self.key.id.to_string();
        facts(out, &[("id", &id), ("API key", self.api_key.expose_secret()), ("allows", &self.key.scopes)])?;
        writeln!(out, "{FAINT}Copy the API key now; it is shown only once.{FAINT:#}")
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<Row>);

impl Show for List {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["NAME", "ID", "BEGINS WITH", "ALLOWS", "CREATED", "REVOKED"]);
        for row in &self.0 {
            let (created, revoked) = (day_and_time(row.created_at), row.revoked_at.map(day_and_time));
            let id = row.id.to_string();
            table.row([
                &row.name,
                &id,
                &row.begins_with,
                &row.scopes,
                &created,
                revoked.as_deref().unwrap_or_default(),
            ]);
        }
        table.write(out, 0, "There is no API key. `keyway key create NAME` creates one.")
    }
}

#[derive(Serialize)]
struct Revoked {
    #[serde(flatten)]
    key: Row,
    /// Whether it was before this command.
    already_revoked: bool,
}

impl Show for Revoked {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let name = printable(&self.key.name);
        match self.key.revoked_at.filter(|_| self.already_revoked).map(day_and_time) {
            Some(then) => writeln!(out, "The API key {name} was revoked already, on {then}."),
            None => {
                writeln!(out, "Revoked the API key {name}. Running servers refuse it within a second.")
            }
        }
    }
}
