//! How many read the log at a time. Reading takes a thread that may block, and the processor.
//!
//! **Invariant:** at most [`READERS`] read at a time, and at most one for each workspace. The
//! others wait in their order without a thread, so a workspace that reads a lot only makes itself
//! wait.

use std::collections::HashMap;
use std::sync::Arc;

use keyway_storage::WorkspaceId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// More would only compete for the disk and the processor with the requests that release secrets.
const READERS: usize = 2;

/// The places of those who read.
pub(crate) struct Readers {
    all: Arc<Semaphore>,
    /// `None` is the operator.
    of_workspaces: Mutex<HashMap<Option<WorkspaceId>, Arc<Semaphore>>>,
}

impl Default for Readers {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(READERS)), of_workspaces: Mutex::default() }
    }
}

/// A place. Free again when dropped.
pub(crate) struct Place {
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

impl Readers {
    /// Waits for a place.
    pub(crate) async fn enter(&self, workspace: Option<WorkspaceId>) -> Place {
        let own = {
            let mut all = self.of_workspaces.lock();
            // A permit and each caller that waits hold a reference.
            all.retain(|_, own| Arc::strong_count(own) > 1);
            all.entry(workspace).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
        };
        // Neither semaphore is ever closed.
        let own = own.acquire_owned().await.ok();
        Place { _permits: [own, self.all.clone().acquire_owned().await.ok()] }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_workspace_has_one_place_and_all_have_two_and_nothing_is_left_behind() {
        let readers = Readers::default();
        let workspaces: Vec<_> = (0..100).map(|_| Some(WorkspaceId::generate())).collect();
        let first = readers.enter(workspaces[0]).await;
        let mut again = Box::pin(readers.enter(workspaces[0]));
        assert!((&mut again).now_or_never().is_none(), "its own place is taken");
        let second = readers.enter(workspaces[1]).await;
        let mut third = Box::pin(readers.enter(workspaces[2]));
        assert!((&mut third).now_or_never().is_none(), "both places are taken");
        drop(first);
        assert!((&mut again).now_or_never().is_none(), "the other workspace was first");
        let third = third.now_or_never().unwrap();
        drop((second, third, again));
        for workspace in workspaces {
            drop(readers.enter(workspace).await);
        }
        assert!(readers.of_workspaces.lock().len() <= 2);
    }
}
