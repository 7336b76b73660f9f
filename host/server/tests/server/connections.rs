//! Connections over HTTP, from their creation to their deletion.

use keyway::{Scope, Scopes};
use keyway_emulator_onepassword::{Emulator, Endpoint, WrongToken};
use serde_json::{Value, json};

use crate::support::{Api, ECHO_TOKEN, assert_without};

const UNKNOWN: &str = "25290e80-bbd5-41b3-861e-dea30cc26e27";

fn new(token: &str) -> Value {
    json!({"name": "Acme 1Password", "provider_type": "1password", "settings": {"token": token}})
}

/// A server with 1Password and no connection yet, and a key that may manage connections.
async fn onepassword() -> (Api, String) {
    let api = Api::start(&["onepassword"], Some(Emulator::start().unwrap())).await;
    let admin = api.key_with(Scope::Admin).await;
    (api, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_made_read_changed_and_deleted() {
    let (api, admin) = onepassword().await;
    let token = api.emulator().token("automation").unwrap();
    let created = api.request("POST", "/secret-providers", &admin, &new(token.expose())).await;
    let connection = created.ok(201);
    assert_eq!((&connection["name"], &connection["provider_type"]), (&"Acme 1Password".into(), &"1password".into()));
    assert_eq!((&connection["cache_ttl_seconds"], &connection["read_only"]), (&300.into(), &false.into()));
    assert_eq!(connection["config_hint"], json!({"token_last4": token.last4()}));
    let path = format!("/secret-providers/{}", connection["id"].as_str().unwrap());
    assert_eq!(api.get(&path).await.ok(200), connection, "an ordinary key may read it");
    assert_eq!(api.get("/secret-providers").await.ok(200), json!([connection]));

    let auditor = api.emulator().token("auditor").unwrap();
    let changes = json!({"name": "Read only", "cache_ttl_seconds": 86_400, "settings": {"token": auditor.expose()}});
    let answer = api.request("PATCH", &path, &admin, &changes).await;
    let changed = answer.ok(200);
    assert_eq!((&changed["name"], &changed["cache_ttl_seconds"]), (&"Read only".into(), &86_400.into()));
    assert_eq!((&changed["read_only"], &changed["created_at"]), (&true.into(), &connection["created_at"]));
    assert_eq!(changed["config_hint"], json!({"token_last4": auditor.last4()}));
    // A document that was read can be sent back with a change, as users do.
    let mut back = changed.clone();
    back["name"] = "Renamed".into();
    assert_eq!(api.request("PATCH", &path, &admin, &back).await.ok(200)["name"], "Renamed");

    let cleared = api.request("POST", &format!("{path}/clear-cache"), &admin, &Value::Null).await.ok(200);
    assert_eq!(cleared, json!({"success": true}));
    let deleted = api.request("DELETE", &path, &admin, &Value::Null).await;
    assert_eq!(deleted.ok(200), json!({"success": true}));
    api.get(&path).await.error(404, "NOT_FOUND");
    api.get(&format!("{path}/items")).await.error(404, "NOT_FOUND");
    assert_eq!(api.get("/secret-providers").await.ok(200), json!([]));
    for answer in [created, answer, deleted] {
        assert_without(&answer.text, &[token.expose(), auditor.expose(), &token.expose()[100..140]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_1password_refuses_is_answered_with_the_sentences_of_the_product_page() {
    let (api, admin) = onepassword().await;
    let emulator = api.emulator();
    let good = emulator.token("automation").unwrap();
    let wrong = emulator.wrong_token("automation", WrongToken::SrpX).unwrap();
    let half = &good.expose()[..good.expose().len() / 2];
    let blind = emulator.token("newcomer").unwrap();
    let cases = [
        ("ghp_0123456789abcdef", "VALIDATION_FAILED", &["start with ops_", "Copy the token"][..]),
        (half, "VALIDATION_FAILED", &["Copy it again in full", "create a new service account"]),
        ("", "VALIDATION_FAILED", &["token is missing"]),
        (wrong.expose(), "PROVIDER_REFUSED", &["1Password", "create a new service account"]),
        (blind.expose(), "PROVIDER_REFUSED", &["can't read any vault", "Grant Read Items on at least one vault"]),
    ];
    for (token, code, words) in cases {
        let answer = api.request("POST", "/secret-providers", &admin, &new(token)).await;
        let message = answer.error(400, code);
        for word in words {
            assert!(message.to_lowercase().contains(&word.to_lowercase()), "{word}: {message}");
        }
        if !token.is_empty() {
            assert_without(&answer.text, &[token]);
        }
    }
    emulator.revoke_token("automation", 401).unwrap();
    api.request("POST", "/secret-providers", &admin, &new(good.expose())).await.error(400, "PROVIDER_REFUSED");
    assert_eq!(api.get("/secret-providers").await.ok(200), json!([]), "nothing of it was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_does_not_work_replaces_none_that_does() {
    let (api, admin) = onepassword().await;
    let token = api.emulator().token("automation").unwrap();
    let connection = api.request("POST", "/secret-providers", &admin, &new(token.expose())).await.ok(201);
    let path = format!("/secret-providers/{}", connection["id"].as_str().unwrap());
    let wrong = api.emulator().wrong_token("automation", WrongToken::SrpX).unwrap();
    let changes = json!({"name": "Other name", "settings": {"token": wrong.expose()}});
    api.request("PATCH", &path, &admin, &changes).await.error(400, "PROVIDER_REFUSED");
    assert_eq!(api.get(&path).await.ok(200), connection, "not even its name has changed");
    assert!(!api.get(&format!("{path}/items")).await.ok(200).as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_in_use_is_kept_and_its_entries_are_listed() {
    let (api, connection) = Api::echo().await;
    let admin = api.key_with(Scope::Admin).await;
    let mut ids = Vec::new();
    for number in 0..7 {
        let body = json!({
            "permissioned_user_id": format!("user-{number}"),
            "domain": "https://acme.com",
            "user_alias": if number == 0 { Value::from("Main") } else { Value::Null },
            "secret_provider_id": connection.id,
            "secret_ref": "echo://item/one",
        });
        ids.push(api.post("/vault", &body).await.ok(201)["id"].clone());
    }
    let path = format!("/secret-providers/{}", connection.id);
    let answer = api.request("DELETE", &path, &admin, &Value::Null).await;
    let body = answer.ok(409);
    assert_eq!((&body["code"], &body["statusCode"]), (&"CONFLICT".into(), &409.into()));
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("7 vault entries") && message.contains("Main at https://acme.com"), "{message}");
    assert_eq!(body["dependents"]["total"], 7);
    let first = json!({
        "id": ids[0], "permissioned_user_id": "user-0", "domain": "https://acme.com", "user_alias": "Main",
    });
    assert_eq!(body["dependents"]["entries"][0], first);
    let told: Vec<_> = body["dependents"]["entries"].as_array().unwrap().iter().map(|entry| &entry["id"]).collect();
    assert_eq!(told, ids.iter().collect::<Vec<_>>());
    api.get(&path).await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_key_for_administrators_manages_connections() {
    let (api, connection) = Api::echo().await;
    let path = format!("/secret-providers/{}", connection.id);
    let not_admin = Scopes::from(Scope::Api).with(Scope::Resolve);
    let ordinary = api.key_with(not_admin).await;
    let (clear, retry) = (format!("{path}/clear-cache"), format!("{path}/retry"));
    let requests =
        [("POST", "/secret-providers"), ("PATCH", &*path), ("DELETE", &*path), ("POST", &*clear), ("POST", &*retry)];
    for (method, path) in requests {
        for body in [new(ECHO_TOKEN), json!([])] {
            let answer = api.request(method, path, &ordinary, &body).await;
            let message = answer.error(403, "FORBIDDEN");
            assert!(message.contains("`admin`"), "{message}");
            assert_without(&answer.text, &[ECHO_TOKEN]);
        }
        api.request(method, path, "", &Value::Null).await.error(401, "UNAUTHENTICATED");
    }
    let resolver = api.key_with(Scope::Resolve).await;
    api.request("GET", &path, &resolver, &Value::Null).await.error(403, "FORBIDDEN");
    assert_eq!(api.get("/secret-providers").await.ok(200).as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_another_workspace_is_answered_like_none() {
    let (api, connection) = Api::echo().await;
    let other = api.host.broker().workspaces().create("Other", Scopes::ALL).await.unwrap();
    let key = secrecy::ExposeSecret::expose_secret(&other.api_key);
    for (method, after, body) in [
        ("GET", "", Value::Null),
        ("PATCH", "", json!({"name": "mine"})),
        ("PATCH", "", json!({"provider_type": "echo"})),
        ("DELETE", "", Value::Null),
        ("POST", "/clear-cache", Value::Null),
        ("POST", "/retry", Value::Null),
    ] {
        let foreign = api.request(method, &format!("/secret-providers/{}{after}", connection.id), key, &body).await;
        foreign.error(404, "NOT_FOUND");
        let unknown = api.request(method, &format!("/secret-providers/{UNKNOWN}{after}"), key, &body).await;
        assert_eq!((foreign.status, foreign.text), (unknown.status, unknown.text), "{method}");
    }
    assert_eq!(api.get("/secret-providers").await.ok(200)[0]["name"], "Acme 1Password");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_connection_has_its_rules() {
    let (api, connection) = Api::echo().await;
    let admin = api.key_with(Scope::Admin).await;
    let secret = "hunter2-in-the-wrong-place";
    let echo = |changes: Value| {
        let mut body = json!({"name": "Echo", "provider_type": "echo", "settings": {"token": ECHO_TOKEN}});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        body
    };
    let cases = [
        (json!({"provider_type": "echo", "settings": {}}), "name is required"),
        (echo(json!({"name": ""})), "name is required"),
        (echo(json!({"name": true})), "name must be a string"),
        (echo(json!({"name": "x".repeat(257)})), "name is too long"),
        (echo(json!({"name": "a\u{1b}[2J"})), "control characters"),
        (echo(json!({"provider_type": null})), "provider_type is required"),
        (echo(json!({"provider_type": "x".repeat(100_000)})), "provider_type is too long"),
        (echo(json!({"settings": secret})), "settings must be an object"),
        (echo(json!({"settings": [secret]})), "settings must be an object"),
        (echo(json!({"settings": {"token": {"secret": secret}}})), "values are strings"),
        (echo(json!({"settings": {"token": true}})), "values are strings"),
        (echo(json!({"settings": {}})), "Token is missing"),
        (echo(json!({"settings": {"token": ECHO_TOKEN, "tokn": secret}})), "tokn"),
        (echo(json!({"settings": {"tokn": secret}})), "no setting `tokn`; it has token"),
        (echo(json!({"settings": {"token": ECHO_TOKEN, "x".repeat(100_000): secret}})), "no setting `xxxx"),
        (echo(json!({"settings": {"token": "x".repeat(70_000)}})), "too long"),
        (echo(json!({"cache_ttl_seconds": true})), "non-negative integer"),
        (echo(json!({"cache_ttl_seconds": 1.5})), "non-negative integer"),
        (echo(json!({"cache_ttl_seconds": "300"})), "non-negative integer"),
        (echo(json!({"cache_ttl_seconds": -1})), "non-negative integer"),
        (echo(json!({"cache_ttl_seconds": 9_999_999_999_i64})), "non-negative integer"),
        (echo(json!({"token": secret})), "there is no field `token`"),
        (echo(json!({"certificate_authorities": secret})), "no certificate in PEM"),
        (echo(json!({"certificate_authorities": "x".repeat(70_000)})), "certificate_authorities is too long"),
    ];
    for (body, words) in cases {
        let answer = api.request("POST", "/secret-providers", &admin, &body).await;
        let message = answer.error(400, "VALIDATION_FAILED");
        assert!(message.contains(words) && message.len() < 500, "{words}: {message}");
        assert_without(&answer.text, &[secret, ECHO_TOKEN]);
    }
    let answer = api.request("POST", "/secret-providers", &admin, &echo(json!({"provider_type": secret}))).await;
    assert!(answer.error(400, "PROVIDER_NOT_INSTALLED").ends_with("installed providers: echo"), "{answer:?}");
    assert_without(&answer.text, &[secret, ECHO_TOKEN]);
    let path = format!("/secret-providers/{}", connection.id);
    for (body, words) in [
        (json!({"name": " "}), "name is required"),
        (json!({"cache_ttl_seconds": false}), "non-negative integer"),
        (json!({"provider_type": "1password"}), "cannot be changed"),
        (json!({"settings": {"token": ""}}), "oken"),
        (json!({"certificate_authorities": "-----BEGIN CERTIFICATE-----\nAAAA\n"}), "incomplete"),
        (json!({"nmae": "x"}), "`nmae`"),
    ] {
        let message = api.request("PATCH", &path, &admin, &body).await.error(400, "VALIDATION_FAILED");
        assert!(message.contains(words), "{words}: {message}");
    }
    for (method, path) in [("POST", "/secret-providers"), ("PATCH", &*path)] {
        for body in ["", "{", "[]", "null", "\"text\""] {
            let headers = [("cc-key", &*admin), ("content-type", "application/json")];
            api.send(method, path, &headers, body).await.error(400, "BAD_REQUEST");
        }
        let headers = [("cc-key", &*admin), ("content-type", "text/plain")];
        api.send(method, path, &headers, "{}").await.error(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    for id in ["1", "not-a-uuid", "%ff"] {
        let path = format!("/secret-providers/{id}");
        api.request("GET", &path, &admin, &Value::Null).await.error(400, "BAD_REQUEST");
        api.request("DELETE", &path, &admin, &Value::Null).await.error(400, "BAD_REQUEST");
    }
    api.request("PUT", &path, &admin, &json!({})).await.error(405, "METHOD_NOT_ALLOWED");
    assert_eq!(api.get("/secret-providers").await.ok(200).as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_whole_number_of_seconds_is_a_cache_duration() {
    let (api, connection) = Api::echo().await;
    let admin = api.key_with(Scope::Admin).await;
    let path = format!("/secret-providers/{}", connection.id);
    for seconds in [0, 1, 300, 3_601, 86_400, u32::MAX] {
        let changed = api.request("PATCH", &path, &admin, &json!({"cache_ttl_seconds": seconds})).await.ok(200);
        assert_eq!(changed["cache_ttl_seconds"], seconds);
    }
    assert_eq!(api.request("PATCH", &path, &admin, &json!({})).await.ok(200)["cache_ttl_seconds"], u32::MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn clearing_the_cache_makes_the_next_resolve_live() {
    let (api, connection) = Api::onepassword().await;
    let all = api.key_with(Scopes::ALL).await;
    let account = api.emulator().account("automation").unwrap();
    let item = account.vault("Automation").unwrap().item("Wide World Importers").unwrap().clone();
    let entry = json!({
        "permissioned_user_id": "a", "domain": "https://acme.com",
        "secret_provider_id": connection.id, "secret_ref": item.reference,
    });
    let id = api.post("/vault", &entry).await.ok(201)["id"].clone();
    let resolve = json!({"id": id, "fields": ["password"]});
    let source = async || {
        let answer = api.request("POST", "/vault/resolve", &all, &resolve).await;
        answer.ok(200)["password"]["source"].clone()
    };
    assert_eq!((source().await, source().await), ("live".into(), "cached".into()));
    let clear = format!("/secret-providers/{}/clear-cache", connection.id);
    api.request("POST", &clear, &all, &Value::Null).await.ok(200);
    api.emulator().reset_calls();
    assert_eq!((source().await, source().await), ("live".into(), "cached".into()));
    assert_eq!(api.emulator().calls().of(Endpoint::Item), 1);
}
