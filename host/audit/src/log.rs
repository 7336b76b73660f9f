//! The log in segment files, the default [`AuditSink`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use async_trait::async_trait;
use keyway_clock::Clock;
use keyway_storage::Storage;
use tokio::runtime::Handle;

use crate::chain::AuditKey;
use crate::error::AuditError;
use crate::event::AuditEvent;
use crate::group_commit::{self, GroupCommit, Request, Shared};
use crate::missing::Missing;
use crate::query::{AuditPage, AuditQuery, Positions};
use crate::read;
use crate::readers::Readers;
use crate::root::{AuditRoot, RootNote, Seen};
use crate::root_store::Roots;
use crate::segment;
use crate::sink::{AuditSink, Durability, Receipt};
use crate::sync::Syncing;
use crate::verify::{self, AuditVerification};
use crate::writer::Writer;

/// The size at which a new segment is begun, in bytes. Every tool can still open such a file, and
/// at the highest rates a new one begins every few seconds.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Where the segments of the log are, and how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentOptions {
    /// The folder of the segments. Created for its owner only when missing. Nothing else belongs in
    /// it.
    pub folder: PathBuf,
    /// The size at which a new segment is begun, in bytes.
    pub segment_bytes: u64,
    /// Whether to wait for the disk before every release, so that not even a power cut loses the
    /// record of one. Costs the time of a sync (0.15 ms to 10 ms) each; concurrent releases share
    /// it.
    pub sync_every_record: bool,
}

impl SegmentOptions {
    /// Segments of [`SEGMENT_BYTES`] in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), segment_bytes: SEGMENT_BYTES, sync_every_record: false }
    }

    /// Sets the size of a segment, in bytes.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Whether to wait for the disk before every release.
    #[must_use]
    pub fn sync_every_record(mut self, every: bool) -> Self {
        self.sync_every_record = every;
        self
    }
}

/// An open log.
pub(crate) struct SegmentLog {
    commit: GroupCommit,
    options: SegmentOptions,
    key: AuditKey,
    roots: Arc<Roots>,
    readers: Readers,
    missing: Arc<Missing>,
}

impl Drop for SegmentLog {
    fn drop(&mut self) {
        self.roots.stop();
    }
}

impl SegmentLog {
    /// Opens the log. No file is changed before the first event. A log that has no root gets its
    /// first one.
    pub(crate) async fn open(
        options: SegmentOptions,
        key: AuditKey,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        note: &dyn RootNote,
    ) -> Result<Self, AuditError> {
        let roots = Arc::new(Roots::new(storage, key.clone(), clock.clone(), note.is_noted()));
        if !note.is_noted() {
            let (folder, of_log) = (options.folder.clone(), key.clone());
            let see = move || segment::seen(&folder, &of_log, &segment::list(&folder)?);
            let seen = tokio::task::spawn_blocking(see).await.map_err(AuditError::failed)?;
            // A folder that cannot be read says nothing; writing to it fails.
            let seen = seen.unwrap_or_default();
            // First the root, and then the note: a process that ends between them is repeated.
            let was_bound = roots.settle(&seen).await?.bound;
            let is_first = note.note().await.map_err(AuditError::Failed)?;
            roots.bind(is_first && was_bound).await?;
        }
        let (syncing, missing) = (Arc::new(Syncing::default()), Arc::new(Missing::default()));
        let shared = Arc::new(Shared::new(Writer {
            folder: options.folder.clone(),
            segment_bytes: options.segment_bytes,
            key: key.clone(),
            clock,
            roots: roots.clone(),
            runtime: Handle::current(),
            syncing: syncing.clone(),
            missing: missing.clone(),
            open: None,
            buffer: Vec::new(),
        }));
        let (requests, to_do) = mpsc::channel();
        let commit = GroupCommit::new(shared.clone(), requests);
        let (of_syncing, of_roots) = (syncing.clone(), roots.clone());
        spawn("audit-sync", move || of_syncing.run(&of_roots))?;
        spawn("audit-writer", move || {
            group_commit::run(&to_do, &shared);
            syncing.close();
        })?;
        tokio::spawn(roots.clone().run());
        Ok(Self { commit, options, key, roots, readers: Readers::default(), missing })
    }

    /// Runs work that reads files on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &AuditKey) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, AuditError> {
        let (folder, key) = (self.options.folder.clone(), self.key.clone());
        let done = tokio::task::spawn_blocking(move || work(&folder, &key)).await;
        done.map_err(AuditError::failed)?.map_err(AuditError::unreadable)
    }
}

#[async_trait]
impl AuditSink for SegmentLog {
    async fn append(&self, event: &AuditEvent, durability: Durability) -> Result<Receipt, AuditError> {
        let durability = if self.options.sync_every_record { Durability::Synced } else { durability };
        self.commit.append(event.encode()?, durability).await
    }

    async fn check(&self) -> Result<(), AuditError> {
        self.commit.ask(Request::Check).await.map(drop)
    }

    fn warning(&self) -> Option<String> {
        self.missing.told()
    }

    async fn read(&self, query: &AuditQuery) -> Result<AuditPage, AuditError> {
        let start = query.cursor.as_ref().map(|cursor| Positions::open(&self.key, cursor)).transpose()?;
        let place = self.readers.enter(query.workspace).await;
        let gone = Gone::default();
        let (query, is_gone) = (query.clone(), gone.0.clone());
        self.blocking(move |folder, key| {
            // Kept until the work ends, also when the caller is gone.
            let _place = place;
            read::page(folder, key, &query, start.as_ref(), &is_gone)
        })
        .await
    }

    async fn verify(&self, kept: Option<&AuditRoot>) -> Result<AuditVerification, AuditError> {
        // First the files are listed, then the root is read, and then the files, because a series
        // is in the root before it has files, and files and root only grow.
        let survey = self.blocking(verify::survey).await?;
        let judged = self.roots.read(&survey.seen).await.map_err(AuditError::unreadable)?;
        let kept = kept.cloned();
        self.blocking(move |folder, key| verify::verify(folder, key, &survey, &judged, kept.as_ref())).await
    }

    async fn root(&self) -> Result<AuditRoot, AuditError> {
        self.close().await;
        let judged = self.roots.read(&Seen::default()).await.map_err(AuditError::unreadable)?;
        judged.row.and_then(|row| AuditRoot::from_line(&row)).ok_or(AuditError::NoRoot)
    }

    async fn close(&self) {
        // A failure to sync has already been logged.
        let _ = self.commit.ask(Request::Flush).await;
        self.roots.store_published().await;
    }
}

/// Says when it is dropped that the caller is gone.
#[derive(Default)]
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), AuditError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| AuditError::failed(format!("cannot start the thread `{name}`: {error}")))
}
