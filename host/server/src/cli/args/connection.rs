//! Options of `keyway connect` and `keyway connection`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::target::{ConnectionTarget, WorkspaceOption};
use super::values::{cache_ttl, name_and_file, name_and_value};

/// Where the settings of a connection come from.
#[derive(Debug, Args)]
pub(crate) struct SettingOptions {
    /// A file with the token, `-` for standard input. Otherwise the token comes from
    /// KEYWAY_SETTING_TOKEN or a prompt. It is never an argument: other users could see it, and the
    /// shell records it
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A setting that is not secret; repeatable
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) set: Vec<(String, String)>,
    /// A setting, secret or not, from a file; repeatable
    #[arg(long = "set-file", value_name = "NAME=FILE", value_parser = name_and_file)]
    pub(crate) set_file: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectOptions {
    /// The provider's type; optional when only one provider is installed (`keyway provider list`)
    #[arg(value_name = "TYPE")]
    pub(crate) provider_type: Option<String>,
    /// Name of the connection [default: the provider's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingOptions,
    /// Cache duration of user names and passwords: off, seconds, or as in 5m, 1h, 24h
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = cache_ttl)]
    pub(crate) cache_ttl: u32,
    /// The provider's rate-limit tier to apply; `keyway provider inspect` lists the tiers
    #[arg(long, value_name = "TIER")]
    pub(crate) rate_limit_tier: Option<String>,
    /// A file with certificate authorities, in PEM, that only this connection trusts in addition to
    /// the host's
    #[arg(long, value_name = "FILE")]
    pub(crate) authorities: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceOption,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConnectionCommand {
    /// Connect a workspace to a secret manager
    #[command(visible_alias = "add")]
    Create(ConnectOptions),
    /// List the connections
    List(WorkspaceOption),
    /// Change a connection's name or cache duration, or replace its token or other settings, which
    /// are verified first
    Update(UpdateConnectionOptions),
    /// Delete a connection that no vault entry is bound to
    Delete {
        /// The connection, by id or name
        #[arg(value_name = "CONNECTION")]
        connection: String,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// Show how many requests each connection has left within the secret manager's limits
    Budget(ConnectionTarget),
    /// End a connection's pauses and check its credentials with one login, for when the cause of a
    /// pause is gone
    Retry(ConnectionTarget),
    /// Clear the cached secrets, so that the next resolve of each entry reads from the secret
    /// manager
    ClearCache(ConnectionTarget),
}

#[derive(Debug, Args)]
pub(crate) struct UpdateConnectionOptions {
    /// A new name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A new cache duration: off, seconds, or as in 5m, 1h, 24h. Applies at once, also to cached
    /// values
    #[arg(long, value_name = "DURATION", value_parser = cache_ttl)]
    pub(crate) cache_ttl: Option<u32>,
    /// A new rate-limit tier; an empty one selects the default
    #[arg(long, value_name = "TIER")]
    pub(crate) rate_limit_tier: Option<String>,
    /// A file with certificate authorities, in PEM, in place of those of this connection; an empty
    /// name removes them
    #[arg(long, value_name = "FILE")]
    pub(crate) authorities: Option<String>,
    /// Replace all settings. Missing required ones come from KEYWAY_SETTING_<NAME> or a prompt;
    /// others are unset
    #[arg(long)]
    pub(crate) replace_settings: bool,
    #[command(flatten)]
    pub(crate) settings: SettingOptions,
    #[command(flatten)]
    pub(crate) target: ConnectionTarget,
}
