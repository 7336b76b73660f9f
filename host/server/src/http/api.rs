//! The state that all handlers share.

use std::sync::Arc;

use axum::body::Bytes;
use keyway::Broker;

use super::observe::Observer;

/// The state that all handlers share; the router clones it several times for each request.
pub(super) type Api = Arc<Shared>;

pub(super) struct Shared {
    pub(super) broker: Broker,
    pub(super) observer: Arc<Observer>,
    /// The description of the API.
    pub(super) document: Bytes,
}
