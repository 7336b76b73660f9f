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
use crate::group_commit::{GroupCommit, Request};
use crate::query::{AuditPage, AuditQuery};
use crate::sink::{AuditSink, Durability, Receipt};
use crate::verify::{self, AuditVerification};
use crate::writer::{Place, Writer};
use crate::{read, sync};

/// After how many bytes a new segment is begun: a file that every tool can still open, and at the
/// highest rates one every few seconds.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Where the segments of the log are, and how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentOptions {
    /// The folder of the segments; made when it is missing, for its owner only. Nothing else
    /// belongs in it.
    pub folder: PathBuf,
    /// After how many bytes a new segment is begun.
    pub segment_bytes: u64,
    /// Whether to wait for the disk before every release, so that not even a power cut loses the
    /// record of one. Costs the time that the disk needs (0.15 ms to 10 ms) at each; concurrent
    /// ones share it.
    pub sync_every_record: bool,
}

impl SegmentOptions {
    /// Segments of [`SEGMENT_BYTES`] in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), segment_bytes: SEGMENT_BYTES, sync_every_record: false }
    }

    /// Another size of segments.
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
    commit: Arc<GroupCommit>,
    folder: PathBuf,
    key: AuditKey,
    storage: Arc<dyn Storage>,
    anchors: Arc<Anchors>,
}

impl Drop for SegmentLog {
    fn drop(&mut self) {
        self.anchors.stop();
        self.commit.close();
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
        let (unsynced, to_sync) = mpsc::channel();
        let synced = Arc::new(sync::Synced::default());
        let writer = Writer {
            folder: options.folder.clone(),
            segment_bytes: options.segment_bytes,
            sync_every_record: options.sync_every_record,
            key: key.clone(),
            clock,
            anchors: anchors.clone(),
            runtime: Handle::current(),
            unsynced,
            synced: synced.clone(),
            place: Place::Unknown,
            has_unsynced: false,
            buffer: Vec::new(),
        };
        let commit = GroupCommit::new(writer);
        let of_syncing = anchors.clone();
        let of_writing = commit.clone();
        spawn("audit-writer", move || of_writing.run())?;
        spawn("audit-sync", move || sync::run(&to_sync, &synced, &of_syncing))?;
        tokio::spawn(anchors.clone().run());
        Ok(Self { commit, folder: options.folder, key, storage, anchors })
    }

    /// Runs what reads files where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &AuditKey) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, AuditError> {
        let (folder, key) = (self.folder.clone(), self.key.clone());
        let done = tokio::task::spawn_blocking(move || work(&folder, &key)).await;
        done.map_err(AuditError::failed)?.map_err(AuditError::unreadable)
    }
}

#[async_trait]
impl AuditSink for SegmentLog {
    async fn append(&self, event: &AuditEvent, durability: Durability) -> Result<Receipt, AuditError> {
        self.commit.append(event.encode()?, durability).await
    }

    fn keeps_deadline(&self) -> bool {
        true
    }

    async fn check(&self) -> Result<(), AuditError> {
        self.commit.ask(Request::Check).await.map(drop)
    }

    async fn read(&self, query: &AuditQuery) -> Result<AuditPage, AuditError> {
        let query = query.clone();
        self.blocking(move |folder, _| read::page(folder, &query)).await
    }

    async fn verify(&self) -> Result<AuditVerification, AuditError> {
        // Before the files: they only grow.
        let anchors = self.storage.audit_anchors().await.map_err(AuditError::unreadable)?;
        self.blocking(move |folder, key| verify::verify(folder, key, &anchors)).await
    }

    async fn close(&self) {
        // What cannot be made safe any more was told to the log of the process.
        let _ = self.commit.ask(Request::Flush).await;
        self.anchors.store_published().await;
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), AuditError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| AuditError::failed(format!("cannot start the thread `{name}`: {error}")))
}
