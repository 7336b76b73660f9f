//! Options of `keyway entry` and `keyway bind`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use keyway::entries::TfaMethod;

use super::CodeOptions;
use super::target::{ConnectionOption, EntryOption, WorkspaceOption};
use super::values::{cache_ttl, name_and_file, name_and_value, tfa_method};

#[derive(Debug, Subcommand)]
pub(crate) enum EntryCommand {
    /// Create a vault entry: bound to an item, or with its own credentials
    Create(Box<CreateOptions>),
    /// Change a vault entry; values without an option stay unchanged
    Update(Box<UpdateOptions>),
    /// Delete a vault entry; its connection and its item remain
    Delete(EntryTarget),
    /// Show a vault entry, without its secrets
    Get {
        #[command(flatten)]
        entry: EntryOption,
        /// Show cookies, browser storage and other secret attributes, and with --json the encrypted
        /// credentials
        #[arg(long)]
        reveal: bool,
        #[command(flatten)]
        workspace: WorkspaceOption,
    },
    /// List the vault entries
    List(WorkspaceOption),
    /// List what else is in a vault entry's item, besides user name, password and one-time code;
    /// `keyway resolve --further NAME` resolves it
    Fields(EntryTarget),
    /// Print a vault entry's current two-factor code
    Code {
        #[command(flatten)]
        target: EntryTarget,
        #[command(flatten)]
        code: CodeOptions,
    },
}

#[derive(Debug, Args)]
pub(crate) struct EntryTarget {
    #[command(flatten)]
    pub(crate) entry: EntryOption,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceOption,
}

/// What a new entry is called.
#[derive(Debug, Args)]
pub(crate) struct NewEntry {
    /// The user that the entry belongs to, as named by your platform
    #[arg(long, value_name = "USER")]
    pub(crate) user: String,
    /// The site, for example https://acme.com
    #[arg(long, value_name = "URL")]
    pub(crate) domain: String,
    /// A human-readable label
    #[arg(long)]
    pub(crate) alias: Option<String>,
}

/// Where an entry is, and the connection of its item.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Skip the check that the connection can see the item. The check makes one call and only
    /// warns; skip it when you bind many entries
    #[arg(long)]
    pub(crate) no_check: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionOption,
    #[command(flatten)]
    pub(crate) workspace: WorkspaceOption,
}

/// Credentials of an entry's own. They are encrypted under the workspace's key before they are
/// stored.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "The entry's own credentials (never arguments: other users could see them)")]
pub(crate) struct CredentialOptions {
    /// A file with the user name, `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) user_name_file: Option<PathBuf>,
    /// A file with the password, `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// A file with the authenticator's secret (base32, or its otpauth:// URL), `-` for standard
    /// input
    #[arg(long, value_name = "FILE")]
    pub(crate) tfa_secret_file: Option<PathBuf>,
}

/// What an entry carries along, by the names of the HTTP API.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Attributes, named as in the HTTP API")]
pub(crate) struct AttributeOptions {
    /// An attribute, for example persist_cookies=true or user_agent=Mozilla/5.0; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) set: Vec<(String, String)>,
    /// An attribute from a file, for example cookies=cookies.json; required for secret attributes.
    /// The address of a custom proxy (proxy_value with proxy_setting=custom) is encrypted.
    /// Repeatable
    #[arg(long, value_name = "NAME=FILE", value_parser = name_and_file)]
    pub(crate) set_file: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct CreateOptions {
    /// The item's reference as `keyway items` shows it (<scheme>://...). Without it, the entry has
    /// its own credentials, from files or a prompt
    pub(crate) reference: Option<String>,
    #[command(flatten)]
    pub(crate) new: NewEntry,
    /// How the second factor arrives: AUTHENTICATOR (with its own credentials), EMAIL, SMS or
    /// MAGIC_LINK
    #[arg(long, value_name = "METHOD", value_parser = tfa_method)]
    pub(crate) tfa_method: Option<TfaMethod>,
    /// The entry uses a passkey; an entry bound to an item cannot
    #[arg(long, conflicts_with = "reference")]
    pub(crate) passkey: bool,
    /// Cache duration, overriding the connection's: off, seconds, or as in 5m, 1h, 24h
    #[arg(long, value_name = "DURATION", value_parser = cache_ttl, requires = "reference")]
    pub(crate) cache_ttl: Option<u32>,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) credentials: CredentialOptions,
    #[command(flatten)]
    pub(crate) attributes: AttributeOptions,
}

#[derive(Debug, Args)]
pub(crate) struct BindOptions {
    /// The item's reference as `keyway items` shows it (<scheme>://...)
    pub(crate) reference: String,
    #[command(flatten)]
    pub(crate) new: NewEntry,
    /// How the second factor arrives when it does not come from the item: EMAIL, SMS or MAGIC_LINK
    #[arg(long, value_name = "METHOD", value_parser = tfa_method)]
    pub(crate) tfa_method: Option<TfaMethod>,
    /// Cache duration, overriding the connection's: off, seconds, or as in 5m, 1h, 24h
    #[arg(long, value_name = "DURATION", value_parser = cache_ttl)]
    pub(crate) cache_ttl: Option<u32>,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateOptions {
    #[command(flatten)]
    pub(crate) entry: EntryOption,
    /// New user
    #[arg(long, value_name = "USER")]
    pub(crate) new_user: Option<String>,
    /// New site
    #[arg(long, value_name = "URL")]
    pub(crate) new_domain: Option<String>,
    /// A human-readable label
    #[arg(long)]
    pub(crate) alias: Option<String>,
    /// How the second factor arrives: AUTHENTICATOR, EMAIL, SMS or MAGIC_LINK
    #[arg(long, value_name = "METHOD", value_parser = tfa_method)]
    pub(crate) tfa_method: Option<TfaMethod>,
    /// Whether the entry uses a passkey: true or false
    #[arg(long, value_name = "BOOLEAN")]
    pub(crate) passkey: Option<bool>,
    /// Bind the entry to this item, and erase its own credentials
    #[arg(long, value_name = "REFERENCE", conflicts_with = "unbind")]
    pub(crate) bind: Option<String>,
    /// Remove the binding; the same command can set the entry's own credentials
    #[arg(long)]
    pub(crate) unbind: bool,
    /// Cache duration, overriding the connection's: off, seconds, or as in 5m, 1h, 24h
    #[arg(long, value_name = "DURATION", value_parser = cache_ttl)]
    pub(crate) cache_ttl: Option<u32>,
    /// Clear a value by its name in the HTTP API, for example user_alias, tfa_secret or cookies;
    /// repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) clear: Vec<String>,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) credentials: CredentialOptions,
    #[command(flatten)]
    pub(crate) attributes: AttributeOptions,
}
