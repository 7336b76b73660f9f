//! The commands, and the options of those that have few. Each option has one definition: a flag,
//! and where it makes sense an environment variable and a key of the configuration file. The flag
//! wins over the variable, the variable over the file, and the file over the built-in default.

pub(crate) mod audit;
pub(crate) mod connection;
pub(crate) mod demo;
pub(crate) mod entry;
pub(crate) mod global;
pub(crate) mod rotation;
pub(crate) mod serve;
pub(crate) mod target;
pub(crate) mod values;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use super::config_file::ConfigFile;
use super::exit::EXIT_CODES;
use audit::AuditCommand;
use connection::{ConnectOptions, ConnectionCommand};
use demo::DemoOptions;
use entry::{BindOptions, EntryCommand};
use global::GlobalOptions;
use rotation::RotationCommand;
use serve::ServeOptions;
use target::{ConnectionTarget, EntryOption, WorkspaceOption};

/// Binds vault entries to items of a secret manager, and resolves them on demand.
#[derive(Debug, Parser)]
#[command(name = "keyway", version, propagate_version = true, after_help = EXIT_CODES, max_term_width = 110)]
#[command(arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Begin a new installation: create the database, and the master key if it is missing
    Init,
    /// Copy the database and the audit log, also beside a running server; the copy is a data
    /// folder, and the master key is not in it
    Backup {
        /// The folder to create; it must not exist
        folder: PathBuf,
    },
    /// Serve the HTTP API
    Serve(ServeOptions),
    /// Create and list workspaces
    #[command(subcommand)]
    Workspace(WorkspaceCommand),
    /// Replace the master key
    #[command(subcommand)]
    MasterKey(MasterKeyCommand),
    /// Create, list and revoke the API keys of a workspace
    #[command(subcommand)]
    Key(KeyCommand),
    /// Connect a workspace to a secret manager (the same as `connection create`)
    Connect(ConnectOptions),
    /// Create, list, change and delete connections, and clear their cached secrets
    #[command(subcommand)]
    Connection(ConnectionCommand),
    /// List the items that a connection can see
    Items(ConnectionTarget),
    /// Create a vault entry that is bound to an item (the same as `entry create` with a reference)
    Bind(BindOptions),
    /// Create, change, show and delete vault entries, and read their two-factor codes
    #[command(subcommand)]
    Entry(EntryCommand),
    /// Resolve a vault entry: user name, password and the current one-time code
    Resolve(ResolveOptions),
    /// Find and delete damaged rows of the database
    #[command(subcommand)]
    Database(DatabaseCommand),
    /// Read the audit log, and verify that it is unchanged
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Rotate passwords: store a new one for the site, then write it back to the item
    #[command(subcommand)]
    Rotation(RotationCommand),
    /// Inspect provider components
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// Check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run the main job on real input: connect, list, bind, resolve, serve
    Demo(DemoOptions),
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkspaceCommand {
    /// Create a workspace, and print its first API key, which is shown only once
    Create {
        /// Name of the workspace
        name: String,
        /// Scopes of the first API key: api, admin, resolve, rotate
        #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "api")]
        scopes: Vec<keyway::Scope>,
        /// Allow a second workspace of the same name; commands then need the ids
        #[arg(long)]
        same_name: bool,
        /// Your own system's id of the workspace, unique among all workspaces
        #[arg(long, value_name = "ID")]
        external_id: Option<String>,
    },
    /// Rename a workspace
    Rename {
        /// New name of the workspace
        name: String,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// Delete a workspace with its connections, vault entries and keys; its audit records remain
    Delete {
        /// The workspace, by id or name
        workspace: String,
        /// Do not ask for its name first
        #[arg(long)]
        yes: bool,
    },
    /// List the workspaces
    List,
    /// Print the key that clients encrypt credentials under
    EncryptionKey(WorkspaceOption),
    /// Rotate the workspace key: re-encrypt all values, and print the new key, which clients need
    RotateKey(WorkspaceOption),
}

#[derive(Debug, Subcommand)]
pub(crate) enum MasterKeyCommand {
    /// Replace the master key: rewrap all keys in the database under the new one; the old one no
    /// longer opens it
    Rotate {
        /// A file with the new key as 64 hexadecimal digits, on a disk; created with a new key if
        /// it is missing
        #[arg(long, value_name = "FILE")]
        new_key_file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create an API key, and print it once
    Create {
        /// Name of the API key
        name: String,
        /// Scopes of the API key: api, admin, resolve, rotate
        #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "api")]
        scopes: Vec<keyway::Scope>,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// List the API keys
    List(WorkspaceOption),
    /// Revoke an API key
    Revoke {
        /// The key, by id or name
        key: String,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ResolveOptions {
    #[command(flatten)]
    pub(crate) entry: EntryOption,
    /// Values to resolve [default: all of them, or none with --further]
    #[arg(long, visible_alias = "field", value_name = "FIELDS", value_delimiter = ',')]
    pub(crate) fields: Vec<ResolveField>,
    /// A further field of the item, by its name in `keyway entry fields`; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) further: Vec<String>,
    /// The revision whose password the site rejected; the result says whether it is still current
    #[arg(long, value_name = "REVISION")]
    pub(crate) rejected: Option<String>,
    #[command(flatten)]
    pub(crate) code: CodeOptions,
    /// Show the password and further fields
    #[arg(long)]
    pub(crate) reveal: bool,
    /// Write exactly the bytes of one value and nothing else, for scripts; with --fields or
    /// --further
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceOption,
}

/// Which one-time code will do.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct CodeOptions {
    /// Only a one-time code that was not handed out before; waits for the next one, for 35 s at
    /// most. A command knows only its own: where callers share an item, ask a running server
    #[arg(long)]
    unused: bool,
    /// Only a one-time code that is current for at least this many seconds more; waits for the next
    /// one, for 35 s at most
    #[arg(long, value_name = "SECONDS", default_value_t = 0, hide_default_value = true,
        value_parser = values::number(0, 86_400))]
    min_seconds_left: u32,
}

impl From<CodeOptions> for keyway::WantedCode {
    fn from(options: CodeOptions) -> Self {
        Self::default().unused(options.unused).min_seconds_left(options.min_seconds_left)
    }
}

/// A value of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum ResolveField {
    Username,
    Password,
    OneTimeCode,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// List the components of the provider folder, and why any of them is not in use
    List,
    /// Show what a provider declares, and what it may do
    Inspect {
        /// A component file, or the type of an installed provider
        #[arg(value_name = "FILE|TYPE")]
        provider: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DatabaseCommand {
    /// Read and open everything in the database, and list the rows and indexes that are damaged
    Check,
    /// Delete a row that `check` lists, and what only it held; an index is made anew instead
    DeleteDamaged {
        /// The row's table, or `index`
        table: String,
        /// The row's id, as `check` shows it
        id: String,
        /// Delete it without asking
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every setting and its origin, and find what `serve` would refuse or stumble over;
    /// changes nothing
    Check,
}

/// The command line. An empty environment variable, common in compose files, counts as not set;
/// help never shows the values of variables. Settings of the file replace the built-in defaults.
pub(crate) fn command(file: Option<&ConfigFile>) -> clap::Command {
    fn prepared(command: clap::Command, file: Option<&ConfigFile>) -> clap::Command {
        let is_empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        // The demo's own address is not a setting of the host.
        let settable = command.get_name() != "demo";
        command
            .mut_args(|arg| if is_empty(&arg) { arg.env(clap::builder::Resettable::Reset) } else { arg })
            .mut_args(|arg| arg.hide_env_values(true))
            .mut_args(|arg| match file.filter(|_| settable).and_then(|file| file.get(arg.get_id().as_str())) {
                Some(values) => arg.default_values(values.to_vec()),
                None => arg,
            })
            .mut_subcommands(|command| prepared(command, file))
    }
    prepared(Cli::command(), file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command(None).debug_assert();
    }
}
