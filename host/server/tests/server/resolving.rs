//! `POST /vault/resolve`: the values, their sources, and what happens after a rejected password.

use keyway::connections::Connection;
use keyway::{NewConnection, Scope, Scopes};
use keyway_emulator_onepassword::{Endpoint, ItemChange};
use keyway_runtime::Settings;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::{Answer, Api, assert_without};

const PATH: &str = "/vault/resolve";
const WITH_CODE: &str = "Northwind Supplier Portal";
const WITHOUT_CODE: &str = "Wide World Importers";

struct World {
    api: Api,
    resolver: String,
    entry: Value,
}

impl World {
    /// An entry bound to an item of 1Password, and a key with the scope `resolve` alone.
    async fn new(title: &str) -> Self {
        let (api, connection) = Api::onepassword().await;
        let account = api.emulator().account("automation").unwrap();
        let reference = account.vault("Automation").unwrap().item(title).unwrap().reference.clone();
        let entry = bind(&api, &connection, "acme-prod", &reference).await;
        let resolver = api.key_with(Scope::Resolve).await;
        Self { api, resolver, entry }
    }

    async fn resolve(&self, more: Value) -> Answer {
        let mut body = json!({"id": self.entry});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.api.request("POST", PATH, &self.resolver, &body).await
    }

    fn reads(&self) -> u64 {
        let reads = self.api.emulator().calls().of(Endpoint::Item);
        self.api.emulator().reset_calls();
        reads
    }
}

async fn bind(api: &Api, connection: &Connection, user: &str, reference: &str) -> Value {
    let body = json!({
        "permissioned_user_id": user,
        "domain": "https://acme.com",
        "secret_provider_id": connection.id,
        "secret_ref": reference,
    });
    api.post("/vault", &body).await.ok(201)["id"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_with_their_source_age_and_revision_and_are_for_nobody_to_keep() {
    let world = World::new(WITH_CODE).await;
    let answer = world.resolve(json!({})).await;
    let live = answer.ok(200);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let revision = live["revision"].as_str().unwrap();
    let expected = |value: &str| json!({"value": value, "source": "live", "age_seconds": 0.0, "revision": revision});
    assert_eq!(live["username"], expected("orders@acme.example"));
    assert_eq!(live["password"], expected("7Tq-wren-obelisk-41"));
    let code = &live["one_time_code"];
    assert_eq!(code["code"].as_str().unwrap().len(), 6);
    assert!((1..=30).contains(&code["seconds_left"].as_u64().unwrap()), "{code}");
    assert_eq!((&code["period_seconds"], &code["source"]), (&30.into(), &"live".into()));
    assert_eq!((&code["age_seconds"], &code["revision"]), (&0.into(), &revision.into()));
    assert_eq!(code["times_handed_out"], 1);
    assert_eq!(live["rejected_is_current"], false);

    let pair = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"});
    let again = world.api.request("POST", PATH, &world.resolver, &pair).await.ok(200);
    assert_eq!((&again["password"]["source"], &again["one_time_code"]["source"]), (&"cached".into(), &"live".into()));
    assert!(again["password"]["age_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(again["password"]["value"], live["password"]["value"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_asked_for_is_in_the_answer() {
    let world = World::new(WITH_CODE).await;
    for (field, others) in [
        ("username", ["password", "one_time_code"]),
        ("password", ["username", "one_time_code"]),
        ("one_time_code", ["username", "password"]),
    ] {
        let answer = world.resolve(json!({"fields": [field]})).await.ok(200);
        assert!(answer[field].is_object(), "{answer}");
        for other in others {
            assert_eq!(answer[other], Value::Null, "{answer}");
        }
    }
    world.reads();
    world.resolve(json!({"fields": ["username", "password", "password"]})).await.ok(200);
    assert_eq!(world.reads(), 0, "cached values need no call when no code is requested");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_comes_with_the_values_and_is_renewed_and_revoked_by_its_id() {
    let (api, connection) = paths().await;
    let entry = bind(&api, &connection, "paths", "paths://dynamic/db").await;
    let resolver = api.key_with(Scope::Resolve).await;
    let post = async |path: &str, body: Value| api.request("POST", path, &resolver, &body).await;
    let resolved = post(PATH, json!({"id": entry, "fields": ["password"]})).await.ok(200);
    let lease = &resolved["lease"];
    assert_eq!((&lease["id"], &lease["renewable"]), (&"lease-db-1".into(), &true.into()));
    assert!(lease["expires_at"].as_str().unwrap().ends_with('Z'), "{lease}");

    let renew = json!({"id": entry, "lease": lease["id"], "seconds": 7_200});
    let renewed = post("/vault/leases/renew", renew.clone()).await.ok(200);
    assert!(renewed["expires_at"].as_str() > lease["expires_at"].as_str(), "{renewed}");
    let pair = json!({"permissioned_user_id": "paths", "domain": "https://acme.com", "lease": lease["id"]});
    assert_eq!(post("/vault/leases/revoke", pair).await.ok(200), json!({"success": true}));
    let again = post(PATH, json!({"id": entry, "fields": ["password"]})).await.ok(200);
    assert_eq!((&again["lease"]["id"], &again["password"]["source"]), (&"lease-db-2".into(), &"live".into()));

    assert_eq!(api.request("POST", "/vault/leases/renew", &api.key, &renew).await.status, 403);
    for (wrong, status) in [
        (json!({"id": entry}), 400),
        (json!({"lease": "lease-db-1"}), 400),
        (json!({"id": entry, "lease": "lease-db-1", "seconds": 5_000_000_000_u64}), 400),
        (json!({"id": entry, "lease": "unknown"}), 404),
    ] {
        assert_eq!(post("/vault/leases/renew", wrong.clone()).await.status, status, "{wrong}");
    }
    let (echo, connection) = Api::echo().await;
    let entry = bind(&echo, &connection, "one", "echo://item/one").await;
    let resolver = echo.key_with(Scope::Resolve).await;
    let body = json!({"id": entry, "lease": "any"});
    assert_eq!(echo.request("POST", "/vault/leases/revoke", &resolver, &body).await.status, 501);
}

/// A server with the fixture `paths`, and a connection to it.
async fn paths() -> (Api, Connection) {
    let api = Api::start(&["fixtures/paths"], None).await;
    let new =
        NewConnection::new("Paths", "paths", Settings::new().with("region", "eu-1").with("token", "a-token-of-paths"));
    let connection = api.host.broker().connections().create(&api.access, new).await.unwrap();
    (api, connection)
}

#[tokio::test(flavor = "multi_thread")]
async fn further_fields_are_listed_and_resolved_by_name_with_their_kinds() {
    let (api, connection) = paths().await;
    let entry = bind(&api, &connection, "paths", "paths://kv/acme/prod").await;
    let resolver = api.key_with(Scope::Resolve).await;
    let get = async |path: &str, key: &str| api.send("GET", path, &[("cc-key", key)], "").await;

    let path = format!("/vault/fields?id={}", entry.as_str().unwrap());
    let listed = get(&path, &resolver).await.ok(200);
    assert_eq!(listed[1], json!({"name": "api-key", "label": "API key", "kind": "secret"}));
    let pair = "/vault/fields?permissioned_user_id=paths&domain=https://acme.com";
    assert_eq!(get(pair, &resolver).await.ok(200), listed);
    assert_eq!(get(&path, &api.key).await.status, 403, "as to resolve");
    for wrong in ["/vault/fields", "/vault/fields?id=1", &format!("{path}&domain=a"), &format!("{path}&id=a")] {
        assert_eq!(get(wrong, &resolver).await.status, 400, "{wrong}");
    }

    let resolve = async |body: Value| api.request("POST", PATH, &resolver, &body).await;
    let names = ["note", "api-key", "site", "pin", "blob", "empty", "missing"];
    let answer = resolve(json!({"id": entry, "further": names})).await.ok(200);
    assert_eq!((&answer["username"], &answer["one_time_code"]), (&Value::Null, &Value::Null), "only what is named");
    let fields = answer["further"].as_array().unwrap();
    let field = |name: &str| fields.iter().find(|field| field["name"] == name).unwrap();
    assert_eq!(fields.len(), 6, "{answer}");
    assert_eq!(*field("note"), json!({"name": "note", "kind": "text", "value": "line one\nline two"}));
    assert_eq!(*field("api-key"), json!({"name": "api-key", "kind": "secret", "value": "key-7f3e"}));
    assert_eq!(*field("blob"), json!({"name": "blob", "kind": "binary", "value": "AP8KDQ=="}));
    assert_eq!(field("empty")["value"], "");
    let pin = field("pin");
    assert_eq!((&pin["kind"], pin["value"].as_str().unwrap().len()), (&"one-time-password".into(), 6));
    assert!((1..=30).contains(&pin["seconds_left"].as_u64().unwrap()), "{pin}");

    let both = resolve(json!({"id": entry, "fields": ["password"], "further": ["note"]})).await.ok(200);
    assert_eq!((&both["password"]["value"], &both["password"]["source"]), (&"v2".into(), &"live".into()));
    let none = resolve(json!({"id": entry, "fields": ["password"]})).await.ok(200);
    assert!(none.get("further").is_none(), "{none}");
    for wrong in [json!([""]), json!(["a", "a"]), json!("note"), json!([1]), json!(vec!["a"; 101])] {
        assert_eq!(resolve(json!({"id": entry, "further": wrong})).await.status, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_the_item_lacks_is_null() {
    let world = World::new(WITHOUT_CODE).await;
    let without = world.resolve(json!({})).await.ok(200);
    assert_eq!((&without["one_time_code"], &without["no_code"]["reason"]), (&Value::Null, &"absent".into()));
    assert!(without["no_code"]["message"].as_str().unwrap().len() > 10, "{without}");
    let not_asked = world.resolve(json!({"fields": ["password"]})).await.ok(200);
    assert!(not_asked.get("no_code").is_none(), "{not_asked}");
    let (api, connection) = Api::echo().await;
    let resolver = api.key_with(Scope::Resolve).await;
    let bare = bind(&api, &connection, "bare", "echo://item/bare").await;
    let answer = api.request("POST", PATH, &resolver, &json!({"id": bare})).await.ok(200);
    assert_eq!((&answer["username"], &answer["password"]), (&Value::Null, &Value::Null));
    let empty = bind(&api, &connection, "empty", "echo://item/empty").await;
    let answer = api.request("POST", PATH, &resolver, &json!({"id": empty})).await.ok(200);
    assert_eq!(answer["password"]["value"], "", "there and empty is not the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_did_not_work_heals_with_one_call() {
    let world = World::new(WITHOUT_CODE).await;
    let credentials = json!({"fields": ["username", "password"]});
    let old = world.resolve(credentials.clone()).await.ok(200);
    let change = ItemChange { password: Some("changed in the vault".into()), ..ItemChange::default() };
    world.api.emulator().change_item("Automation", WITHOUT_CODE, &change).unwrap();
    world.reads();
    assert_eq!(world.resolve(credentials).await.ok(200)["password"]["value"], old["password"]["value"]);

    let rejecting = json!({"fields": ["username", "password"], "rejected": old["revision"]});
    let healed = world.resolve(rejecting.clone()).await.ok(200);
    assert_eq!(
        (&healed["password"]["value"], &healed["password"]["source"]),
        (&"changed in the vault".into(), &"live".into())
    );
    assert_ne!(healed["revision"], old["revision"]);
    for _ in 0..20 {
        let again = world.resolve(rejecting.clone()).await.ok(200);
        assert_eq!((&again["password"]["source"], &again["revision"]), (&"cached".into(), &healed["revision"]));
        assert_eq!(again["rejected_is_current"], false);
    }
    assert_eq!(world.reads(), 1);

    let rejecting = json!({"fields": ["username", "password"], "rejected": healed["revision"]});
    for _ in 0..20 {
        let current = world.resolve(rejecting.clone()).await.ok(200);
        assert_eq!((&current["rejected_is_current"], &current["revision"]), (&true.into(), &healed["revision"]));
    }
    assert_eq!(world.reads(), 1, "the vault still holds it, and is not asked again and again");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_clients_whose_password_did_not_work_make_one_call() {
    let world = World::new(WITHOUT_CODE).await;
    let old = world.resolve(json!({"fields": ["password"]})).await.ok(200);
    world.reads();
    let rejecting = json!({"fields": ["password"], "rejected": old["revision"]});
    let answers = futures::future::join_all((0..50).map(|_| world.resolve(rejecting.clone()))).await;
    for answer in answers {
        assert_eq!(answer.ok(200)["rejected_is_current"], true);
    }
    assert_eq!(world.reads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_key_for_resolving_resolves() {
    let world = World::new(WITHOUT_CODE).await;
    let others = world.api.key_with(Scopes::from(Scope::Api).with(Scope::Admin)).await;
    for body in [json!({"id": world.entry}), json!([])] {
        let message = world.api.request("POST", PATH, &others, &body).await.error(403, "FORBIDDEN");
        assert!(message.contains("`resolve`"), "{message}");
        world.api.request("POST", PATH, "", &body).await.error(401, "UNAUTHENTICATED");
    }
    world.api.request("GET", "/vault", &world.resolver, &Value::Null).await.error(403, "FORBIDDEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_another_workspace_is_answered_like_none() {
    let world = World::new(WITHOUT_CODE).await;
    let other = world.api.host.broker().workspaces().create("Other", Scopes::ALL).await.unwrap();
    let key = other.api_key.expose_secret();
    let foreign = world.api.request("POST", PATH, key, &json!({"id": world.entry})).await;
    foreign.error(404, "NOT_FOUND");
    let unknown = json!({"id": "25290e80-bbd5-41b3-861e-dea30cc26e27"});
    let unknown = world.api.request("POST", PATH, key, &unknown).await;
    assert_eq!((foreign.status, foreign.text), (unknown.status, unknown.text));
    let pair = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"});
    world.api.request("POST", PATH, key, &pair).await.error(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_request_has_its_rules() {
    let (api, connection) = Api::echo().await;
    let resolver = api.key_with(Scope::Resolve).await;
    let id = bind(&api, &connection, "acme-prod", "echo://item/one").await;
    let cases = [
        (json!({}), "either by id, or by"),
        (json!({"id": null}), "either by id, or by"),
        (json!({"permissioned_user_id": "acme-prod"}), "either by id, or by"),
        (json!({"domain": "https://acme.com"}), "either by id, or by"),
        (json!({"id": id, "permissioned_user_id": "acme-prod", "domain": "https://acme.com"}), "either by id"),
        (json!({"id": "not-a-uuid"}), "id must be a UUID"),
        (json!({"id": true}), "id must be a string"),
        (json!({"permissioned_user_id": 1, "domain": "https://acme.com"}), "must be a string"),
        (json!({"id": id, "fields": []}), "one or more of username, password and one_time_code"),
        (json!({"id": id, "fields": ["user_name"]}), "one or more of username"),
        (json!({"id": id, "fields": ["password", true]}), "fields must be a list of strings"),
        (json!({"id": id, "fields": "password"}), "fields must be a list of strings"),
        (json!({"id": id, "fields": {"password": true}}), "fields must be a list of strings"),
        (json!({"id": id, "rejected": 1}), "rejected must be a string"),
        (json!({"id": id, "rejected": true}), "rejected must be a string"),
        (json!({"id": id, "rejected": "x".repeat(257)}), "rejected is too long"),
        (json!({"id": id, "field": ["password"]}), "there is no field `field`"),
    ];
    for (body, words) in cases {
        let answer = api.request("POST", PATH, &resolver, &body).await;
        let message = answer.error(400, "VALIDATION_FAILED");
        assert!(message.contains(words), "{body}: {message}");
        assert_without(&answer.text, &["password-one", "user-one"]);
    }
    for body in ["", "{", "[]", "null"] {
        let headers = [("cc-key", &*resolver), ("content-type", "application/json")];
        api.send("POST", PATH, &headers, body).await.error(400, "BAD_REQUEST");
    }
    let headers = [("cc-key", &*resolver), ("content-type", "text/plain")];
    api.send("POST", PATH, &headers, "{}").await.error(415, "UNSUPPORTED_MEDIA_TYPE");
    let large = json!({"id": id, "rejected": "x".repeat(3 << 20)});
    api.request("POST", PATH, &resolver, &large).await.error(413, "PAYLOAD_TOO_LARGE");
    for method in ["GET", "PUT", "DELETE"] {
        api.request(method, PATH, &resolver, &Value::Null).await.error(405, "METHOD_NOT_ALLOWED");
    }
    let null = json!({"id": id, "fields": null, "rejected": null, "domain": null});
    api.request("POST", PATH, &resolver, &null).await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_answers_has_the_status_that_says_whose_turn_it_is() {
    let (api, connection) = Api::echo().await;
    let resolver = api.key_with(Scope::Resolve).await;
    for (reference, status, code) in [
        ("item/missing", 404, "NOT_FOUND"),
        ("error/invalid-reference", 400, "VALIDATION_FAILED"),
        ("error/unauthenticated", 502, "PROVIDER_REFUSED"),
        ("error/permission-denied", 502, "PROVIDER_REFUSED"),
        ("error/rate-limited", 429, "RATE_LIMITED"),
        ("error/unavailable", 502, "PROVIDER_UNAVAILABLE"),
        ("error/unexpected-answer", 502, "PROVIDER_FAULT"),
    ] {
        let id = bind(&api, &connection, reference, &format!("echo://{reference}")).await;
        let answer = api.request("POST", PATH, &resolver, &json!({"id": id})).await;
        answer.error(status, code);
        assert_eq!(answer.headers.get("retry-after").is_some(), status == 429, "{answer:?}");
        assert_without(&answer.text, &[crate::support::ECHO_TOKEN]);
    }
}
