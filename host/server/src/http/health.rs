//! Liveness and readiness of the server. Neither needs a key.
//!
//! They are separate because supervisors react differently: a process that is not alive is
//! restarted, and one that is not ready gets no requests until it is. A restart would repair
//! neither the database nor the disk.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use keyway::readiness::NotReady;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::Answer;
use super::api::Api;
use super::code::Code;
use super::error::ApiError;
use super::schema;

/// The answer of a healthy server.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    status: &'static str,
    /// What an operator should look at although the server can do its work.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Liveness
///
/// The process answers.
#[utoipa::path(get, path = "/healthz", operation_id = "get_health", tag = "operation", security(()),
    responses((status = 200, description = "The server is alive", body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok", warnings: Vec::new() })
}

/// Readiness
///
/// The database can be read and written, its master key is there, the audit log can be written, the
/// clock was not set back, and every provider component is loaded.
#[utoipa::path(get, path = "/readyz", operation_id = "get_readiness", tag = "operation", security(()),
    responses((status = 200, description = "The server is ready", body = Health), schema::NotReady))]
pub(super) async fn readyz(State(api): State<Api>) -> Answer<Health> {
    if api.observer.ending.load(Ordering::Relaxed) {
        return Err(not_ready("the server is shutting down"));
    }
    let missing = api.broker.readiness().check().await;
    if missing.is_empty() {
        let warnings = api.broker.readiness().warnings();
        return Ok(Json(Health { status: "ready", warnings }));
    }
    let missing: Vec<_> = missing.iter().map(NotReady::to_string).collect();
    Err(not_ready(&missing.join("; ")))
}

fn not_ready(why: &str) -> ApiError {
    let message = format!("not ready: {why}. The server's log has details");
    ApiError::new(Code::NOT_READY, message)
}
