//! The places of requests.
//!
//! A client decides how slowly it sends a body. So a request has one of two kinds of places, and
//! never both: one while its body arrives, and one while the host works on it, which no client can
//! prolong. Workspaces share both kinds ([`Shares`]). Addresses do not: behind a load balancer, all
//! clients have the same one.
//!
//! **Invariant:** a request without a valid key has no place, and never waits for its client.

use std::sync::Arc;

use keyway::WorkspaceId;
use keyway::budgets::{Share, Shares};

use super::error::ApiError;

/// The maximum number of requests that are worked on. Each holds little memory beside its bodies
/// (`memory.rs`); providers have a limit of their own.
const WORKING: usize = 1_024;

/// The maximum number of requests whose bodies arrive. What they hold is counted by `memory.rs`.
const ARRIVING: usize = 1_024;

/// The places of a server.
#[derive(Debug)]
pub(super) struct Places {
    working: Arc<Shares<WorkspaceId>>,
    arriving: Arc<Shares<WorkspaceId>>,
}

/// The place of a request, until it is dropped.
pub(super) type Place = Share<WorkspaceId>;

impl Default for Places {
    fn default() -> Self {
        Self { working: Shares::new(WORKING), arriving: Shares::new(ARRIVING) }
    }
}

impl Places {
    /// A place for a request that is whole.
    pub(super) fn work(&self, workspace: WorkspaceId) -> Result<Place, ApiError> {
        self.working.take(workspace, 1).ok_or_else(ApiError::overloaded)
    }

    /// A place for a request whose body is still to come.
    pub(super) fn arrive(&self, workspace: WorkspaceId) -> Result<Place, ApiError> {
        self.arriving.take(workspace, 1).ok_or_else(ApiError::too_slow_bodies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_workspace_takes_all_places() {
        let places = Places::default();
        let workspace = || uuid::Uuid::now_v7().to_string().parse::<WorkspaceId>().unwrap();
        let (one, other) = (workspace(), workspace());
        let working: Vec<_> = std::iter::from_fn(|| places.work(one).ok()).collect();
        assert_eq!(working.len(), WORKING / 2);
        assert!(places.work(other).is_ok());
        let arriving: Vec<_> = std::iter::from_fn(|| places.arrive(one).ok()).collect();
        assert_eq!(arriving.len(), ARRIVING / 2);
        assert!(places.arrive(other).is_ok());
    }
}
