//! All entries of a workspace as one JSON array that is written page by page, so that a large workspace is never in memory as a whole.
//!
//! The first page is read before the answer begins, and what fails there is an error like any other. What fails later ends
//! the connection, which no client takes for the end of the list.
//!
//! **Invariant:** the credentials of a list are all under one encryption key. A list during which the workspace's key is rotated is cut off: what the client has of it
//! is under a key that opens nothing any more, and the published clients pass on what they cannot decrypt without a word.

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream;
use keyway::{Access, EntryPage, VaultEntry};

use crate::http::Api;
use crate::http::error::ApiError;
use crate::vault_entry::Entry;

/// The answer with all entries.
pub(super) async fn all(api: Api, access: Access) -> Result<Response, ApiError> {
    let first = api.broker.list_entries(&access, None).await?;
    let key_term = first.key_term;
    let pages = stream::try_unfold(Some((first, true)), move |state| {
        let (api, access) = (api.clone(), access.clone());
        async move {
            let Some((page, is_first)) = state else { return Ok(None) };
            let EntryPage { entries, next, .. } = page;
            let text = page_text(entries, is_first, next.is_none())?;
            let rest = match next {
                Some(next) => {
                    let page = api.broker.list_entries(&access, Some(next)).await.map_err(|error| cut_off(&error))?;
                    if page.key_term != key_term {
                        return Err(cut_off(&"the workspace's key was rotated meanwhile"));
                    }
                    Some((page, false))
                }
                None => None,
            };
            Ok::<_, std::io::Error>(Some((text, rest)))
        }
    });
    let mut response = Body::from_stream(pages).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Each entry is gone when it is written.
fn page_text(entries: Vec<VaultEntry>, first: bool, last: bool) -> Result<Bytes, std::io::Error> {
    let mut text = Vec::new();
    if first {
        text.push(b'[');
    }
    for (position, entry) in entries.into_iter().enumerate() {
        if !first || position > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &Entry::from(entry))?;
    }
    if last {
        text.push(b']');
    }
    Ok(text.into())
}

fn cut_off(error: &dyn std::fmt::Display) -> std::io::Error {
    tracing::error!(%error, "a list of vault entries had to be cut off");
    std::io::Error::other("the list had to be cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_make_one_array() {
        let text = |first, last| String::from_utf8(page_text(Vec::new(), first, last).unwrap().to_vec()).unwrap();
        assert_eq!(text(true, true), "[]");
        assert_eq!(text(true, false) + &text(false, true), "[]");
    }
}
