//! Opens everything that a command or a server needs, with as much concurrency as possible.
//!
//! ```text
//! runtime, tried out ──────────────────────────┬─ providers, from the code cache ── broker
//! master key ── database, migrated ── host key ┘
//! ```
//!
//! The code cache is authenticated under a key derived from the host key. The database holds the
//! host key, wrapped by the master key. So the runtime gets its code cache last, and under a wrong
//! master key no compiled code is used.
//!
//! Opening creates no database unless it is asked to, and never a master key: see
//! `installation.rs`.

use std::path::{Path, PathBuf};

use keyway::keys::{HostKey, KeyError, MasterKeys};
use keyway::storage::{KeyStorage, MasterKeyRecord, StorageError, private_file};
use keyway::{Broker, BrokerError, MasterKey, SqliteStorage};
use keyway_runtime::egress::Authorities;
use keyway_runtime::{CodeCacheKey, FolderError, PreparedRuntime, ProviderFolder, Runtime, SetupError};
use thiserror::Error;

use crate::config::{HostConfig, MasterKeySource};
use crate::{installation, process, regular_file};

/// The purpose under which the key of the code cache is derived from the host key.
const CODE_CACHE_KEY: &str = "keyway.v1.code-cache";

/// An open host: its broker, and what the broker runs on.
pub struct Host {
    broker: Broker,
    runtime: Runtime,
    providers: Option<ProviderFolder>,
    storage: SqliteStorage,
}

/// Why a host cannot open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A folder cannot be created.
    #[error("cannot create the folder {}: {source}", folder.display())]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database exists, but the master key is missing.
    #[error(
        "the database {} exists, but its master key {} is missing. Restore the key from its backup; the database does not open without it",
        database.display(), key.display()
    )]
    MasterKeyMissing {
        /// The database.
        database: PathBuf,
        /// Where its key should be.
        key: PathBuf,
    },
    /// There is no database, and nothing of one.
    #[error("there is no database {}", .0.display())]
    NoDatabase(PathBuf),
    /// The database is gone, but its audit log is there.
    #[error(
        "the database {} is missing or empty, but its audit log {} is there. Restore the database from a backup; to begin \
         anew, move the audit log away first",
        database.display(), audit.display()
    )]
    DatabaseLost {
        /// Where the database should be.
        database: PathBuf,
        /// The folder of its audit log.
        audit: PathBuf,
    },
    /// There is a database where a new one was to be created.
    #[error("there is already a database {}", .0.display())]
    DatabaseExists(PathBuf),
    /// A new master key would be lost.
    #[error(
        "a new master key {} would be lost at the next start of this machine, because its folder is in memory. Name \
         a file on a disk",
        .0.display()
    )]
    KeyInMemory(PathBuf),
    /// There is no place for a new master key.
    #[error("there is no home folder to keep the master key in. Name a file with --master-key-file")]
    NoPlaceForKey,
    /// The master key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The master key is not the database's.
    #[error("{source}. The given key is from {place}")]
    NotTheMasterKey {
        /// Where it was read.
        place: MasterKeySource,
        /// What is wrong.
        source: KeyError,
    },
    /// The file of certificate authorities cannot be used.
    #[error("the certificate authorities in {} cannot be used: {reason}", file.display())]
    Authorities {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
        /// What the system says, if it cannot be read.
        source: Option<std::io::Error>,
    },
    /// The sandbox cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The folder of providers cannot be used.
    #[error(transparent)]
    Providers(#[from] FolderError),
    /// The database cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The broker cannot be opened.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("broker", &self.broker).finish_non_exhaustive()
    }
}

impl Host {
    /// Opens the host with the providers of its folder. A provider that cannot be loaded is not an
    /// error: it is logged, and the others work.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is left open.
    pub async fn open(config: &HostConfig) -> Result<Self, OpenError> {
        Self::open_with(config, true).await
    }

    /// Opens the host without any provider, for operations that need none: nothing is compiled or
    /// watched.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_without_providers(config: &HostConfig) -> Result<Self, OpenError> {
        Self::open_with(config, false).await
    }

    /// Opens the host for operations that only read, without any provider. Nothing is written, so
    /// that works on a data folder that cannot be written.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`StorageError::Outdated`] for a database of an earlier
    /// release.
    pub async fn open_read_only(config: &HostConfig) -> Result<Self, OpenError> {
        installation::check(config)?;
        let keys = master_keys(config)?;
        let storage = async { in_use(config, SqliteStorage::open_read_only(config.database()).await?).await };
        let (prepared, storage) = tokio::join!(prepare_runtime(config), storage);
        let (runtime, storage) = (prepared?.build(), storage?);
        let broker = Broker::builder(runtime.clone(), storage.clone(), keys)
            .audit(config.audit.clone())
            .operator(config.operator.clone())
            .background_work(false);
        let broker = broker.open().await.map_err(|error| not_opened(config, error))?;
        Ok(Self { broker, runtime, providers: None, storage })
    }

    async fn open_with(config: &HostConfig, with_providers: bool) -> Result<Self, OpenError> {
        let made = |folder: &PathBuf| {
            private_file::create_folder(folder).map_err(|source| OpenError::Folder { folder: folder.clone(), source })
        };
        installation::check(config)?;
        let keys = master_keys(config)?;
        made(&config.data_dir)?;
        let folder = config.provider_folder();
        if with_providers && config.providers.is_none() {
            made(&folder)?;
        }
        if with_providers {
            made(&config.code_cache())?;
        }
        let database = async {
            let storage = in_use(config, SqliteStorage::open(config.database()).await?).await?;
            let host_key = host_key(config, &storage, &keys).await?;
            Ok::<_, OpenError>((storage, CodeCacheKey::new(*host_key.derive(CODE_CACHE_KEY))))
        };
        // With too little memory both fail, and the sandbox says what to do.
        let (prepared, database) = tokio::join!(prepare_runtime(config), database);
        let (prepared, (storage, code_cache_key)) = (prepared?, database?);
        let runtime = prepared.code_cache(config.code_cache(), code_cache_key).build();
        let providers = match with_providers {
            true => Some(ProviderFolder::open(&runtime, folder).await?),
            false => None,
        };
        let mut builder = Broker::builder(runtime.clone(), storage.clone(), keys)
            .budgets(config.budgets.clone())
            .audit(config.audit.clone())
            .operator(config.operator.clone())
            // Without providers nothing can be written, and attempts would only lengthen the
            // pauses.
            .background_work(config.background_work && with_providers);
        if let Some(providers) = &providers {
            builder = builder.provider_folder(providers.clone());
        }
        let broker = builder.open().await.map_err(|error| not_opened(config, error))?;
        Ok(Self { broker, runtime, providers, storage })
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The folder of providers; `None` for a host that was opened without providers.
    pub fn providers(&self) -> Option<&ProviderFolder> {
        self.providers.as_ref()
    }

    /// The runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Closes the audit log, and then the database once the running operations have ended.
    pub async fn close(&self) {
        self.broker.close().await;
        self.storage.close().await;
    }
}

/// Finds out whether a host could open its database, which names these master keys, with `keys`.
/// Nothing is changed.
pub(crate) async fn rehearse(
    config: &HostConfig,
    keys: &MasterKeys,
    named: &[MasterKeyRecord],
) -> Result<(), OpenError> {
    match SqliteStorage::rehearse(config.database()).await? {
        Some(storage) => {
            let opened = host_key(config, &storage, keys).await;
            storage.close().await;
            opened.map(drop)
        }
        // Other keys than the master key can only be read after the migration.
        None => keys.check(named).await.map_err(|error| not_opened(config, error.into())),
    }
}

async fn host_key(config: &HostConfig, storage: &SqliteStorage, keys: &MasterKeys) -> Result<HostKey, OpenError> {
    HostKey::open(storage, keys).await.map_err(|error| not_opened(config, error.into()))
}

/// Names the place of a master key that does not open the database.
fn not_opened(config: &HostConfig, error: BrokerError) -> OpenError {
    match error {
        BrokerError::Key(source @ (KeyError::WrongMasterKey { .. } | KeyError::ReplacedMasterKey { .. })) => {
            OpenError::NotTheMasterKey { place: config.master_key_source(), source }
        }
        error => error.into(),
    }
}

/// The database. One with nothing in it is new, or was emptied, or its write-ahead log was lost.
async fn in_use(config: &HostConfig, storage: SqliteStorage) -> Result<SqliteStorage, OpenError> {
    if storage.master_keys().await?.is_empty()
        && let Err(error) = installation::without_database(config)
    {
        storage.close().await;
        return Err(error);
    }
    Ok(storage)
}

/// Sets up the sandbox, without a code cache.
pub(crate) async fn prepare_runtime(config: &HostConfig) -> Result<PreparedRuntime, OpenError> {
    let mut egress = config.egress.clone();
    if let Some(file) = &config.ca_file {
        egress.authorities = egress.authorities.and(&authorities(file)?);
    }
    let builder = Runtime::builder().compiler(config.compiler.clone()).egress(egress);
    // The sandbox tests its limits, which takes tens of milliseconds of computing.
    let prepared = tokio::task::spawn_blocking(move || builder.prepare()).await;
    Ok(prepared.map_err(|error| SetupError::Sandbox(error.to_string()))??)
}

/// The certificate authorities in a file.
pub(crate) fn authorities(file: &Path) -> Result<Authorities, OpenError> {
    let wrong = |reason, source| OpenError::Authorities { file: file.to_owned(), reason, source };
    let text = regular_file::read(file).map_err(|error| wrong(error.to_string(), Some(error)))?;
    Authorities::from_pem(&text).map_err(|error| wrong(error.to_string(), None))
}

/// The keys that the database may be under.
fn master_keys(config: &HostConfig) -> Result<MasterKeys, OpenError> {
    let keys = master_key(config)?;
    if let Some((beside, apart)) = config.key_to_move() {
        tracing::warn!(
            "the master key {} is in the data folder, so a copy of that folder opens itself; move the key to {}, \
             where it is found as well",
            beside.display(),
            apart.display()
        );
    }
    match &config.old_master_key {
        Some(old) => Ok(keys.with(MasterKey::from_file(old)?)),
        None => Ok(keys),
    }
}

/// The master key, without another one that it replaces or that replaces it.
pub(crate) fn master_key(config: &HostConfig) -> Result<MasterKeys, OpenError> {
    match config.master_key_source() {
        MasterKeySource::Environment(variable) => Ok(process::master_key(&variable)?.into()),
        MasterKeySource::File(key) => {
            let database = config.database();
            if database.exists() && !key.exists() {
                return Err(OpenError::MasterKeyMissing { database, key });
            }
            // During a replacement of the master key, the new key file may take the place of the
            // old one while this host runs.
            Ok(MasterKeys::from(MasterKey::from_file(&key)?).reload_from(move || MasterKey::from_file(&key)))
        }
    }
}
