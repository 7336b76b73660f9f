//! `keyway connect`, `keyway connection` and `keyway items`.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use keyway::connections::{Connection, ConnectionChanges};
use keyway::{Access, CacheTtl, ConnectionId, ErrorKind, NewConnection};
use keyway_runtime::Settings;
use keyway_runtime::contract::{Description, Item, SettingSpec};
use secrecy::ExposeSecret;

use super::app::App;
use super::args::connection::{ConnectOptions, ConnectionCommand, SettingOptions, UpdateConnectionOptions};
use super::args::target::{ConnectionOption, ConnectionTarget};
use super::exit::CliError;
use super::output::{FAINT, Table, day_and_time, facts, printable};
use super::{budget, provider, secret_input, select};
use crate::host::Host;
use crate::process::SETTING_VARIABLES;
use crate::regular_file;
use crate::view::connection::{SecretItem, SecretProvider};
use crate::view::view;

/// What replaces a list without rows.
pub(super) async fn empty<T>(rows: &[T], host: &Host, access: &Access) -> String {
    let none_yet = "There is no connection yet. `keyway connect` creates one.";
    select::instead_of(rows, host.broker(), ("connections", Some(access)), none_yet).await
}

pub(super) async fn run(app: &App, command: ConnectionCommand) -> Result<(), CliError> {
    match command {
        ConnectionCommand::Create(options) => connect(app, options).await,
        ConnectionCommand::List(workspace) => {
            let (host, access) = app.open_without_providers_in(&workspace).await?;
            let connections = host.broker().connections().list(&access).await?;
            let rows: Vec<_> = connections.into_iter().map(Row::from).collect();
            let empty = empty(&rows, host, &access).await;
            list(app, &rows, &empty)
        }
        ConnectionCommand::Update(options) => update(app, options).await,
        ConnectionCommand::Delete { connection, workspace } => {
            let (host, access) = app.open_without_providers_in(&workspace).await?;
            let named = ConnectionOption { connection: Some(connection) };
            let connection = select::connection(host.broker(), &access, &named).await?;
            host.broker().connections().delete(&access, connection.id).await?;
            let next = "Its token stays valid until you revoke it in the secret manager.";
            done(app, &connection, "Deleted the connection", next)
        }
        ConnectionCommand::Budget(target) => budget::run(app, &target).await,
        ConnectionCommand::Retry(target) => {
            let (host, access) = app.open_in(&target.workspace).await?;
            let connection = select::connection(host.broker(), &access, &target.connection).await?;
            host.broker().connections().retry(&access, connection.id).await?;
            let next = "Its credentials work. Running servers use it again within a second.";
            done(app, &connection, "Ended the pauses of", next)
        }
        ConnectionCommand::ClearCache(target) => {
            let (host, access) = app.open_without_providers_in(&target.workspace).await?;
            let connection = select::connection(host.broker(), &access, &target.connection).await?;
            host.broker().connections().clear_cache(&access, connection.id).await?;
            let next = "Running servers ask the secret manager again within a second.";
            done(app, &connection, "Cleared the cached secrets of", next)
        }
    }
}

/// Says what was done with a connection, and its consequences.
fn done(app: &App, connection: &Connection, what: &str, next: &str) -> Result<(), CliError> {
    let name = printable(&connection.name);
    app.output.result(&Named::from(connection), |out| writeln!(out, "{what} {name}. {next}"))
}

/// `keyway connect`
pub(super) async fn connect(app: &App, options: ConnectOptions) -> Result<(), CliError> {
    let (host, access) = app.open_in(&options.workspace).await?;
    let provider = match &options.provider_type {
        Some(provider_type) => provider::installed(host, provider_type)?,
        None => provider::only_one(host)?,
    };
    let description = provider.description();
    let name = options.name.clone().unwrap_or_else(|| description.display_name.clone());
    refuse_second(host, &access, &name, None).await?;
    let new = NewConnection::new(name, description.provider_type.clone(), settings(description, &options.settings)?)
        .cache_ttl(CacheTtl::from_seconds(options.cache_ttl))
        .rate_limit_tier(options.rate_limit_tier)
        .certificate_authorities(options.authorities.as_deref().map(authorities).transpose()?);
    let row = Row::from(host.broker().connections().create(&access, new).await?);
    app.output.result(&row, |out| {
        writeln!(out, "Connected to {}.", printable(&description.display_name))?;
        row.facts(out)?;
        writeln!(out, "{FAINT}`keyway items` lists what it can see.{FAINT:#}")
    })
}

/// `keyway connection update`
async fn update(app: &App, options: UpdateConnectionOptions) -> Result<(), CliError> {
    let given = &options.settings;
    let replace =
        options.replace_settings || given.token_file.is_some() || !given.set.is_empty() || !given.set_file.is_empty();
    let calls_provider = replace || options.rate_limit_tier.is_some() || options.authorities.is_some();
    if !calls_provider && options.name.is_none() && options.cache_ttl.is_none() {
        let message = "there is nothing to change; give --name, --cache-ttl, --rate-limit-tier, --authorities, --token-file or --replace-settings";
        return Err(CliError::usage(message));
    }
    let (host, access) = app.open_for(&options.target.workspace, calls_provider).await?;
    let connection = select::connection(host.broker(), &access, &options.target.connection).await?;
    if let Some(name) = &options.name {
        refuse_second(host, &access, name, Some(connection.id)).await?;
    }
    let settings = match replace {
        true => {
            let provider = provider::installed(host, &connection.provider_type)?;
            let description = provider.description();
            let settings = settings(description, given)?;
            if !options.replace_settings {
                refuse_to_reset(description, &settings)?;
            }
            Some(settings)
        }
        false => None,
    };
    let cache_ttl = options.cache_ttl.map(CacheTtl::from_seconds);
    let rate_limit_tier = options.rate_limit_tier.map(|tier| (!tier.is_empty()).then_some(tier));
    let mut changes = ConnectionChanges::default();
    (changes.name, changes.settings) = (options.name, settings);
    (changes.cache_ttl, changes.rate_limit_tier) = (cache_ttl, rate_limit_tier);
    changes.certificate_authorities = match options.authorities.as_deref() {
        None => None,
        Some("") => Some(None),
        Some(file) => Some(Some(authorities(Path::new(file))?)),
    };
    let row = Row::from(host.broker().connections().update(&access, connection.id, changes).await?);
    app.output.result(&row, |out| {
        writeln!(out, "Changed the connection. Running servers follow within a second.")?;
        row.facts(out)
    })
}

/// Refuses a name that another connection has: commands select connections by their names.
async fn refuse_second(host: &Host, access: &Access, name: &str, own: Option<ConnectionId>) -> Result<(), CliError> {
    let all = host.broker().connections().list(access).await?;
    if !all.iter().any(|other| other.name == name && Some(other.id) != own) {
        return Ok(());
    }
    let message = format!("a connection `{name}` already exists in this workspace");
    Err(CliError::new(ErrorKind::Conflict, message).hint("choose another name with --name"))
}

/// The text of a file of certificate authorities.
fn authorities(file: &Path) -> Result<String, CliError> {
    let wrong = |error: &dyn Display| format!("cannot read {}: {error}", file.display());
    let text = regular_file::read(file).map_err(|error| CliError::unreadable(&error, wrong(&error)))?;
    let text = std::str::from_utf8(&text).map_err(|error| CliError::new(ErrorKind::Invalid, wrong(&error)))?;
    Ok(text.to_owned())
}

/// The connection's settings: from flags and files, otherwise from the environment or a prompt.
fn settings(description: &Description, options: &SettingOptions) -> Result<Settings, CliError> {
    let mut settings = Settings::new();
    for (name, value) in &options.set {
        if spec(description, name)?.secret {
            let message = format!("the setting `{name}` is secret, and other users can see arguments");
            return Err(
                CliError::usage(message).hint(format!("use --set-file {name}=FILE, or leave it out for a prompt"))
            );
        }
        settings.set(name, value.as_str());
    }
    for (name, file) in &options.set_file {
        spec(description, name)?;
        settings.set(name, secret_input::from_file(Path::new(file))?);
    }
    if let Some(file) = &options.token_file {
        settings.set(&token(description)?.name, secret_input::from_file(file)?);
    }
    for spec in &description.settings {
        if settings.get(&spec.name).is_some() {
            continue;
        }
        let variable = format!("{SETTING_VARIABLES}{}", spec.name.to_ascii_uppercase());
        if let Some(value) = secret_input::from_environment(&variable) {
            settings.set(&spec.name, value);
        } else if spec.required && spec.default.is_none() {
            let missing = || {
                let flag = if spec.secret { "--set-file" } else { "--set" };
                CliError::usage(format!("the setting `{}` ({}) is missing", spec.name, spec.label))
                    .hint(format!("give it with {flag} {}=..., or in the variable {variable}", spec.name))
            };
            let typed = secret_input::ask(&spec.label, &spec.help).ok_or_else(missing)??;
            // An address never begins or ends with a space, but pasted text often does. A secret
            // may.
            let typed = typed.expose_secret();
            settings.set(&spec.name, if spec.secret { typed } else { typed.trim() });
        }
    }
    Ok(settings)
}

/// New settings replace all old ones. A user who gives only some of them may want to keep the
/// others, such as the address that a token goes to.
fn refuse_to_reset(description: &Description, settings: &Settings) -> Result<(), CliError> {
    let left = description.settings.iter().filter(|spec| settings.get(&spec.name).is_none());
    let left: Vec<_> = left.map(|spec| spec.name.as_str()).collect();
    if left.is_empty() {
        return Ok(());
    }
    let message =
        format!("new settings replace all settings of the connection, and {} would be unset", left.join(", "));
    Err(CliError::usage(message)
        .hint("give them as well, or add --replace-settings if the connection does not need them"))
}

fn spec<'a>(description: &'a Description, name: &str) -> Result<&'a SettingSpec, CliError> {
    description.settings.iter().find(|spec| spec.name == name).ok_or_else(|| {
        let known: Vec<_> = description.settings.iter().map(|spec| spec.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        CliError::usage(format!("{} has no setting `{name}`; it has {known}", description.display_name))
    })
}

/// The setting that `--token-file` means.
fn token(description: &Description) -> Result<&SettingSpec, CliError> {
    let secret: Vec<_> = description.settings.iter().filter(|spec| spec.secret).collect();
    match (secret.iter().find(|spec| spec.name == "token"), secret.as_slice()) {
        (Some(token), _) | (None, [token]) => Ok(token),
        _ => Err(CliError::usage(format!("{} has no token among its settings", description.display_name))
            .hint("give its settings with --set and --set-file; `keyway provider inspect` shows them")),
    }
}

/// `keyway items`
pub(super) async fn items(app: &App, target: &ConnectionTarget) -> Result<(), CliError> {
    let (host, access) = app.open_in(&target.workspace).await?;
    let connection = select::connection(host.broker(), &access, &target.connection).await?;
    let items = host.broker().connections().list_items(&access, connection.id).await?;
    let data: Vec<_> = items.iter().cloned().map(SecretItem::from).collect();
    app.output.result(&data, |out| write_items(out, &items, 0, usize::MAX))
}

/// At most `limit` items, as a table.
pub(crate) fn write_items(out: &mut dyn Write, items: &[Item], indent: usize, limit: usize) -> io::Result<()> {
    let (shown, more) = items.split_at(limit.min(items.len()));
    let table = Table::of(["TITLE", "VAULT", "REFERENCE"], shown, |table, item| {
        table.row([&item.title, &item.vault_name.as_deref().unwrap_or_default(), &item.reference]);
    });
    let empty = "There are no login items. Check which vaults the service account can read.";
    table.write(out, indent, empty)?;
    if !more.is_empty() {
        writeln!(out, "{:indent$}{FAINT}and {} more{FAINT:#}", "", more.len())?;
    }
    Ok(())
}

view! {
    /// A connection as printed: the document of the HTTP API, and the owner of its credentials.
    pub(crate) struct Row of connection: Connection {
        #[serde(flatten)]
        shown: SecretProvider = connection.clone().into(),
        /// Who the credentials belong to. Ordinary API keys are not told.
        account: String = connection.account,
    }
}

impl Row {
    /// The secrets, by their last characters.
    pub(crate) fn hint(&self) -> String {
        let hints: Vec<_> = self.shown.config_hint.values().map(|last4| format!("...{last4}")).collect();
        hints.join(", ")
    }

    fn facts(&self, out: &mut dyn Write) -> io::Result<()> {
        let (id, hint, cache) = (self.shown.id.to_string(), self.hint(), duration(self.shown.cache_ttl_seconds));
        facts(
            out,
            &[
                ("connection", &self.shown.name),
                ("id", &id),
                ("account", &self.account),
                ("token", &hint),
                ("cache duration", &cache),
            ],
        )?;
        if self.shown.read_only == Some(true) {
            writeln!(
                out,
                "This connection is read-only: password rotations will be skipped. Grant it Write Items to enable them."
            )?;
        }
        Ok(())
    }
}

/// A cache duration, in the wording of the product's page.
pub(super) fn duration(seconds: u32) -> String {
    let counted = |number: u32, unit: &str| format!("{number} {unit}{}", if number == 1 { "" } else { "s" });
    match seconds {
        0 => "off (always live)".to_owned(),
        s if s % 3_600 == 0 => counted(s / 3_600, "hour"),
        s if s % 60 == 0 => counted(s / 60, "minute"),
        s => counted(s, "second"),
    }
}

fn list(app: &App, rows: &[Row], empty: &str) -> Result<(), CliError> {
    let headings = ["NAME", "ID", "PROVIDER", "ACCOUNT", "SECRET", "CACHE", "ACCESS", "CREATED"];
    app.output.list(rows, headings, empty, |table, row| {
        let shown = &row.shown;
        let access = match shown.read_only {
            Some(true) => "read-only",
            Some(false) => "read, write",
            None => "",
        };
        let (cache, created) = (duration(shown.cache_ttl_seconds), day_and_time(shown.created_at));
        table.row([&shown.name, &shown.id, &shown.provider_type, &row.account, &row.hint(), &cache, &access, &created]);
    })
}

view! {
    /// Which connection a result is about.
    pub(super) struct Named of connection: &Connection {
        secret_provider_id: ConnectionId = connection.id,
        name: String = connection.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_duration_reads_as_people_say_it() {
        let expected = [
            (0, "off (always live)"),
            (1, "1 second"),
            (300, "5 minutes"),
            (3_600, "1 hour"),
            (86_400, "24 hours"),
            (90, "90 seconds"),
        ];
        for (seconds, text) in expected {
            assert_eq!(duration(seconds), text);
        }
    }
}
