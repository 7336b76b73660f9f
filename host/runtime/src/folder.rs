//! A folder of components, watched: a new file is loaded, a changed one swapped in, a bad one
//! reported while the good one stays.
//!
//! New calls get the new component; calls that run finish on the one they started with. A file
//! whose name does not end in `.wasm` is not looked at, so a half-copied component can be kept out
//! by writing it under another name first; one that is seen half-written is reported and loaded
//! when it is whole.
//!
//! **Invariant:** which file serves a provider type depends on what is in the folder and not on the
//! order in which it came there: of several files of one type the first by name, so that all
//! processes that read the folder use the same one, also after a restart. The others are reported.

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

/// How often the folder is read without a reason: it may have been removed and made again, or lie
/// on a file system that tells nothing.
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
    /// The file that serves this one's provider type in its place, because it comes first by name.
    pub served_by: Option<String>,
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    /// Which file it is and when anything about it changed, seconds and nanoseconds: a copy that
    /// keeps size and time of modification differs here.
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
    error: Option<LoadError>,
    /// The file with the same provider type that comes first by name.
    served_by: Option<String>,
}

impl Entry {
    fn provider_type(&self) -> Option<&str> {
        self.provider.as_ref().map(|provider| &*provider.description().provider_type)
    }

    /// What is in use of it.
    fn in_use(&self) -> Option<&Provider> {
        self.provider.as_ref().filter(|_| self.served_by.is_none())
    }

    /// Why another file serves in its place.
    fn conflict(&self) -> Option<String> {
        let (other, provider_type) = self.served_by.as_deref().zip(self.provider_type())?;
        Some(format!(
            "provider type `{provider_type}` is served by {other}, the first by name; remove one of the two files"
        ))
    }

    /// Once, when it has changed. Nobody has to know it of a file that is gone.
    fn tell_whether_it_serves(&self, file: &str, is_here: bool) {
        match self.conflict() {
            Some(reason) if is_here => tracing::error!(file, reason, "provider not in use"),
            None => tracing::info!(file, provider = self.provider_type(), "provider in use"),
            Some(_) => {}
        }
    }

    fn status(&self, file: &str) -> FileStatus {
        FileStatus {
            file: file.to_owned(),
            provider_type: self.in_use().map(|provider| provider.description().provider_type.clone()),
            digest: self.in_use().map(|provider| provider.digest().to_owned()),
            error: self.error.as_ref().map(ToString::to_string).or_else(|| self.conflict()),
            served_by: self.served_by.clone(),
        }
    }
}

struct Inner {
    runtime: Runtime,
    folder: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
    providers: ArcSwap<BTreeMap<String, Provider>>,
    /// One scan at a time.
    scanning: tokio::sync::Mutex<()>,
}

/// The components of a folder, by provider type. Cheap to clone; the folder is watched for as long
/// as one clone lives.
#[derive(Clone)]
pub struct ProviderFolder {
    inner: Arc<Inner>,
}

impl ProviderFolder {
    /// Loads every `*.wasm` file of the folder and starts to watch it. A bad file is not an error
    /// here: see [`Self::files`].
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
                // Again and again: a folder that was made anew is another one to the operating
                // system.
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
        entries.iter().map(|(file, entry)| entry.status(file)).collect()
    }

    /// Reads the folder now instead of waiting for the watcher, which some network file systems
    /// need.
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
            if self.with_entries(|entries| entries.get(&file).is_some_and(|entry| entry.stamp == stamp)) {
                continue;
            }
            let loaded = self.load(&file, stamp).await;
            self.record(file, stamp, loaded);
            self.publish(&names);
        }
        // Last, so that a file that was renamed serves until it is loaded under its new name.
        self.with_entries(|entries| entries.retain(|file, _| names.contains(file)));
        self.publish(&names);
        Ok(())
    }

    async fn load(&self, file: &str, stamp: Stamp) -> Result<Provider, LoadError> {
        let limit_bytes = self.runtime.limits().component_bytes;
        if stamp.size > limit_bytes as u64 {
            return Err(LoadError::TooLarge { limit_bytes });
        }
        let bytes = tokio::fs::read(self.folder.join(file)).await;
        let bytes = bytes.map_err(|error| LoadError::Unreadable(error.to_string()))?;
        self.runtime.load(&bytes).await
    }

    fn record(&self, file: String, stamp: Stamp, loaded: Result<Provider, LoadError>) {
        self.with_entries(|entries| {
            let before = entries.remove(&file);
            let served_by = before.as_ref().and_then(|entry| entry.served_by.clone());
            let before = before.and_then(|entry| entry.provider);
            let entry = match loaded {
                Ok(provider) => {
                    let description = provider.description();
                    tracing::info!(
                        file,
                        provider = description.provider_type,
                        version = description.version,
                        "provider loaded"
                    );
                    Entry { stamp, provider: Some(provider), error: None, served_by }
                }
                Err(error) => {
                    let kept = before.is_some();
                    tracing::error!(file, %error, kept_previous = kept, "provider refused");
                    Entry { stamp, provider: before, error: Some(error), served_by }
                }
            };
            entries.insert(file, entry);
        });
    }

    /// Makes what is recorded visible to calls, and tells which files are not used for another's
    /// sake. `names` are the files that are there: one that is gone serves on while nothing else
    /// does, and stands in nobody's way.
    fn publish(&self, names: &BTreeSet<String>) {
        let providers = self.with_entries(|entries| {
            let mut first: BTreeMap<String, String> = BTreeMap::new();
            let here = entries.iter().filter(|(file, _)| names.contains(*file));
            let gone = entries.iter().filter(|(file, _)| !names.contains(*file));
            for (file, entry) in here.chain(gone) {
                if let Some(provider_type) = entry.provider_type() {
                    first.entry(provider_type.to_owned()).or_insert_with(|| file.clone());
                }
            }
            for (file, entry) in entries.iter_mut() {
                let serves = entry.provider_type().and_then(|provider_type| first.get(provider_type));
                let served_by = serves.filter(|first| *first != file).cloned();
                if served_by != entry.served_by {
                    entry.served_by = served_by;
                    entry.tell_whether_it_serves(file, names.contains(file));
                }
            }
            let in_use = entries.values().filter_map(|entry| entry.in_use().cloned());
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
        // A link to a component is as good as the component; a file that is gone again is not
        // there.
        if let Ok(metadata) = tokio::fs::metadata(file.path()).await
            && metadata.is_file()
        {
            found.insert(name, Stamp::of(&metadata));
        }
    }
    Ok(found)
}
