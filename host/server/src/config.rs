//! The configuration of a host (where its data and its providers are, and the operator's network
//! policy), and of a server.

use std::path::PathBuf;
use std::time::Duration;

use keyway::audit::SegmentOptions;
use keyway::budgets::BudgetOptions;
use keyway_runtime::Compiler;
use keyway_runtime::egress::EgressPolicy;

/// Where the master key is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MasterKeySource {
    /// In a file of 64 hexadecimal digits that only its owner can read.
    File(PathBuf),
    /// In an environment variable, as 64 hexadecimal digits.
    Environment(String),
}

impl std::fmt::Display for MasterKeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Environment(variable) => write!(f, "the variable {variable}"),
        }
    }
}

/// The configuration of a host.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HostConfig {
    /// Holds the database, the audit log and compiled components.
    pub data_dir: PathBuf,
    /// Whether a missing database is created, with its folder. Otherwise a missing one is an
    /// error.
    pub new_database: bool,
    /// The folder of provider components. `None` is the folder `providers` of the data folder,
    /// which is created when missing.
    pub providers: Option<PathBuf>,
    /// Where the master key is. `None` is the file `master.key` in the data folder, where earlier
    /// versions made it, if it exists; otherwise `keyway/master.key` in the user's configuration
    /// folder.
    pub master_key: Option<MasterKeySource>,
    /// Where another master key is, while one replaces the other. The file must exist.
    pub old_master_key: Option<PathBuf>,
    /// The operator's network policy.
    pub egress: EgressPolicy,
    /// A file of certificate authorities, in PEM, that requests to secret managers trust in
    /// addition to those of the policy.
    pub ca_file: Option<PathBuf>,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// The limits of requests to secret managers, and the pauses after failures.
    pub budgets: BudgetOptions,
    /// Where the audit log is, and how it is written.
    pub audit: SegmentOptions,
    /// The name under which the audit log records actions without an API key.
    pub operator: String,
    /// Whether due work is done in the background: writing passwords back, and renewing providers'
    /// durable state.
    pub background_work: bool,
}

impl HostConfig {
    /// A host with all its data in this folder, which reaches only public addresses and compiles in
    /// its own process.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            audit: SegmentOptions::new(data_dir.join("audit")),
            operator: "operator".into(),
            data_dir,
            new_database: false,
            providers: None,
            master_key: None,
            old_master_key: None,
            egress: EgressPolicy::default(),
            ca_file: None,
            compiler: Compiler::ThisProcess,
            budgets: BudgetOptions::default(),
            background_work: true,
        }
    }

    /// Sets another folder of provider components.
    #[must_use]
    pub fn providers(mut self, folder: impl Into<PathBuf>) -> Self {
        self.providers = Some(folder.into());
        self
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.data_dir.join("keyway.db")
    }

    /// The folder of compiled components.
    pub fn code_cache(&self) -> PathBuf {
        self.data_dir.join("code-cache")
    }

    /// The folder of provider components.
    pub fn provider_folder(&self) -> PathBuf {
        self.providers.clone().unwrap_or_else(|| self.data_dir.join("providers"))
    }

    pub(crate) fn master_key_source(&self) -> MasterKeySource {
        let default = || self.key_beside_data().or_else(default_key_file).unwrap_or_else(|| self.data_dir.join(KEY));
        self.master_key.clone().unwrap_or_else(|| MasterKeySource::File(default()))
    }

    /// The master key in the data folder, if that is the one in use because earlier versions made
    /// it there.
    pub(crate) fn key_beside_data(&self) -> Option<PathBuf> {
        let beside = self.data_dir.join(KEY);
        (self.master_key.is_none() && beside.exists()).then_some(beside)
    }

    /// That key, and where it should be instead.
    pub(crate) fn key_to_move(&self) -> Option<(PathBuf, PathBuf)> {
        self.key_beside_data().zip(default_key_file())
    }
}

/// The files of a server's certificate, in PEM. They are read again when they change.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, followed by those of its issuers.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients. With them, each client must present a certificate of theirs.
    pub client_ca: Option<PathBuf>,
}

/// Where and how a server listens.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServeConfig {
    /// `host:port`, where port 0 picks a free one, or `unix:` and the path of a socket.
    pub listen: String,
    /// An address for health and metrics, with connections of its own. It is plain HTTP and needs
    /// no key. Without one, there are no metrics.
    pub metrics_listen: Option<String>,
    /// The certificate. Without one, the API is plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whether the API may be plain HTTP where other machines can reach it, because TLS ends in
    /// front of it.
    pub insecure_plain_http: bool,
    /// How long the head of a request may take to arrive.
    pub head_timeout: Duration,
    /// How long a connection may rest between requests.
    pub idle_timeout: Duration,
}

impl ServeConfig {
    /// Plain HTTP, which has to be on this machine, with time limits that suit most clients.
    pub fn new(listen: impl Into<String>) -> Self {
        Self {
            listen: listen.into(),
            metrics_listen: None,
            tls: None,
            insecure_plain_http: false,
            head_timeout: Duration::from_secs(HEAD_TIMEOUT.into()),
            idle_timeout: Duration::from_secs(IDLE_TIMEOUT.into()),
        }
    }
}

/// In seconds; hyper's own default.
pub(crate) const HEAD_TIMEOUT: u32 = 30;

/// In seconds. A server must wait longer than the load balancer in front of it, which would
/// otherwise send requests into connections that are being closed. AWS's waits 60 s by default, and
/// so does nginx; 75 s is nginx's own default as a server. (Google Cloud's waits 600 s.)
pub(crate) const IDLE_TIMEOUT: u32 = 75;

/// The name of the file of the master key.
const KEY: &str = "master.key";

/// The default file of the master key: apart from the data, so that a copy of the data does not
/// open itself. `None` for a user without a home.
pub(crate) fn default_key_file() -> Option<PathBuf> {
    default_config_dir().map(|folder| folder.join(KEY))
}

/// The default folder of the configuration file and the master key: `keyway` in the user's
/// configuration folder (on Linux `$XDG_CONFIG_HOME`, otherwise `~/.config`).
pub(crate) fn default_config_dir() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    let strategy = etcetera::base_strategy::Xdg::new().ok()?;
    Some(strategy.config_dir().join("keyway"))
}

/// The default data folder: `keyway` in the user's data folder (on Linux `$XDG_DATA_HOME`,
/// otherwise `~/.local/share`). Not the working folder, where the data would soon be in a
/// repository. `None` for a user without a home.
pub(crate) fn default_data_dir() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    let strategy = etcetera::base_strategy::Xdg::new().ok()?;
    Some(strategy.data_dir().join("keyway"))
}
