//! The settings of the host: the value and the origin of each.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};
use serde::Serialize;

use super::args::{self, Cli};
use super::config_file::ConfigFile;
use super::proxy;
use super::usage::{first_line, with_origin};
use crate::config::{HostConfig, MasterKeySource, ServeConfig};

/// The origin of a setting, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    Flag,
    Environment,
    File,
    Default,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) values: Vec<String>,
    pub(super) origin: Origin,
}

/// The settings of the host with their origins.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Settings {
    pub(super) file: Option<PathBuf>,
    pub(super) settings: Vec<Setting>,
    /// What they mean for `serve`, or why it would not start with them.
    #[serde(skip)]
    pub(super) serve: Result<ServeConfig, String>,
}

/// The arguments that are settings: the global ones, and those of `serve`. Each has an environment
/// variable. The path of the configuration file is not a setting: a file cannot name another.
pub(super) fn arguments(command: &Command) -> [Vec<&Arg>; 2] {
    let serve = command.find_subcommand("serve").into_iter().flat_map(Command::get_arguments);
    let is_setting = |arg: &&Arg| arg.get_env().is_some() && arg.get_id() != "config";
    [
        command.get_arguments().filter(is_setting).collect(),
        serve.filter(|arg| !arg.is_global_set()).filter(is_setting).collect(),
    ]
}

impl Settings {
    /// The settings of a parsed command line.
    pub(super) fn of(matches: &ArgMatches, file: Option<ConfigFile>) -> Self {
        let command = Cli::command();
        let [global, of_serve] = arguments(&command);
        let mut settings: Vec<_> = global.iter().map(|arg| setting(matches, arg, file.as_ref())).collect();
        // These belong only to `serve`, so its arguments are parsed as if it were run here.
        let parsed = args::command(file.as_ref()).try_get_matches_from(["keyway", "serve"]);
        if let Some(parsed) = parsed.as_ref().ok().and_then(|matches| matches.subcommand_matches("serve")) {
            settings.extend(of_serve.iter().map(|arg| setting(parsed, arg, file.as_ref())));
        }
        let cli = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
        let serve = match cli.map(|cli| cli.command) {
            Ok(args::Command::Serve(options)) => options.config(),
            Ok(_) => Err("`serve` was read as another command".to_owned()),
            Err(error) => Err(first_line(&with_origin(error))),
        };
        Self { file: file.map(|file| file.path), settings, serve }
    }

    /// The same, with the effective values of unset settings.
    pub(super) fn in_force(&self, config: &HostConfig) -> Self {
        let shown = |path: &Path| Some(path.display().to_string());
        let of_host = |name: &str| match name {
            "data_dir" => shown(&config.data_dir),
            "providers" => shown(&config.provider_folder()),
            "master_key_file" => match config.master_key_source() {
                MasterKeySource::File(file) => shown(&file),
                MasterKeySource::Environment(_) => None,
            },
            "audit_dir" => shown(&config.audit.folder),
            "audit_segment_mib" => Some((config.audit.segment_bytes >> 20).to_string()),
            _ => None,
        };
        // Of the variables that other programs use, too.
        let of_environment = |name: &str| match name {
            proxy::SETTING => config.egress.proxy.as_ref().map(ToString::to_string),
            "no_proxy" => Some(config.egress.no_proxy.to_string()).filter(|hosts| !hosts.is_empty()),
            _ => None,
        };
        let mut all = self.clone();
        for setting in all.settings.iter_mut().filter(|setting| setting.values.is_empty()) {
            setting.values.extend(of_host(&setting.name));
            if let Some(value) = of_environment(&setting.name) {
                setting.values.push(value);
                setting.origin = Origin::Environment;
            }
        }
        all
    }

    pub(super) fn get(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }

    /// The origin of a setting.
    pub(crate) fn origin(&self, name: &str) -> Origin {
        self.get(name).map_or(Origin::Default, |setting| setting.origin)
    }
}

fn setting(matches: &ArgMatches, arg: &Arg, file: Option<&ConfigFile>) -> Setting {
    let name = arg.get_id().as_str();
    let origin = match matches.value_source(name) {
        Some(ValueSource::CommandLine) => Origin::Flag,
        Some(ValueSource::EnvVariable) => Origin::Environment,
        _ if file.is_some_and(|file| file.get(name).is_some()) => Origin::File,
        _ => Origin::Default,
    };
    let shown = |value: &OsStr| match name {
        proxy::SETTING => proxy::shown(&value.to_string_lossy()),
        _ => value.to_string_lossy().into_owned(),
    };
    let values = matches.get_raw(name).into_iter().flatten().map(shown);
    Setting { name: name.to_owned(), values: values.collect(), origin }
}
