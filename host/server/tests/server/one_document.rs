//! The command line and the HTTP API return the same document for the same thing.

use keyway::Scope;
use serde_json::{Value, json};

use crate::support::Api;

/// Without the fields that only the command line adds.
fn without(mut document: Value, name: &str) -> Value {
    assert!(document.as_object_mut().unwrap().remove(name).is_some(), "{document}");
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_the_documents_of_the_http_api() {
    let (api, connection) = Api::echo().await;
    let data = |arguments: &[&str]| api.folder.run(&[arguments, &["--json"]].concat()).ok().json();
    let path = format!("/secret-providers/{}", connection.id);

    assert_eq!(without(data(&["connection", "list"])[0].clone(), "account"), api.get(&path).await.ok(200));
    assert_eq!(data(&["items"]), api.get(&format!("{path}/items")).await.ok(200));
    let mut budget = without(data(&["connection", "budget"])[0].clone(), "name");
    budget = without(budget, "secret_provider_id");
    let document = api.get(&format!("{path}/budget")).await.ok(200);
    assert_eq!(budget["allowances"][0]["limit"], document["allowances"][0]["limit"]);

    let pair = ["--user", "acme-prod", "--domain", "https://acme.com"];
    let create = [&["entry", "create", "--password-file", "-", "--set", "persist_cookies=true"], &pair[..]].concat();
    api.folder.run_with(&create, "hunter2-hunter2").ok();
    let cookies = json!({"id": data(&["entry", "list"])[0]["id"], "cookies": [{"value": "cookie-4711"}]});
    let entry = api.request("PUT", "/vault", &api.key, &cookies).await.ok(200);
    let revealed = data(&[&["entry", "get", "--reveal"], &pair[..]].concat());
    assert_eq!(without(revealed, "hidden"), entry);
    let mut hiding = entry.clone();
    (hiding["password"], hiding["cookies"]) = (Value::Null, Value::Null);
    hiding["hidden"] = json!(["password", "cookies"]);
    assert_eq!(data(&["entry", "list"]), json!([hiding]));

    data(&[&["rotation", "begin"], &pair[..]].concat());
    let rotate = api.key_with(Scope::Rotate).await;
    let rotations = api.request("GET", "/vault/rotations", &rotate, &Value::Null).await.ok(200);
    assert_eq!(data(&["rotation", "list"]), rotations["rotations"]);
}
