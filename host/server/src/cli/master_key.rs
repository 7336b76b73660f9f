//! `keyway master-key`: replacing the master key.
//!
//! The new key is durably in its file before the first byte of the database changes, so the
//! database is never under a key that exists nowhere else.

use std::path::PathBuf;

use keyway::keys::RotatedMasterKey;

use super::app::App;
use super::args::MasterKeyCommand;
use super::exit::CliError;
use super::init::announce;
use super::output::{FAINT, facts, printable};
use crate::config::MasterKeySource;
use crate::installation;
use crate::view::view;

pub(super) async fn run(app: &App, command: MasterKeyCommand) -> Result<(), CliError> {
    let MasterKeyCommand::Rotate { new_key_file } = command;
    // First, so that a wrong key leaves no new file behind.
    let host = app.open_without_providers().await?;
    let is_made = !new_key_file.exists();
    let new = installation::make_key(&new_key_file)?;
    if is_made {
        announce(&new_key_file);
    }
    let source = app.config()?.master_key_source();
    let rotated = host.broker().keys().rotate_master(new).await?;
    let rotated = Rotated::from((rotated, new_key_file));
    app.output.result(&rotated, |out| {
        let keys = if rotated.keys == 1 { "1 key was".to_owned() } else { format!("{} keys were", rotated.keys) };
        writeln!(out, "Replaced the master key; {keys} rewrapped. The old one no longer opens this database.")?;
        let file = rotated.key_file.display().to_string();
        facts(out, &[("key id", &rotated.key_id), ("key file", &file)])?;
        let file = printable(&file);
        match &source {
            MasterKeySource::File(_) => {
                writeln!(
                    out,
                    "{FAINT}From now on, start with --master-key-file {file}, or replace the old file with it:{FAINT:#}"
                )?;
                writeln!(
                    out,
                    "{FAINT}running servers look for it there. Keep the old key only for older backups.{FAINT:#}"
                )
            }
            // A running process does not see a new value.
            MasterKeySource::Environment(variable) => {
                writeln!(
                    out,
                    "{FAINT}Now set {variable} to the content of {file}, and restart the servers that{FAINT:#}"
                )?;
                writeln!(
                    out,
                    "{FAINT}have the old key in that variable. Keep the old key only for older backups.{FAINT:#}"
                )
            }
        }
    })
}

view! {
    struct Rotated of of: (RotatedMasterKey, PathBuf) {
        key_id: String = of.0.key_id.to_string(),
        /// Counts the master keys of the database from 1.
        key_term: u32 = of.0.term,
        /// How many keys were rewrapped.
        keys: u64 = of.0.keys,
        key_file: PathBuf = std::path::absolute(&of.1).unwrap_or(of.1),
    }
}
