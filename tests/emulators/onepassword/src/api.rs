//! The routes of the protocol.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, patch, post, put};

use crate::calls::Endpoint;
use crate::refusal::Refusal;
use crate::world::World;
use crate::{auth, gate, read, write};

/// The longest request. A client may change many items at once.
const LONGEST_REQUEST: usize = 32 * 1024 * 1024;

/// The protocol's endpoints.
pub(crate) fn router(world: &Arc<World>) -> Router {
    let gated = |endpoint: Endpoint, handler: MethodRouter<Arc<World>>| {
        handler.layer(from_fn_with_state((Arc::clone(world), endpoint), gate::pass))
    };
    Router::new()
        .route("/api/v3/auth/start", gated(Endpoint::AuthStart, post(auth::start)))
        .route("/api/v2/auth", gated(Endpoint::Auth, post(auth::exchange)))
        .route("/api/v2/auth/confirm-key", gated(Endpoint::ConfirmKey, post(auth::confirm_key)))
        .route("/api/v2/auth/complete", gated(Endpoint::Complete, post(auth::complete)))
        .route("/api/v1/device", gated(Endpoint::RegisterDevice, post(auth::register_device)))
        .route("/api/v1/device/{device}/reauthorize", gated(Endpoint::ReauthorizeDevice, put(auth::reauthorize_device)))
        .route("/api/v1/session/signout", gated(Endpoint::SignOut, put(auth::sign_out)))
        .route("/api/v2/account/keysets", gated(Endpoint::Keysets, get(read::keysets)))
        .route("/api/v1/vaults", gated(Endpoint::Vaults, get(read::vaults)))
        .route("/api/v3/vault/{vault}", gated(Endpoint::Vault, get(read::vault)))
        .route("/api/v1/vault/{vault}/items/overviews", gated(Endpoint::Overviews, get(read::overviews)))
        .route("/api/v1/vault/{vault}/item/{item}", gated(Endpoint::Item, get(read::item)))
        .route("/api/v3/vault/{vault}/items/batch", gated(Endpoint::ItemsBatch, post(read::batch)))
        .route("/api/v1/vault/{vault}/{version}/items", gated(Endpoint::ItemsSince, get(read::items_since)))
        .route("/api/v2/vault/{vault}/{version}/items", gated(Endpoint::ItemsSince, get(read::items_since)))
        .route("/api/v3/vault/{vault}/{version}/items", gated(Endpoint::PatchItems, patch(write::patch)))
        .fallback_service(gated(Endpoint::Unknown, MethodRouter::new().fallback(unknown)).with_state(Arc::clone(world)))
        .layer(DefaultBodyLimit::max(LONGEST_REQUEST))
        .with_state(Arc::clone(world))
}

async fn unknown() -> Refusal {
    Refusal::Missing(404)
}
