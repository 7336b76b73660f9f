//! The id in a path.

use std::str::FromStr;

use axum::extract::{FromRequestParts, MatchedPath, Path};
use axum::http::request::Parts;

use super::error::ApiError;

/// The id in the path. The path before it lists the existing ids.
pub(super) struct Id<I>(pub(super) I);

impl<S: Send + Sync, I: FromStr> FromRequestParts<S> for Id<I> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id = Path::<String>::from_request_parts(parts, state).await.ok().and_then(|Path(id)| id.parse().ok());
        let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let list = route.split("/{id}").next().unwrap_or_default();
        let message = || format!("the id in the path is not a UUID; GET {list} lists the ids");
        id.map(Self).ok_or_else(|| ApiError::bad_request(message()))
    }
}
