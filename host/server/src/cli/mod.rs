//! The `keyway` command line.
//!
//! Commands open the same database as a server, so they work whether or not one is running. A
//! running server sees their changes within a second. Each command has a result as text and as data
//! (`output.rs`), and an exit code for each kind of failure (`exit.rs`).

pub(crate) mod app;
pub(crate) mod args;
mod audit;
mod backup;
mod budget;
mod config;
mod config_file;
pub(crate) mod connection;
mod database;
mod entry;
pub(crate) mod exit;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod init;
mod key;
mod master_key;
pub(crate) mod output;
pub(crate) mod provider;
mod proxy;
mod resolve;
pub(crate) mod resolved;
mod rotation;
pub(crate) mod secret_input;
pub(crate) mod select;
mod serve;
pub(crate) mod settings;
mod usage;
mod words;
mod workspace;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use keyway::ErrorKind;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::{demo, logging, process};
use app::{App, COMPILE_COMPONENT};
use args::{Cli, Command};
use config_file::ConfigFile;
use exit::CliError;
use output::Output;
use settings::Settings;
use usage::{argument_of, first_line, is_stray_value, with_escapes, with_origin, with_own_usage, without_variables};

/// The whole program.
pub fn main() -> ExitCode {
    process::protect();
    process::take_secrets();
    process::explain_bus_errors();
    if std::env::args_os().skip(1).eq([COMPILE_COMPONENT]) {
        // It has reported the reason on standard error, to the process that started it.
        return keyway_runtime::compile_stdin().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let (matches, cli, file) = match parse() {
        Ok(parsed) => parsed,
        Err(failed) => return failed,
    };
    let app = App::new(cli.global, Settings::of(&matches, file));
    run(&app, cli.command).map_or_else(|error| failed(app.output, &error), |()| ExitCode::SUCCESS)
}

fn failed(output: Output, error: &CliError) -> ExitCode {
    output.error(error);
    ExitCode::from(error.exit as u8)
}

/// Reads the command line twice: first for the configuration file, and then with that file as the
/// source of everything that the command line leaves out.
fn parse() -> Result<(ArgMatches, Cli, Option<ConfigFile>), ExitCode> {
    let read = |file: Option<&ConfigFile>| {
        let matches = args::command(file).try_get_matches().map_err(with_escapes)?;
        let cli = Cli::from_arg_matches(&matches)?;
        Ok::<_, clap::Error>((matches, cli))
    };
    let (matches, cli) = read(None).map_err(|error| {
        let typed = without_variables(args::command(None)).try_get_matches().err();
        let is_typed = typed.is_some_and(|typed| argument_of(&typed) == argument_of(&error));
        not_a_command(&with_own_usage(if is_typed { error } else { with_origin(error) }))
    })?;
    let Some(path) = cli.global.config.clone().or_else(ConfigFile::default_path) else {
        return Ok((matches, cli, None));
    };
    let unusable = |error| failed(Output { json: cli.global.json }, &error);
    let file = ConfigFile::read(&path, &settings::arguments(&Cli::command()).concat()).map_err(unusable)?;
    // The command line was valid without the file, so an error now is in the file.
    let in_file = |error| unusable(config_file::wrong(&path, &first_line(&with_origin(error))));
    let (matches, cli) = read(Some(&file)).map_err(in_file)?;
    Ok((matches, cli, Some(file)))
}

/// Help and the version go to standard output and are not a failure. Any other error is printed in
/// clap's form, and also as data where `--json` was given.
fn not_a_command(error: &clap::Error) -> ExitCode {
    if is_stray_value(error) {
        let message = "an argument too many. Its text is not repeated, because it may be a secret; secrets come from files, see `--help`";
        let json = std::env::args_os().any(|argument| argument == "--json");
        return failed(Output { json }, &CliError::usage(message));
    }
    let _ = error.print();
    if matches!(error.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion) {
        return ExitCode::SUCCESS;
    }
    let told = CliError::usage(first_line(error));
    if std::env::args_os().any(|argument| argument == "--json") {
        let _ = Output { json: true }.json_line(&serde_json::json!({ "error": told }));
    }
    ExitCode::from(told.exit as u8)
}

fn run(app: &App, command: Command) -> Result<(), CliError> {
    let is_server = matches!(command, Command::Serve(_));
    if is_server {
        process::forget_secrets();
    }
    let default = if is_server {
        Targets::new().with_default(LevelFilter::INFO)
    } else {
        // Failed requests and refused components are not logged, because the command's own error or
        // result explains them better.
        let quiet = ["keyway_runtime::egress", "keyway_runtime::folder"].map(|target| (target, LevelFilter::OFF));
        Targets::new().with_default(LevelFilter::WARN).with_targets(quiet)
    };
    // Dropped last, so that it writes what is logged until then.
    let logging = logging::start(app.global.log.clone().unwrap_or(default), app.global.log_format, is_server);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::new(ErrorKind::Internal, format!("cannot start: {error}")))?;
    let result = runtime.block_on(async {
        process::survive_file_size_limits();
        if let Some(logging) = &logging {
            logging.report_dropped();
        }
        let result = dispatch(app, command).await;
        app.close().await;
        result
    });
    // A task that hangs must not keep a command from ending.
    runtime.shutdown_background();
    result.map_err(|error| app.with_what_to_do(error))
}

async fn dispatch(app: &App, command: Command) -> Result<(), CliError> {
    match command {
        Command::Init => init::run(app).await,
        Command::Backup { folder } => backup::run(app, folder).await,
        Command::Serve(options) => serve::run(app, &options).await,
        Command::Workspace(command) => workspace::run(app, command).await,
        Command::MasterKey(command) => master_key::run(app, command).await,
        Command::Key(command) => key::run(app, command).await,
        Command::Connect(options) => connection::connect(app, options).await,
        Command::Connection(command) => connection::run(app, command).await,
        Command::Items(options) => connection::items(app, &options).await,
        Command::Bind(options) => entry::bind(app, options).await,
        Command::Entry(command) => entry::run(app, command).await,
        Command::Resolve(options) => resolve::run(app, options).await,
        Command::Rotation(command) => rotation::run(app, command).await,
        Command::Provider(command) => provider::run(app, command).await,
        Command::Config(command) => config::run(app, &command).await,
        Command::Database(command) => database::run(app, command).await,
        Command::Audit(command) => audit::run(app, command).await,
        Command::Demo(options) => demo::run(app, &options).await,
    }
}

#[cfg(test)]
mod reference_tests;
