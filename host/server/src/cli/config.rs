//! `keyway config`: the settings, the origin of each, and whether what they name exists.
//!
//! **Invariant:** the check changes nothing: it creates no folder, key or database, and migrates no
//! older database.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keyway::keys::{KeyError, MasterKeys};
use keyway::{ErrorKind, MasterKey, SqliteStorage};
use keyway_runtime::ProviderFolder;
use keyway_runtime::egress::Authorities;
use serde::Serialize;

use super::app::App;
use super::args::ConfigCommand;
use super::exit::CliError;
use super::output::{BAD, FAINT, GOOD, Table, printable};
use super::settings::{Origin, Settings};
use crate::config::{HostConfig, MasterKeySource, ServeConfig, default_key_file};
use crate::host::{self, OpenError, prepare_runtime};
use crate::installation;
use crate::process;
use crate::serve::listen::{UNIX, check_plain, is_in_use};
use crate::serve::tls;

pub(super) async fn run(app: &App, command: &ConfigCommand) -> Result<(), CliError> {
    let ConfigCommand::Check = command;
    let config = app.config()?;
    let mut checks = checks(&config, &app.settings).await;
    checks.extend(tiers(app, &config).await);
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
    Wrong,
}

#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    finding: Finding,
    message: String,
}

impl Check {
    fn new(what: &'static str, (finding, message): (Finding, String)) -> Self {
        Self { what, finding, message }
    }
}

async fn checks(config: &HostConfig, settings: &Settings) -> Vec<Check> {
    let (unreadable, master_key) = master_key(config).await;
    let mut checks = vec![
        Check::new("data folder", data_folder(&config.data_dir)),
        Check::new("database", unreadable.unwrap_or_else(|| database(config))),
        Check::new("audit log", audit_folder(&config.audit.folder)),
        Check::new("master key", master_key),
        Check::new("providers", providers(&config.provider_folder(), config.providers.is_some())),
    ];
    if let Some(file) = &config.ca_file {
        let good = |found: Authorities| (Finding::Good, format!("{}, {} in it", file.display(), found.len()));
        let wrong = |error: OpenError| (Finding::Wrong, error.to_string());
        checks.push(Check::new("certificate authorities", host::authorities(file).map_or_else(wrong, good)));
    }
    if let Some(file) = &config.old_master_key {
        let advice = format!("{}; remove this setting once every server uses the other key", file.display());
        let wrong = |error: KeyError| (Finding::Wrong, error.to_string());
        let found = MasterKey::from_file(file).map_or_else(wrong, |_| (Finding::Note, advice));
        checks.push(Check::new("old master key", found));
    }
    match &settings.serve {
        Ok(serve) => checks.extend(serving(serve)),
        Err(error) => checks.push(Check::new("serve", (Finding::Wrong, error.clone()))),
    }
    checks
}

/// Whether the providers have the tiers that are to be their defaults. Only that needs the
/// components loaded.
async fn tiers(app: &App, config: &HostConfig) -> Option<Check> {
    let tiers = &app.global.default_rate_limit_tier;
    if tiers.is_empty() {
        return None;
    }
    let loaded = async {
        let runtime = prepare_runtime(config).await?.build();
        Ok::<_, OpenError>(ProviderFolder::open(&runtime, config.provider_folder()).await?)
    };
    let found = match loaded.await {
        Err(error) => (Finding::Wrong, error.to_string()),
        Ok(folder) => match app.check_tiers(|provider_type| folder.get(provider_type)) {
            Err(error) => (Finding::Wrong, error.message),
            Ok(()) => match tiers.iter().find(|(provider_type, _)| folder.get(provider_type).is_none()) {
                Some((missing, _)) => (Finding::Note, format!("no provider of the type {missing} is installed")),
                None => {
                    let shown: Vec<_> = tiers.iter().map(|(of, tier)| format!("{of}={tier}")).collect();
                    (Finding::Good, shown.join(", "))
                }
            },
        },
    };
    Some(Check::new("rate-limit tiers", found))
}

/// What `serve` needs.
fn serving(serve: &ServeConfig) -> Vec<Check> {
    let wrong = |error: &dyn Display| (Finding::Wrong, error.to_string());
    let plain = serve.tls.is_some() || serve.insecure_plain_http;
    let mut checks = vec![Check::new("listen", listen(&serve.listen, plain))];
    if let Some(files) = &serve.tls {
        let good = (Finding::Good, files.certificate.display().to_string());
        checks.push(Check::new("certificate", tls::load(files).map_or_else(|error| wrong(&error), |_| good)));
    }
    if let Some(address) = &serve.metrics_listen {
        let found = match *address == serve.listen && !address.ends_with(":0") {
            true => wrong(&format!("{address} is the API's own; choose another one")),
            false => listen(address, true),
        };
        checks.push(Check::new("metrics listen", found));
    }
    checks
}

fn does_not_exist_yet(path: &Path) -> (Finding, String) {
    (Finding::Note, format!("{} does not exist yet; `keyway init` creates it", path.display()))
}

fn data_folder(folder: &Path) -> (Finding, String) {
    let shown = folder.display();
    match std::fs::metadata(folder) {
        Ok(found) if !found.is_dir() => (Finding::Wrong, format!("{shown} is not a folder")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => (Finding::Wrong, format!("{shown}: {error}")),
        found => match (not_writable(folder), found) {
            (Some(why), _) => (Finding::Wrong, why),
            (None, Ok(found)) if found.permissions().mode() & 0o077 != 0 => {
                (Finding::Note, format!("other users can read {shown}; `chmod 700` prevents it"))
            }
            (None, Ok(_)) => (Finding::Good, shown.to_string()),
            (None, Err(_)) => does_not_exist_yet(folder),
        },
    }
}

fn audit_folder(folder: &Path) -> (Finding, String) {
    match not_writable(folder) {
        None => (Finding::Good, folder.display().to_string()),
        Some(why) => (Finding::Wrong, format!("{why}. Without the audit log nothing is released")),
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

fn database(config: &HostConfig) -> (Finding, String) {
    let file = config.database();
    match (installation::check(config), std::fs::metadata(&file)) {
        (Err(OpenError::NoDatabase(_)), _) => does_not_exist_yet(&file),
        (Err(error), _) => (Finding::Wrong, error.to_string()),
        (Ok(()), Ok(found)) => (Finding::Good, format!("{}, {} KiB", file.display(), found.len().div_ceil(1_024))),
        (Ok(()), Err(error)) => (Finding::Wrong, format!("{}: {error}", file.display())),
    }
}

/// The findings about the master key, including whether the database is under it, and about the
/// database, if it cannot even be read.
async fn master_key(config: &HostConfig) -> (Option<(Finding, String)>, (Finding, String)) {
    let database = config.database();
    let (place, key) = match config.master_key_source() {
        MasterKeySource::Environment(variable) => {
            (format!("in the variable {variable}"), process::master_key(&variable))
        }
        MasterKeySource::File(file) if file.exists() => (file.display().to_string(), MasterKey::from_file(&file)),
        MasterKeySource::File(file) if database.exists() => {
            let why = format!("{} is missing, and no other key opens the database; put it back", file.display());
            return (None, (Finding::Wrong, why));
        }
        MasterKeySource::File(file) => {
            let lost = installation::refuse_in_memory(&file).err();
            let found = lost.map_or_else(|| does_not_exist_yet(&file), |error| (Finding::Wrong, error.to_string()));
            return (None, found);
        }
    };
    let key = match key {
        Ok(key) if database.exists() => key,
        Ok(_) => return (None, (Finding::Good, place)),
        Err(error) => return (None, (Finding::Wrong, error.to_string())),
    };
    let mut keys = MasterKeys::from(key);
    if let Some(Ok(other)) = config.old_master_key.as_ref().map(MasterKey::from_file) {
        keys = keys.with(other);
    }
    let records = match SqliteStorage::look_at_master_keys(&database).await {
        Ok(records) => records,
        Err(error) => return (Some((Finding::Wrong, error.to_string())), (Finding::Good, place)),
    };
    match (keys.check(&records).await, default_key_file().filter(|_| config.key_beside_data().is_some())) {
        (Ok(()), Some(apart)) => {
            let advice = format!(
                "{place} is in the data folder, so a copy of that opens itself; move it to {}",
                apart.display()
            );
            (None, (Finding::Note, advice))
        }
        (Ok(()), None) => (None, (Finding::Good, place)),
        (Err(error), _) => (None, (Finding::Wrong, format!("{place}: {error}"))),
    }
}

fn providers(folder: &Path, named: bool) -> (Finding, String) {
    let shown = folder.display();
    let files = match std::fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !named => return does_not_exist_yet(folder),
        Err(error) => return (Finding::Wrong, format!("{shown}: {error}")),
    };
    let is_component = |file: &io::Result<std::fs::DirEntry>| {
        file.as_ref().is_ok_and(|file| Path::new(&file.file_name()).extension().is_some_and(|end| end == "wasm"))
    };
    match files.filter(is_component).count() {
        0 => (Finding::Note, format!("{shown} has no component yet")),
        1 => (Finding::Good, format!("{shown}, 1 component; `keyway provider list` checks it")),
        number => (Finding::Good, format!("{shown}, {number} components; `keyway provider list` checks them")),
    }
}

fn listen(address: &str, may_be_plain: bool) -> (Finding, String) {
    let in_use = || (Finding::Note, format!("{address} is in use, perhaps by this server"));
    if let Some(path) = address.strip_prefix(UNIX).map(Path::new) {
        return match not_writable(path.parent().unwrap_or(path)) {
            _ if is_in_use(path) => in_use(),
            None => (Finding::Good, address.to_owned()),
            Some(why) => (Finding::Wrong, why),
        };
    }
    let bound = TcpListener::bind(address).and_then(|listener| listener.local_addr());
    match bound.map(|address| check_plain(address, may_be_plain)) {
        Ok(Ok(())) => (Finding::Good, address.to_owned()),
        Ok(Err(error)) => (Finding::Wrong, error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => in_use(),
        Err(error) => (Finding::Wrong, format!("cannot listen at {address}: {error}")),
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
                Finding::Wrong => (BAD, "WRONG"),
            };
            writeln!(out, "{style}{mark}{style:#}  {}: {}", check.what, printable(&check.message))?;
        }
        Ok(())
    }
}
