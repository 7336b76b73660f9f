//! "This password did not work": revisions that callers have rejected.
//!
//! **Invariants**
//!
//! * Rejecting a revision drops its cached values for every entry that is bound to the item,
//!   through every connection of the workspace. Values that were fetched before are not used again,
//!   even if their fetch is still running.
//! * A revision is rejected at most once. Rejecting it again returns what was fetched since, even
//!   if that is the same revision. So there is one call for each connection, not one for each
//!   rejection.
//! * Only a revision that the cache holds, or that was just fetched, can be rejected. A made-up one
//!   drops nothing and evicts no known rejection.
//!
//! **How:** each rejection has a number, greater than those before it. Values and running fetches
//! carry the item's number from when the provider was called. They are no longer used when their
//! number is smaller than the item's.
//!
//! A revision that was rejected and is still current may be corrected at any moment, so it is
//! cached for five minutes at most, however long the reader's duration is ([`Rejection::limits`]).
//!
//! **How it can fail:** the numbers are in memory only and bounded ([`ITEMS`]). When one is
//! evicted, the revision can be rejected again, at the cost of one call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keyway_storage::{ItemId, WorkspaceId};
use moka::ops::compute::Op;
use moka::sync::Cache;

use crate::cache_ttl::CacheTtl;

/// How many items' rejections are kept; the least recently used are evicted first.
const ITEMS: u64 = 10_000;

/// An item, shared by the connections of a workspace.
type SharedItem = (WorkspaceId, ItemId);

/// The last rejection of an item.
pub(super) struct Rejection {
    revision: String,
    pub(super) number: u64,
}

impl Rejection {
    /// Limits a reader's cache duration for a value of this revision.
    pub(super) fn limits(&self, revision: &str, ttl: Duration) -> Duration {
        if self.revision == revision { ttl.min(CacheTtl::DEFAULT.duration()) } else { ttl }
    }
}

/// The rejections of all items.
pub(super) struct Rejections {
    last_of: Cache<SharedItem, Arc<Rejection>>,
    /// How many there have been. While it is 0, readers skip the look-up.
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
    /// is of that revision, and returns whether it was; if not, nothing is rejected. Of several
    /// concurrent callers, one rejects while the others wait.
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

    /// Notes that the rejected revision is what the provider has just returned: there is nothing
    /// older to drop. `number` is that of the fetch.
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
