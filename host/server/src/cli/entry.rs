//! `keyway bind` and `keyway entry`.

use std::io::{self, Write};

use jiff::Timestamp;
use keyway::{ConnectionId, CredentialSource, EntryId, NewEntry, TfaMethod, VaultEntry};
use serde::Serialize;

use super::App;
use super::args::{BindOptions, EntryCommand};
use super::connection::duration;
use super::exit::CliError;
use super::output::{FAINT, Show, Table, day_and_time, facts};
use super::select;

pub(super) async fn run(app: &App, command: EntryCommand) -> Result<(), CliError> {
    match command {
        EntryCommand::Create(options) => bind(app, options).await,
        EntryCommand::List { workspace } => {
            let host = app.open_without_providers().await?;
            let access = select::workspace(host.broker(), &workspace).await?;
            let (mut rows, mut next) = (Vec::new(), None);
            loop {
                let page = host.broker().list_entries(&access, next).await?;
                rows.extend(page.entries.into_iter().map(Row::from));
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
            app.output.result(&List(rows));
            host.close().await;
            Ok(())
        }
    }
}

/// `keyway bind`
pub(super) async fn bind(app: &App, options: BindOptions) -> Result<(), CliError> {
    // With providers, so that a reference of the wrong form is refused.
    let host = app.open().await?;
    let access = select::workspace(host.broker(), &options.workspace).await?;
    let connection = select::connection(host.broker(), &access, &options.connection).await?;
    let mut new = NewEntry::bound(options.user, options.domain, connection.id, options.reference);
    new.user_alias = options.alias;
    new.tfa_method = options.tfa_method;
    new.secret_cache_ttl_seconds = options.cache_ttl.map(i64::from);
    let entry = host.broker().create_entry(&access, new).await?;
    app.output.result(&Bound(entry.into()));
    host.close().await;
    Ok(())
}

/// An entry as it is printed.
#[derive(Serialize)]
struct Row {
    id: EntryId,
    permissioned_user_id: String,
    domain: String,
    user_alias: Option<String>,
    tfa_method: Option<TfaMethod>,
    /// `provider`, or `own` for credentials that the entry holds itself.
    credentials: &'static str,
    secret_provider_id: Option<ConnectionId>,
    secret_ref: Option<String>,
    secret_cache_ttl_seconds: Option<u32>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<VaultEntry> for Row {
    fn from(entry: VaultEntry) -> Self {
        let binding = match entry.credentials {
            CredentialSource::Bound(binding) => Some(binding),
            CredentialSource::Own(_) => None,
        };
        Self {
            id: entry.id,
            permissioned_user_id: entry.permissioned_user_id,
            domain: entry.domain,
            user_alias: entry.user_alias,
            tfa_method: entry.tfa_method,
            credentials: if binding.is_some() { "provider" } else { "own" },
            secret_provider_id: binding.as_ref().map(|binding| binding.connection_id),
            secret_cache_ttl_seconds: binding.as_ref().and_then(|binding| binding.cache_ttl).map(|ttl| ttl.seconds()),
            secret_ref: binding.map(|binding| binding.reference),
            created_at: entry.created_at,
            updated_at: entry.updated_at,
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Bound(Row);

impl Show for Bound {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = &self.0;
        writeln!(out, "Bound a vault entry to the item.")?;
        let id = row.id.to_string();
        let cache = row.secret_cache_ttl_seconds.map_or_else(|| "the connection's".to_owned(), duration);
        facts(
            out,
            &[
                ("entry", &id),
                ("user", &row.permissioned_user_id),
                ("domain", &row.domain),
                ("item", row.secret_ref.as_deref().unwrap_or_default()),
                ("cache duration", &cache),
            ],
        )?;
        writeln!(out, "{FAINT}`keyway resolve {id}` fetches what the item holds now.{FAINT:#}")
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<Row>);

impl Show for List {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["USER", "DOMAIN", "ID", "CREDENTIALS", "CREATED"]);
        for row in &self.0 {
            let credentials = row.secret_ref.as_deref().unwrap_or("its own");
            table.row([
                &row.permissioned_user_id,
                &row.domain,
                &row.id.to_string(),
                credentials,
                &day_and_time(row.created_at),
            ]);
        }
        table.write(out, 0, "There is no vault entry yet. `keyway bind` creates one.")
    }
}
