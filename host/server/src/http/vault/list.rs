//! All entries of a workspace as one JSON array, written page by page, so that a large workspace is
//! never in memory as a whole.
//!
//! The first page is read before the answer begins, and a failure there is an ordinary error. A
//! later failure ends the connection, which no client mistakes for the end of the list.
//!
//! **Invariant:** all credentials of a list are under one encryption key. If the workspace's key is
//! rotated during a list, the list is cut off. What the client has so far is under a key that no
//! longer opens anything, and the published clients silently pass on what they cannot decrypt.
//!
//! **Memory:** a page is read when the previous one has been taken, so a list holds one page at a
//! time. Its room (`memory.rs`) is held from before the first page is read until the last one was
//! sent or the client is gone. A client that reads slowly holds its page and its room for at most
//! [`LIST_TIME`]. One that reads nothing at all is cut off earlier, with its connection
//! (`slow_reader.rs`).

use std::io::Write;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream;
use keyway::entries::{EntryPage, VaultEntry};
use keyway::{Access, BrokerError, EntryId};
use tokio::time::Instant;

use super::entry::Entry;
use crate::http::api::Api;
use crate::http::error::ApiError;
use crate::http::memory::{self, Held, LARGEST_ENTRY};
use crate::http::secret_json::SecretJson;

/// The memory of a list: one page of 1 MiB plus one entry, in the worst case the largest.
const PAGE: usize = (1 << 20) + LARGEST_ENTRY;

/// The time limit of a whole list. At 4 Mbit/s, a list of 100,000 entries (120 MB) arrives in time.
const LIST_TIME: Duration = Duration::from_secs(5 * 60);

/// A list in progress.
struct List {
    api: Api,
    access: Access,
    next: Next,
    /// The term of the key at the first page.
    key_term: u32,
    deadline: Instant,
    _held: Held,
}

/// What to send next.
enum Next {
    First(EntryPage),
    After(EntryId),
    /// Nothing. The list ends when the connection asks for more, which it does when nearly all is
    /// sent.
    End,
}

/// The answer with all entries.
pub(super) async fn all(api: Api, access: Access) -> Result<Response, ApiError> {
    let held = memory::hold_for_parts(PAGE)?;
    let first = api.broker.entries().list(&access, None).await?;
    let key_term = first.key_term;
    let list =
        List { api, access, next: Next::First(first), key_term, deadline: Instant::now() + LIST_TIME, _held: held };
    let body = Body::from_stream(stream::try_unfold(list, page));
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// The next page as text, and the list from there on.
async fn page(mut list: List) -> Result<Option<(Bytes, List)>, std::io::Error> {
    if Instant::now() > list.deadline && !matches!(list.next, Next::End) {
        return Err(cut_off(&format!("it was not read within {} s", LIST_TIME.as_secs())));
    }
    let (page, is_first) = match list.next {
        Next::First(page) => (page, true),
        Next::After(entry) => {
            // New values must not go to the holder of a key that is known to be stolen.
            let valid = list.api.broker.api_keys().is_still_valid(&list.access).await;
            if !valid.map_err(|error| cut_off(&error))? {
                return Err(cut_off(&"the API key was revoked in the meantime"));
            }
            let page = list.api.broker.entries().list(&list.access, Some(entry)).await;
            let page = page.map_err(|error: BrokerError| cut_off(&error))?;
            if page.key_term != list.key_term {
                return Err(cut_off(&"the workspace's key was rotated in the meantime"));
            }
            (page, false)
        }
        Next::End => return Ok(None),
    };
    let EntryPage { entries, next, .. } = page;
    let text = page_text(entries, is_first, next.is_none())?;
    list.next = next.map_or(Next::End, Next::After);
    Ok(Some((text, list)))
}

/// Each entry is dropped once it is written.
fn page_text(entries: Vec<VaultEntry>, first: bool, last: bool) -> Result<Bytes, std::io::Error> {
    let mut text = SecretJson::default();
    if first {
        text.write_all(b"[")?;
    }
    for (position, entry) in entries.into_iter().enumerate() {
        if !first || position > 0 {
            text.write_all(b",")?;
        }
        text.append(&Entry::from(entry))?;
    }
    if last {
        text.write_all(b"]")?;
    }
    Ok(text.into_bytes())
}

fn cut_off(error: &dyn std::fmt::Display) -> std::io::Error {
    tracing::error!(%error, "a list of vault entries was cut off");
    std::io::Error::other("the list was cut off")
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
