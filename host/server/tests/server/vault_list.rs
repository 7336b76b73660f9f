//! The list of all entries of a workspace keeps only the part being sent in memory.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use keyway::EntryContent;
use keyway::audit::{AuditQuery, Operation};
use keyway::entries::AttributeKind;
use serde_json::Value;
use tower::ServiceExt;

use crate::support::Api;

/// Each is larger than half of a page.
const SIZE: usize = 600_000;
const COUNT: usize = 6;

async fn with_large_entries() -> Api {
    let api = Api::start(&[], None).await;
    for number in 0..COUNT {
        let mut new = EntryContent::new(format!("user-{number}"), "https://acme.com");
        let cookies = format!(r#"[{{"value": "{}"}}]"#, "x".repeat(SIZE));
        new.attributes.set("cookies", AttributeKind::BrowserState, &cookies).unwrap();
        api.host.broker().entries().create(&api.access, new).await.unwrap();
    }
    api
}

/// Requests the list, and leaves it unread.
async fn list(api: &Api, router: &Router) -> Response<Body> {
    let request =
        Request::get("/vault").header("host", "keyway").header("cc-key", &api.key).body(Body::empty()).unwrap();
    router.clone().oneshot(request).await.unwrap()
}

fn router(api: &Api) -> Router {
    keyway_server::http::router(api.host.broker().clone())
}

/// How many pages were read from the database: each makes a record, because of the cookies.
async fn pages_read(api: &Api) -> usize {
    let mut query = AuditQuery::default();
    query.operation = Some(Operation::ListEntries);
    api.host.broker().audit().records_of_all(&query).await.unwrap().records.len()
}

#[tokio::test]
async fn the_next_page_is_read_when_the_one_before_was_taken() {
    let api = with_large_entries().await;
    let mut body = list(&api, &router(&api)).await.into_body();
    let mut text = Vec::new();
    for page in 1..=COUNT {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(frame.len() < SIZE + 2_000, "one entry: {}", frame.len());
        text.extend_from_slice(&frame);
        assert_eq!(pages_read(&api).await, page);
    }
    assert!(body.frame().await.is_none());
    let entries: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let users = entries.iter().map(|entry| entry["permissioned_user_id"].as_str().unwrap().to_owned());
    assert!(users.eq((0..COUNT).map(|number| format!("user-{number}"))));
}

#[tokio::test]
async fn a_list_that_nobody_reads_to_its_end_is_cut_off() {
    let api = with_large_entries().await;
    let mut body = list(&api, &router(&api)).await.into_body();
    body.frame().await.unwrap().unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(301)).await;
    tokio::time::resume();
    assert!(body.frame().await.unwrap().is_err());
    assert_eq!(pages_read(&api).await, 1);
}

#[tokio::test]
async fn a_list_ends_when_its_api_key_is_revoked() {
    let api = with_large_entries().await;
    let mut body = list(&api, &router(&api)).await.into_body();
    body.frame().await.unwrap().unwrap();
    let broker = api.host.broker();
    for key in broker.api_keys().list(&api.access).await.unwrap() {
        broker.api_keys().revoke(&api.access, key.id).await.unwrap();
    }
    assert!(body.frame().await.unwrap().is_err());
    assert_eq!(pages_read(&api).await, 1);
}

#[tokio::test]
async fn as_many_lists_as_fit_into_memory_are_under_way_and_the_next_one_is_told_to_come_back() {
    let api = with_large_entries().await;
    let router = router(&api);
    let list = || list(&api, &router);
    let mut open = Vec::new();
    // A page and the largest entry each, of 128 MiB.
    let refused = loop {
        let answer = list().await;
        if answer.status() != 200 {
            break answer;
        }
        open.push(answer);
    };
    assert!((30..40).contains(&open.len()), "{}", open.len());
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    // A list that was read, and one whose client has disconnected, release their memory.
    let read = open.pop().unwrap().into_body().collect().await.unwrap().to_bytes();
    assert!(serde_json::from_slice::<Vec<Value>>(&read).is_ok());
    drop(open.pop());
    for _ in 0..2 {
        open.push(list().await);
    }
    assert!(open.iter().all(|answer| answer.status() == 200));
    assert_eq!(list().await.status(), 503);
}
