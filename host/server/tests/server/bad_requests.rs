//! Every kind of bad input over HTTP: one envelope, with a message that says what to do and reveals
//! nothing else.

use serde_json::{Value, json};

use crate::support::{Api, ECHO_TOKEN, assert_without};

fn entry() -> Value {
    json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"})
}

fn with(changes: Value) -> Value {
    let mut entry = entry();
    entry.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    entry
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_key_nothing_is_looked_at() {
    let (api, _) = Api::echo().await;
    let paths = ["/secret-providers", "/secret-providers/not-a-uuid/items", "/vault", "/vault?domain=half"];
    for path in paths {
        let message = api.send("GET", path, &[], "").await.error(401, "UNAUTHENTICATED");
        assert!(message.contains("cc-key"), "{message}");
        for wrong in ["", "sk_", "nonsense", "caf\u{e9}", &api.key[..api.key.len() - 1], &api.key.to_uppercase()] {
            let answer = api.send("GET", path, &[("cc-key", wrong)], "").await;
            let message = answer.error(401, "UNAUTHENTICATED");
            assert!(wrong.len() < 4 || !message.contains(wrong));
            assert!(answer.headers.contains_key("www-authenticate"));
        }
    }
    let headers = [("content-type", "application/json"), ("cc-key", "wrong")];
    api.send("POST", "/vault", &headers, "{broken").await.error(401, "UNAUTHENTICATED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_not_learns_nothing_about_how_to() {
    let (api, _) = Api::echo().await;
    let resolver = api.key_with(keyway::Scope::Resolve).await;
    let requests = [
        ("GET", "/vault?domain=half", Value::Null),
        ("POST", "/vault", json!({"nosuch": 1})),
        ("PUT", "/vault", json!([])),
        ("DELETE", "/vault", json!({})),
        ("PATCH", "/vault/clear-browser-state", json!({})),
        ("GET", "/vault/tfa-code", Value::Null),
        ("GET", "/secret-providers/not-a-uuid/items", Value::Null),
    ];
    for (method, path, body) in &requests {
        let message = api.request(method, path, &resolver, body).await.error(403, "FORBIDDEN");
        assert!(message.contains("api"), "{method} {path}: {message}");
    }
    let mut query = keyway::audit::AuditQuery::default();
    query.operation = Some(keyway::audit::Operation::Authorize);
    let records = api.host.broker().audit().records_of_all(&query).await.unwrap().records;
    assert_eq!(records.len(), requests.len(), "each is in the audit log");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_and_an_unknown_method_are_told_in_the_envelope() {
    let (api, connection) = Api::echo().await;
    for path in ["/", "/vaults", "/vault/", "/secret-providers/x/y", "/%ff", "/vault%20"] {
        api.get(path).await.error(404, "NOT_FOUND");
    }
    for (method, path) in [("PATCH", "/vault"), ("PUT", "/healthz"), ("TRACE", "/vault"), ("BREW", "/vault")] {
        let answer = api.send(method, path, &[("cc-key", &api.key)], "").await;
        let message = answer.error(405, "METHOD_NOT_ALLOWED");
        assert!(message.contains(method) && answer.headers.contains_key("allow"), "{answer:?}");
    }
    let items = format!("/secret-providers/{}/items", connection.id);
    api.post(&items, &json!({})).await.error(405, "METHOD_NOT_ALLOWED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_a_json_object_is_refused() {
    let (api, _) = Api::echo().await;
    let json = [("cc-key", &*api.key), ("content-type", "application/json; charset=utf-8")];
    let bodies: [&[u8]; 9] =
        [b"", b"{", b"[]", b"null", b"\"text\"", b"{\"a\":1,}", b"{} x", b"\xff\xfe", &[b'['; 100_000]];
    for body in bodies {
        let message = api.send("POST", "/vault", &json, body.to_vec()).await.error(400, "BAD_REQUEST");
        assert!(message.contains("JSON"), "{message}");
        assert_eq!(message.contains("the body is empty"), body.is_empty(), "{message}");
    }
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application", ""] {
        let headers = [("cc-key", &*api.key), ("content-type", content_type)];
        let answer = api.send("POST", "/vault", &headers, entry().to_string()).await;
        assert!(answer.error(415, "UNSUPPORTED_MEDIA_TYPE").contains("application/json"));
    }
    let large = with(json!({"user_alias": "x".repeat(3 << 20)}));
    assert!(api.post("/vault", &large).await.error(413, "PAYLOAD_TOO_LARGE").contains("2 MiB"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_there_twice_is_refused_and_named() {
    let (api, _) = Api::echo().await;
    let json = [("cc-key", &*api.key), ("content-type", "application/json")];
    let body =
        r#"{"permissioned_user_id": "a", "domain": "https://acme.com", "user_alias": "A", "domain": "https://b.com"}"#;
    let message = api.send("POST", "/vault", &json, body).await.error(400, "BAD_REQUEST");
    assert!(message.contains("`domain` is there twice"), "{message}");
    assert_eq!(api.get("/vault").await.ok(200), json!([]));
    let admin = api.key_with(keyway::Scope::Admin).await;
    let json = [("cc-key", &*admin), ("content-type", "application/json")];
    let body =
        r#"{"name": "Echo", "provider_type": "echo", "settings": {"token": "one-value", "token": "other-value"}}"#;
    let answer = api.send("POST", "/secret-providers", &json, body).await;
    assert!(answer.error(400, "BAD_REQUEST").contains("`token` is there twice"), "{answer:?}");
    assert_without(&answer.text, &["one-value", "other-value"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_vault_entry_has_its_rules() {
    let (api, connection) = Api::echo().await;
    let bound = |changes: Value| {
        let mut body = with(json!({"secret_provider_id": connection.id, "secret_ref": "echo://item/one"}));
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        body
    };
    let cases = [
        (json!({"domain": "https://acme.com"}), "permissioned_user_id"),
        (json!({"permissioned_user_id": "a"}), "domain"),
        (with(json!({"permissioned_user_id": ""})), "permissioned_user_id"),
        (with(json!({"permissioned_user_id": 7})), "permissioned_user_id must be a string"),
        (with(json!({"permissioned_user_id": "x".repeat(100_000)})), "too long"),
        (with(json!({"domain": null})), "domain"),
        (with(json!({"domain": "acme.com"})), "https://acme.com"),
        (with(json!({"domain": "https://localhost"})), "localhost"),
        (with(json!({"domain": "ftp://acme.com"})), "http"),
        (with(json!({"domain": "https://user:word@acme.com"})), "user name or password"),
        (with(json!({"permissioned_user_id": "a\nb"})), "control characters"),
        (with(json!({"user_alias": true})), "user_alias must be a string"),
        (with(json!({"tfa_method": "CARRIER_PIGEON"})), "AUTHENTICATOR, EMAIL, SMS or MAGIC_LINK"),
        (with(json!({"tfa_method": "AUTHENTICATOR"})), "tfa_secret"),
        (with(json!({"secret_provider_id": connection.id})), "provided together"),
        (with(json!({"secret_ref": "echo://item/one"})), "provided together"),
        (with(json!({"secret_cache_ttl_seconds": 300})), "requires secret_provider_id and secret_ref"),
        (bound(json!({"secret_provider_id": "not-a-uuid"})), "must be a UUID"),
        (bound(json!({"secret_provider_id": "25290e80-bbd5-41b3-861e-dea30cc26e27"})), "not a connection of this"),
        (bound(json!({"secret_ref": "op://vault/item"})), "echo://item/<name>"),
        (bound(json!({"secret_ref": ""})), "secret_ref"),
        (bound(json!({"secret_cache_ttl_seconds": true})), "non-negative integer"),
        (bound(json!({"secret_cache_ttl_seconds": 1.5})), "non-negative integer"),
        (bound(json!({"secret_cache_ttl_seconds": "300"})), "non-negative integer"),
        (bound(json!({"secret_cache_ttl_seconds": -1})), "non-negative integer"),
        (bound(json!({"secret_cache_ttl_seconds": 9_999_999_999_i64})), "non-negative integer"),
        (bound(json!({"tfa_method": "AUTHENTICATOR"})), "AUTHENTICATOR is not available"),
        (bound(json!({"cookies": {"session": "1"}})), "a list of objects"),
        (bound(json!({"secret_reff": "x"})), "there is no field `secret_reff`"),
    ];
    for (body, words) in cases {
        let message = api.post("/vault", &body).await.error(400, "VALIDATION_FAILED");
        assert!(message.contains(words), "{body}: {message}");
    }
    assert_eq!(api.get("/vault").await.ok(200), json!([]), "nothing of it was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_not_encrypted_is_refused_and_not_repeated() {
    let (api, connection) = Api::echo().await;
    let secret = "hunter2-in-plain-text";
    for field in ["user_name", "password", "tfa_secret"] {
        let answer = api.post("/vault", &with(json!({field: secret}))).await;
        let message = answer.error(401, "NOT_ENCRYPTED");
        assert!(message.contains(field) && message.contains("not encrypted with this workspace's key"), "{message}");
        assert_without(&answer.text, &[secret]);
        let answer = api.post("/vault", &with(json!({field: {"secret": secret}}))).await;
        answer.error(400, "VALIDATION_FAILED");
        assert_without(&answer.text, &[secret]);
    }
    let key = api.host.broker().keys().encryption_key(&api.access).await.unwrap();
    drop(key);
    let bound = json!({"secret_provider_id": connection.id, "secret_ref": "echo://item/one", "password": secret});
    assert_without(&api.post("/vault", &with(bound)).await.text, &[secret]);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_pair_an_unknown_pair_and_a_malformed_id_are_told_apart() {
    let (api, _) = Api::echo().await;
    for query in ["domain=https://acme.com", "permissioned_user_id=acme", "domain=a&domain=b&permissioned_user_id=c"] {
        api.get(&format!("/vault?{query}")).await.error(400, "VALIDATION_FAILED");
    }
    api.get("/vault?permissioned_user_id=nobody&domain=https://acme.com").await.error(404, "NOT_FOUND");
    for id in ["", "1", "not-a-uuid", "%ff", "..%2f", "25290e80-bbd5-41b3-861e-dea30cc26e2"] {
        api.get(&format!("/secret-providers/{id}/items")).await.error(400, "BAD_REQUEST");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_another_workspace_is_answered_like_what_does_not_exist() {
    let (api, connection) = Api::echo().await;
    let other = api.host.broker().workspaces().create("Other", keyway::Scopes::ALL).await.unwrap();
    let key = secrecy::ExposeSecret::expose_secret(&other.api_key);
    let entry = with(json!({"secret_provider_id": connection.id, "secret_ref": "echo://item/one"}));
    api.post("/vault", &entry).await.ok(201);

    let ask = async |path: &str| {
        let answer = api.send("GET", path, &[("cc-key", key)], "").await;
        (answer.status, answer.text)
    };
    let foreign = ask(&format!("/secret-providers/{}/items", connection.id)).await;
    assert_eq!(foreign.0, 404);
    assert_eq!(foreign, ask("/secret-providers/25290e80-bbd5-41b3-861e-dea30cc26e27/items").await);
    let foreign = ask("/vault?permissioned_user_id=acme-prod&domain=https://acme.com").await;
    assert_eq!(foreign.0, 404);
    assert_eq!(foreign, ask("/vault?permissioned_user_id=nobody&domain=https://acme.com").await);

    let headers = [("cc-key", key), ("content-type", "application/json")];
    let binding = api.send("POST", "/vault", &headers, entry.to_string()).await;
    assert!(binding.error(400, "VALIDATION_FAILED").contains("not a connection of this workspace"));
    assert_eq!(ask("/vault").await.1, "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_the_scope_is_forbidden_and_told_which_one_it_needs() {
    let (api, _) = Api::echo().await;
    let resolve_only = keyway::Scopes::from(keyway::Scope::Resolve);
    let key = api.host.broker().api_keys().create(&api.access, "resolver", resolve_only).await.unwrap();
    let key = secrecy::ExposeSecret::expose_secret(&key.api_key);
    for path in ["/secret-providers", "/vault"] {
        let message = api.send("GET", path, &[("cc-key", key)], "").await.error(403, "FORBIDDEN");
        assert!(message.contains("`api`"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_breaks_its_limits_is_a_bad_gateway_and_the_server_goes_on() {
    let api = Api::start(&["fixtures/lists-100mb", "fixtures/echo"], None).await;
    let bad = api.connect("lists-100mb", ECHO_TOKEN).await;
    let good = api.connect("echo", ECHO_TOKEN).await;
    let answer = api.get(&format!("/secret-providers/{}/items", bad.id)).await;
    assert!(answer.error(502, "PROVIDER_FAULT").contains("and was stopped"), "{answer:?}");
    assert_eq!(api.get(&format!("/secret-providers/{}/items", good.id)).await.ok(200).as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_was_removed_is_named() {
    let (api, connection) = Api::echo().await;
    std::fs::remove_file(api.folder.providers().join("echo.wasm")).unwrap();
    api.host.providers().unwrap().rescan().await.unwrap();
    let answer = api.get(&format!("/secret-providers/{}/items", connection.id)).await;
    assert!(answer.error(503, "PROVIDER_NOT_INSTALLED").contains("`echo`"), "{answer:?}");
}
