//! What the server refuses, and the errors that say so.

use keyway_runtime::{ErrorCode, Fields};
use serde_json::json;

use crate::server::{World, provider_error};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_wrong_and_one_that_may_not_are_told_apart() {
    let world = World::start().await;
    world.bao.put("secret/data/a", json!({ "data": { "password": "x" } }));
    world.bao.put("secret/data/b", json!({ "data": { "password": "x" } }));
    let read_a = r#"path "secret/data/a" { capabilities = ["read"] }"#;
    for default in [true, false] {
        let token = world.bao.token_for("a", read_a, json!({ "no_default_policy": !default }));
        let (connection, _) = world.connect(&[("token", &token)]);
        let verified = world.provider.verify(&connection).await.unwrap();
        assert_eq!(verified.vault_count, Some(1));
        world.provider.resolve(&connection, "vault://secret/a", Fields::ALL).await.unwrap();
        for (reference, code) in
            [("vault://secret/b", ErrorCode::PermissionDenied), ("vault://nowhere/b", ErrorCode::NotFound)]
        {
            let error = provider_error(world.provider.resolve(&connection, reference, Fields::ALL).await);
            assert_eq!(error.code, code, "{reference}: {error:?}");
        }
        world.bao.hvac("auth.token.revoke", json!({ "token": token }));
        let error = provider_error(world.provider.resolve(&connection, "vault://secret/a", Fields::ALL).await);
        assert_eq!(error.code, ErrorCode::Unauthenticated, "{error:?}");
        assert!(!format!("{error:?}").contains(&token));
    }
    let nothing =
        world.bao.token_for("nothing", r#"path "x" { capabilities = ["deny"] }"#, json!({ "no_default_policy": true }));
    for (token, code) in [(nothing.as_str(), ErrorCode::PermissionDenied), ("s.wrong", ErrorCode::Unauthenticated)] {
        let error = provider_error(world.provider.verify(&world.connect(&[("token", token)]).0).await);
        assert_eq!(error.code, code, "{error:?}");
    }
    let (connection, _) = world.connect(&[("token", "line\nbreak")]);
    let error = provider_error(world.provider.verify(&connection).await);
    assert_eq!((error.code, error.setting.as_deref()), (ErrorCode::InvalidSettings, Some("token")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_missing_or_deleted_is_not_found() {
    let world = World::start().await;
    world.bao.put("secret/data/a", json!({ "data": { "password": "x" } }));
    let connection = world.root();
    let resolve =
        async |reference: &str| provider_error(world.provider.resolve(&connection, reference, Fields::ALL).await);
    assert_eq!(resolve("vault://secret/none").await.code, ErrorCode::NotFound);
    world.bao.hvac("secrets.kv.v2.delete_latest_version_of_secret", json!({ "path": "a" }));
    let error = resolve("vault://secret/a").await;
    assert!(error.code == ErrorCode::NotFound && error.message.contains("deleted"), "{error:?}");
    world.bao.hvac("secrets.kv.v2.destroy_secret_versions", json!({ "path": "a", "versions": [1] }));
    assert_eq!(resolve("vault://secret/a").await.code, ErrorCode::NotFound);
    let error = resolve("vault://cubbyhole/a").await;
    assert_eq!(error.code, ErrorCode::Unsupported, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_history_or_a_mount_of_another_version_gives_no_old_answer() {
    let world = World::start().await;
    let connection = world.root();
    let resolve = async || world.provider.resolve(&connection, "vault://secret/a", Fields::ALL).await;
    world.bao.put("secret/data/a", json!({ "data": { "password": "x" } }));
    let first = resolve().await.unwrap().revision;
    world.bao.hvac("secrets.kv.v2.delete_metadata_and_all_versions", json!({ "path": "a" }));
    world.bao.put("secret/data/a", json!({ "data": { "password": "y" } }));
    assert_ne!(resolve().await.unwrap().revision, first, "both are version 1");
    world.bao.hvac("sys.disable_secrets_engine", json!({ "path": "secret" }));
    world.bao.mount("secret", 1);
    world.bao.put("secret/a", json!({ "password": "z" }));
    assert!(resolve().await.unwrap().password.is_some(), "the mount is asked for again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_a_rate_limit_and_a_sealed_server_is_unavailable() {
    let world = World::start().await;
    world.bao.put("secret/data/a", json!({ "data": { "password": "x" } }));
    let connection = world.root();
    let resolve = async || world.provider.resolve(&connection, "vault://secret/a", Fields::ALL).await;
    resolve().await.unwrap();
    world.bao.put("sys/quotas/rate-limit/q", json!({ "path": "secret/", "rate": 1, "interval": "60s" }));
    resolve().await.unwrap();
    assert_eq!(provider_error(resolve().await).code, ErrorCode::RateLimited);
    world.bao.hvac("delete", json!({ "path": "sys/quotas/rate-limit/q" }));
    resolve().await.unwrap();
    world.bao.hvac("sys.seal", json!({}));
    let error = provider_error(resolve().await);
    assert!(error.code == ErrorCode::Unavailable && error.message.contains("sealed"), "{error:?}");
}
