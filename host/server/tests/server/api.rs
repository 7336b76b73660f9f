//! The HTTP API as its clients use it.

use keyway::EntryContent;
use keyway::keys::ClientKey;
use keyway_emulator_onepassword::{Fault, FaultRule, RetryAfterForm};
use serde_json::{Value, json};

use crate::support::{Api, ECHO_TOKEN, assert_without};

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_the_product_page_work_with_real_items() {
    let (api, connection) = Api::onepassword().await;
    let token = api.emulator().token("automation").unwrap();

    let answer = api.get("/secret-providers").await;
    let listed = answer.ok(200);
    assert_eq!(listed[0]["id"], connection.id.to_string());
    assert_eq!(listed[0]["workspace_id"], api.access.workspace().to_string());
    assert_eq!(listed[0]["provider_type"], "1password");
    assert_eq!(listed[0]["name"], "Acme 1Password");
    assert_eq!(listed[0]["config_hint"], json!({"token_last4": token.last4()}));
    assert_eq!(listed[0]["cache_ttl_seconds"], 300);
    for time in ["created_at", "updated_at"] {
        let text = listed[0][time].as_str().unwrap();
        assert!(text.parse::<jiff::Timestamp>().is_ok(), "{text}");
    }
    assert_eq!(listed[0]["read_only"], false);
    assert_eq!(listed[0].as_object().unwrap().len(), 9, "the eight documented fields and the mark of a read-only one");
    assert_without(&answer.text, &[token.expose()]);

    let items = api.get(&format!("/secret-providers/{}/items", connection.id)).await.ok(200);
    let account = api.emulator().account("automation").unwrap();
    let known = account.vault("Automation").unwrap().item("Northwind Supplier Portal").unwrap();
    let item = items.as_array().unwrap().iter().find(|item| item["id"] == known.id.as_str()).unwrap();
    let expected = json!({"id": known.id, "title": known.title, "vaultName": "Automation", "ref": known.reference});
    assert_eq!(*item, expected);

    let body = json!({
        "permissioned_user_id": "acme-prod",
        "domain": "https://acme.com",
        "secret_provider_id": connection.id,
        "secret_ref": known.reference,
        "secret_cache_ttl_seconds": 300,
    });
    let entry = api.post("/vault", &body).await.ok(201);
    for (name, value) in body.as_object().unwrap() {
        assert_eq!(&entry[name], value, "{name}");
    }
    for name in ["user_name", "password", "tfa_secret", "tfa_method", "user_alias"] {
        assert_eq!(entry[name], Value::Null, "{name}");
    }
    assert_eq!(entry["workspace_id"], api.access.workspace().to_string());

    assert_eq!(api.get("/vault").await.ok(200), json!([entry]));
    let pair = "/vault?permissioned_user_id=acme-prod&domain=https%3A%2F%2Facme.com";
    assert_eq!(api.get(pair).await.ok(200), entry, "one object, not a list");
    assert!(api.post("/vault", &body).await.error(409, "CONFLICT").contains("already exists"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_with_a_content_type_and_no_body_is_fine() {
    let (api, _) = Api::echo().await;
    let headers = [("cc-key", &*api.key), ("content-type", "application/json"), ("x-cloudcruise-client", "sdk/1")];
    for path in ["/secret-providers", "/vault"] {
        api.send("GET", path, &headers, "").await.ok(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_send_back_from_an_answer_is_ignored_where_the_server_decides() {
    let (api, connection) = Api::echo().await;
    let body = json!({
        "permissioned_user_id": "a b&c",
        "domain": "https://acme.com/login?x=1",
        "user_alias": "Main",
        "tfa_method": "MAGIC_LINK",
        "secret_provider_id": connection.id,
        "secret_ref": "echo://item/one",
        "secret_cache_ttl_seconds": null,
        "id": "25290e80-bbd5-41b3-861e-dea30cc26e27",
        "workspace_id": 7,
        "organization_id": null,
        "site_identifier": "acme",
        "created_at": "yesterday",
        "updated_at": null,
        "tfa_email": "info@example.com",
        "tfa_phone_number": null,
        "session_data_set_at": null,
        "effective_expires_at": null,
        "cookies": null,
        "allow_multiple_sessions": false,
    });
    let entry = api.post("/vault", &body).await.ok(201);
    assert_ne!(entry["id"], body["id"]);
    assert_eq!((&entry["user_alias"], &entry["tfa_method"]), (&"Main".into(), &"MAGIC_LINK".into()));
    assert_eq!(entry["secret_cache_ttl_seconds"], Value::Null);
    let pair = "/vault?permissioned_user_id=a+b%26c&domain=https%3A%2F%2Facme.com%2Flogin%3Fx%3D1";
    assert_eq!(api.get(pair).await.ok(200)["id"], entry["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_under_the_workspaces_key_come_back_as_they_were_sent() {
    let (api, connection) = Api::echo().await;
    let key = ClientKey::from_hex(&api.encryption_key.as_str().into()).unwrap();
    let encrypted = |value: &str| key.encrypt(&value.into()).unwrap();
    let body = json!({
        "permissioned_user_id": "manual",
        "domain": "https://acme.com",
        "user_name": encrypted("alice"),
        "password": encrypted("hunter2-hunter2"),
        "tfa_secret": encrypted("GEZDGNBVGY3TQOJQ"),
        "tfa_method": "AUTHENTICATOR",
    });
    let entry = api.post("/vault", &body).await.ok(201);
    for name in ["user_name", "password", "tfa_secret", "tfa_method"] {
        assert_eq!(entry[name], body[name], "{name}");
    }
    assert_eq!(api.get("/vault").await.ok(200), json!([entry]));

    let both = json!({
        "permissioned_user_id": "both",
        "domain": "https://acme.com",
        "password": encrypted("hunter2-hunter2"),
        "secret_provider_id": connection.id,
        "secret_ref": "echo://item/one",
    });
    let message = api.post("/vault", &both).await.error(400, "VALIDATION_FAILED");
    assert!(message.contains("provider-backed vault entries cannot include password"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_entries_than_fit_on_a_page_are_one_list() {
    let (api, connection) = Api::echo().await;
    let count = keyway::entries::ENTRIES_PER_PAGE as usize + 7;
    for number in 0..count {
        let new = EntryContent::bound(format!("user-{number}"), "https://acme.com", connection.id, "echo://item/one");
        api.host.broker().entries().create(&api.access, new).await.unwrap();
    }
    let entries = api.get("/vault").await.ok(200);
    let users: Vec<_> = entries.as_array().unwrap().iter().map(|entry| entry["permissioned_user_id"].clone()).collect();
    let expected: Vec<Value> = (0..count).map(|number| format!("user-{number}").into()).collect();
    assert_eq!(users, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_with_the_secret_manager_has_a_status_that_says_whose_turn_it_is() {
    let limited = Fault::rate_limited(7, RetryAfterForm::Header);
    for (fault, status, code) in [
        (limited, 429, "RATE_LIMITED"),
        (Fault::status(503), 502, "PROVIDER_UNAVAILABLE"),
        (Fault::Garbage, 502, "PROVIDER_FAULT"),
        (Fault::status(401), 502, "PROVIDER_REFUSED"),
    ] {
        // Each with its own server: the traces of one would make the next be refused.
        let (api, connection) = Api::onepassword().await;
        let emulator = api.emulator();
        emulator.fault(FaultRule::next(fault).always());
        let answer = api.get(&format!("/secret-providers/{}/items", connection.id)).await;
        answer.error(status, code);
        let wait = answer.headers.get("retry-after").map(|wait| wait.to_str().unwrap());
        assert_eq!(wait, (status == 429).then_some("7"));
        assert_without(&answer.text, &[emulator.token("automation").unwrap().expose()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_for_nobody_to_keep_and_carry_a_request_id() {
    let (api, _) = Api::echo().await;
    for path in ["/healthz", "/vault", "/nowhere"] {
        let answer = api.get(path).await;
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert!(answer.headers["x-request-id"].len() > 20, "{path}");
    }
    let answer = api.send("GET", "/healthz", &[("x-request-id", "my-id.1")], "").await;
    assert_eq!(
        (answer.ok(200), &answer.headers["x-request-id"]),
        (json!({"status": "ok"}), &"my-id.1".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused() {
    let (api, _) = Api::echo().await;
    let keys = api.host.broker().api_keys().list(&api.access).await.unwrap();
    api.get("/vault").await.ok(200);
    api.host.broker().api_keys().revoke(&api.access, keys[0].id).await.unwrap();
    api.get("/vault").await.error(401, "UNAUTHENTICATED");
    assert!(!api.key.contains(ECHO_TOKEN));
}
