//! The `keyway` command line.
//!
//! Commands open the same database as a server, so they work with or without one that runs. What they change, a running server sees within a
//! second. Each has a result as text and as data (`output.rs`) and ends with a code that says what kind of failure it was (`exit.rs`).

pub(crate) mod arg_values;
mod args;
mod audit;
mod budget;
pub(crate) mod config;
pub(crate) mod connection;
mod connection_args;
mod entry;
mod entry_args;
pub(crate) mod exit;
mod global_args;
mod key;
mod master_key;
pub(crate) mod output;
pub(crate) mod provider;
pub mod reference;
mod resolve;
mod rotation;
mod rotation_args;
pub(crate) mod secret_input;
pub(crate) mod select;
mod serve;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, FromArgMatches};
use keyway::{BudgetOptions, ErrorKind};
use keyway_runtime::{Compiler, EgressPolicy};
use tokio::sync::OnceCell;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::config::{HostConfig, MasterKeySource, default_data_dir};
use crate::config_file::ConfigFile;
use crate::host::{Host, OpenError};
use crate::{demo, logging};
use args::{Cli, Command};
use exit::CliError;
use global_args::{AuditSync, GlobalOptions};
use output::Output;

/// The variable that may hold the master key itself.
const MASTER_KEY_VARIABLE: &str = "KEYWAY_MASTER_KEY";

/// When opening takes longer than this, the person is told why.
const NOTICE_AFTER: Duration = Duration::from_millis(800);

/// The whole program.
pub fn main() -> ExitCode {
    let (matches, cli, file) = match parse() {
        Ok(parsed) => parsed,
        Err(failed) => return failed,
    };
    if matches!(cli.command, Command::CompileComponent) {
        // It has told the reason on standard error, for the process that started it.
        return keyway_runtime::compile_stdin().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let settings = config::Settings::of(&matches, file);
    let app = App { output: Output { json: cli.global.json }, global: cli.global, settings, host: OnceCell::new() };
    match app.run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            app.output.error(&error);
            ExitCode::from(error.exit() as u8)
        }
    }
}

/// Reads the command line twice: it says which configuration file to read, and that file says what is not on the command line.
fn parse() -> Result<(ArgMatches, Cli, Option<ConfigFile>), ExitCode> {
    let read = |file: Option<&ConfigFile>| {
        let matches = args::command(file).try_get_matches()?;
        let cli = Cli::from_arg_matches(&matches)?;
        Ok::<_, clap::Error>((matches, cli))
    };
    let (matches, cli) = read(None).map_err(|error| not_a_command(&error))?;
    let Some(path) = cli.global.config.clone().or_else(ConfigFile::default_path) else {
        return Ok((matches, cli, None));
    };
    let wrong = |error: CliError| {
        Output { json: cli.global.json }.error(&error);
        ExitCode::from(error.exit() as u8)
    };
    let file = ConfigFile::read(&path).map_err(|error| wrong(CliError::usage(error.to_string())))?;
    // The command line was right without the file, so what is wrong now is in the file.
    let (matches, cli) = read(Some(&file)).map_err(|error| {
        let message = error.to_string();
        let first = message.lines().next().unwrap_or_default();
        let first = first.strip_prefix("error: ").unwrap_or(first);
        wrong(CliError::usage(format!("the configuration file {} is wrong: {first}", path.display())))
    })?;
    Ok((matches, cli, Some(file)))
}

/// Help and the version are for standard output and no failure. Everything else is told as clap tells it, and as data where data was asked for.
fn not_a_command(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if matches!(error.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion) {
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().any(|argument| argument == "--json") {
        let message = error.to_string();
        let first = message.lines().next().unwrap_or_default();
        let told = CliError::usage(first.strip_prefix("error: ").unwrap_or(first));
        let _ = Output { json: true }.json_line(&serde_json::json!({ "error": told }));
    }
    ExitCode::from(exit::Exit::Usage as u8)
}

/// What all commands need.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) output: Output,
    pub(crate) global: GlobalOptions,
    /// Where they come from.
    pub(crate) settings: config::Settings,
    /// What the command has opened; closed with it, however it ends.
    host: OnceCell<Host>,
}

impl App {
    fn run(&self, command: Command) -> Result<(), CliError> {
        let default = if matches!(command, Command::Serve(_)) {
            Targets::new().with_default(LevelFilter::INFO)
        } else {
            // That a request failed is not logged: the command's own error says it, in better words.
            Targets::new().with_default(LevelFilter::WARN).with_target("keyway_runtime::egress", LevelFilter::OFF)
        };
        logging::start(self.global.log.clone().unwrap_or(default), self.global.log_format);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CliError::new(ErrorKind::Internal, format!("cannot start: {error}")))?;
        let result = runtime.block_on(async {
            let result = self.dispatch(command).await;
            if let Some(host) = self.host.get() {
                host.close().await;
            }
            result
        });
        // A task that is stuck does not keep a command from ending.
        runtime.shutdown_background();
        result.map_err(|error| self.with_redirections(error))
    }

    /// Says of a failure to reach something that this host was told to look for it elsewhere.
    fn with_redirections(&self, error: CliError) -> CliError {
        let rules: Vec<_> = self.global.connect_to.iter().map(ToString::to_string).collect();
        if rules.is_empty() || !error.is_unreachable() || error.is_in_result() {
            return error;
        }
        error.hint(format!("connections are redirected ({}): is there a server?", rules.join(", ")))
    }

    async fn dispatch(&self, command: Command) -> Result<(), CliError> {
        match command {
            Command::Serve(options) => serve::run(self, &options).await,
            Command::Workspace(command) => workspace::run(self, command).await,
            Command::MasterKey(command) => master_key::run(self, command).await,
            Command::Key(command) => key::run(self, command).await,
            Command::Connect(options) => connection::connect(self, options).await,
            Command::Connection(command) => connection::run(self, command).await,
            Command::Items(options) => connection::items(self, &options).await,
            Command::Bind(options) => entry::bind(self, options).await,
            Command::Entry(command) => entry::run(self, command).await,
            Command::Resolve(options) => resolve::run(self, options).await,
            Command::Rotation(command) => rotation::run(self, command).await,
            Command::Provider(command) => provider::run(self, command).await,
            Command::Config(command) => config::run(self, &command).await,
            Command::Audit(command) => audit::run(self, command).await,
            Command::Demo(options) => demo::run(self, &options).await,
            Command::CompileComponent => Ok(()),
        }
    }

    /// How the host is set up, by flags and environment.
    pub(crate) fn config(&self) -> Result<HostConfig, CliError> {
        let data_dir = self.global.data_dir.clone().or_else(default_data_dir).ok_or_else(|| {
            CliError::usage("there is no home folder to keep data in").hint("--data-dir names a folder")
        })?;
        Ok(self.config_in(data_dir))
    }

    /// The same with another data folder.
    pub(crate) fn config_in(&self, data_dir: std::path::PathBuf) -> HostConfig {
        let mut policy = EgressPolicy::default();
        for rule in &self.global.connect_to {
            policy = policy.with_connect_to(rule.clone());
        }
        for destination in &self.global.allow_private {
            policy = policy.with_private(destination.clone());
        }
        let tiers = self.global.default_rate_limit_tier.iter();
        let budgets =
            tiers.fold(BudgetOptions::default(), |budgets, (provider, tier)| budgets.default_tier(provider, tier));
        let mut audit = HostConfig::new(&data_dir).audit.sync_every_record(self.global.audit_sync == AuditSync::Every);
        if let Some(folder) = &self.global.audit_dir {
            audit.folder.clone_from(folder);
        }
        if let Some(mebibytes) = self.global.audit_segment_mib {
            audit = audit.segment_bytes(u64::from(mebibytes) << 20);
        }
        let mut host =
            HostConfig::new(data_dir).egress(policy).budgets(budgets).audit(audit).operator(select::OPERATOR);
        // The program compiles components as a process of its own, which it can end.
        match std::env::current_exe() {
            Ok(program) => {
                host = host.compiler(Compiler::Child { program, args: vec!["compile-component".into()] });
            }
            Err(error) => tracing::warn!(
                %error,
                "the program cannot find its own file, so components are compiled in this process, without limits of their own"
            ),
        }
        if let Some(folder) = &self.global.providers {
            host = host.providers(folder.clone());
        }
        // The key itself is a variable, too: it wins over a file's name in the configuration file, not over one in the environment.
        let named = self.global.master_key_file.as_ref();
        let in_environment = std::env::var_os(MASTER_KEY_VARIABLE).is_some_and(|key| !key.is_empty());
        match named.filter(|_| !in_environment || self.settings.origin("master_key_file") != config::Origin::File) {
            Some(file) => host = host.master_key(MasterKeySource::File(file.clone())),
            None if in_environment => {
                host = host.master_key(MasterKeySource::Environment(MASTER_KEY_VARIABLE.to_owned()));
            }
            None => {}
        }
        if let Some(file) = &self.global.old_master_key_file {
            host = host.old_master_key(file.clone());
        }
        host
    }

    /// Opens the host with its providers.
    pub(crate) async fn open(&self) -> Result<&Host, CliError> {
        let open = async { self.with_tiers_checked(Host::open(&self.config()?.background_write_back(false))).await };
        self.host.get_or_try_init(|| open).await
    }

    /// Opens the host for a server.
    pub(crate) async fn open_to_serve(&self) -> Result<&Host, CliError> {
        let open = async { self.with_tiers_checked(Host::open(&self.config()?)).await };
        self.host.get_or_try_init(|| open).await
    }

    /// Opens a host with its providers. A default tier that an installed one does not declare is a mistake.
    async fn with_tiers_checked(&self, open: impl Future<Output = Result<Host, OpenError>>) -> Result<Host, CliError> {
        let host = patiently(open).await?;
        for (provider_type, tier) in &self.global.default_rate_limit_tier {
            let Some(provider) = host.broker().providers().get(provider_type) else { continue };
            let known: Vec<_> = provider.description().rate_limits.iter().map(|tier| tier.name.as_str()).collect();
            if !known.contains(&tier.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let message = format!("{provider_type} has no rate-limit tier `{tier}`; it declares {known}");
                return Err(CliError::usage(message).hint("--default-rate-limit-tier names one for each type"));
            }
        }
        Ok(host)
    }

    /// Opens the host for a command that calls no provider.
    pub(crate) async fn open_without_providers(&self) -> Result<&Host, CliError> {
        let open = async { Ok(Host::open_without_providers(&self.config()?).await?) };
        self.host.get_or_try_init(|| open).await
    }
}

/// Opens a host, and says what takes so long.
pub(crate) async fn patiently(open: impl Future<Output = Result<Host, OpenError>>) -> Result<Host, CliError> {
    let mut open = std::pin::pin!(open);
    match tokio::time::timeout(NOTICE_AFTER, &mut open).await {
        Ok(host) => Ok(host?),
        Err(_) => {
            Output::note("Loading provider components; a new one is compiled once, which takes a moment.");
            Ok(open.await?)
        }
    }
}
