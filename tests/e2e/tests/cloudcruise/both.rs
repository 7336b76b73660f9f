//! Behaviour that both SDKs share.

use serde_json::{Value, json};

use crate::sdk::Language::{JavaScript, Python};
use crate::sdk::{Language, Sdk};
use crate::world::{DOMAIN, World};

/// Runs a test for both SDKs, each in its own world, because they share nothing but the server.
fn with_both(test: impl Fn(&World, Language, &mut Sdk)) {
    let world = World::start();
    for language in [Python, JavaScript] {
        test(&world, language, &mut Sdk::start(language, &world));
    }
}

fn manual(user: &str) -> Value {
    json!({
        "permissioned_user_id": user,
        "domain": DOMAIN,
        "user_alias": "Main",
        "user_name": "alice@acme.com",
        "password": "hünter2 \"quoted\" \u{1f511}",
        "tfa_secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        "tfa_method": "AUTHENTICATOR",
        "cookies": [{"name": "s", "value": null, "expirationDate": 1767225600.5}],
        "local_storage": {"a": null},
        "max_concurrency": 2,
        "allow_multiple_sessions": true,
        "expiry_time_from_last_use": "7 days 00:00:00",
    })
}

fn bound(world: &World, user: &str) -> Value {
    json!({
        "permissioned_user_id": user,
        "domain": DOMAIN,
        "secret_provider_id": world.connection,
        "secret_ref": world.item().reference,
        "secret_cache_ttl_seconds": 60,
    })
}

fn assert_has(entry: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&entry[name], value, "{name}");
    }
}

#[test]
fn connections_and_their_items_are_listed() {
    with_both(|world, language, sdk| {
        let providers = sdk.call("secretProviders.list", json!({})).unwrap();
        let expected = json!({"id": world.connection, "provider_type": "1password", "name": "Acme 1Password", "cache_ttl_seconds": 300});
        assert_eq!(providers.as_array().unwrap().len(), 1);
        assert_has(&providers[0], &expected);

        let items = sdk.call("secretProviders.items", json!({"id": world.connection})).unwrap();
        let item = world.item();
        let expected = json!({"id": item.id, "title": item.title, "ref": item.reference, "vaultName": "Automation"});
        assert!(items.as_array().unwrap().contains(&expected), "{language:?}: {items}");
    });
}

#[test]
fn an_entry_with_credentials_of_its_own_lives_its_whole_life() {
    with_both(|world, language, sdk| {
        let user = &format!("own {language:?} & co");
        let created = sdk.create(manual(user)).unwrap();
        assert_has(&created, &manual(user));
        assert_has(&sdk.one(user).unwrap(), &manual(user));
        assert!(sdk.all().contains(&created));

        // As stored: ciphertext.
        let filters = json!({"permissioned_user_id": user, "domain": DOMAIN, "decryptCredentials": false});
        let raw = sdk.call("vault.get", json!({ "filters": filters })).unwrap();
        let ciphertext = raw[0]["password"].as_str().unwrap();
        assert!(ciphertext.len() > 56 && ciphertext.bytes().all(|byte| byte.is_ascii_hexdigit()), "{ciphertext}");

        let changes = json!({"permissioned_user_id": user, "domain": DOMAIN, "user_name": "bob", "password": "new"});
        let updated = sdk.update(changes.clone()).unwrap();
        assert_has(&updated, &changes);
        assert_has(
            &updated,
            &json!({"user_alias": "Main", "tfa_secret": manual(user)["tfa_secret"], "id": created["id"]}),
        );

        let resolved = world.keyway(&["resolve", created["id"].as_str().unwrap(), "--reveal"]);
        assert_eq!((&resolved["username"]["value"], &resolved["password"]["value"]), (&"bob".into(), &"new".into()));

        sdk.delete(user).unwrap();
        let error = sdk.one(user).unwrap_err();
        assert!(error.message.contains("there is no such vault entry"), "{error}");
        assert!(!sdk.all().contains(&created));
    });
}

#[test]
fn an_entry_that_is_bound_to_an_item_has_no_credentials_to_see() {
    with_both(|world, language, sdk| {
        let user = &format!("bound {language:?}");
        let created = sdk.create(bound(world, user)).unwrap();
        for entry in [&created, &sdk.one(user).unwrap()] {
            assert_has(entry, &bound(world, user));
            for field in ["user_name", "password", "tfa_secret"] {
                assert_eq!(entry[field], Value::Null, "{field}");
            }
        }
        let resolved = world.keyway(&["resolve", created["id"].as_str().unwrap(), "--reveal"]);
        assert_eq!(resolved["password"]["value"], world.item().password.unwrap());
        let other = sdk.create(bound(world, &format!("{user} beside it"))).unwrap();
        let listed = sdk.all();
        assert!(listed.contains(&created) && listed.contains(&other), "{language:?}: {listed:?}");
        sdk.delete(user).unwrap();
        let error = sdk.one(user).unwrap_err();
        assert!(error.message.contains("there is no such vault entry"), "{error}");
        let listed = sdk.all();
        assert!(!listed.contains(&created) && listed.contains(&other), "{language:?}: {listed:?}");
        assert_eq!(sdk.call("secretProviders.list", json!({})).unwrap().as_array().unwrap().len(), 1);
    });
}

#[test]
fn the_current_two_factor_code_comes_from_the_entry_or_from_its_item() {
    with_both(|world, language, sdk| {
        let own = sdk.create(manual(&format!("code {language:?}"))).unwrap();
        let bound = sdk.create(bound(world, &format!("item's code {language:?}"))).unwrap();
        for entry in [own, bound] {
            let user = entry["permissioned_user_id"].as_str().unwrap();
            // The period may end between the two reads; then the next attempt is within one.
            let agree = (0..3).any(|_| {
                let code = sdk.tfa_code(user).unwrap();
                assert_eq!(code["type"], "authenticator");
                assert!((1..=30).contains(&code["expires_in_seconds"].as_i64().unwrap()), "{language:?}");
                code["code"] == world.keyway(&["resolve", entry["id"].as_str().unwrap()])["one_time_code"]["code"]
            });
            assert!(agree, "{user}");
            sdk.delete(user).unwrap();
        }
    });
}

#[test]
fn errors_say_what_to_do_because_their_text_is_all_that_users_see() {
    with_both(|world, language, sdk| {
        let user = &format!("errors {language:?}");
        sdk.create(bound(world, user)).unwrap();
        let with = |changes: Value| {
            let mut entry = json!({"permissioned_user_id": user, "domain": DOMAIN});
            entry.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            entry
        };
        let foreign = "25290e80-bbd5-41b3-861e-dea30cc26e27";
        let cases = [
            (sdk.create(bound(world, user)), "already exists"),
            (sdk.create(json!({"permissioned_user_id": "x", "domain": "acme.com"})), "domain must be a URL"),
            (
                sdk.create(json!({"permissioned_user_id": "x", "domain": DOMAIN, "secret_provider_id": foreign, "secret_ref": "op://a/b"})),
                "secret_provider_id is not a connection of this workspace",
            ),
            (
                sdk.create(json!({"permissioned_user_id": "x", "domain": DOMAIN, "tfa_method": "AUTHENTICATOR"})),
                "AUTHENTICATOR requires tfa_secret",
            ),
            (sdk.update(with(json!({"user_name": "a", "password": "b"}))), "provider-backed vault entries cannot include"),
            (sdk.tfa_code("nobody"), "there is no such vault entry"),
            (sdk.delete("nobody"), "there is no such vault entry"),
            (sdk.call("vault.get", json!({"filters": {"domain": DOMAIN}})), "must be provided together"),
            (sdk.call("secretProviders.items", json!({"id": foreign})), "there is no such secret provider connection"),
        ];
        for (result, words) in cases {
            let error = result.unwrap_err();
            assert!(error.message.contains(words), "{language:?}, {words}: {error}");
        }

        let mut wrong = Sdk::with_keys(language, world, "sk_guessed", &world.encryption_key);
        assert!(wrong.call("vault.get", json!({})).unwrap_err().message.contains("API key"));
        let mut wrong = Sdk::with_keys(language, world, &world.api_key, &"42".repeat(32));
        let error = wrong.create(manual("wrong key")).unwrap_err();
        assert!(error.message.contains("not encrypted with this workspace's key"), "{error}");

        // The secret manager's message reaches the user, too. A call in a pause gets the host's
        // answer.
        world.emulator.revoke_token("automation", 401).unwrap();
        let error = sdk.call("secretProviders.items", json!({"id": world.connection})).unwrap_err();
        let words = [
            "1Password does not accept this service account token",
            "the secret manager refused this connection's credentials",
        ];
        assert!(words.iter().any(|words| error.message.contains(words)), "{error}");
        world.emulator.restore_token("automation").unwrap();
        sdk.delete(user).unwrap();
    });
}
