//! The HTTP API.
//!
//! **Invariants:** every answer but the metrics is JSON, and every answer with a status of 400 or more is the envelope of `error.rs`, whoever made it: a handler, an
//! extractor, the router, a limit or a panic. (What is not HTTP never gets here; the implementation of the protocol ends it with an empty
//! answer.) Nothing of a request but its method and the template of its path is logged. No answer may be kept by a cache on the way.

mod audit;
mod auth;
mod body;
mod budget;
mod error;
mod health;
mod metrics;
mod observe;
mod resolve;
mod rotations;
mod secret_providers;
mod vault;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Router, middleware};
use keyway::Broker;
use tokio::sync::Semaphore;

use error::ApiError;
use metrics::Metrics;
use observe::Door;

/// A vault entry with cookies and browser storage fits several times.
const BODY_LIMIT: usize = 2 << 20;

/// Requests under way at the same time. Each holds little memory; providers have a limit of their own.
const CONCURRENT_REQUESTS: usize = 1_024;

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

/// What all handlers share.
#[derive(Clone)]
struct Api {
    broker: Broker,
    metrics: Arc<Metrics>,
    ending: Ending,
}

/// The routers of a server.
#[derive(Debug)]
pub(crate) struct Routers {
    /// For clients.
    pub(crate) api: Router,
    /// For operators, at an address of their own: whether the server is well, and its metrics.
    pub(crate) operations: Router,
    /// To be set when the server ends.
    pub(crate) ending: Ending,
}

/// The routes of the API, `/metrics` included.
pub fn router(broker: Broker) -> Router {
    routers(broker, true).api
}

/// The routes. `metrics` has `/metrics` among those for clients.
pub(crate) fn routers(broker: Broker, metrics: bool) -> Routers {
    let ending = Ending::default();
    let api = Api { metrics: Arc::new(Metrics::new(&broker)), broker, ending: ending.clone() };
    let operations = || Router::new().route("/healthz", get(health::healthz)).route("/readyz", get(health::readyz));
    let with_metrics = |router: Router<Api>| router.route("/metrics", get(metrics::read));
    let for_clients = if metrics { with_metrics(operations()) } else { operations() };
    Routers {
        api: finished(routes_of_clients(&ending).merge(for_clients), &api),
        operations: finished(with_metrics(operations()), &api),
        ending,
    }
}

/// With what is around every request, and an answer to those that are for nobody.
fn finished(router: Router<Api>, api: &Api) -> Router {
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn_with_state(api.metrics.clone(), observe::observed))
        .with_state(api.clone())
}

fn routes_of_clients(ending: &Ending) -> Router<Api> {
    let door = Door { places: Arc::new(Semaphore::new(CONCURRENT_REQUESTS)), ending: ending.clone() };
    Router::new()
        .route("/secret-providers", get(secret_providers::list).post(secret_providers::create))
        .route(
            "/secret-providers/{id}",
            get(secret_providers::get).patch(secret_providers::update).delete(secret_providers::delete),
        )
        .route("/secret-providers/{id}/clear-cache", post(secret_providers::clear_cache))
        .route("/secret-providers/{id}/items", get(secret_providers::items))
        .route("/secret-providers/{id}/budget", get(budget::read))
        .route("/audit", get(audit::list))
        .route("/vault", get(vault::read).post(vault::create).put(vault::update).delete(vault::delete))
        .route("/vault/resolve", post(resolve::resolve))
        .route("/vault/tfa-code", get(vault::tfa_code))
        .route("/vault/clear-browser-state", patch(vault::clear_browser_state))
        .route("/vault/rotations", get(rotations::list).post(rotations::begin))
        .route("/vault/rotations/{id}", get(rotations::get))
        .route("/vault/rotations/{id}/password", get(rotations::reveal))
        .route("/vault/rotations/{id}/commit", post(rotations::commit))
        .route("/vault/rotations/{id}/abandon", post(rotations::abandon))
        .route("/vault/rotations/{id}/retry", post(rotations::retry))
        .layer(middleware::from_fn_with_state(door, observe::bounded))
}

async fn unknown_path() -> ApiError {
    let message = "there is nothing at this path; check the path and the base URL";
    ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
}

/// The `Allow` header is the router's.
async fn unknown_method(method: Method) -> Response {
    let message = format!("this path does not take {method} requests; the Allow header says which methods it takes");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message).into_response()
}
