//! `keyway demo`: the product's main job on real input, step by step, and then the HTTP API to play
//! with.
//!
//! It works in a temporary folder, with a 1Password account that is either the emulator's or a real
//! one. It shows what the library does: every step is a call that a platform would make.

mod account;
mod api;
mod report;
mod steps;

use std::path::PathBuf;

use keyway::{ErrorKind, MasterKey};

use crate::cli::app::App;
use crate::cli::args::demo::DemoOptions;
use crate::cli::exit::CliError;
use crate::cli::init;
use crate::cli::settings::Origin;
use crate::config::{HostConfig, MasterKeySource};
use crate::host::OpenError;
use crate::installation;
use crate::serve::asked_to_end;
use account::Account;
use report::Report;

/// Runs the demo. Ctrl-C ends it in order at any time.
pub(crate) async fn run(app: &App, options: &DemoOptions) -> Result<(), CliError> {
    let account = Account::find(options)?;
    let folder = match &app.global.data_dir {
        Some(folder) if app.settings.origin("data_dir") == Origin::Flag => DataFolder::Kept(folder.clone()),
        _ => DataFolder::temporary()?,
    };
    let mut report = Report::new(app.output, &account, options.once);
    report.heading();
    let mut end = std::pin::pin!(asked_to_end());
    let done = tokio::select! {
        done = steps::all(app, options, &account, &folder, &mut report) => done,
        () = &mut end => return Err(CliError::new(ErrorKind::Internal, "the demo ended before its last step")),
    };
    match done {
        Err(error) => {
            report.end(Some(&error));
            Err(error.in_result())
        }
        Ok((host, server)) => {
            report.end(None);
            if let Some(server) = server {
                server.run(end).await;
            }
            host.close().await;
            Ok(())
        }
    }
}

/// Where the demo keeps its data.
enum DataFolder {
    /// Removed when dropped, with its own master key.
    Temporary(tempfile::TempDir),
    /// Named by the user.
    Kept(PathBuf),
}

impl DataFolder {
    fn temporary() -> Result<Self, CliError> {
        let made = tempfile::Builder::new().prefix("keyway-demo-").tempdir();
        made.map(Self::Temporary)
            .map_err(|error| CliError::new(ErrorKind::Internal, format!("cannot create a temporary folder: {error}")))
    }

    /// The configuration of the host in it. Begins a new installation if there is none.
    async fn config(&self, app: &App) -> Result<HostConfig, CliError> {
        let mut config = match self {
            Self::Temporary(folder) => {
                let mut config = app.config_in(folder.path().to_owned())?;
                let key = folder.path().join("master.key");
                MasterKey::from_file_or_generate(&key).map_err(OpenError::from)?;
                config.master_key = Some(MasterKeySource::File(key));
                config.audit.folder = folder.path().join("audit");
                config
            }
            Self::Kept(folder) => app.config_in(folder.clone())?,
        };
        if matches!(installation::check(&config), Err(OpenError::NoDatabase(_))) {
            config.new_database = true;
            init::prepare(&config).await?;
        }
        Ok(config)
    }
}
