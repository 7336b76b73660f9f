//! A watched folder of components: a new file is loaded, a changed one is swapped in, and a bad one
//! is reported while the previous version stays in use.
//!
//! New calls use the new component; running calls finish on the one they started with. Only files
//! whose names end in `.wasm` are read, so a copy in progress can be hidden under another name. A
//! component that is read half-written is reported, and loaded once it is complete.
//!
//! **Invariant:** which file serves a provider type depends on the contents of the folder, not on
//! the order in which files arrived. Of several files of one type, the first by name serves; the
//! others are reported. All processes that read the folder therefore agree, and still do after a
//! restart. When one takes over from another that is still there, the log says so as an error.
//!
//! **Invariant:** nothing is loaded that users other than root and this process's own can change
//! (`trusted_path.rs`): neither the folder, nor a file, nor what leads to them.

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
use crate::limits::Limits;
use crate::provider::Provider;
use crate::runtime::Runtime;

/// How often the folder is read without an event. It may have been removed and created again, or
/// its file system may send no events.
const POLL: Duration = Duration::from_secs(10);

/// How long the folder must be quiet before it is read: one copy causes many events.
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
    /// Other users can change it, or a folder that leads to it.
    #[error("the provider folder {} is not safe from change: {reason}", folder.display())]
    NotSafe {
        /// Which folder.
        folder: PathBuf,
        /// What others can change, and the command that mends it.
        reason: String,
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

/// The state of one file in the folder.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct FileStatus {
    /// The file's name.
    pub file: String,
    /// The provider type that it serves, even if a newer version of the file was refused.
    pub provider_type: Option<String>,
    /// SHA-256 of the component in use, in lower-case hex.
    pub digest: Option<String>,
    /// Why the current version of the file is not in use.
    pub error: Option<String>,
    /// The file that serves this provider type instead, because its name comes first.
    pub served_by: Option<String>,
}

/// Tells versions of a file apart without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    /// Inode and time of the last status change, in seconds and nanoseconds. They differ for a copy
    /// that preserves size and modification time.
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
    /// The file of the same provider type whose name comes first.
    served_by: Option<String>,
    /// Whether it served when the providers were last published.
    serves: bool,
}

impl Entry {
    fn provider_type(&self) -> Option<&str> {
        self.provider.as_ref().map(|provider| &*provider.description().provider_type)
    }

    /// The provider, if this file serves its type.
    fn in_use(&self) -> Option<&Provider> {
        self.provider.as_ref().filter(|_| self.served_by.is_none())
    }

    /// Why another file serves instead.
    fn conflict(&self) -> Option<String> {
        let (other, provider_type) = self.served_by.as_deref().zip(self.provider_type())?;
        Some(format!(
            "provider type `{provider_type}` is served by {other}, the first by name; remove one of the two files"
        ))
    }

    /// Logs a change of `served_by`, once. A removed file that no longer serves is not worth a
    /// line. If it served until now and is still there, another one has taken over, which may be a
    /// mistake, and gets the tokens.
    fn tell_whether_it_serves(&self, file: &str, is_here: bool) {
        let digest = self.provider.as_ref().map(Provider::digest);
        match self.conflict() {
            Some(reason) if is_here && self.serves => {
                tracing::error!(file, digest, reason, "another file has taken over from this one");
            }
            Some(reason) if is_here => tracing::error!(file, digest, reason, "provider not in use"),
            None => tracing::info!(file, digest, provider = self.provider_type(), "provider in use"),
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
    /// Loads every `*.wasm` file of the folder and starts watching it. A bad file is not an error
    /// here: see [`Self::files`].
    pub async fn open(runtime: &Runtime, folder: impl Into<PathBuf>) -> Result<Self, FolderError> {
        let folder = folder.into();
        list(&folder).await?;
        let (events, mut changed) = mpsc::channel(1);
        let unwatchable =
            |error: notify::Error| FolderError::Unwatchable { folder: folder.clone(), reason: error.to_string() };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the folder raises events too. A full channel means that a scan is already
            // due.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = events.try_send(());
            }
        })
        .map_err(unwatchable)?;
        // Watch before the first scan, so that no change in between is missed.
        watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(unwatchable)?;
        let inner = Arc::new(Inner {
            runtime: runtime.clone(),
            folder: folder.clone(),
            entries: Mutex::default(),
            providers: ArcSwap::default(),
            scanning: tokio::sync::Mutex::default(),
        });
        inner.scan().await?;
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            let mut readable = true;
            loop {
                let event = tokio::time::timeout(POLL, changed.recv()).await.is_ok();
                while event && tokio::time::timeout(QUIET, changed.recv()).await.is_ok() {}
                let Some(inner) = weak.upgrade() else { break };
                // Watch again each time: to the operating system, a recreated folder is a different
                // one.
                let watched = watcher.watch(&inner.folder, RecursiveMode::NonRecursive);
                match inner.scan().await {
                    Ok(()) => readable = watched.is_ok(),
                    Err(error) if readable => {
                        tracing::error!(%error, "nothing new is loaded");
                        readable = false;
                    }
                    Err(_) => {}
                }
            }
        });
        Ok(Self { inner })
    }

    /// Looks at a folder without loading anything: whether it could be opened, and the files in it,
    /// each with the reason if it would be refused before it is even read.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn look_at(folder: &Path, limits: &Limits) -> Result<BTreeMap<String, Option<LoadError>>, FolderError> {
        let mut files = BTreeMap::new();
        for (file, stamp) in list(folder).await? {
            let refused = may_be_read(&folder.join(&file), stamp, limits).await.err();
            files.insert(file, refused);
        }
        Ok(files)
    }

    /// The runtime that loads its components.
    pub fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }

    /// The provider that serves this type now.
    pub fn get(&self, provider_type: &str) -> Option<Provider> {
        self.inner.providers.load().get(provider_type).cloned()
    }

    /// All providers, by type.
    pub fn providers(&self) -> Vec<Provider> {
        self.inner.providers.load().values().cloned().collect()
    }

    /// The state of each file, by name.
    pub fn files(&self) -> Vec<FileStatus> {
        let entries = self.inner.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|(file, entry)| entry.status(file)).collect()
    }

    /// Reads the folder now instead of waiting for the watcher. Some network file systems need
    /// this.
    pub async fn rescan(&self) -> Result<(), FolderError> {
        self.inner.scan().await
    }
}

impl Inner {
    async fn scan(&self) -> Result<(), FolderError> {
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
        // Last, so that a renamed file serves until it is loaded under its new name.
        self.with_entries(|entries| entries.retain(|file, _| names.contains(file)));
        self.publish(&names);
        Ok(())
    }

    async fn load(&self, file: &str, stamp: Stamp) -> Result<Provider, LoadError> {
        let path = self.folder.join(file);
        may_be_read(&path, stamp, self.runtime.limits()).await?;
        let bytes = tokio::fs::read(path).await;
        let bytes = bytes.map_err(|error| LoadError::Unreadable(error.to_string()))?;
        self.runtime.load(&bytes).await
    }

    fn record(&self, file: String, stamp: Stamp, loaded: Result<Provider, LoadError>) {
        self.with_entries(|entries| {
            let before = entries.remove(&file);
            let served_by = before.as_ref().and_then(|entry| entry.served_by.clone());
            let serves = before.as_ref().is_some_and(|entry| entry.serves);
            let before = before.and_then(|entry| entry.provider);
            let entry = match loaded {
                Ok(provider) => {
                    let description = provider.description();
                    tracing::info!(
                        file,
                        provider = description.provider_type,
                        version = description.version,
                        digest = provider.digest(),
                        "provider loaded"
                    );
                    Entry { stamp, provider: Some(provider), error: None, served_by, serves }
                }
                Err(error) => {
                    let kept = before.is_some();
                    tracing::error!(file, %error, kept_previous = kept, "provider refused");
                    Entry { stamp, provider: before, error: Some(error), served_by, serves }
                }
            };
            entries.insert(file, entry);
        });
    }

    /// Makes the recorded providers visible to calls, and logs which files another file displaces.
    /// `names` are the files that exist. A removed file serves until another file of its type does,
    /// and displaces none.
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
                entry.serves = entry.in_use().is_some();
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

/// Whether a file is small enough, and safe from change.
async fn may_be_read(path: &Path, stamp: Stamp, limits: &Limits) -> Result<(), LoadError> {
    let limit_bytes = limits.component_bytes;
    if stamp.size > limit_bytes as u64 {
        return Err(LoadError::TooLarge { limit_bytes });
    }
    is_safe(path.to_owned()).await.map_err(LoadError::NotSafe)
}

async fn list(folder: &Path) -> Result<BTreeMap<String, Stamp>, FolderError> {
    let found = files(folder).await.map_err(|source| FolderError::Unreadable { folder: folder.to_owned(), source })?;
    is_safe(folder.to_owned()).await.map_err(|reason| FolderError::NotSafe { folder: folder.to_owned(), reason })?;
    Ok(found)
}

/// Whether no other users can change it; otherwise the reason.
#[cfg(unix)]
async fn is_safe(path: PathBuf) -> Result<(), String> {
    let checked = tokio::task::spawn_blocking(move || crate::trusted_path::check(&path));
    checked.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

#[cfg(not(unix))]
async fn is_safe(_: PathBuf) -> Result<(), String> {
    Ok(())
}

async fn files(folder: &Path) -> std::io::Result<BTreeMap<String, Stamp>> {
    let mut found = BTreeMap::new();
    let mut files = tokio::fs::read_dir(folder).await?;
    while let Some(file) = files.next_entry().await? {
        let Ok(name) = file.file_name().into_string() else { continue };
        if !name.ends_with(".wasm") || name.starts_with('.') {
            continue;
        }
        // A link to a component counts as a component; a file that has vanished again is skipped.
        if let Ok(metadata) = tokio::fs::metadata(file.path()).await
            && metadata.is_file()
        {
            found.insert(name, Stamp::of(&metadata));
        }
    }
    Ok(found)
}
