//! `/secret-providers/{id}/budget`: what a connection may still ask of its secret manager.

use axum::Json;
use axum::extract::State;
use keyway::ConnectionId;

use super::api::Api;
use super::auth::Caller;
use super::error::ApiError;
use super::path::Id;
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
    Id(id): Id<ConnectionId>,
) -> Result<Json<BudgetView>, ApiError> {
    Ok(Json(api.broker.budget(&access, id).await?.into()))
}
