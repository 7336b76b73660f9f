//! `keyway demo`: the product's main job on real input, step by step, and then the HTTP API to play with.
//!
//! It works in a folder of its own that is gone afterwards, with a 1Password account that is either the emulator's or a real one. What it shows is what the
//! library does: every step is a call that a platform would make.

mod account;
mod api;
mod report;
mod steps;

use std::path::PathBuf;

use clap::Args;
use keyway::ErrorKind;

use crate::cli::App;
use crate::cli::config::Origin;
use crate::cli::exit::CliError;
use crate::serve::asked_to_end;
use account::Account;
use report::Report;

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// The folder of provider components, 1Password's among them [default: that of --providers]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) components: Option<PathBuf>,
    /// Use a 1Password emulator: a file with what it said about itself
    #[arg(long, value_name = "FILE", conflicts_with = "token_file")]
    pub(crate) emulator_info: Option<PathBuf>,
    /// Use the real 1Password with the service account token in this file (or in KEYWAY_OP_TOKEN), `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// End after the last step; the exit code says whether every step worked
    #[arg(long)]
    pub(crate) once: bool,
    /// Show the password
    #[arg(long)]
    pub(crate) reveal: bool,
    /// Where to serve the HTTP API; port 0 is any free one
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:0",
        value_parser = crate::cli::arg_values::address_and_port
    )]
    pub(crate) listen: String,
}

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
    /// Gone when this is dropped.
    Temporary(tempfile::TempDir),
    /// Named by the person.
    Kept(PathBuf),
}

impl DataFolder {
    fn temporary() -> Result<Self, CliError> {
        let made = tempfile::Builder::new().prefix("keyway-demo-").tempdir();
        made.map(Self::Temporary)
            .map_err(|error| CliError::new(ErrorKind::Internal, format!("cannot make a temporary folder: {error}")))
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Temporary(folder) => folder.path().to_owned(),
            Self::Kept(folder) => folder.clone(),
        }
    }
}
