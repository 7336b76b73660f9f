//! Logging in, sessions, and renewing tokens.

use std::time::Duration;

use keyway_runtime::{ErrorCode, Fields, OpenConnection};
use serde_json::{Value, json};

use crate::server::{World, provider_error};

const READ: &str = "path \"secret/*\" { capabilities = [\"read\", \"list\"] }";

/// A server with a secret, and an AppRole that may read it: role id and secret id.
async fn with_role(role: Value) -> (World, String, String) {
    let world = World::start().await;
    world.bao.put("secret/data/a", json!({ "data": { "password": "x" } }));
    world.bao.hvac("sys.create_or_update_policy", json!({ "name": "reader", "policy": READ }));
    world.bao.hvac("sys.enable_auth_method", json!({ "method_type": "approle" }));
    let mut settings = json!({ "role_name": "keyway", "token_policies": ["reader"] });
    settings.as_object_mut().unwrap().extend(role.as_object().unwrap().clone());
    world.bao.hvac("auth.approle.create_or_update_approle", settings);
    let read = |method: &str, field: &str| {
        let answer = world.bao.hvac(method, json!({ "role_name": "keyway" }));
        answer["data"][field].as_str().unwrap().to_owned()
    };
    let role_id = read("auth.approle.read_role_id", "role_id");
    let secret_id = read("auth.approle.generate_secret_id", "secret_id");
    (world, role_id, secret_id)
}

async fn resolve(world: &World, connection: &OpenConnection) {
    let resolved = world.provider.resolve(connection, "vault://secret/a", Fields::CREDENTIALS).await.unwrap();
    assert!(resolved.password.is_some());
}

/// How many tokens the server knows.
fn tokens(world: &World) -> usize {
    world.bao.hvac("auth.token.list_accessors", json!({}))["data"]["keys"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_calls_at_once_log_in_once_and_once_more_after_the_token_is_revoked() {
    let (world, role_id, secret_id) = with_role(json!({ "token_ttl": "1h" })).await;
    let (connection, _) = world.connect(&[("role_id", &role_id), ("secret_id", &secret_id)]);
    let mut known = tokens(&world);
    for round in ["cold", "revoked"] {
        let burst: Vec<_> = (0..50)
            .map(|_| {
                let (provider, connection) = (world.provider.clone(), connection.clone());
                tokio::spawn(async move { provider.resolve(&connection, "vault://secret/a", Fields::ALL).await })
            })
            .collect();
        for call in burst {
            call.await.unwrap().unwrap();
        }
        assert_eq!(tokens(&world), known + 1, "{round}");
        for accessor in world.bao.hvac("auth.token.list_accessors", json!({}))["data"]["keys"].as_array().unwrap() {
            let found = world.bao.hvac("auth.token.lookup_accessor", json!({ "accessor": accessor }));
            if found["data"]["path"] == "auth/approle/login" {
                world.bao.hvac("auth.token.revoke_accessor", json!({ "accessor": accessor }));
            }
        }
        known = tokens(&world);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_can_be_renewed_is_renewed_and_the_secret_id_used_once() {
    let (world, role_id, secret_id) = with_role(json!({ "token_ttl": "15s", "secret_id_num_uses": 1 })).await;
    let (connection, _) = world.connect(&[("role_id", &role_id), ("secret_id", &secret_id)]);
    for _ in 0..5 {
        resolve(&world, &connection).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    resolve(&world, &connection).await;
    // Without the session only a login would help, and the secret id is used up.
    connection.clear_session();
    let error = provider_error(world.provider.verify(&connection).await);
    assert_eq!(error.code, ErrorCode::Unauthenticated, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jwt_logs_in() {
    let (world, role_id, secret_id) = with_role(json!({})).await;
    // The server is the identity provider of itself. The token of a login with an AppRole is that
    // of an entity, which may ask for a JWT.
    world.bao.put("identity/oidc/key/keyway", json!({ "allowed_client_ids": ["*"] }));
    world.bao.put("identity/oidc/role/keyway", json!({ "key": "keyway" }));
    let client_id = world.bao.hvac("read", json!({ "path": "identity/oidc/role/keyway" }));
    let client_id = client_id["data"]["client_id"].as_str().unwrap();
    world.bao.hvac(
        "sys.create_or_update_policy",
        json!({
            "name": "reader",
            "policy": format!("{READ}\npath \"identity/oidc/token/keyway\" {{ capabilities = [\"read\"] }}"),
        }),
    );
    let login = world.bao.hvac("auth.approle.login", json!({ "role_id": role_id, "secret_id": secret_id }));
    let read = json!({
        "method": "read", "token": login["auth"]["client_token"], "kwargs": { "path": "identity/oidc/token/keyway" },
    });
    let jwt = world.bao.send(&read).unwrap()["data"]["token"].as_str().unwrap().to_owned();
    world.bao.hvac("sys.enable_auth_method", json!({ "method_type": "jwt", "path": "corp/jwt" }));
    let keys = format!("{}/v1/identity/oidc/.well-known/keys", world.bao.url);
    world.bao.put("auth/corp/jwt/config", json!({ "jwks_url": keys, "default_role": "keyway" }));
    world.bao.put(
        "auth/corp/jwt/role/keyway",
        json!({
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": [client_id], "token_policies": ["reader"],
        }),
    );
    for role in [None, Some("keyway")] {
        let mut settings = vec![("jwt", jwt.as_str()), ("jwt_mount", "corp/jwt")];
        settings.extend(role.map(|role| ("jwt_role", role)));
        let (connection, _) = world.connect(&settings);
        world.provider.verify(&connection).await.unwrap();
        resolve(&world, &connection).await;
    }
    let broken = jwt.replace('.', ".e");
    let (connection, _) = world.connect(&[("jwt", &broken), ("jwt_mount", "corp/jwt")]);
    let error = provider_error(world.provider.verify(&connection).await);
    assert_eq!(error.code, ErrorCode::Unauthenticated, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_periodic_token_outlives_its_period_because_the_host_is_asked_to_renew_it() {
    let world = World::start().await;
    world.bao.put("secret/data/a", json!({ "data": { "password": "x" } }));
    let token = world.bao.token_for("reader", READ, json!({ "period": "12s" }));
    let (connection, store) = world.connect(&[("token", &token)]);
    world.provider.verify(&connection).await.unwrap();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for _ in 0..3 {
        let refresh_by = store.take().unwrap().refresh_by.expect("the token ends, so it must be renewed");
        assert!((now()..now() + 12).contains(&refresh_by), "{refresh_by} {}", now());
        tokio::time::sleep(Duration::from_secs(refresh_by.saturating_sub(now()))).await;
        world.provider.refresh(&connection).await.unwrap();
    }
    resolve(&world, &connection).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_a_setting() {
    let world = World::start().await;
    world.bao.put("sys/namespaces/team", json!({}));
    let inside = |method: &str, kwargs: Value| {
        world.bao.send(&json!({ "method": method, "namespace": "team", "kwargs": kwargs })).unwrap()
    };
    inside("sys.enable_secrets_engine", json!({ "backend_type": "kv", "path": "kv", "options": { "version": "2" } }));
    inside("write_data", json!({ "path": "kv/data/a", "data": { "data": { "password": "x" } } }));
    let token = world.bao.token.as_str();
    let (connection, _) = world.connect(&[("token", token), ("namespace", "team")]);
    assert!(world.provider.resolve(&connection, "vault://kv/a", Fields::ALL).await.unwrap().password.is_some());
    let (connection, _) = world.connect(&[("token", token), ("namespace", "nobody")]);
    let error = provider_error(world.provider.verify(&connection).await);
    assert!(error.message.contains("namespace"), "{error:?}");
}
