//! The command line's options. Each has one place: a flag, and where it makes sense a variable of the environment and a key of the configuration file. The flag
//! wins over the variable, the variable over the file, and the file over what is built in.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use keyway::{ConnectionId, EntryId, RateLimits, TfaMethod};
use keyway_runtime::{ApprovedDestination, ConnectTo};
use tracing_subscriber::filter::Targets;

use super::audit::AuditCommand;
use super::entry_args::{CheckOption, EntryCommand};
use super::exit::EXIT_CODES;
use super::rotation_args::RotationCommand;
use crate::config_file::ConfigFile;
use crate::demo::DemoOptions;
use crate::logging::{LogFormat, levels};

/// Binds vault entries to items of a secret manager, and resolves them when they are needed.
#[derive(Debug, Parser)]
#[command(name = "keyway", version, propagate_version = true, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of all commands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct GlobalOptions {
    /// Print data: one JSON document on standard output, also for an error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// A file with settings, in TOML; flags and variables win over it [default: keyway/config.toml in the user's configuration folder, if it is there]
    #[arg(long, global = true, env = "KEYWAY_CONFIG", value_name = "FILE", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Holds the database, the master key and compiled components [default: keyway in the user's data folder]
    #[arg(long, global = true, env = "KEYWAY_DATA_DIR", value_name = "FOLDER", hide_env_values = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// The folder of provider components [default: providers in the data folder]
    #[arg(long, global = true, env = "KEYWAY_PROVIDERS", value_name = "FOLDER", hide_env_values = true)]
    pub(crate) providers: Option<PathBuf>,
    /// A file with the master key as 64 hexadecimal digits (or KEYWAY_MASTER_KEY with the key itself) [default: master.key in the data folder]
    #[arg(long, global = true, env = "KEYWAY_MASTER_KEY_FILE", value_name = "FILE", hide_env_values = true)]
    pub(crate) master_key_file: Option<PathBuf>,
    /// While the master key is being replaced: a file with the other one, so that this works before and after
    #[arg(long, global = true, env = "KEYWAY_OLD_MASTER_KEY_FILE", value_name = "FILE", hide_env_values = true)]
    pub(crate) old_master_key_file: Option<PathBuf>,
    /// Connect to another place when a provider connects to HOST, as in my.1password.com=http://127.0.0.1:9000; may be given more than once
    #[arg(
        long,
        global = true,
        env = "KEYWAY_CONNECT_TO",
        value_name = "HOST=URL",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub(crate) connect_to: Vec<ConnectTo>,
    /// A destination that may have a private or loopback address, as in https://vault.internal:8200; may be given more than once
    #[arg(
        long,
        global = true,
        env = "KEYWAY_ALLOW_PRIVATE",
        value_name = "URL",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub(crate) allow_private: Vec<ApprovedDestination>,
    /// The plan of the 1Password accounts, which decides how many requests they allow
    #[arg(
        long,
        global = true,
        env = "KEYWAY_ONEPASSWORD_PLAN",
        value_name = "PLAN",
        default_value = "business",
        hide_env_values = true
    )]
    pub(crate) onepassword_plan: OnePasswordPlan,
    /// The folder of the audit log [default: audit in the data folder]
    #[arg(long, global = true, env = "KEYWAY_AUDIT_DIR", value_name = "FOLDER", hide_env_values = true)]
    pub(crate) audit_dir: Option<PathBuf>,
    /// How large a segment of the audit log grows before a new one is begun, in MiB [default: 64]
    #[arg(long, global = true, env = "KEYWAY_AUDIT_SEGMENT_MIB", value_name = "MIB", hide_env_values = true,
        value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) audit_segment_mib: Option<u32>,
    /// When the audit log waits for the disk
    #[arg(
        long,
        global = true,
        env = "KEYWAY_AUDIT_SYNC",
        value_name = "WHEN",
        default_value = "interval",
        hide_env_values = true
    )]
    pub(crate) audit_sync: AuditSync,
    /// What to log to standard error: off, error, warn, info, debug or trace, also by module [default: info for serve, else warn]
    #[arg(long, global = true, env = "KEYWAY_LOG", value_name = "LEVEL", value_parser = levels, hide_env_values = true)]
    pub(crate) log: Option<Targets>,
    /// How log lines look
    #[arg(
        long,
        global = true,
        env = "KEYWAY_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        hide_env_values = true
    )]
    pub(crate) log_format: LogFormat,
}

/// A plan of 1Password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnePasswordPlan {
    /// 10,000 reads and 1,000 writes an hour for each token, 50,000 requests a day for the account
    Business,
    /// 1,000 reads and 100 writes an hour, 5,000 requests a day
    Teams,
    /// 1,000 reads and 100 writes an hour, 1,000 requests a day; individual accounts, too
    Families,
}

impl From<OnePasswordPlan> for RateLimits {
    fn from(plan: OnePasswordPlan) -> Self {
        match plan {
            OnePasswordPlan::Business => Self::ONEPASSWORD_BUSINESS,
            OnePasswordPlan::Teams => Self::ONEPASSWORD_TEAMS,
            OnePasswordPlan::Families => Self::ONEPASSWORD_FAMILIES,
        }
    }
}

/// When the audit log waits for the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditSync {
    /// Before changes; after releases within a tenth of a second, which is what a power cut can lose
    #[default]
    Interval,
    /// Before every release, too
    Every,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
    Items(ItemsOptions),
    /// Create a vault entry that is bound to an item (the same as `entry create` with a reference)
    Bind(BindOptions),
    /// Create, change, show and delete vault entries, and read their two-factor codes
    #[command(subcommand)]
    Entry(EntryCommand),
    /// Resolve a vault entry: user name, password and the current one-time code
    Resolve(ResolveOptions),
    /// Read the audit log, and check that nobody has touched it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Rotate passwords: a new one for the site, then written back to the item
    #[command(subcommand)]
    Rotation(RotationCommand),
    /// Look at provider components
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show the main job on real input: connect, list, bind, resolve, serve
    Demo(DemoOptions),
    /// Compile the component on standard input; the program runs itself so, in a process of its own with limits
    #[command(hide = true)]
    CompileComponent,
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// Where to listen; port 0 is any free one. The API is plain HTTP: beyond this machine put TLS in front of it
    #[arg(
        long,
        env = "KEYWAY_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8600",
        value_parser = address_and_port,
        hide_env_values = true
    )]
    pub(crate) listen: String,
    /// Where to serve /metrics, with /healthz and /readyz; without it /metrics is where the API is
    #[arg(
        long,
        env = "KEYWAY_METRICS_LISTEN",
        value_name = "ADDRESS:PORT",
        value_parser = address_and_port,
        hide_env_values = true
    )]
    pub(crate) metrics_listen: Option<String>,
}

/// Which workspace a command is about.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct WorkspaceOption {
    /// The workspace, by id or name; not needed when there is only one
    #[arg(long, short = 'w', env = "KEYWAY_WORKSPACE", value_name = "WORKSPACE", hide_env_values = true)]
    pub(crate) workspace: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkspaceCommand {
    /// Create a workspace, and print its first API key, which is shown only once
    Create {
        /// What to call it
        name: String,
        /// What the first API key allows: api, admin, resolve, rotate
        #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "api")]
        scopes: Vec<keyway::Scope>,
        /// Create it although there is one of that name; commands then have to name each by its id
        #[arg(long)]
        same_name: bool,
    },
    /// List the workspaces
    List,
    /// Print the key that clients encrypt credentials under
    EncryptionKey {
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// Rotate the workspace's key: everything is encrypted anew, and clients need the new key that this prints
    RotateKey {
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum MasterKeyCommand {
    /// Replace the master key: all keys in the database are wrapped anew, and the old one opens it no more
    Rotate {
        /// A file with the new key as 64 hexadecimal digits; made with a new key when it is missing
        #[arg(long, value_name = "FILE")]
        new_key_file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create an API key, and print it, which happens only once
    Create {
        /// What to call it
        name: String,
        /// What it allows: api, admin, resolve, rotate
        #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "api")]
        scopes: Vec<keyway::Scope>,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// List the API keys
    List {
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// Revoke an API key
    Revoke {
        /// The key's id
        id: keyway::ApiKeyId,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
}

/// Where the settings of a connection come from.
#[derive(Debug, Args)]
pub(crate) struct SettingOptions {
    /// A file with the token, `-` for standard input. Without it the token is asked for, or taken from KEYWAY_SETTING_TOKEN. Never an argument: other users of the
    /// machine could see it, and the shell keeps it
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A setting that is not secret; may be given more than once
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) set: Vec<(String, String)>,
    /// A setting, secret or not, from a file; may be given more than once
    #[arg(long = "set-file", value_name = "NAME=FILE", value_parser = name_and_value)]
    pub(crate) set_file: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectOptions {
    /// The provider's type; `keyway provider list` shows what is installed
    #[arg(default_value = "1password", value_name = "TYPE")]
    pub(crate) provider_type: String,
    /// What to call the connection [default: the provider's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingOptions,
    /// For how long a resolved user name and password may be used again: off, seconds, or as in 5m, 1h, 24h
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = cache_ttl)]
    pub(crate) cache_ttl: u32,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceOption,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConnectionCommand {
    /// Connect a workspace to a secret manager
    #[command(visible_alias = "add")]
    Create(ConnectOptions),
    /// List the connections
    List {
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// Change a connection's name or cache duration, or replace its token (and any other setting), which is verified first
    Update(UpdateConnectionOptions),
    /// Delete a connection that no vault entry is bound to
    Delete {
        /// The connection, by id or name
        #[arg(value_name = "CONNECTION")]
        connection: String,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// Show how many requests are left before the secret manager's limits, of all connections or of one
    Budget {
        #[command(flatten)]
        connection: ConnectionOption,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// Clear the cached secrets, so that the next resolve of each entry asks the secret manager
    ClearCache {
        #[command(flatten)]
        connection: ConnectionOption,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
}

#[derive(Debug, Args)]
pub(crate) struct UpdateConnectionOptions {
    /// A new name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A new cache duration: off, seconds, or as in 5m, 1h, 24h. It counts at once, also for what is cached already
    #[arg(long, value_name = "DURATION", value_parser = cache_ttl)]
    pub(crate) cache_ttl: Option<u32>,
    /// Replace the settings; those that no other option gives are asked for, or taken from KEYWAY_SETTING_<NAME>
    #[arg(long)]
    pub(crate) replace_settings: bool,
    #[command(flatten)]
    pub(crate) settings: SettingOptions,
    #[command(flatten)]
    pub(crate) connection: ConnectionOption,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceOption,
}

/// Which connection a command is about.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConnectionOption {
    /// The connection, by id or name; not needed when there is only one
    #[arg(long, short = 'c', env = "KEYWAY_CONNECTION", value_name = "CONNECTION", hide_env_values = true)]
    pub(crate) connection: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ItemsOptions {
    #[command(flatten)]
    pub(crate) connection: ConnectionOption,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceOption,
}

#[derive(Debug, Args)]
pub(crate) struct BindOptions {
    /// The item's reference as `keyway items` shows it, for example op://<vaultId>/<itemId>
    pub(crate) reference: String,
    /// The user the entry belongs to, as your platform calls them
    #[arg(long, value_name = "USER")]
    pub(crate) user: String,
    /// The site, for example https://acme.com
    #[arg(long, value_name = "URL")]
    pub(crate) domain: String,
    /// What people call the entry
    #[arg(long)]
    pub(crate) alias: Option<String>,
    /// How the second factor arrives when it does not come from the item: EMAIL, SMS or MAGIC_LINK
    #[arg(long, value_name = "METHOD")]
    pub(crate) tfa_method: Option<TfaMethod>,
    /// A cache duration of its own, in place of the connection's: off, seconds, or as in 5m, 1h, 24h
    #[arg(long, value_name = "DURATION", value_parser = cache_ttl)]
    pub(crate) cache_ttl: Option<u32>,
    #[command(flatten)]
    pub(crate) check: CheckOption,
    #[command(flatten)]
    pub(crate) connection: ConnectionOption,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceOption,
}

#[derive(Debug, Args)]
pub(crate) struct ResolveOptions {
    /// The vault entry's id
    #[arg(conflicts_with_all = ["user", "domain"])]
    pub(crate) entry: Option<EntryId>,
    /// The entry's user, with --domain
    #[arg(long, value_name = "USER", requires = "domain")]
    pub(crate) user: Option<String>,
    /// The entry's site, with --user
    #[arg(long, value_name = "URL", requires = "user")]
    pub(crate) domain: Option<String>,
    /// Which values [default: all of them]
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    pub(crate) fields: Vec<ResolveField>,
    /// The revision whose password did not work; the result says whether it is still the current one
    #[arg(long, value_name = "REVISION")]
    pub(crate) rejected: Option<String>,
    /// Show the password
    #[arg(long)]
    pub(crate) reveal: bool,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceOption,
}

/// A value of an entry.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum ResolveField {
    Username,
    Password,
    OneTimeCode,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// List the components of the provider folder, and why one is not in use
    List,
    /// Show what a provider says about itself, and what it may do
    Inspect {
        /// A component file, or the type of an installed provider
        #[arg(value_name = "FILE|TYPE")]
        provider: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every setting and where it comes from, and try out what it names; changes nothing
    Check,
}

/// The command line. A variable of the environment that is there and empty, as in many a compose file, counts as not set. What the file sets takes the
/// place of what is built in.
pub(crate) fn command(file: Option<&ConfigFile>) -> clap::Command {
    fn prepared(command: clap::Command, file: Option<&ConfigFile>) -> clap::Command {
        let is_empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        // Where the demo listens is none of the host's settings.
        let settable = command.get_name() != "demo";
        command
            .mut_args(|arg| if is_empty(&arg) { arg.env(clap::builder::Resettable::Reset) } else { arg })
            .mut_args(|arg| match file.filter(|_| settable).and_then(|file| file.get(arg.get_id().as_str())) {
                Some(values) => arg.default_values(values.to_vec()),
                None => arg,
            })
            .mut_subcommands(|command| prepared(command, file))
    }
    prepared(Cli::command(), file)
}

/// A connection's id if the text is one.
pub(crate) fn as_connection_id(text: &str) -> Option<ConnectionId> {
    text.parse().ok()
}

pub(super) fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// An address to listen at. Whether it is one of this machine shows when listening.
pub(crate) fn address_and_port(text: &str) -> Result<String, String> {
    let wrong = || "write it as ADDRESS:PORT, as in 127.0.0.1:8600 or [::1]:8600; port 0 is any free one".to_owned();
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = address.starts_with('[') && address.ends_with(']');
    let is_address = !address.is_empty() && (bracketed || !address.contains([':', '[', ']', '/', ' ']));
    if is_address && port.parse::<u16>().is_ok() { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// `off`, a number of seconds, or a number with `s`, `m`, `h` or `d`.
pub(super) fn cache_ttl(text: &str) -> Result<u32, String> {
    let wrong = || "write it as off, a number of seconds, or a number with s, m, h or d, as in 5m".to_owned();
    if text == "off" {
        return Ok(0);
    }
    let (number, unit) = match text.char_indices().next_back() {
        Some((end, 's')) => (text.get(..end), 1),
        Some((end, 'm')) => (text.get(..end), 60),
        Some((end, 'h')) => (text.get(..end), 3_600),
        Some((end, 'd')) => (text.get(..end), 86_400),
        _ => (Some(text), 1),
    };
    let digits = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit())).ok_or_else(wrong)?;
    digits.parse::<u32>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command(None).debug_assert();
    }

    #[test]
    fn an_address_to_listen_at_has_a_port() {
        for good in ["127.0.0.1:0", "localhost:8600", "[::1]:65535", "0.0.0.0:1"] {
            assert!(address_and_port(good).is_ok(), "{good}");
        }
        for bad in ["", "nonsense", ":8600", "127.0.0.1", "127.0.0.1:", "a:b", "a:65536", "::1:80", "http://a:80"] {
            assert!(address_and_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cache_duration_is_off_or_a_number_with_or_without_a_unit() {
        let good = [("off", 0), ("0", 0), ("300", 300), ("45s", 45), ("5m", 300), ("24h", 86_400), ("1d", 86_400)];
        for (text, seconds) in good {
            assert_eq!(cache_ttl(text), Ok(seconds), "{text}");
        }
        for text in ["", "-1", "+5", "5 m", "1.5h", "m", "5w", "99999999999", "9999999d"] {
            assert!(cache_ttl(text).is_err(), "{text}");
        }
    }
}
