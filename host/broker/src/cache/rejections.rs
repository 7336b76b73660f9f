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
    /// Whether nothing was ever rejected.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// The last rejection of an item.
    pub(super) fn last_of(&self, workspace: WorkspaceId, item: &ItemId) -> Option<Arc<Rejection>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> (Rejections, WorkspaceId, ItemId) {
        let item = ItemId { account: "1password/acme".into(), reference: "op://vault/item".into() };
        (Rejections::default(), WorkspaceId::generate(), item)
    }

    fn number(last: Option<Arc<Rejection>>) -> u64 {
        last.map_or(0, |rejection| rejection.number)
    }

    #[test]
    fn a_revision_is_rejected_once_and_only_if_it_is_cached() {
        let (rejections, workspace, item) = item();
        let at = || number(rejections.last_of(workspace, &item));
        rejections.reject(workspace, &item, "made up", || false);
        assert_eq!(at(), 0);
        rejections.reject(workspace, &item, "1", || true);
        assert_eq!(at(), 1);
        rejections.reject(workspace, &item, "1", || unreachable!("it was rejected before"));
        rejections.reject(workspace, &item, "made up", || false);
        assert_eq!(at(), 1, "a made-up revision evicts no rejection");
        rejections.reject(workspace, &item, "2", || true);
        assert_eq!(at(), 2);
    }

    #[test]
    fn another_workspace_or_account_is_not_affected() {
        let (rejections, workspace, item) = item();
        rejections.reject(workspace, &item, "1", || true);
        assert!(rejections.last_of(WorkspaceId::generate(), &item).is_none());
        let elsewhere = ItemId { account: "1password/other".into(), ..item };
        assert!(rejections.last_of(workspace, &elsewhere).is_none());
    }

    #[test]
    fn a_rejected_revision_that_is_current_drops_nothing_and_is_cached_for_five_minutes() {
        let (rejections, workspace, item) = item();
        rejections.note_current(workspace, &item, "1", 0);
        let last = rejections.last_of(workspace, &item).unwrap();
        assert_eq!(last.number, 0);
        rejections.reject(workspace, &item, "1", || unreachable!("it was rejected before"));
        assert_eq!(last.limits("1", Duration::from_secs(86_400)), Duration::from_secs(300));
        assert_eq!(last.limits("1", Duration::from_secs(60)), Duration::from_secs(60));
        assert_eq!(last.limits("2", Duration::from_secs(86_400)), Duration::from_secs(86_400));
    }

    #[test]
    fn a_current_revision_after_a_rejected_one_is_rejected_once_too() {
        let (rejections, workspace, item) = item();
        rejections.reject(workspace, &item, "1", || true);
        rejections.note_current(workspace, &item, "2", 1);
        rejections.reject(workspace, &item, "2", || unreachable!("it was rejected before"));
    }

    #[test]
    fn what_was_requested_before_a_rejection_does_not_undo_it() {
        let (rejections, workspace, item) = item();
        rejections.reject(workspace, &item, "2", || true);
        rejections.note_current(workspace, &item, "1", 0);
        rejections.reject(workspace, &item, "2", || unreachable!("it was rejected before"));
    }
}
