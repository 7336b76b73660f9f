//! Behaviour of the JavaScript SDK alone.

use serde_json::{Value, json};

use crate::sdk::Language::JavaScript;
use crate::sdk::Sdk;
use crate::world::{DOMAIN, World};

#[test]
fn an_entry_may_be_sent_back_whole_with_one_change() {
    let world = World::start();
    let mut sdk = Sdk::start(JavaScript, &world);
    let entry = json!({
        "permissioned_user_id": "a",
        "domain": DOMAIN,
        "user_name": "alice",
        "password": "word",
        "cookies": [{"name": "s", "value": "v"}],
    });
    sdk.create(entry).unwrap();
    // `update({...entry, user_alias})`: with every field that only the server sets, and an
    // encrypted null for unset values.
    let mut whole = sdk.one("a").unwrap();
    whole["user_alias"] = "Main".into();
    let updated = sdk.update(whole.clone()).unwrap();
    for name in ["id", "user_alias", "user_name", "password", "tfa_secret", "cookies", "created_at", "secret_ref"] {
        assert_eq!(updated[name], whole[name], "{name}");
    }
}

#[test]
fn an_entry_that_is_sent_back_whole_is_renamed_by_its_id() {
    let world = World::start();
    let mut sdk = Sdk::start(JavaScript, &world);
    let entry = json!({"permissioned_user_id": "old", "domain": DOMAIN, "user_name": "alice", "password": "word"});
    sdk.create(entry).unwrap();
    // `update({...entry, permissioned_user_id: "new"})`
    let mut whole = sdk.one("old").unwrap();
    whole["permissioned_user_id"] = "new".into();
    sdk.update(whole.clone()).unwrap();
    let mut renamed = sdk.one("new").unwrap();
    renamed["updated_at"] = whole["updated_at"].clone();
    assert_eq!(renamed, whole);
    let error = sdk.one("old").unwrap_err();
    assert!(error.message.contains("there is no such vault entry"), "{error}");
    assert_eq!(sdk.all().len(), 1);
}

#[test]
fn an_explicit_null_clears_although_the_sdk_encrypts_it() {
    let world = World::start();
    let mut sdk = Sdk::start(JavaScript, &world);
    let entry = json!({"permissioned_user_id": "a", "domain": DOMAIN, "user_name": null, "password": "word", "tfa_secret": null});
    let created = sdk.create(entry).unwrap();
    assert_eq!((&created["user_name"], &created["tfa_secret"]), (&Value::Null, &Value::Null));
    let bound = json!({
        "permissioned_user_id": "b",
        "domain": DOMAIN,
        "user_name": null,
        "password": null,
        "secret_provider_id": world.connection,
        "secret_ref": world.item().reference,
    });
    assert_eq!(
        sdk.create(bound).unwrap()["secret_ref"],
        world.item().reference.as_str(),
        "unset values are not credentials"
    );
}

#[test]
fn a_bound_entry_is_updated_through_the_sdks_transport() {
    let world = World::start();
    let mut sdk = Sdk::start(JavaScript, &world);
    let binding = json!({"secret_provider_id": world.connection, "secret_ref": world.item().reference});
    let mut entry = binding.clone();
    entry["permissioned_user_id"] = "a".into();
    entry["domain"] = DOMAIN.into();
    let created = sdk.create(entry).unwrap();
    let put =
        |sdk: &mut Sdk, body: Value| sdk.call("request", json!({"method": "PUT", "path": "/vault", "body": body}));
    let updated = put(&mut sdk, json!({"id": created["id"], "secret_cache_ttl_seconds": 0})).unwrap();
    assert_eq!(updated["secret_cache_ttl_seconds"], 0);
    let mut again = binding;
    again["id"] = created["id"].clone();
    assert_eq!(put(&mut sdk, again).unwrap()["secret_cache_ttl_seconds"], Value::Null);
}
