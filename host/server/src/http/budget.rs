//! `/secret-providers/{id}/budget`: what a connection may still ask of its secret manager.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use keyway::ConnectionId;

use super::api::Api;
use super::auth::Caller;
use super::error::ApiError;
use super::schema::{Common, Input, Missing};
use crate::view::budget::BudgetView;

/// What a connection may still ask of its secret manager
///
/// It costs the secret manager nothing, and an ordinary key may ask: whoever makes requests
/// may know how many are left.
#[utoipa::path(get, path = "/secret-providers/{id}/budget", operation_id = "get_budget", tag = "secret-providers",
    params(("id" = Uuid, Path, description = "The connection's id")),
    responses((status = 200, description = "The budget", body = BudgetView), Input, Missing, Common))]
pub(super) async fn read(
    Caller(access): Caller,
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<BudgetView>, ApiError> {
    let id = id.ok().and_then(|Path(id)| id.parse::<ConnectionId>().ok()).ok_or_else(|| {
        ApiError::bad_request("the id in the path is not a UUID; GET /secret-providers lists the ids there are")
    })?;
    Ok(Json(api.broker.budget(&access, id).await?.into()))
}
