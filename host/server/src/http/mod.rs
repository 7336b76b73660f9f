//! The HTTP API.
//!
//! **Invariants:** every answer except the operators' metrics is JSON. Every answer with a status
//! of 400 or more is the envelope of `error.rs`, whether it comes from a handler, an extractor, the
//! router, a limit or a panic. (Input that is not HTTP never gets here; the protocol's
//! implementation ends it with an empty answer.) Only the method and the template of the path of a
//! request are logged. No answer may be stored by a cache on the way.

mod answer;
pub(crate) mod api;
mod audit;
mod auth;
pub(crate) mod body;
pub(crate) mod code;
pub(crate) mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod leases;
mod memory;
mod metrics;
pub(crate) mod observe;
mod openapi;
mod path;
mod places;
mod reason;
mod request_id;
mod resolve;
mod rotations;
mod schema;
mod secret_json;
mod secret_providers;
mod soon;
pub(crate) mod vault;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use keyway::{Broker, ErrorKind};
use prometheus_client::registry::Registry;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use api::{Api, Shared};
use code::Code;
use error::ApiError;
use metrics::Metrics;
use observe::Observer;

/// The routers of a server.
#[derive(Debug)]
pub(crate) struct Routers {
    /// For clients.
    pub(crate) api: Router,
    /// For operators, at an address of their own: health and metrics.
    pub(crate) operations: Router,
    /// Signals that the server is shutting down.
    pub(crate) observer: Arc<Observer>,
}

/// The routes of the API.
pub fn router(broker: Broker) -> Router {
    routers(broker).api
}

/// The routes. Those for clients have no metrics: these need no key, and tell about all workspaces.
pub(crate) fn routers(broker: Broker) -> Routers {
    let (clients, document) = for_clients().merge(health()).routes(routes!(openapi::read)).split_for_parts();
    // A document of plain values always serializes.
    let document = serde_json::to_vec(&openapi::complete(document)).unwrap_or_default().into();
    let mut registry = Registry::default();
    broker.metrics().register(&mut registry);
    let metrics = Metrics::new(registry);
    let observer = Arc::new(Observer { metrics, memory: Arc::default(), ending: AtomicBool::new(false) });
    let api = Arc::new(Shared { broker, observer: observer.clone(), document });
    let finished = |router| finished(router, &api);
    let operations = Router::from(health()).route("/metrics", get(metrics::read));
    Routers { api: finished(clients), operations: finished(operations), observer }
}

/// Adds the layer around every request, and an answer to requests without a route.
fn finished(router: Router<Api>, api: &Api) -> Router {
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn_with_state(api.observer.clone(), observe::observed))
        .with_state(api.clone())
}

fn for_clients() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(secret_providers::list, secret_providers::create))
        .routes(routes!(secret_providers::get, secret_providers::update, secret_providers::delete))
        .routes(routes!(secret_providers::clear_cache))
        .routes(routes!(secret_providers::retry))
        .routes(routes!(secret_providers::items))
        .routes(routes!(secret_providers::budget))
        .routes(routes!(audit::list))
        .routes(routes!(vault::read, vault::create, vault::update, vault::delete))
        .routes(routes!(resolve::resolve))
        .routes(routes!(resolve::fields))
        .routes(routes!(leases::renew))
        .routes(routes!(leases::revoke))
        .routes(routes!(vault::tfa_code))
        .routes(routes!(vault::clear_browser_state))
        .routes(routes!(rotations::list, rotations::begin))
        .routes(routes!(rotations::get))
        .routes(routes!(rotations::reveal))
        .routes(routes!(rotations::commit))
        .routes(routes!(rotations::abandon))
        .routes(routes!(rotations::retry))
}

fn health() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(health::healthz)).routes(routes!(health::readyz))
}

async fn unknown_path() -> ApiError {
    let message = "there is nothing at this path; check the path and the base URL";
    ApiError::new(ErrorKind::NotFound, message)
}

/// The router adds the `Allow` header.
async fn unknown_method(method: Method) -> Response {
    let message = format!("this path does not take {method} requests; the Allow header says which methods it takes");
    ApiError::new(Code::METHOD_NOT_ALLOWED, message).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test]
    async fn the_document_has_every_path_of_the_router_and_no_other() {
        let (router, document) = for_clients().merge(health()).routes(routes!(openapi::read)).split_for_parts();
        // axum's debug output of a router lists its paths, as texts, before those of its fallback.
        let shown = format!("{router:?}");
        let (shown, _) = shown.split_once("fallback_router").unwrap();
        let routed: BTreeSet<_> = shown.split('"').filter(|text| text.starts_with('/')).collect();
        let document: BTreeSet<_> = document.paths.paths.keys().map(String::as_str).collect();
        assert_eq!(routed, document);
        assert!(document.len() >= 14, "{document:?}");
    }
}
