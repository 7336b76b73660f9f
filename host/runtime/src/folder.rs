//! A folder of components, watched: a new file is loaded, a changed one swapped in, a bad one reported while the good one stays.
//!
//! New calls get the new component; calls that run finish on the one they started with. A file whose name does not end in `.wasm` is not looked at, so
//! a half-copied component can be kept out by writing it under another name first; one that is seen half-written is reported and loaded when it is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use notify::{RecursiveMode, Watcher};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::error::LoadError;
use crate::provider::Provider;
use crate::runtime::Runtime;

/// How often the folder is read without a reason: it may have been removed and made again, or lie on a file system that tells nothing.
const POLL: Duration = Duration::from_secs(10);

/// How long the folder must be quiet before it is read: a copy makes many events.
const QUIET: Duration = Duration::from_millis(150);

/// The folder cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderError {
    /// It cannot be read.
    #[error("cannot read the provider folder {}: {source}", folder.display())]
    Unreadable {
        /// Which folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot be watched.
    #[error("cannot watch the provider folder {}: {reason}", folder.display())]
    Unwatchable {
        /// Which folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What became of one file of the folder.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct FileStatus {
    /// The file's name.
    pub file: String,
    /// The provider type that it serves, also when a newer version of the file was refused.
    pub provider_type: Option<String>,
    /// SHA-256 of the component in use, in lower-case hex.
    pub digest: Option<String>,
    /// Why the file as it is now is not in use.
    pub error: Option<String>,
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    /// Which file it is and when anything about it changed, seconds and nanoseconds: a copy that keeps size and time of modification differs here.
    #[cfg(unix)]
    change: (u64, i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            change: {
                use std::os::unix::fs::MetadataExt;
                (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
            },
        }
    }
}

struct Entry {
    stamp: Stamp,
    provider: Option<Provider>,
    error: Option<LoadOrConflict>,
}

impl Entry {
    /// Whether there is nothing to do about a file in this state. A conflict may have ended with another file.
    fn is_settled(&self, stamp: Stamp) -> bool {
        self.stamp == stamp && !matches!(self.error, Some(LoadOrConflict::Conflict { .. }))
    }
}

#[derive(Debug, Error)]
enum LoadOrConflict {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("provider type `{provider_type}` is served by {file} already; remove one of the two files")]
    Conflict { provider_type: String, file: String },
}

struct Inner {
    runtime: Runtime,
    folder: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
    providers: ArcSwap<BTreeMap<String, Provider>>,
    /// One scan at a time.
    scanning: tokio::sync::Mutex<()>,
}

/// The components of a folder, by provider type. Cheap to clone; the folder is watched for as long as one clone lives.
#[derive(Clone)]
pub struct ProviderFolder {
    inner: Arc<Inner>,
}

impl ProviderFolder {
    /// Loads every `*.wasm` file of the folder and starts to watch it. A bad file is not an error here: see [`Self::files`].
    pub async fn open(runtime: &Runtime, folder: impl Into<PathBuf>) -> Result<Self, FolderError> {
        let folder = folder.into();
        let unreadable = |source| FolderError::Unreadable { folder: folder.clone(), source };
        list(&folder).await.map_err(unreadable)?;
        let (events, mut changed) = mpsc::channel(1);
        let unwatchable =
            |error: notify::Error| FolderError::Unwatchable { folder: folder.clone(), reason: error.to_string() };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the folder is an event, too. A full channel means that a scan is due anyway.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = events.try_send(());
            }
        })
        .map_err(unwatchable)?;
        // Watched before it is read, so that nothing is missed in between.
        watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(unwatchable)?;
        let inner = Arc::new(Inner {
            runtime: runtime.clone(),
            folder: folder.clone(),
            entries: Mutex::default(),
            providers: ArcSwap::default(),
            scanning: tokio::sync::Mutex::default(),
        });
        inner.scan().await.map_err(|source| FolderError::Unreadable { folder, source })?;
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            let mut readable = true;
            loop {
                let event = tokio::time::timeout(POLL, changed.recv()).await.is_ok();
                while event && tokio::time::timeout(QUIET, changed.recv()).await.is_ok() {}
                let Some(inner) = weak.upgrade() else { break };
                // Again and again: a folder that was made anew is another one to the operating system.
                let watched = watcher.watch(&inner.folder, RecursiveMode::NonRecursive);
                match inner.scan().await {
                    Ok(()) => readable = watched.is_ok(),
                    Err(error) if readable => {
                        tracing::error!(folder = %inner.folder.display(), %error, "cannot read the provider folder");
                        readable = false;
                    }
                    Err(_) => {}
                }
            }
        });
        Ok(Self { inner })
    }

    /// The provider of this type, as it is now.
    pub fn get(&self, provider_type: &str) -> Option<Provider> {
        self.inner.providers.load().get(provider_type).cloned()
    }

    /// All providers, by type.
    pub fn providers(&self) -> Vec<Provider> {
        self.inner.providers.load().values().cloned().collect()
    }

    /// What became of each file, by name.
    pub fn files(&self) -> Vec<FileStatus> {
        let entries = self.inner.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let status = |(file, entry): (&String, &Entry)| FileStatus {
            file: file.clone(),
            provider_type: entry.provider.as_ref().map(|p| p.description().provider_type.clone()),
            digest: entry.provider.as_ref().map(|p| p.digest().to_owned()),
            error: entry.error.as_ref().map(ToString::to_string),
        };
        entries.iter().map(status).collect()
    }

    /// Reads the folder now instead of waiting for the watcher, which some network file systems need.
    pub async fn rescan(&self) -> Result<(), FolderError> {
        let folder = self.inner.folder.clone();
        self.inner.scan().await.map_err(|source| FolderError::Unreadable { folder, source })
    }
}

impl Inner {
    async fn scan(&self) -> std::io::Result<()> {
        let _one_at_a_time = self.scanning.lock().await;
        let found = list(&self.folder).await?;
        let names: BTreeSet<String> = found.keys().cloned().collect();
        for (file, stamp) in found {
            if self.with_entries(|entries| entries.get(&file).is_some_and(|entry| entry.is_settled(stamp))) {
                continue;
            }
            let loaded = self.load(&file, stamp, &names).await;
            self.record(file, stamp, loaded);
            self.publish();
        }
        // Last, so that a file that was renamed serves until it is loaded under its new name.
        self.with_entries(|entries| entries.retain(|file, _| names.contains(file)));
        self.publish();
        Ok(())
    }

    /// `names` are the files that are there; one that is gone is no conflict any more.
    async fn load(&self, file: &str, stamp: Stamp, names: &BTreeSet<String>) -> Result<Provider, LoadOrConflict> {
        let limit_bytes = self.runtime.limits().component_bytes;
        if stamp.size > limit_bytes as u64 {
            return Err(LoadError::TooLarge { limit_bytes }.into());
        }
        let bytes = tokio::fs::read(self.folder.join(file)).await;
        let bytes = bytes.map_err(|error| LoadError::Unreadable(error.to_string()))?;
        let provider = self.runtime.load(&bytes).await?;
        let provider_type = &provider.description().provider_type;
        let other = self.with_entries(|entries| {
            let serves = |entry: &Entry| {
                entry.provider.as_ref().is_some_and(|p| p.description().provider_type == *provider_type)
            };
            entries
                .iter()
                .find(|(name, entry)| *name != file && names.contains(*name) && serves(entry))
                .map(|(name, _)| name.clone())
        });
        match other {
            Some(file) => Err(LoadOrConflict::Conflict { provider_type: provider_type.clone(), file }),
            None => Ok(provider),
        }
    }

    fn record(&self, file: String, stamp: Stamp, loaded: Result<Provider, LoadOrConflict>) {
        self.with_entries(|entries| {
            let before = entries.remove(&file).and_then(|entry| entry.provider);
            let entry = match loaded {
                Ok(provider) => {
                    let description = provider.description();
                    tracing::info!(
                        file,
                        provider = description.provider_type,
                        version = description.version,
                        "provider loaded"
                    );
                    Entry { stamp, provider: Some(provider), error: None }
                }
                Err(error) => {
                    let kept = before.is_some();
                    tracing::error!(file, %error, kept_previous = kept, "provider refused");
                    Entry { stamp, provider: before, error: Some(error) }
                }
            };
            entries.insert(file, entry);
        });
    }

    /// Makes what is recorded visible to calls.
    fn publish(&self) {
        let providers = self.with_entries(|entries| {
            let in_use = entries.values().filter_map(|entry| entry.provider.clone());
            in_use.map(|provider| (provider.description().provider_type.clone(), provider)).collect()
        });
        self.providers.store(Arc::new(providers));
    }

    fn with_entries<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Entry>) -> T) -> T {
        work(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn list(folder: &Path) -> std::io::Result<BTreeMap<String, Stamp>> {
    let mut found = BTreeMap::new();
    let mut files = tokio::fs::read_dir(folder).await?;
    while let Some(file) = files.next_entry().await? {
        let Ok(name) = file.file_name().into_string() else { continue };
        if !name.ends_with(".wasm") || name.starts_with('.') {
            continue;
        }
        // A link to a component is as good as the component; a file that is gone again is not there.
        if let Ok(metadata) = tokio::fs::metadata(file.path()).await
            && metadata.is_file()
        {
            found.insert(name, Stamp::of(&metadata));
        }
    }
    Ok(found)
}
