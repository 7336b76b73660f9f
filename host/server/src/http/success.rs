//! The answer of what has nothing to return.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

/// What clients with nothing to return expect.
#[derive(Serialize, ToSchema)]
pub(super) struct Success {
    success: bool,
}

pub(super) const SUCCESS: Json<Success> = Json(Success { success: true });
