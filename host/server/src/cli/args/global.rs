//! Options of all commands: the host's files, its network access, and its log.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use keyway_runtime::egress::ConnectTo;
use tracing_subscriber::filter::Targets;

use super::values::{Private, number, private, provider_and_tier};
use crate::cli::proxy::ProxyText;
use crate::logging::{LogFormat, levels};

/// Options of all commands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct GlobalOptions {
    /// Print one JSON document on standard output, also for an error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// A file with settings, in TOML; flags and variables win [default: keyway/config.toml in the
    /// user's configuration folder, if it exists]
    #[arg(long, global = true, env = "KEYWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The folder of the database and compiled components [default: keyway in the user's data
    /// folder]
    #[arg(long, global = true, env = "KEYWAY_DATA_DIR", value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The folder of provider components [default: providers in the data folder]
    #[arg(long, global = true, env = "KEYWAY_PROVIDERS", value_name = "FOLDER")]
    pub(crate) providers: Option<PathBuf>,
    /// A file with the master key as 64 hexadecimal digits (or KEYWAY_MASTER_KEY with the key
    /// itself) [default: keyway/master.key in the user's configuration folder]
    #[arg(long, global = true, env = "KEYWAY_MASTER_KEY_FILE", value_name = "FILE")]
    pub(crate) master_key_file: Option<PathBuf>,
    /// A file with the old or the new master key, during a replacement of the master key
    #[arg(long, global = true, env = "KEYWAY_OLD_MASTER_KEY_FILE", value_name = "FILE")]
    pub(crate) old_master_key_file: Option<PathBuf>,
    /// Connect to URL when a provider connects to HOST, for example
    /// vault.example.com=http://127.0.0.1:9000; repeatable
    #[arg(long, global = true, env = "KEYWAY_CONNECT_TO", value_name = "HOST=URL", value_delimiter = ',')]
    pub(crate) connect_to: Vec<ConnectTo>,
    /// Allow a destination to have a private, loopback or reserved address, for example
    /// https://vault.internal:8200, or allow such addresses to all destinations, for example
    /// 198.18.0.0/15; repeatable
    #[arg(long, global = true, env = "KEYWAY_ALLOW_PRIVATE", value_name = "URL|RANGE", value_delimiter = ',',
        value_parser = private)]
    pub(crate) allow_private: Vec<Private>,
    /// Reach secret managers through an HTTP proxy, for example http://127.0.0.1:3128; only the
    /// variable may hold a user and password, and `none` uses no proxy [default: of HTTPS_PROXY or
    /// ALL_PROXY]
    #[arg(long, global = true, env = "KEYWAY_PROXY", value_name = "URL")]
    pub(crate) proxy: Option<ProxyText>,
    /// A host or a domain, an address or a range that is reached without the proxy; repeatable
    /// [default: of NO_PROXY]
    #[arg(long, global = true, env = "KEYWAY_NO_PROXY", value_name = "HOST", value_delimiter = ',')]
    pub(crate) no_proxy: Vec<String>,
    /// The certificate authorities that secret managers are checked against
    #[arg(long, global = true, env = "KEYWAY_CA_STORE", value_name = "STORE", default_value = "mozilla")]
    pub(crate) ca_store: Authorities,
    /// A file with further certificate authorities, in PEM
    #[arg(long, global = true, env = "KEYWAY_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The rate-limit tier of connections of this provider type that name none; repeatable
    /// [default: the provider's first]
    #[arg(long, global = true, env = "KEYWAY_DEFAULT_RATE_LIMIT_TIER", value_name = "TYPE=TIER", value_delimiter = ',', value_parser = provider_and_tier)]
    pub(crate) default_rate_limit_tier: Vec<(String, String)>,
    /// The folder of the audit log [default: audit in the data folder]
    #[arg(long, global = true, env = "KEYWAY_AUDIT_DIR", value_name = "FOLDER")]
    pub(crate) audit_dir: Option<PathBuf>,
    /// Size at which the audit log begins a new segment, in MiB [default: 64]
    #[arg(long, global = true, env = "KEYWAY_AUDIT_SEGMENT_MIB", value_name = "MIB",
        value_parser = number(1, 4_096))]
    pub(crate) audit_segment_mib: Option<u32>,
    /// When the audit log waits for the disk
    #[arg(long, global = true, env = "KEYWAY_AUDIT_SYNC", value_name = "WHEN", default_value = "interval")]
    pub(crate) audit_sync: AuditSync,
    /// Log level on standard error: off, error, warn, info, debug or trace, also per module
    /// [default: info for serve, else warn]
    #[arg(long, global = true, env = "KEYWAY_LOG", value_name = "LEVEL", value_parser = levels)]
    pub(crate) log: Option<Targets>,
    /// Format of log lines
    #[arg(long, global = true, env = "KEYWAY_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// The certificate authorities that secret managers are checked against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Authorities {
    /// Those that Mozilla trusts, as of this release
    #[default]
    Mozilla,
    /// Those of the operating system
    System,
}

/// When the audit log waits for the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditSync {
    /// Before each change; within a tenth of a second after a release, which a power cut can lose
    #[default]
    Interval,
    /// Before each change and each release
    Every,
}
