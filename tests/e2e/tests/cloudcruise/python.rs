//! Behaviour of the Python SDK alone.

use keyway_emulator_onepassword::ItemInfo;
use serde_json::{Value, json};

use crate::sdk::Language::Python;
use crate::sdk::Sdk;
use crate::world::{DOMAIN, World};

#[test]
fn an_update_leaves_out_what_is_not_given_and_that_stays() {
    let world = World::start();
    let mut sdk = Sdk::start(Python, &world);
    let entry = json!({"permissioned_user_id": "a", "domain": DOMAIN, "user_name": "alice", "password": "word"});
    sdk.create(entry).unwrap();
    let alias = json!({"permissioned_user_id": "a", "domain": DOMAIN, "user_alias": "Main"});
    let updated = sdk.update(alias).unwrap();
    assert_eq!((&updated["user_alias"], &updated["password"]), (&"Main".into(), &"word".into()));

    // Changes to a binding, with another duration.
    let binding = json!({
        "permissioned_user_id": "a",
        "domain": DOMAIN,
        "secret_provider_id": world.connection,
        "secret_ref": world.item().reference,
        "secret_cache_ttl_seconds": 0,
    });
    let bound = sdk.update(binding).unwrap();
    assert_eq!((&bound["secret_cache_ttl_seconds"], &bound["user_name"]), (&0.into(), &json!(null)));
    assert_eq!(bound["user_alias"], "Main");
}

#[test]
fn a_bound_entry_is_given_another_alias_another_duration_and_another_item() {
    let world = World::start();
    let mut sdk = Sdk::start(Python, &world);
    let (item, other) = (world.item(), world.item_called("Wide World Importers"));
    let with = |changes: Value| {
        let mut entry = json!({"permissioned_user_id": "a", "domain": DOMAIN});
        entry.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        entry
    };
    let bound_to = |item: &ItemInfo| json!({"secret_provider_id": world.connection, "secret_ref": item.reference});
    let cached_for = |seconds: u32| {
        let mut binding = bound_to(&item);
        binding["secret_cache_ttl_seconds"] = seconds.into();
        binding
    };
    let created = sdk.create(with(cached_for(60))).unwrap();
    let password = || {
        let resolved = world.keyway(&["resolve", created["id"].as_str().unwrap(), "--reveal"]);
        resolved["password"]["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(password(), *item.password.as_ref().unwrap());

    // The omitted binding stays, and so does its duration.
    let mut expected = created.clone();
    let mut update = |changes: Value, expected: &Value| {
        assert_eq!(&sdk.update(with(changes)).unwrap(), expected);
    };
    expected["user_alias"] = "Main".into();
    update(json!({"user_alias": "Main"}), &expected);
    // The SDK requires a duration with the binding.
    expected["secret_cache_ttl_seconds"] = 3_600.into();
    update(cached_for(3_600), &expected);
    assert_eq!(password(), *item.password.as_ref().unwrap());
    // A new binding has the connection's duration unless it sets its own.
    expected["secret_ref"] = other.reference.as_str().into();
    expected["secret_cache_ttl_seconds"] = Value::Null;
    update(bound_to(&other), &expected);
    assert_eq!(password(), *other.password.as_ref().unwrap());
    assert_ne!(item.password, other.password);
}

#[test]
fn a_proxy_of_ones_own_is_encrypted_and_comes_back_in_plain() {
    let world = World::start();
    let mut sdk = Sdk::start(Python, &world);
    let address = "http://user:word@proxy.example:8080";
    let entry =
        json!({"permissioned_user_id": "a", "domain": DOMAIN, "proxy_setting": "custom", "proxy_value": address});
    assert_eq!(sdk.create(entry).unwrap()["proxy_value"], address);
    let static_ip =
        json!({"permissioned_user_id": "a", "domain": DOMAIN, "proxy_setting": "static", "proxy_value": "203.0.113.7"});
    assert_eq!(sdk.update(static_ip).unwrap()["proxy_value"], "203.0.113.7");
    let proxy = json!({"permissioned_user_id": "a", "domain": DOMAIN, "proxy": {"enable": true, "target_ip": null}});
    assert_eq!(sdk.update(proxy).unwrap()["proxy"], json!({"enable": true, "target_ip": null}));
}

#[test]
fn a_method_that_sends_codes_elsewhere_says_that_they_cannot_be_read() {
    let world = World::start();
    let mut sdk = Sdk::start(Python, &world);
    for (method, words) in [("SMS", "tfa_method SMS"), ("MAGIC_LINK", "tfa_method MAGIC_LINK"), ("EMAIL", "by e-mail")]
    {
        sdk.create(json!({"permissioned_user_id": method, "domain": DOMAIN, "tfa_method": method})).unwrap();
        let error = sdk.tfa_code(method).unwrap_err();
        assert!(error.message.contains(words), "{error}");
    }
}
