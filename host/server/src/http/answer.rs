//! The answers of handlers.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;

/// A document, or an error.
pub(super) type Answer<T> = Result<Json<T>, ApiError>;

/// What clients with nothing to return expect.
#[derive(Serialize, ToSchema)]
pub(super) struct Success {
    success: bool,
}

pub(super) const SUCCESS: Json<Success> = Json(Success { success: true });
