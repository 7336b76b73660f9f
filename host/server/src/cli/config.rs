//! `keyway config`: the settings, the origin of each, and whether `serve` would work with them.
//!
//! What `serve` would refuse is found by the code that makes it refuse, so the two agree. The rest
//! only looks for what `serve` would stumble over later.
//!
//! **Invariant:** the check changes nothing: it creates no folder, key or database, and migrates no
//! older database.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use keyway::storage::private_file;
use keyway::{ErrorKind, MasterKey, SqliteStorage, audit};
use keyway_runtime::egress::Authorities;
use keyway_runtime::{Limits, MORE_ADDRESS_SPACE, ProviderFolder, Runtime};
use serde::Serialize;

use super::app::App;
use super::args::ConfigCommand;
use super::exit::CliError;
use super::output::{BAD, FAINT, GOOD, Table, printable};
use super::settings::{Origin, Settings};
use crate::config::{HostConfig, MasterKeySource, ServeConfig};
use crate::host::{self, OpenError, prepare_runtime};
use crate::installation;
use crate::serve::{BindError, Parts, allow_open_files};

/// How long a proxy, or the target of a redirection, may take to accept a connection.
const REACHABLE_WITHIN: Duration = Duration::from_secs(3);

pub(super) async fn run(app: &App, command: &ConfigCommand) -> Result<(), CliError> {
    let ConfigCommand::Check = command;
    let config = app.config()?;
    // As `serve` does.
    allow_open_files();
    let checks = checks(app, &config).await;
    let checked = Checked { settings: app.settings.in_force(&config), checks };
    app.output.result(&checked, |out| checked.show(out))?;
    match checked.checks.iter().any(|check| check.finding == Finding::Wrong) {
        false => Ok(()),
        true => Err(CliError::new(ErrorKind::Internal, "the configuration does not work; see above").in_result()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Finding {
    Good,
    /// Works, but the operator may want to know.
    Note,
    /// `serve` starts, and something will probably fail later.
    Warning,
    /// `serve` does not start.
    Wrong,
}

/// What was found, in words.
type Found = (Finding, String);

#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    finding: Finding,
    message: String,
}

impl Check {
    fn new(what: &'static str, (finding, message): Found) -> Self {
        Self { what, finding, message }
    }
}

/// What `serve` would say before it ends.
fn wrong(error: impl Into<CliError>) -> Found {
    let CliError { message, hint, .. } = error.into();
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    (Finding::Wrong, message + &hint)
}

async fn checks(app: &App, config: &HostConfig) -> Vec<Check> {
    let (database, master_key) = database_and_key(config).await;
    let mut checks = vec![
        Check::new("data folder", data_folder(&config.data_dir)),
        Check::new("database", database),
        Check::new("audit log", audit_folder(config)),
        Check::new("code cache", code_cache(&config.code_cache())),
        Check::new("master key", master_key),
        Check::new("providers", providers(config).await),
    ];
    if let Some(file) = &config.ca_file {
        let good = |found: Authorities| (Finding::Good, format!("{}, {} in it", file.display(), found.len()));
        checks.push(Check::new("certificate authorities", host::authorities(file).map_or_else(wrong, good)));
    }
    if let Some(file) = &config.old_master_key {
        let advice = format!("{}; remove this setting once every server uses the other key", file.display());
        let found = MasterKey::from_file(file).map_err(OpenError::from);
        checks.push(Check::new("old master key", found.map_or_else(wrong, |_| (Finding::Note, advice))));
    }
    // The certificate authorities have a line of their own.
    let runtime = prepare_runtime(&HostConfig { ca_file: None, ..config.clone() }).await;
    match runtime.map(|prepared| prepared.build()) {
        Ok(runtime) => {
            checks.push(Check::new("sandbox", sandbox(&runtime)));
            checks.extend(tiers(app, &runtime, config).await);
        }
        Err(error) => checks.push(Check::new("sandbox", wrong(error))),
    }
    for (name, fault) in config.egress.unreachable(REACHABLE_WITHIN).await {
        let told = format!("{name} does not answer: {fault}; start the server there, or correct the setting");
        checks.push(Check::new("outgoing", (Finding::Warning, told)));
    }
    match &app.settings.serve {
        Ok(serve) => checks.extend(serving(serve).await),
        Err(error) => checks.push(Check::new("serve", (Finding::Wrong, error.clone()))),
    }
    checks
}

fn sandbox(runtime: &Runtime) -> Found {
    let (calls, all) = (runtime.limits().concurrent_calls, Limits::default().concurrent_calls);
    match calls {
        _ if calls == all => (Finding::Good, format!("room for {calls} provider calls at once")),
        // A server has threads that this command has not, and may find a little less.
        1 => {
            let told = "the address space is so limited that a server may find no room for a provider call";
            (Finding::Wrong, format!("{told}. {MORE_ADDRESS_SPACE}"))
        }
        _ => {
            let told = format!("the address space is limited, so only {calls} provider calls run at once, not {all}");
            (Finding::Note, format!("{told}; raise the limit (`ulimit -v`, `LimitAS=`)"))
        }
    }
}

/// Whether the providers have the tiers that are to be their defaults. Only that needs the
/// components loaded.
async fn tiers(app: &App, runtime: &Runtime, config: &HostConfig) -> Option<Check> {
    let tiers = &app.global.default_rate_limit_tier;
    if tiers.is_empty() {
        return None;
    }
    let found = match ProviderFolder::open(runtime, config.provider_folder()).await {
        Err(error) => wrong(OpenError::from(error)),
        Ok(folder) => match app.check_tiers(|provider_type| folder.get(provider_type)) {
            Err(error) => wrong(error),
            Ok(()) => match app.unknown_tiers(|provider_type| folder.get(provider_type)).first() {
                Some(missing) => (Finding::Note, format!("no provider of the type {missing} is installed")),
                None => {
                    let shown: Vec<_> = tiers.iter().map(|(of, tier)| format!("{of}={tier}")).collect();
                    (Finding::Good, shown.join(", "))
                }
            },
        },
    };
    Some(Check::new("rate-limit tiers", found))
}

/// What a server listens with.
async fn serving(serve: &ServeConfig) -> Vec<Check> {
    let parts = Parts::of(serve).await;
    let found = |shown: String, result: Result<(), BindError>| match result {
        Ok(()) => (Finding::Good, shown),
        Err(error) if error.is_in_use() => (Finding::Note, format!("{shown} is in use, perhaps by this server")),
        Err(error) => wrong(error),
    };
    let mut checks = vec![Check::new("listen", found(serve.listen.clone(), parts.listen))];
    if let Some(files) = &serve.tls {
        checks.push(Check::new("certificate", found(files.certificate.display().to_string(), parts.certificate)));
    }
    if let Some(address) = &serve.metrics_listen {
        let found = match parts.is_same_address {
            true => (Finding::Wrong, format!("{address} is the API's own; choose another one")),
            false => found(address.clone(), parts.metrics_listen),
        };
        checks.push(Check::new("metrics listen", found));
    }
    checks
}

fn does_not_exist_yet(path: &Path, made_by: &str) -> Found {
    (Finding::Note, format!("{} does not exist yet; `keyway {made_by}` creates it", path.display()))
}

fn data_folder(folder: &Path) -> Found {
    let shown = folder.display();
    match private_file::may_create_folder(folder).map(|()| std::fs::metadata(folder)) {
        Err(source) => wrong(OpenError::Folder { folder: folder.to_owned(), source }),
        Ok(found) => match (not_writable(folder), found) {
            (Some(why), _) => (Finding::Wrong, why),
            (None, Ok(found)) if found.permissions().mode() & 0o077 != 0 => {
                (Finding::Note, format!("other users can read {shown}; `chmod 700` prevents it"))
            }
            (None, Ok(_)) => (Finding::Good, shown.to_string()),
            (None, Err(_)) => does_not_exist_yet(folder, "init"),
        },
    }
}

fn code_cache(folder: &Path) -> Found {
    let refused = |source| wrong(OpenError::Folder { folder: folder.to_owned(), source });
    let found = |()| match not_writable(folder) {
        None => (Finding::Good, folder.display().to_string()),
        Some(why) => (Finding::Warning, format!("{why}. Components are compiled again at each start")),
    };
    private_file::may_create_folder(folder).map_or_else(refused, found)
}

fn audit_folder(config: &HostConfig) -> Found {
    let folder = &config.audit.folder;
    let shown = folder.display();
    let refused = |error| Some(format!("the audit log in {shown} cannot be written: {error}"));
    match not_writable(folder).or_else(|| audit::rehearse(folder).map_or_else(refused, |()| None)) {
        Some(why) => (Finding::Wrong, format!("{why}. Without the audit log nothing is released")),
        None if folder.exists() => (Finding::Good, shown.to_string()),
        None if !config.database().exists() => does_not_exist_yet(folder, "init"),
        None => {
            let told = format!("{shown} is missing, so `keyway serve` begins a new log there");
            (Finding::Warning, format!("{told}; name the folder of this database's log, or restore it from a backup"))
        }
    }
}

/// Why a folder, or the nearest existing parent of a missing one, is not writable. Tested with an
/// unnamed temporary file.
fn not_writable(folder: &Path) -> Option<String> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    // Enough for a full disk to refuse it, and still only a moment's work.
    let write = || tempfile::tempfile_in(there)?.write_all(&[0; 64 << 10]);
    let error = write().err()?;
    Some(format!("{} is not writable: {error}", there.display()))
}

/// The findings about the database and about the master key, including whether the database is
/// under it.
async fn database_and_key(config: &HostConfig) -> (Found, Found) {
    let file = config.database();
    let found = match (installation::check(config), std::fs::metadata(&file)) {
        (Err(error), _) => wrong(error),
        (Ok(()), Ok(found)) if !found.is_file() => {
            let told = format!("{} is no regular file; name another data folder, or remove it", file.display());
            return ((Finding::Wrong, told), (Finding::Note, "not tried, without a database".to_owned()));
        }
        (Ok(()), Ok(found)) => (Finding::Good, format!("{}, {} KiB", file.display(), found.len().div_ceil(1_024))),
        (Ok(()), Err(error)) => (Finding::Wrong, format!("{}: {error}", file.display())),
    };
    let place = match config.master_key_source() {
        MasterKeySource::Environment(variable) => format!("in the variable {variable}"),
        MasterKeySource::File(key) if !key.exists() && !file.exists() => {
            let lost = installation::refuse_in_memory(&key).err();
            return (found, lost.map_or_else(|| does_not_exist_yet(&key, "init"), wrong));
        }
        MasterKeySource::File(key) => key.display().to_string(),
    };
    let mut keys = match host::master_key(config) {
        Ok(keys) if file.exists() => keys,
        Ok(_) => return (found, (Finding::Good, place)),
        Err(error) => return (found, wrong(error)),
    };
    if let Some(Ok(other)) = config.old_master_key.as_ref().map(MasterKey::from_file) {
        keys = keys.with(other);
    }
    let records = match SqliteStorage::look_at_master_keys(&file).await {
        Ok(records) => records,
        // Such a file is not blamed on the key.
        Err(error) => return (wrong(OpenError::from(error)), (Finding::Good, place)),
    };
    if records.is_empty() {
        return (installation::without_database(config).map_or_else(wrong, |()| found), (Finding::Good, place));
    }
    let key = match (host::rehearse(config, &keys, &records).await, config.key_to_move()) {
        (Ok(()), Some((_, apart))) => {
            let advice = format!(
                "{place} is in the data folder, so a copy of that opens itself; move it to {}",
                apart.display()
            );
            (Finding::Note, advice)
        }
        (Ok(()), None) => (Finding::Good, place),
        (Err(error @ OpenError::NotTheMasterKey { .. }), _) => wrong(error),
        (Err(error), _) => return (wrong(error), (Finding::Good, place)),
    };
    (found, key)
}

async fn providers(config: &HostConfig) -> Found {
    let folder = config.provider_folder();
    let shown = folder.display();
    if config.providers.is_none() && !folder.exists() {
        return does_not_exist_yet(&folder, "serve");
    }
    let files = match ProviderFolder::look_at(&folder, &Limits::default()).await {
        Ok(files) => files,
        Err(error) => return wrong(OpenError::from(error)),
    };
    let refused: Vec<_> = files.iter().filter_map(|(file, why)| Some(format!("{file}: {}", why.as_ref()?))).collect();
    if !refused.is_empty() {
        return (Finding::Warning, format!("{shown} has files that are not loaded. {}", refused.join(". ")));
    }
    match files.len() {
        0 => (Finding::Note, format!("{shown} has no component yet; put one into it")),
        1 => (Finding::Good, format!("{shown}, 1 component; `keyway provider list` checks it")),
        number => (Finding::Good, format!("{shown}, {number} components; `keyway provider list` checks them")),
    }
}

#[derive(Serialize)]
struct Checked {
    #[serde(flatten)]
    settings: Settings,
    checks: Vec<Check>,
}

impl Checked {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        match &self.settings.file {
            Some(file) => writeln!(out, "Configuration file: {}", printable(&file.display().to_string()))?,
            None => writeln!(out, "Configuration file: {FAINT}none{FAINT:#}")?,
        }
        let table = Table::of(["SETTING", "VALUE", "FROM"], &self.settings.settings, |table, setting| {
            let from = match setting.origin {
                Origin::Flag => "flag",
                Origin::Environment => "environment",
                Origin::File => "file",
                Origin::Default => "default",
            };
            table.row([&setting.name, &setting.values.join(", "), &from]);
        });
        writeln!(out)?;
        table.write(out, 0, "")?;
        writeln!(out)?;
        for check in &self.checks {
            let (style, mark) = match check.finding {
                Finding::Good => (GOOD, "ok   "),
                Finding::Note => (FAINT, "note "),
                Finding::Warning => (BAD, "warn "),
                Finding::Wrong => (BAD, "WRONG"),
            };
            writeln!(out, "{style}{mark}{style:#}  {}: {}", check.what, printable(&check.message))?;
        }
        Ok(())
    }
}
