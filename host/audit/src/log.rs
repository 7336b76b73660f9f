//! The log in segment files, the default [`AuditSink`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use async_trait::async_trait;
use keyway_clock::Clock;
use keyway_storage::Storage;
use tokio::runtime::Handle;

use crate::anchor::Anchors;
use crate::chain::AuditKey;
use crate::error::AuditError;
use crate::event::AuditEvent;
use crate::group_commit::{self, GroupCommit, Request, Shared};
use crate::query::{AuditPage, AuditQuery};
use crate::read;
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
    storage: Arc<dyn Storage>,
    anchors: Arc<Anchors>,
}

impl Drop for SegmentLog {
    fn drop(&mut self) {
        self.anchors.stop();
    }
}

impl SegmentLog {
    /// Opens the log. No file is touched before the first event.
    pub(crate) async fn open(
        options: SegmentOptions,
        key: AuditKey,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuditError> {
        let anchors = Arc::new(Anchors::open(storage.clone(), key.clone(), clock.clone()).await?);
        let syncing = Arc::new(Syncing::default());
        let shared = Arc::new(Shared::new(Writer {
            folder: options.folder.clone(),
            segment_bytes: options.segment_bytes,
            key: key.clone(),
            clock,
            anchors: anchors.clone(),
            runtime: Handle::current(),
            syncing: syncing.clone(),
            open: None,
            buffer: Vec::new(),
        }));
        let (requests, to_do) = mpsc::channel();
        let commit = GroupCommit::new(shared.clone(), requests);
        let (of_syncing, of_anchors) = (syncing.clone(), anchors.clone());
        spawn("audit-sync", move || of_syncing.run(&of_anchors))?;
        spawn("audit-writer", move || {
            group_commit::run(&to_do, &shared);
            syncing.close();
        })?;
        tokio::spawn(anchors.clone().run());
        Ok(Self { commit, options, key, storage, anchors })
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

    async fn read(&self, query: &AuditQuery) -> Result<AuditPage, AuditError> {
        let query = query.clone();
        self.blocking(move |folder, _| read::page(folder, &query)).await
    }

    async fn verify(&self) -> Result<AuditVerification, AuditError> {
        // The anchors are read before the files, because the files only grow.
        let anchors = self.storage.audit_anchors().await.map_err(AuditError::unreadable)?;
        self.blocking(move |folder, key| verify::verify(folder, key, &anchors)).await
    }

    async fn close(&self) {
        // A failure to sync has already been logged.
        let _ = self.commit.ask(Request::Flush).await;
        self.anchors.store_published().await;
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), AuditError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| AuditError::failed(format!("cannot start the thread `{name}`: {error}")))
}
