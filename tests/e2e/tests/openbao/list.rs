//! Lists of secrets in nested folders.

use keyway_runtime::contract::Item;
use keyway_runtime::{ErrorCode, OpenConnection};
use serde_json::json;

use crate::server::{World, provider_error};

/// All items, the number of pages, and the most requests of a page.
async fn all(world: &World, connection: &OpenConnection) -> (Vec<Item>, usize, u64) {
    let (mut items, mut next, mut pages, mut most) = (Vec::new(), None, 0, 0);
    loop {
        let before = connection.request_counts().answered;
        let page = world.provider.list_items(connection, next.as_deref()).await.unwrap();
        most = most.max(connection.request_counts().answered - before);
        items.extend(page.items);
        pages += 1;
        next = page.next;
        if next.is_none() {
            return (items, pages, most);
        }
    }
}

fn references(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.reference.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_secrets_in_nested_folders_are_listed_once_each_and_without_a_storm_of_requests() {
    let world = World::start().await;
    let paths: Vec<_> = (0..6_000).map(|n| format!("team-{}/app-{}/s{n}", n % 7, n % 21)).collect();
    world.bao.send(&json!({ "write_all": paths })).unwrap();
    let walker = world.bao.token_for(
        "walker",
        "path \"secret/metadata/*\" { capabilities = [\"list\"] }\npath \"secret/data/*\" { capabilities = [\"read\"] }",
        json!({}),
    );
    let mut expected: Vec<_> = paths.iter().map(|path| format!("vault://secret/{path}")).collect();
    expected.sort();
    let (walking, _) = world.connect(&[("token", &walker)]);
    for (connection, most_requests) in [(world.root(), 2), (walking, 52)] {
        let (items, pages, most) = all(&world, &connection).await;
        assert_eq!(references(&items), expected);
        assert!(pages == 2 && most <= most_requests, "{pages} pages, {most} requests for one");
        let item = &items[0];
        assert_eq!((item.vault_id.as_deref(), item.title.as_str()), (Some("secret"), "team-0/app-0/s0"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_folders_take_many_pages_of_few_requests() {
    let world = World::start().await;
    let mut paths: Vec<_> = (0..120).map(|n| format!("f{n}/g/s")).collect();
    // Names whose order differs between folders and paths.
    paths.extend(["a", "a/b", "a-b", "a/b/c", "f1", "f1-x/y"].map(str::to_owned));
    world.bao.send(&json!({ "write_all": paths })).unwrap();
    let walker = world.bao.token_for("walker", "path \"secret/*\" { capabilities = [\"read\", \"list\"] }", json!({}));
    let (connection, _) = world.connect(&[("token", &walker)]);
    let (items, pages, most) = all(&world, &connection).await;
    let mut expected: Vec<_> = paths.iter().map(|path| format!("vault://secret/{path}")).collect();
    expected.sort();
    assert_eq!(references(&items), expected);
    assert!((5..=10).contains(&pages) && most <= 60, "{pages} pages, {most} requests for one");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listed_reference_resolves_whatever_is_in_its_name() {
    let world = World::start().await;
    world.bao.mount("v1", 1);
    world.bao.mount("team/kv", 2);
    let names = ["a b", "100%", "q?x=1#y", "\u{fc}/\u{1f511}", "a%2Fb", "end ", "~@:+,;=!$&'()*"];
    for mount in ["v1", "team/kv", "secret"] {
        world.bao.send(&json!({ "write_all": names, "mount": mount })).unwrap();
    }
    let connection = world.root();
    let (items, ..) = all(&world, &connection).await;
    assert_eq!(items.len(), 3 * names.len(), "{:?}", references(&items));
    for item in &items {
        assert_eq!(world.provider.normalize_reference(&item.reference).await.unwrap(), item.reference);
        let resolved = world.provider.resolve(&connection, &item.reference, keyway_runtime::Fields::ALL).await.unwrap();
        use secrecy::ExposeSecret;
        assert_eq!(resolved.password.unwrap().expose_secret(), item.title, "{}", item.reference);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_name_the_folders_of_credentials_that_may_list_only_these() {
    let world = World::start().await;
    world.bao.send(&json!({ "write_all": ["web/a", "web/deep/b", "other/c"] })).unwrap();
    let policy = "path \"secret/metadata/web/*\" { capabilities = [\"list\"] }";
    let token = world.bao.token_for("web", policy, json!({}));
    let (connection, _) = world.connect(&[("token", &token)]);
    let error = provider_error(world.provider.list_items(&connection, None).await);
    assert_eq!(error.code, ErrorCode::PermissionDenied, "{error:?}");
    let (connection, _) = world.connect(&[("token", &token), ("folders", "secret/web, nowhere")]);
    let (items, ..) = all(&world, &connection).await;
    assert_eq!(references(&items), ["vault://secret/web/a", "vault://secret/web/deep/b"]);
}
