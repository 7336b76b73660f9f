//! The id in a path.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use keyway::{ConnectionId, RotationId};

use super::error::ApiError;

/// An id, and which path lists those that there are.
pub(super) trait Listed: FromStr {
    const AT: &'static str;
}

impl Listed for ConnectionId {
    const AT: &'static str = "/secret-providers";
}

impl Listed for RotationId {
    const AT: &'static str = "/vault/rotations";
}

/// The id in the path.
pub(super) struct Id<I>(pub(super) I);

impl<S: Send + Sync, I: Listed> FromRequestParts<S> for Id<I> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id = Path::<String>::from_request_parts(parts, state).await.ok().and_then(|Path(id)| id.parse().ok());
        let message = || format!("the id in the path is not a UUID; GET {} lists the ids there are", I::AT);
        id.map(Self).ok_or_else(|| ApiError::bad_request(message()))
    }
}
