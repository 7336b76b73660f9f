//! `keyway init`: begins a new installation. No other command creates a database or a first master
//! key, but for `demo`.

use std::path::PathBuf;

use serde::Serialize;

use super::app::App;
use super::exit::CliError;
use super::output::{FAINT, Output, facts, printable};
use crate::config::{HostConfig, MasterKeySource};
use crate::host::Host;
use crate::installation;

pub(super) async fn run(app: &App) -> Result<(), CliError> {
    let config = HostConfig { new_database: true, ..app.config()? };
    let master_key = prepare(&config).await?;
    Host::open_without_providers(&config).await?.close().await;
    let begun = Begun {
        database: config.database(),
        audit_dir: config.audit.folder.clone(),
        providers: config.provider_folder(),
        new_master_key: master_key.is_some(),
        master_key_file: match config.master_key_source() {
            MasterKeySource::File(file) => Some(file),
            MasterKeySource::Environment(_) => None,
        },
    };
    app.output.result(&begun, |out| {
        let shown = |path: &PathBuf| path.display().to_string();
        let key = begun.master_key_file.as_ref().map_or_else(|| "in the environment".to_owned(), shown);
        writeln!(out, "Created a database.")?;
        facts(
            out,
            &[
                ("database", &shown(&begun.database)),
                ("audit log", &shown(&begun.audit_dir)),
                ("master key", &key),
                ("providers", &shown(&begun.providers)),
            ],
        )?;
        writeln!(out, "{FAINT}`keyway workspace create NAME` creates the first workspace.{FAINT:#}")
    })
}

/// Prepares a new installation. A new master key is announced at once, whatever happens after it.
pub(crate) async fn prepare(config: &HostConfig) -> Result<Option<PathBuf>, CliError> {
    let master_key = installation::prepare(config).await?;
    if let Some(file) = &master_key {
        announce(file);
    }
    Ok(master_key)
}

/// Says that a master key was made, and what follows from it.
pub(super) fn announce(file: &std::path::Path) {
    let file = file.display().to_string();
    Output::note(&format!(
        "Created the master key {}. Back it up, and keep it apart from the data: without it nothing in the database opens.",
        printable(&file)
    ));
}

#[derive(Serialize)]
struct Begun {
    database: PathBuf,
    audit_dir: PathBuf,
    providers: PathBuf,
    /// `null` for a key in the environment.
    master_key_file: Option<PathBuf>,
    /// Whether this command made the key.
    new_master_key: bool,
}
