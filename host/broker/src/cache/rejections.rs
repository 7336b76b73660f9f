//! "This password did not work": what callers have rejected.
//!
//! **Invariants**
//!
//! * Rejecting a revision drops what is cached of it, for all who share the item: every entry bound
//!   to it, over every connection of the workspace. What was fetched before is not used again by
//!   anybody, not even what was on its way.
//! * A revision is rejected at most once. Who rejects it again gets what was fetched since, also
//!   when that is the same revision, so that rejecting makes one call for each connection and not
//!   one for each rejection.
//! * Only a revision that the cache holds, or that was just fetched, can be rejected; one that is
//!   made up drops nothing and pushes out nothing that is known here.
//!
//! **How:** each rejection has a number, greater than those before it. A value, and a running
//! fetch, knows the number that the item was at when the provider was asked; one with a smaller
//! number than the item's is not used any more.
//!
//! A revision that was rejected and is still what the item holds may be mended at any moment, so it
//! is used for five minutes at most, however long the reader's duration is ([`Rejection::limits`]).
//!
//! **How it can fail:** the numbers are in memory only and bounded ([`ITEMS`]). When one is
//! forgotten, the revision can be rejected once more, at the cost of one call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyway_storage::{ItemId, WorkspaceId};
use moka::ops::compute::Op;
use moka::sync::Cache;

use crate::cache_ttl::CacheTtl;

/// For how many items rejections are remembered; those least recently asked for are forgotten
/// first.
const ITEMS: u64 = 10_000;

/// An item as the connections of a workspace share it.
type SharedItem = (WorkspaceId, ItemId);

/// The last rejection of an item.
pub(super) struct Rejection {
    revision: String,
    pub(super) number: u64,
}

impl Rejection {
    /// A reader's cache duration for a value of this revision.
    pub(super) fn limits(&self, revision: &str, ttl: Duration) -> Duration {
        if self.revision == revision { ttl.min(CacheTtl::DEFAULT.duration()) } else { ttl }
    }
}

/// The rejections of all items.
pub(super) struct Rejections {
    last_of: Cache<SharedItem, Arc<Rejection>>,
    /// How many there have been. While it is 0, readers need not look.
    count: AtomicU64,
}

impl Default for Rejections {
    fn default() -> Self {
        Self { last_of: Cache::new(ITEMS), count: AtomicU64::new(0) }
    }
}

impl Rejections {
    /// The last rejection of an item.
    pub(super) fn last_of(&self, workspace: WorkspaceId, item: &ItemId) -> Option<Arc<Rejection>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.last_of.get(&(workspace, item.clone()))
    }

    /// Rejects a revision unless it was rejected before. `drop_cached` drops the cached value if it
    /// is of that revision, and returns whether it was; else nothing is rejected. Of several
    /// callers at the same time one rejects, before the others are let go on.
    pub(super) fn reject(
        &self,
        workspace: WorkspaceId,
        item: &ItemId,
        revision: &str,
        drop_cached: impl FnOnce() -> bool,
    ) {
        self.last_of.entry((workspace, item.clone())).and_compute_with(|last| {
            let again = last.is_some_and(|last| last.value().revision == revision);
            if again || !drop_cached() {
                return Op::Nop;
            }
            let number = self.count.fetch_add(1, Ordering::AcqRel) + 1;
            Op::Put(Arc::new(Rejection { revision: revision.to_owned(), number }))
        });
    }

    /// Notes that a revision was rejected that the provider has just answered with: there is
    /// nothing older to drop. `number` is that of the fetch.
    pub(super) fn note_current(&self, workspace: WorkspaceId, item: &ItemId, revision: &str, number: u64) {
        self.last_of.entry((workspace, item.clone())).and_compute_with(|last| {
            if last.is_some_and(|last| last.value().revision == revision || last.value().number > number) {
                return Op::Nop;
            }
            self.count.fetch_max(1, Ordering::AcqRel);
            Op::Put(Arc::new(Rejection { revision: revision.to_owned(), number }))
        });
    }
}
