//! Look-ups in the cache, and their results.

use std::sync::Arc;
use std::time::Duration;

use keyway_runtime::Fields;
use keyway_storage::{ConnectionId, ItemId};

use super::{Fetched, ItemKey};
use crate::keyring::WorkspaceKeys;

/// What to look up.
#[derive(Clone)]
pub(crate) struct Lookup {
    pub(crate) item: ItemKey,
    /// The id of the account that the item is in.
    pub(crate) account: Arc<str>,
    pub(crate) keys: Arc<WorkspaceKeys>,
    /// The connection's cache generation and the item's, added up.
    pub(crate) generation: u64,
    /// The reader's cache duration.
    pub(crate) ttl: Duration,
    pub(crate) fields: Fields,
    /// The revision that the caller rejects, if any.
    pub(crate) rejected: Option<Rejected>,
}

impl Lookup {
    /// The item as all connections to its account share it.
    pub(super) fn shared(&self) -> ItemId {
        ItemId { account: self.account.clone(), reference: self.item.reference.clone() }
    }
}

/// A revision whose values did not work.
#[derive(Clone)]
pub(crate) struct Rejected {
    pub(crate) revision: String,
    /// The workspace's connections through which entries are bound to the item.
    pub(crate) connections: Vec<ConnectionId>,
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Source {
    /// From the provider, now.
    #[default]
    Live,
    /// From the cache.
    Cached {
        /// How long ago it was fetched.
        age: Duration,
    },
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The values; if a code was asked for, with the code or the reason for none.
    pub(crate) fetched: Fetched,
    pub(crate) source: Source,
    /// The state of the item that the one-time code is from, if it was asked for; it may be later
    /// than that of the credentials.
    pub(crate) code_revision: Option<String>,
    /// How long the provider's call took, if there was one.
    pub(crate) provider_time: Option<Duration>,
}

impl Found {
    pub(super) fn live(mut fetched: Fetched, wants_code: bool, took: Duration) -> Self {
        // A caller that joined another's call may not have asked for it.
        fetched.one_time_code = fetched.one_time_code.filter(|_| wants_code);
        let code_revision = wants_code.then(|| fetched.credentials.revision.clone());
        Self { fetched, source: Source::Live, code_revision, provider_time: Some(took) }
    }
}
