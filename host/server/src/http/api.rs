//! What all handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use keyway::Broker;

use super::metrics::Metrics;

/// Whether the server is on its way out: no request is begun any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending(Arc<AtomicBool>);

impl Ending {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What all handlers share; the router clones it several times for each request.
pub(super) type Api = Arc<Shared>;

pub(super) struct Shared {
    pub(super) broker: Broker,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ending: Ending,
    /// The description of the API.
    pub(super) document: Bytes,
}
