//! Values of secrets: read, written, and kept.

use keyway_runtime::contract::{Changes, FieldKind, FieldValue, Selection, WriteAccess};
use keyway_runtime::{ErrorCode, Fields};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::server::{World, provider_error};

/// A secret with all that JSON has.
fn odd() -> Value {
    json!({
        "username": "ada", "password": "old \u{fc} \"\\ <&>", "otp": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        "url": "https://example.com", "port": 5432, "big": 9_007_199_254_740_991_u64, "ratio": 1.5e-7, "on": true,
        "nested": { "a": [1, "<&>", null] }, "empty": "", "nothing": null,
        "second factor": "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&digits=8",
    })
}

fn text(secret: Option<&SecretString>) -> Option<&str> {
    secret.map(|secret| secret.expose_secret())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hvac_writes_the_provider_reads_in_both_versions() {
    let world = World::start().await;
    world.bao.mount("v1", 1);
    world.bao.hvac(
        "secrets.kv.v1.create_or_update_secret",
        json!({ "path": "web/acme", "secret": odd(), "mount_point": "v1" }),
    );
    world.bao.hvac("secrets.kv.v2.create_or_update_secret", json!({ "path": "web/acme", "secret": odd() }));
    let connection = world.root();
    for reference in ["vault://v1/web/acme", "vault://secret/web/acme"] {
        let fields = world.provider.list_fields(&connection, reference).await.unwrap();
        let named: Vec<_> = fields.iter().map(|field| (field.name.as_str(), field.kind.clone())).collect();
        for (name, kind) in
            [("url", FieldKind::Url), ("port", FieldKind::Secret), ("second factor", FieldKind::OneTimePassword)]
        {
            assert!(named.contains(&(name, kind)), "{name}: {named:?}");
        }
        assert!(!named.iter().any(|(name, _)| ["username", "password", "otp", "nothing"].contains(name)), "{named:?}");

        let names = ["url", "port", "big", "nested", "empty", "nothing", "second factor", "password", "none"];
        let selection = Selection::from(Fields::ALL).further(names.map(str::to_owned).to_vec());
        let resolved = world.provider.resolve(&connection, reference, selection).await.unwrap();
        assert_eq!(text(resolved.username.as_ref()), Some("ada"));
        assert_eq!(text(resolved.password.as_ref()), Some("old \u{fc} \"\\ <&>"));
        assert_eq!(resolved.one_time_code.unwrap().unwrap().code.expose_secret().len(), 6);
        let mut further: Vec<_> = resolved
            .further
            .iter()
            .map(|field| {
                let value = match &field.value {
                    FieldValue::Text(value) => value.expose_secret().to_owned(),
                    FieldValue::OneTimeCode(code) => {
                        format!("{} digits", code.as_ref().unwrap().code.expose_secret().len())
                    }
                    _ => panic!("{field:?}"),
                };
                (field.name.as_str(), value)
            })
            .collect();
        further.sort();
        let expected = [
            ("big", "9007199254740991"),
            ("empty", ""),
            ("nested", r#"{"a":[1,"<&>",null]}"#),
            ("port", "5432"),
            ("second factor", "8 digits"),
            ("url", "https://example.com"),
        ];
        let same = |value: &str| value.replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u0026", "&");
        let further: Vec<_> = further.iter().map(|(name, value)| (*name, same(value))).collect();
        assert_eq!(further, expected.map(|(name, value)| (name, value.to_owned())), "{reference}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_writes_hvac_reads_with_all_other_keys_as_they_were() {
    let world = World::start().await;
    world.bao.mount("v1", 1);
    world
        .bao
        .hvac("secrets.kv.v1.create_or_update_secret", json!({ "path": "a", "secret": odd(), "mount_point": "v1" }));
    world.bao.hvac("secrets.kv.v2.create_or_update_secret", json!({ "path": "a", "secret": odd() }));
    // The second token may not patch.
    let update =
        world.bao.token_for("update", r#"path "secret/data/*" { capabilities = ["read", "update"] }"#, json!({}));
    let (updating, _) = world.connect(&[("token", &update)]);
    for (connection, reference) in
        [(world.root(), "vault://v1/a"), (world.root(), "vault://secret/a"), (updating, "vault://secret/a")]
    {
        let before = world.provider.resolve(&connection, reference, Fields::ALL).await.unwrap();
        let changes = Changes::default().password("new \u{fc} \"\\ <&>\u{2028}");
        let revision = world.provider.write(&connection, reference, changes, Some(&before.revision)).await.unwrap();
        assert_ne!(revision, before.revision, "{reference}");
        let after = world.provider.resolve(&connection, reference, Fields::ALL).await.unwrap();
        assert_eq!(after.revision, revision, "{reference}: the revision of the write is that of a read");
        let mut expected = odd();
        expected["password"] = json!("new \u{fc} \"\\ <&>\u{2028}");
        let read = match reference {
            "vault://v1/a" => {
                world.bao.hvac("secrets.kv.v1.read_secret", json!({ "path": "a", "mount_point": "v1" }))["data"].clone()
            }
            _ => world.bao.read("secret", "a").0,
        };
        assert_eq!(read, expected, "{reference}");
        // The revision from before the change.
        let stale = Changes::default().username("late");
        let error = provider_error(world.provider.write(&connection, reference, stale, Some(&before.revision)).await);
        assert_eq!(error.code, ErrorCode::Conflict, "{error:?}");
        // No change, no write.
        let same = world.provider.write(&connection, reference, Changes::default(), None).await.unwrap();
        assert_eq!(same, revision);
        let back = Changes::default().password("old \u{fc} \"\\ <&>");
        world.provider.write(&connection, reference, back, None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_the_same_time_lose_nothing_of_each_other() {
    let world = World::start().await;
    // Nobody may write here without the version.
    world.bao.put("secret/config", json!({ "cas_required": true }));
    world
        .bao
        .hvac("secrets.kv.v2.create_or_update_secret", json!({ "path": "a", "secret": { "kept": "x" }, "cas": 0 }));
    let connection = world.root();
    let writers: Vec<_> = (0..4)
        .map(|number| {
            let (provider, connection) = (world.provider.clone(), connection.clone());
            tokio::spawn(async move {
                let changes = match number % 2 {
                    0 => Changes::default().username(format!("u{number}").as_str()),
                    _ => Changes::default().password(format!("p{number}").as_str()),
                };
                provider.write(&connection, "vault://secret/a", changes, None).await
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let (data, version) = world.bao.read("secret", "a");
    assert_eq!((version, data["kept"].as_str()), (5, Some("x")), "{data}");
    assert!(data["username"].is_string() && data["password"].is_string(), "{data}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_say_which_keys_are_user_name_and_password() {
    let world = World::start().await;
    let secret = json!({ "login": "ada", "pin": 1234, "password": "other" });
    world.bao.hvac("secrets.kv.v2.create_or_update_secret", json!({ "path": "a", "secret": secret }));
    let token = world.bao.token.as_str();
    let keys = [("token", token), ("username_keys", "user, login"), ("password_keys", "pin"), ("otp_keys", "seed")];
    let (connection, _) = world.connect(&keys);
    let resolved = world.provider.resolve(&connection, "vault://secret/a", Fields::ALL).await.unwrap();
    assert_eq!(text(resolved.username.as_ref()), Some("ada"));
    assert_eq!(text(resolved.password.as_ref()), Some("1234"));
    assert!(resolved.one_time_code.unwrap().is_err());
    let changes = Changes::default().username("eve").password("x");
    world.provider.write(&connection, "vault://secret/a", changes, None).await.unwrap();
    let (data, _) = world.bao.read("secret", "a");
    assert_eq!(data, json!({ "login": "eve", "pin": "x", "password": "other" }));
    // The convention finds only the password there.
    let resolved = world.provider.resolve(&world.root(), "vault://secret/a", Fields::ALL).await.unwrap();
    assert_eq!((text(resolved.username.as_ref()), text(resolved.password.as_ref())), (None, Some("other")));
}

#[tokio::test(flavor = "multi_thread")]
async fn write_access_is_what_the_policies_say_and_what_a_write_then_does() {
    let world = World::start().await;
    world.bao.mount("v1", 1);
    world.bao.hvac(
        "secrets.kv.v1.create_or_update_secret",
        json!({ "path": "a", "secret": { "k": "v" }, "mount_point": "v1" }),
    );
    world.bao.hvac("secrets.kv.v2.create_or_update_secret", json!({ "path": "a", "secret": { "k": "v" } }));
    for (name, capabilities, v2, v1) in [
        ("reader", r#"["read"]"#, false, false),
        ("patcher", r#"["read", "patch"]"#, true, false),
        ("updater", r#"["read", "update"]"#, true, true),
    ] {
        let policy = format!(
            "path \"secret/data/*\" {{ capabilities = {capabilities} }}\npath \"v1/*\" {{ capabilities = {capabilities} }}"
        );
        let token = world.bao.token_for(name, &policy, json!({}));
        let (connection, _) = world.connect(&[("token", &token)]);
        for (reference, allowed) in [("vault://secret/a", v2), ("vault://v1/a", v1)] {
            let access = world.provider.check_write_access(&connection, reference).await.unwrap();
            assert_eq!(access == WriteAccess::Granted, allowed, "{name} {reference}: {access:?}");
            let changes = Changes::default().password("x");
            let written = world.provider.write(&connection, reference, changes, None).await;
            assert_eq!(written.is_ok(), allowed, "{name} {reference}: {written:?}");
            if !allowed {
                assert_eq!(provider_error(written).code, ErrorCode::PermissionDenied);
            }
        }
        let missing = world.provider.check_write_access(&connection, "vault://secret/none").await;
        assert_eq!(provider_error(missing).code, ErrorCode::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_totp_engine_has_the_code_that_hvac_gets_and_nothing_else() {
    let world = World::start().await;
    world.bao.hvac("sys.enable_secrets_engine", json!({ "backend_type": "totp", "path": "totp" }));
    let url = "otpauth://totp/Acme:ada?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Acme&period=300&digits=8";
    world.bao.put("totp/keys/acme", json!({ "url": url }));
    let connection = world.root();
    let page = world.provider.list_items(&connection, None).await.unwrap();
    let listed: Vec<_> = page.items.iter().map(|item| (item.reference.as_str(), item.category.as_str())).collect();
    assert_eq!(listed, [("vault://totp/acme", "one-time-password")]);
    // The period may end between the two reads.
    for attempt in 1.. {
        let resolved = world.provider.resolve(&connection, "vault://totp/acme", Fields::ALL).await.unwrap();
        assert!(resolved.username.is_none() && resolved.password.is_none());
        let ours = resolved.one_time_code.unwrap().unwrap();
        assert_eq!((ours.period_seconds, ours.expires_at % 300), (300, 0));
        let theirs = world.bao.hvac("read", json!({ "path": "totp/code/acme" }))["data"]["code"].clone();
        if theirs == ours.code.expose_secret() {
            break;
        }
        assert!(attempt < 3, "the codes never agreed");
    }
    let missing = world.provider.resolve(&connection, "vault://totp/none", Fields::ALL).await;
    assert_eq!(provider_error(missing).code, ErrorCode::NotFound);
    let access = world.provider.check_write_access(&connection, "vault://totp/acme").await.unwrap();
    assert!(matches!(access, WriteAccess::Denied(_)));
    let changes = Changes::default().password("x");
    let written = world.provider.write(&connection, "vault://totp/acme", changes, None).await;
    assert_eq!(provider_error(written).code, ErrorCode::Unsupported);
    assert!(world.provider.list_fields(&connection, "vault://totp/acme").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_resolve_makes_one_request() {
    let world = World::start().await;
    world.bao.hvac("secrets.kv.v2.create_or_update_secret", json!({ "path": "a", "secret": { "password": "x" } }));
    let connection = world.root();
    let mut made = Vec::new();
    for _ in 0..3 {
        let before = connection.request_counts().answered;
        world.provider.resolve(&connection, "vault://secret/a", Fields::ALL).await.unwrap();
        made.push(connection.request_counts().answered - before);
    }
    assert_eq!(made, [2, 1, 1], "the first asks for the mount as well");
}
