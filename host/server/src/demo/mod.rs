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

use keyway::ErrorKind;

use crate::cli::app::App;
use crate::cli::args::demo::DemoOptions;
use crate::cli::exit::CliError;
use crate::cli::settings::Origin;
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
        done = steps::all(app, options, &account, folder.path(), &mut report) => done,
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
    /// Removed when dropped.
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

    fn path(&self) -> PathBuf {
        match self {
            Self::Temporary(folder) => folder.path().to_owned(),
            Self::Kept(folder) => folder.clone(),
        }
    }
}
