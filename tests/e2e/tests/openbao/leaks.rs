//! No secret is in a message or a log, whatever the level.

use std::io::Write;
use std::sync::{Arc, Mutex};

use keyway_runtime::Fields;
use keyway_runtime::contract::{Changes, Selection};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::server::World;

/// Everything logged during the test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_secret_is_in_a_message_or_a_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let (secrets, messages) = tracing::subscriber::with_default(subscriber, || {
        let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        reactor.block_on(async {
            let world = World::start().await;
            let seed = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
            // Six digits occur by chance in the times of a log.
            let otp = format!("otpauth://totp/x?secret={seed}&digits=8");
            let secret = json!({
                "username": "canary-user", "password": "canary-password", "otp": otp, "key": "canary-further",
            });
            world.bao.put("secret/data/a", json!({ "data": secret }));
            let token = world.bao.token_for("reader", r#"path "secret/data/a" { capabilities = ["read"] }"#, json!({}));
            let (connection, _) = world.connect(&[("token", &token)]);
            let selection = Selection::from(Fields::ALL).further(vec!["key".to_owned()]);
            let mut messages = Vec::new();
            let resolved = world.provider.resolve(&connection, "vault://secret/a", selection).await.unwrap();
            let code = resolved.one_time_code.as_ref().unwrap().as_ref().unwrap().code.expose_secret().to_owned();
            messages.push(format!("{resolved:?} {connection:?}"));
            messages.push(format!("{:?}", world.provider.list_fields(&connection, "vault://secret/a").await));
            messages.push(format!("{:?}", world.provider.verify(&connection).await));
            let changes = Changes::default().password("canary-new");
            messages.push(format!("{:?}", world.provider.write(&connection, "vault://secret/a", changes, None).await));
            world.bao.hvac("auth.token.revoke", json!({ "token": token }));
            messages.push(format!("{:?}", world.provider.verify(&connection).await));
            let wrong = [("role_id", "canary-role-id"), ("secret_id", "canary-secret-id")];
            messages.push(format!("{:?}", world.provider.verify(&world.connect(&wrong).0).await));
            let secrets = ["canary-user", "canary-password", "canary-further", "canary-new", "canary-secret-id", seed];
            let mut secrets = secrets.map(str::to_owned).to_vec();
            secrets.extend([code, token]);
            (secrets, messages)
        })
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.len() > 1_000, "the log is not just empty: {log}");
    for text in messages.iter().chain([&log]) {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret}: {text}");
        }
    }
}
