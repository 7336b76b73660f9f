//! The places of requests.
//!
//! A client decides how slowly it sends a body. So a request has one of two kinds of places, and
//! never both: one while its body arrives, and one while the host works on it, which no client can
//! prolong. Workspaces share both kinds, and networks share the first ([`Shares`]).
//!
//! **Invariant:** a request without a valid key has no place, and never waits for its client.

use std::net::IpAddr;
use std::sync::Arc;

use keyway::WorkspaceId;
use keyway::budgets::{Share, Shares};

use super::error::ApiError;
use crate::peer::Peer;

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
    /// By network; `None` for a Unix socket.
    arriving_from: Arc<Shares<Option<IpAddr>>>,
}

/// The place of a request.
#[derive(Debug)]
pub(super) struct Place {
    _of_workspace: Share<WorkspaceId>,
    _of_network: Option<Share<Option<IpAddr>>>,
}

impl Default for Places {
    fn default() -> Self {
        Self { working: Shares::new(WORKING), arriving: Shares::new(ARRIVING), arriving_from: Shares::new(ARRIVING) }
    }
}

impl Places {
    /// A place for a request that is whole.
    pub(super) fn work(&self, workspace: WorkspaceId) -> Result<Place, ApiError> {
        let place = self.working.take(workspace, 1).map(|share| Place { _of_workspace: share, _of_network: None });
        place.ok_or_else(ApiError::overloaded)
    }

    /// A place for a request whose body is still to come.
    pub(super) fn arrive(&self, workspace: WorkspaceId) -> Result<Place, ApiError> {
        let network = Peer::current().and_then(|peer| peer.network());
        let of_workspace = self.arriving.take(workspace, 1).ok_or_else(ApiError::too_slow_bodies)?;
        let of_network = self.arriving_from.take(network, 1).ok_or_else(ApiError::too_slow_bodies)?;
        Ok(Place { _of_workspace: of_workspace, _of_network: Some(of_network) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_workspace_and_no_network_takes_all_places() {
        let places = Places::default();
        let workspace = || uuid::Uuid::now_v7().to_string().parse::<WorkspaceId>().unwrap();
        let (one, other) = (workspace(), workspace());
        let working: Vec<_> = std::iter::from_fn(|| places.work(one).ok()).collect();
        assert_eq!(working.len(), WORKING / 2);
        assert!(places.work(other).is_ok());
        let arriving: Vec<_> = std::iter::from_fn(|| places.arrive(one).ok()).collect();
        assert_eq!(arriving.len(), ARRIVING / 2);
        // From the same network, whatever its key.
        assert!(places.arrive(other).is_err());
        let elsewhere = Peer::new(Some([192, 0, 2, 1].into()));
        assert!(elsewhere.scope(async { places.arrive(other).is_ok() }).await);
        drop(arriving);
        assert!(places.arrive(other).is_ok());
    }
}
