//! `/vault` as its clients use it: changing, deleting, two-factor codes, and all attributes of an
//! entry.

use keyway::keys::ClientKey;
use serde_json::{Value, json};

use crate::support::{Answer, Api, assert_without};

const PAIR: &str = "permissioned_user_id=acme-prod&domain=https%3A%2F%2Facme.com";

impl Api {
    fn encrypted(&self, value: &str) -> String {
        ClientKey::from_hex(&self.encryption_key.as_str().into()).unwrap().encrypt(&value.into()).unwrap()
    }

    async fn with_body(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("cc-key", &*self.key), ("content-type", "application/json")];
        self.send(method, path, &headers, body.to_string()).await
    }

    async fn put(&self, changes: Value) -> Answer {
        self.with_body("PUT", "/vault", &named(changes)).await
    }
}

/// With the entry's user and domain.
fn named(fields: Value) -> Value {
    let mut body = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// Every field that a client may set and the server keeps.
fn everything(api: &Api) -> Value {
    json!({
        "user_alias": "Main",
        "user_name": api.encrypted("alice"),
        "password": api.encrypted("hunter2-hunter2"),
        "tfa_secret": api.encrypted("GEZDGNBVGY3TQOJQ"),
        "tfa_method": "AUTHENTICATOR",
        "allow_multiple_sessions": true,
        "max_concurrency": 3,
        "prevent_concurrency_during_login": false,
        "persist_cookies": true,
        "persist_local_storage": true,
        "persist_session_storage": false,
        "cookies": [{"name": "s", "value": "cookie-4711", "expirationDate": 1767225600.123, "storeId": null}],
        "local_storage": {"https://acme.com": {"a": null}},
        "session_storage": {},
        "cookie_domain_to_store": "acme.com",
        "skip_csrf_cookies": true,
        "expiry_time_from_last_use": "01:30:00",
        "expiry_time_from_session_data_set": "7 days 00:00:00",
        "proxy": {"enable": true, "target_ip": "203.0.113.7"},
        "proxy_setting": "custom",
        "proxy_value": api.encrypted("http://user:word@proxy.example:8080"),
        "proxy_string": "proxy",
        "user_agent": "Mozilla/5.0",
        "location": "Berlin",
        "ip_address": "203.0.113.8",
        "session_id": "session-1",
        "user_id": "user-1",
        "headers": [{"name": "X-Team", "value": "a"}],
        "passkey": false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_is_kept_and_comes_back() {
    let (api, _) = Api::echo().await;
    let sent = everything(&api);
    let created = api.post("/vault", &named(sent.clone())).await.ok(201);
    for (name, value) in sent.as_object().unwrap() {
        assert_eq!(&created[name], value, "{name}");
    }
    assert_eq!(created["site_identifier"], "acme.com");
    let set_at: jiff::Timestamp = created["session_data_set_at"].as_str().unwrap().parse().unwrap();
    let expires: jiff::Timestamp = created["effective_expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(expires.as_second() - set_at.as_second(), 90 * 60);
    assert_eq!(api.get(&format!("/vault?{PAIR}")).await.ok(200), created);
    assert_eq!(api.get("/vault").await.ok(200), json!([created]));

    // A client may send back every field that it received, even those managed by the server.
    let answer = api.with_body("PUT", "/vault", &created).await.ok(200);
    let without_times = |entry: &Value| {
        let mut entry = entry.clone();
        for time in ["updated_at", "session_data_set_at", "effective_expires_at"] {
            entry.as_object_mut().unwrap().remove(time);
        }
        entry
    };
    assert_eq!(without_times(&answer), without_times(&created));

    // And null clears each of them.
    let nulls: Value = sent.as_object().unwrap().keys().map(|name| (name.clone(), Value::Null)).collect();
    let cleared = api.put(nulls).await.ok(200);
    for name in sent.as_object().unwrap().keys().filter(|name| *name != "passkey") {
        assert_eq!(cleared[name], Value::Null, "{name}");
    }
    for name in ["session_data_set_at", "effective_expires_at"] {
        assert_eq!(cleared[name], Value::Null, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_changes_what_it_mentions_by_pair_or_by_id() {
    let (api, _) = Api::echo().await;
    let created = api.post("/vault", &named(everything(&api))).await.ok(201);
    let changed = api.put(json!({"user_alias": "Other"})).await.ok(200);
    assert_eq!((&changed["user_alias"], &changed["password"]), (&"Other".into(), &created["password"]));

    let id = &created["id"];
    let by_id = api.with_body("PUT", "/vault", &json!({"id": id, "user_alias": null})).await.ok(200);
    assert_eq!((&by_id["user_alias"], &by_id["permissioned_user_id"]), (&Value::Null, &"acme-prod".into()));
    let renamed = json!({"id": id, "permissioned_user_id": "renamed", "domain": "https://acme.com"});
    api.with_body("PUT", "/vault", &renamed).await.ok(200);
    api.get(&format!("/vault?{PAIR}")).await.error(404, "NOT_FOUND");
    let renamed = api.get("/vault?permissioned_user_id=renamed&domain=https://acme.com").await.ok(200);
    assert_eq!(&renamed["id"], id);

    api.put(json!({"user_alias": "x"})).await.error(404, "NOT_FOUND");
    let unknown = json!({"id": "25290e80-bbd5-41b3-861e-dea30cc26e27", "user_alias": "x"});
    api.with_body("PUT", "/vault", &unknown).await.error(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_changes_between_its_own_credentials_and_a_binding() {
    let (api, connection) = Api::echo().await;
    api.post("/vault", &named(everything(&api))).await.ok(201);
    let binding = json!({"secret_provider_id": connection.id, "secret_ref": "echo://item/one"});
    let bound = api.put(binding.clone()).await.ok(200);
    for name in ["user_name", "password", "tfa_secret", "tfa_method", "secret_cache_ttl_seconds"] {
        assert_eq!(bound[name], Value::Null, "{name}");
    }
    assert_eq!((&bound["secret_ref"], &bound["user_alias"]), (&"echo://item/one".into(), &"Main".into()));

    let credentials = json!({"user_name": api.encrypted("bob"), "password": api.encrypted("word")});
    let message = api.put(credentials.clone()).await.error(400, "VALIDATION_FAILED");
    assert!(message.contains("provider-backed vault entries cannot include user_name, password"), "{message}");
    assert!(message.contains("secret_provider_id and secret_ref as null"), "{message}");
    let mut half = credentials.clone();
    half["secret_ref"] = Value::Null;
    assert!(api.put(half).await.error(400, "VALIDATION_FAILED").contains("must be provided together"));
    // Clearing an unset value is harmless.
    assert_eq!(api.put(json!({"password": null})).await.ok(200)["secret_ref"], "echo://item/one");
    let mut at_once = binding.clone();
    at_once["password"] = api.encrypted("word").into();
    let message = api.put(at_once.clone()).await.error(400, "VALIDATION_FAILED");
    assert_eq!(message, "provider-backed vault entries cannot include password");
    at_once["permissioned_user_id"] = "another".into();
    let message = api.post("/vault", &named(at_once)).await.error(400, "VALIDATION_FAILED");
    assert_eq!(message, "provider-backed vault entries cannot include password");
    let authenticator = json!({"tfa_method": "AUTHENTICATOR"});
    let message = api.put(authenticator).await.error(400, "VALIDATION_FAILED");
    assert!(message.contains("AUTHENTICATOR is not available for provider-backed vault entries"), "{message}");

    let ttl = |seconds: Value| json!({"secret_cache_ttl_seconds": seconds});
    assert_eq!(api.put(ttl(json!(60))).await.ok(200)["secret_cache_ttl_seconds"], 60);
    assert_eq!(api.put(json!({"user_alias": "x"})).await.ok(200)["secret_cache_ttl_seconds"], 60);
    assert_eq!(api.put(binding).await.ok(200)["secret_cache_ttl_seconds"], Value::Null);
    for wrong in [json!(true), json!(1.5), json!("300"), json!(-1)] {
        let message = api.put(ttl(wrong)).await.error(400, "VALIDATION_FAILED");
        assert!(message.contains("must be a non-negative integer"), "{message}");
    }

    let mut unbound = credentials;
    unbound["secret_provider_id"] = Value::Null;
    unbound["secret_ref"] = Value::Null;
    let own = api.put(unbound.clone()).await.ok(200);
    assert_eq!((&own["user_name"], &own["secret_ref"]), (&unbound["user_name"], &Value::Null));
    let message = api.put(ttl(json!(60))).await.error(400, "VALIDATION_FAILED");
    assert_eq!(message, "secret_cache_ttl_seconds requires secret_provider_id and secret_ref");
    for nothing in [ttl(Value::Null), json!({"secret_ref": null})] {
        api.put(nothing).await.ok(200);
    }

    let passkey = api.put(json!({"passkey": true})).await.ok(200);
    assert_eq!(passkey["passkey"], true);
    let both = json!({"secret_provider_id": connection.id, "secret_ref": "echo://item/one"});
    assert!(api.put(both).await.error(400, "VALIDATION_FAILED").contains("passkey, but not both"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_entry_is_gone_and_only_that() {
    let (api, connection) = Api::echo().await;
    let bound = json!({"secret_provider_id": connection.id, "secret_ref": "echo://item/one"});
    api.post("/vault", &named(bound.clone())).await.ok(201);
    let half = json!({"domain": "https://acme.com"});
    api.with_body("DELETE", "/vault", &half).await.error(400, "VALIDATION_FAILED");
    let deleted = api.with_body("DELETE", "/vault", &named(json!({"reason": "a client's own key"}))).await.ok(200);
    assert_eq!(deleted, json!({"success": true}));
    api.with_body("DELETE", "/vault", &named(json!({}))).await.error(404, "NOT_FOUND");
    assert_eq!(api.get("/vault").await.ok(200), json!([]));
    assert_eq!(api.get("/secret-providers").await.ok(200).as_array().unwrap().len(), 1);
    let id = api.post("/vault", &named(bound)).await.ok(201)["id"].clone();
    api.with_body("DELETE", "/vault", &json!({"id": id})).await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_state_is_cleared_on_request() {
    let (api, _) = Api::echo().await;
    api.post("/vault", &named(everything(&api))).await.ok(201);
    let path = "/vault/clear-browser-state";
    assert_eq!(api.with_body("PATCH", path, &named(json!({}))).await.ok(200), json!({"success": true}));
    let entry = api.get(&format!("/vault?{PAIR}")).await.ok(200);
    for name in ["cookies", "local_storage", "session_storage", "session_data_set_at"] {
        assert_eq!(entry[name], Value::Null, "{name}");
    }
    assert_eq!(entry["user_agent"], "Mozilla/5.0");
    let unknown = json!({"permissioned_user_id": "nobody", "domain": "https://acme.com"});
    api.with_body("PATCH", path, &unknown).await.error(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_two_factor_code_is_for_now_and_for_nobody_to_keep() {
    let (api, connection) = Api::echo().await;
    let path = format!("/vault/tfa-code?{PAIR}");
    api.get(&path).await.error(404, "NOT_FOUND");
    for query in ["", "?domain=https://acme.com", "?permissioned_user_id=acme-prod"] {
        api.get(&format!("/vault/tfa-code{query}")).await.error(400, "VALIDATION_FAILED");
    }
    api.post("/vault", &named(everything(&api))).await.ok(201);
    let check = |answer: &Answer| {
        let code = answer.ok(200);
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(code["type"], "authenticator");
        assert!(code["code"].as_str().unwrap().bytes().all(|byte| byte.is_ascii_digit()), "{code}");
        assert!((1..=30).contains(&code["expires_in_seconds"].as_i64().unwrap()), "{code}");
        assert!(code["times_handed_out"].as_u64().unwrap() >= 1, "{code}");
        assert_eq!(code.as_object().unwrap().len(), 4, "no received_at");
    };
    check(&api.get(&path).await);
    check(&api.get(&format!("{path}&unused=false&min_seconds_left=0")).await);
    for wrong in ["unused=yes", "unused", "min_seconds_left=-1", "min_seconds_left=x", "min_seconds_left=31"] {
        let message = api.get(&format!("{path}&{wrong}")).await.error(400, "VALIDATION_FAILED");
        assert!(message.contains(wrong.split('=').next().unwrap()), "{message}");
    }

    for (method, status, code) in
        [("EMAIL", 404, "NOT_FOUND"), ("SMS", 409, "CONFLICT"), ("MAGIC_LINK", 409, "CONFLICT")]
    {
        api.put(json!({"tfa_method": method})).await.ok(200);
        api.get(&path).await.error(status, code);
    }
    api.put(json!({"tfa_method": null, "tfa_secret": null})).await.ok(200);
    api.get(&path).await.error(409, "CONFLICT");
    api.put(json!({"secret_provider_id": connection.id, "secret_ref": "echo://item/one"})).await.ok(200);
    check(&api.get(&path).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_says_how_often_it_was_handed_out_and_an_unused_one_is_given_out_once() {
    let (api, _) = Api::echo().await;
    // The longest period, and not the end of one: none ends meanwhile, and the next code is further
    // away than a caller is kept waiting.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    if now % 300 > 255 {
        tokio::time::sleep(std::time::Duration::from_secs(300 - now % 300)).await;
    }
    let secret = api.encrypted("otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&period=300");
    api.post("/vault", &named(json!({"tfa_secret": secret}))).await.ok(201);
    let path = format!("/vault/tfa-code?{PAIR}");
    let unused = api.get(&format!("{path}&unused=true")).await.ok(200);
    assert_eq!(unused["times_handed_out"], 1);
    assert_eq!(api.get(&path).await.ok(200)["times_handed_out"], 2);
    let key = api.key_with(keyway::Scope::Resolve).await;
    let resolve = async |body: Value| api.request("POST", "/vault/resolve", &key, &named(body)).await;
    assert_eq!(resolve(json!({})).await.ok(200)["one_time_code"]["times_handed_out"], 3);
    for refused in [api.get(&format!("{path}&unused=true")).await, resolve(json!({"unused": true})).await] {
        let message = refused.error(429, "RATE_LIMITED");
        assert!(message.contains("Ask again in"), "{message}");
        assert_eq!(refused.json()["reason"], "CODE_NOT_YET");
        assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 35);
    }
    let not_asked = resolve(json!({"fields": ["password"], "unused": true})).await.error(400, "VALIDATION_FAILED");
    assert!(not_asked.contains("unused"), "{not_asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_makes_no_code_is_refused_whatever_the_method() {
    let (api, _) = Api::echo().await;
    let counter = api.encrypted("otpauth://hotp/x?secret=GEZDGNBVGY3TQOJQ&counter=1");
    let refused = api.post("/vault", &named(json!({"tfa_secret": counter}))).await.error(400, "VALIDATION_FAILED");
    assert!(refused.contains("secret") && refused.contains("counter-based"), "{refused}");
    api.post("/vault", &named(json!({"password": api.encrypted("kept")}))).await.ok(201);
    for method in ["AUTHENTICATOR", "EMAIL"] {
        let changes = json!({"tfa_method": method, "tfa_secret": counter});
        let refused = api.put(changes).await.error(400, "VALIDATION_FAILED");
        assert!(refused.contains("counter-based"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_of_the_wrong_type_are_refused_without_their_value() {
    let (api, _) = Api::echo().await;
    api.post("/vault", &named(json!({}))).await.ok(201);
    let deep: Value = serde_json::from_str(&format!("{}{}", "[".repeat(100), "]".repeat(100))).unwrap();
    let cases = [
        ("cookies", json!({"hunter2-hunter2": "hunter2-hunter2"}), "a list of objects"),
        ("local_storage", json!({"a": deep}), "nested"),
        ("local_storage", json!(["hunter2-hunter2"]), "an object"),
        ("allow_multiple_sessions", json!("hunter2-hunter2"), "true or false"),
        ("max_concurrency", json!(true), "a positive integer"),
        ("max_concurrency", json!(0), "a positive integer"),
        ("expiry_time_from_last_use", json!("hunter2-hunter2"), "7 days 00:00:00"),
        ("proxy", json!({"enable": "hunter2-hunter2"}), "an object with enable"),
        ("proxy_setting", json!("hunter2-hunter2"), "random, static, country or custom"),
        ("proxy_value", json!("203.0.113.7"), "requires proxy_setting"),
        ("headers", json!({"X": "hunter2-hunter2"}), "a list of objects"),
        ("user_agent", json!(["hunter2-hunter2"]), "a string"),
        ("user_agent", json!("x".repeat(3_000)), "too long"),
        ("passkey", json!("hunter2-hunter2"), "true or false"),
        ("nonsense", json!(1), "there is no field `nonsense`"),
    ];
    for (name, value, words) in cases {
        for answer in [api.put(json!({name: value})).await, api.post("/vault", &named(json!({name: value}))).await] {
            let message = answer.error(400, "VALIDATION_FAILED");
            assert!(message.contains(words), "{name}: {message}");
            assert_without(&answer.text, &["hunter2-hunter2"]);
        }
    }
    let custom = json!({"proxy_setting": "custom", "proxy_value": "http://user:hunter2-hunter2@proxy.example"});
    let answer = api.put(custom).await;
    answer.error(401, "NOT_ENCRYPTED");
    assert_without(&answer.text, &["hunter2-hunter2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_of_the_vault_needs_a_key_and_sees_its_own_workspace_only() {
    let (api, _) = Api::echo().await;
    api.post("/vault", &named(everything(&api))).await.ok(201);
    let other = api.host.broker().workspaces().create("Other", keyway::Scopes::from(keyway::Scope::Api)).await.unwrap();
    let other_key = secrecy::ExposeSecret::expose_secret(&other.api_key);
    let requests = [
        ("PUT", "/vault".to_owned()),
        ("DELETE", "/vault".to_owned()),
        ("PATCH", "/vault/clear-browser-state".to_owned()),
        ("GET", format!("/vault/tfa-code?{PAIR}")),
    ];
    for (method, path) in requests {
        let body = if method == "GET" { String::new() } else { named(json!({})).to_string() };
        let json = ("content-type", "application/json");
        api.send(method, &path, &[json], body.clone()).await.error(401, "UNAUTHENTICATED");
        api.send(method, &path, &[json, ("cc-key", "sk_guessed")], body.clone()).await.error(401, "UNAUTHENTICATED");
        let answer = api.send(method, &path, &[json, ("cc-key", other_key)], body.clone()).await;
        let foreign = answer.error(404, "NOT_FOUND");
        let unknown = api
            .send(
                method,
                &path.replace("acme-prod", "nobody"),
                &[json, ("cc-key", other_key)],
                body.replace("acme-prod", "nobody"),
            )
            .await;
        assert_eq!(foreign, unknown.error(404, "NOT_FOUND"));
        if method != "GET" {
            let headers = [("cc-key", &*api.key), json];
            api.send(method, &path, &headers, "{broken").await.error(400, "BAD_REQUEST");
            api.send(method, &path, &[("cc-key", &*api.key), ("content-type", "text/plain")], "{}")
                .await
                .error(415, "UNSUPPORTED_MEDIA_TYPE");
        }
    }
    assert_eq!(api.get("/vault").await.ok(200).as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_sessions_needs_that_several_are_allowed_and_goes_with_that() {
    let (api, _) = Api::echo().await;
    for sessions in [json!({"max_concurrency": 2}), json!({"max_concurrency": 2, "allow_multiple_sessions": false})] {
        let message = api.post("/vault", &named(sessions)).await.error(400, "VALIDATION_FAILED");
        assert!(message.contains("max_concurrency requires allow_multiple_sessions"), "{message}");
    }
    api.post("/vault", &named(json!({"max_concurrency": null}))).await.ok(201);
    api.put(json!({"max_concurrency": 2})).await.error(400, "VALIDATION_FAILED");
    let sessions = |entry: &Value| (entry["allow_multiple_sessions"].clone(), entry["max_concurrency"].clone());
    let allowed = api.put(json!({"allow_multiple_sessions": true, "max_concurrency": 2})).await.ok(200);
    assert_eq!(sessions(&allowed), (json!(true), json!(2)));

    // As clients do that send back a whole entry with one change.
    let sent_back = |name: &str, value: Value| {
        let mut entry = allowed.clone();
        entry[name] = value;
        entry
    };
    let renamed = api.put(sent_back("user_alias", json!("Main"))).await.ok(200);
    assert_eq!(sessions(&renamed), (json!(true), json!(2)));
    let one = api.put(sent_back("allow_multiple_sessions", json!(false))).await.ok(200);
    assert_eq!(sessions(&one), (json!(false), Value::Null));

    api.put(json!({"allow_multiple_sessions": true, "max_concurrency": 3})).await.ok(200);
    let cleared = api.put(json!({"allow_multiple_sessions": null})).await.ok(200);
    assert_eq!(sessions(&cleared), (Value::Null, Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_custom_proxy_is_encrypted_like_a_credential() {
    let (api, _) = Api::echo().await;
    api.post("/vault", &named(json!({}))).await.ok(201);
    let proxy = |setting: &str, value: &str| json!({"proxy_setting": setting, "proxy_value": value});
    api.put(proxy("custom", "http://user:word@proxy.example:8080")).await.error(401, "NOT_ENCRYPTED");
    api.put(proxy("static", "203.0.113.7")).await.ok(200);
    let sealed = api.encrypted("http://user:word@proxy.example:8080");
    assert_eq!(api.put(proxy("custom", &sealed)).await.ok(200)["proxy_value"], sealed);
    // With the same setting, another value must be encrypted, too.
    api.put(json!({"proxy_value": "203.0.113.7"})).await.error(401, "NOT_ENCRYPTED");
    api.put(json!({"proxy_setting": "custom"})).await.ok(200);
    assert_eq!(api.put(json!({"proxy_setting": "static"})).await.ok(200)["proxy_value"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn session_data_that_comes_back_as_it_was_is_as_old_as_it_was() {
    let (api, _) = Api::echo().await;
    let expiries =
        json!({"expiry_time_from_last_use": "2 days", "expiry_time_from_session_data_set": "7 days 00:00:00"});
    let created = api.post("/vault", &named(expiries)).await.ok(201);
    assert_eq!((&created["session_data_set_at"], &created["effective_expires_at"]), (&Value::Null, &Value::Null));
    let set = api.put(json!({"cookies": [{"name": "s", "value": null}]})).await.ok(200);
    let time = |entry: &Value, name: &str| entry[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let (set_at, expires) = (time(&set, "session_data_set_at"), time(&set, "effective_expires_at"));
    assert_eq!(expires.as_second() - set_at.as_second(), 2 * 24 * 3_600);
    let back = api.put(json!({"cookies": [{"value": null, "name": "s"}], "user_agent": "Mozilla"})).await.ok(200);
    assert_eq!(time(&back, "session_data_set_at"), set_at);
    // The other interval is now the earlier one, and both count from the same time.
    let sooner = api.put(json!({"expiry_time_from_session_data_set": "1 day"})).await.ok(200);
    assert_eq!(time(&sooner, "session_data_set_at"), set_at);
    assert_eq!(time(&sooner, "effective_expires_at").as_second() - set_at.as_second(), 24 * 3_600);
    let cleared = api.put(json!({"cookies": null})).await.ok(200);
    assert_eq!((&cleared["session_data_set_at"], &cleared["effective_expires_at"]), (&Value::Null, &Value::Null));
}
