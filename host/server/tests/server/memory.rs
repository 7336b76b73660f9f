//! Clients that do not read their answers, or do not send the announced bodies, cannot block other
//! clients.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::BodyExt;
use keyway::entries::AttributeKind;
use keyway::{Access, EntryContent, EntrySelector, Scope, Scopes};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

use crate::support::Api;

const DOMAIN: &str = "https://acme.com";

/// Near the limit of 2 MiB.
const COOKIES: usize = 2_000_000;

/// How many of those may be in flight for a workspace alone, which has half of 256 MiB.
const FIT: usize = (128 << 20) / COOKIES;

struct Client<'a> {
    router: &'a Router,
    key: &'a str,
}

impl Client<'_> {
    fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(path).header("host", "keyway");
        request.header("cc-key", self.key).header("content-type", "application/json")
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// The head of the answer, with its body unread.
    async fn get(&self, user: &str) -> Response<Body> {
        let path = format!("/vault?permissioned_user_id={user}&domain={DOMAIN}");
        self.send(self.request("GET", &path).body(Body::empty()).unwrap()).await
    }

    async fn put(&self, body: Value) -> Response<Body> {
        self.send(self.request("PUT", "/vault").body(body.to_string().into()).unwrap()).await
    }
}

async fn with_entries(api: &Api, access: &Access) {
    let create = async |user: &str, cookies: usize| {
        let mut new = EntryContent::new(user, DOMAIN);
        let cookies = format!(r#"[{{"value": "{}"}}]"#, "x".repeat(cookies));
        new.attributes.set("cookies", AttributeKind::BrowserState, &cookies).unwrap();
        api.host.broker().entries().create(access, new).await.unwrap();
    };
    create("large", COOKIES).await;
    create("small", 100).await;
}

fn alias(user: &str, alias: &str) -> Value {
    json!({"permissioned_user_id": user, "domain": DOMAIN, "user_alias": alias})
}

async fn message(answer: Response<Body>) -> String {
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    let body: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["code"], "BUSY");
    body["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn answers_that_nobody_reads_hold_up_large_ones_of_their_workspace_and_nothing_else() {
    let api = Api::start(&[], None).await;
    let broker = api.host.broker();
    let other = broker.workspaces().create("Other", Scopes::from(Scope::Api)).await.unwrap();
    with_entries(&api, &api.access).await;
    with_entries(&api, &Access::operator(other.workspace.id, "tests")).await;
    let router = keyway_server::http::router(broker.clone());
    let client = Client { router: &router, key: &api.key };
    let other = Client { router: &router, key: other.api_key.expose_secret() };

    let mut unread = Vec::new();
    for _ in 0..FIT {
        unread.push(client.get("large").await);
    }
    assert!(unread.iter().all(|answer| answer.status() == 200));
    assert!(message(client.get("large").await).await.contains("read the pending answers"));
    assert_eq!(client.get("small").await.status(), 200);
    assert_eq!(other.get("large").await.status(), 200);

    // A change whose answer has no room is refused before it is made; a change with a small answer
    // has room.
    message(client.put(alias("large", "too late")).await).await;
    let large = EntrySelector::Pair { user: "large".into(), domain: DOMAIN.into() };
    assert_eq!(broker.entries().get(&api.access, &large).await.unwrap().alias, None);
    assert_eq!(client.put(alias("small", "at once")).await.status(), 200);

    for answer in unread.drain(..2) {
        answer.into_body().collect().await.unwrap();
    }
    let changed = client.put(alias("large", "in time")).await;
    assert_eq!(changed.status(), 200);
    drop((changed, unread));
    assert_eq!(client.get("large").await.status(), 200);
}

#[tokio::test]
async fn bodies_that_nobody_sends_to_the_end_hold_up_their_workspace_and_only_for_as_long_as_they_are_there() {
    let api = Api::start(&[], None).await;
    with_entries(&api, &api.access).await;
    let router = keyway_server::http::router(api.host.broker().clone());
    let client = Client { router: &router, key: &api.key };
    let mut unsent = tokio::task::JoinSet::new();
    for _ in 0..32 {
        // A body of unknown size.
        let part = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(&[b' '; 8_192])) });
        let never = part.chain(stream::pending());
        let request = client.request("POST", "/vault").body(Body::from_stream(never)).unwrap();
        unsent.spawn(router.clone().oneshot(request));
    }
    // Until all of them hold their room.
    while client.get("large").await.status() == 200 {
        tokio::task::yield_now().await;
    }
    message(client.get("large").await).await;
    assert_eq!(client.get("small").await.status(), 200);
    unsent.shutdown().await;
    assert_eq!(client.get("large").await.status(), 200);
    assert_eq!(client.put(alias("large", "again")).await.status(), 200);
}

#[tokio::test]
async fn what_nobody_reads_of_a_connection_waits_where_it_is_counted_and_not_with_the_system() {
    let api = Api::start(&[], None).await;
    with_entries(&api, &api.access).await;
    let address = api.url.strip_prefix("http://").unwrap();
    let request = format!(
        "GET /vault?permissioned_user_id=large&domain={DOMAIN} HTTP/1.1\r\nhost: {address}\r\ncc-key: {}\r\n\r\n",
        api.key
    );
    let mut unread = Vec::new();
    for _ in 0..FIT {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        // The head has arrived, so the answer is in flight.
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
        unread.push(stream);
    }
    let answer = api.get(&format!("/vault?permissioned_user_id=large&domain={DOMAIN}")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (503, &json!("BUSY")));
    let mut read = Vec::new();
    let mut stream = unread.swap_remove(0);
    while read.len() < COOKIES {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
    }
    drop(unread);
}
