//! `keyway key`: the API keys of a workspace.

use jiff::Timestamp;
use keyway::workspaces::{ApiKey, CreatedApiKey};
use keyway::{ApiKeyId, Scopes};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::app::App;
use super::args::KeyCommand;
use super::exit::CliError;
use super::output::{FAINT, day_and_time, facts, printable};
use super::select;
use crate::view::secret::exposed;
use crate::view::view;

pub(super) async fn run(app: &App, command: KeyCommand) -> Result<(), CliError> {
    match command {
        KeyCommand::Create { name, scopes, workspace } => {
            let (host, access) = app.open_without_providers_in(&workspace).await?;
            let scopes: Scopes = scopes.into_iter().collect();
            let created = host.broker().api_keys().create(&access, &name, scopes).await?;
            let created = Created::from(created);
            app.output.result_with_a_key(&created, |out| {
                writeln!(out, "Created the API key {}.", printable(&created.key.name))?;
                let (id, key) = (created.key.id.to_string(), created.api_key.expose_secret());
                facts(out, &[("id", &id), ("API key", key), ("allows", &created.key.scopes)])?;
                writeln!(out, "{FAINT}Copy the API key now; it is shown only once.{FAINT:#}")
            })
        }
        KeyCommand::List(workspace) => {
            let (host, access) = app.open_without_providers_in(&workspace).await?;
            let keys = host.broker().api_keys().list(&access).await?;
            let rows: Vec<_> = keys.into_iter().map(Row::from).collect();
            let headings = ["NAME", "ID", "BEGINS WITH", "ALLOWS", "CREATED", "REVOKED"];
            let none_yet = "There is no API key. `keyway key create NAME` creates one.";
            let of = ("api_keys", Some(&access));
            let empty = select::instead_of(&rows, host.broker(), of, none_yet).await;
            app.output.list(&rows, headings, &empty, |table, row| {
                let (created, revoked) = (day_and_time(row.created_at), row.revoked_at.map(day_and_time));
                let revoked = revoked.unwrap_or_default();
                table.row([&row.name, &row.id, &row.begins_with, &row.scopes, &created, &revoked]);
            })
        }
        KeyCommand::Revoke { key, workspace } => {
            let (host, access) = app.open_without_providers_in(&workspace).await?;
            let chosen = select::api_key(host.broker(), &access, &key).await?;
            let already_revoked = chosen.revoked_at.is_some();
            let key = host.broker().api_keys().revoke(&access, chosen.id).await?.into();
            let revoked = Revoked { key, already_revoked };
            app.output.result(&revoked, |out| {
                let name = printable(&revoked.key.name);
                match revoked.key.revoked_at.filter(|_| already_revoked).map(day_and_time) {
                    Some(then) => writeln!(out, "The API key {name} was revoked already, on {then}."),
                    None => writeln!(out, "Revoked the API key {name}. Running servers refuse it within a second."),
                }
            })
        }
    }
}

view! {
    struct Row of key: ApiKey {
        id: ApiKeyId = key.id,
        name: String = key.name,
        begins_with: String = key.begins_with,
        scopes: String = key.scopes.to_string(),
        created_at: Timestamp = key.created_at,
        revoked_at: Option<Timestamp> = key.revoked_at,
    }
}

view! {
    struct Created of created: CreatedApiKey {
        #[serde(flatten)]
        key: Row = created.info.into(),
        #[serde(serialize_with = "exposed")]
        api_key: SecretString = created.api_key,
    }
}

#[derive(Serialize)]
struct Revoked {
    #[serde(flatten)]
    key: Row,
    /// Whether it was before this command.
    already_revoked: bool,
}
