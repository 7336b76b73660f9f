//! The logs of all tests of this program, at the most verbose useful level, contain no secret.

use std::io::{self, Write};
use std::sync::{Mutex, Once};

use keyway::{BrokerError, ResolveRequest};
use secrecy::ExposeSecret;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::support::{FIXTURE_TOKEN, World, fixture, text};

static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

#[derive(Clone, Copy)]
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// Starts capturing the log.
pub(crate) fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The compiler's own log would be megabytes, and contains no secret.
        let filter =
            "debug,keyway=trace,keyway_runtime=trace,hyper=trace,cranelift_codegen=off,wasmtime=info,regalloc2=off";
        let filter: Targets = filter.parse().unwrap();
        let lines = tracing_subscriber::fmt::layer().with_writer(Log).with_ansi(false);
        tracing_subscriber::registry().with(lines).with(filter).init();
    });
}

/// The log so far.
pub(crate) fn logged() -> String {
    String::from_utf8_lossy(&LOGGED.lock().unwrap()).into_owned()
}

#[tokio::test]
async fn no_secret_is_logged_by_what_works_or_by_what_fails() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Northwind Supplier Portal").await;
    let resolved = world.resolve(&entry).await;
    world.resolve(&entry).await;
    world.broker.authenticate(&world.api_key).await.unwrap();
    world.broker.connections().list_items(&world.access, connection.id).await.unwrap();
    let token = world.token("automation");
    world.emulator.revoke_token("automation", 401).unwrap();
    world.broker.connections().create(&world.access, world.new_connection("automation")).await.unwrap_err();
    // A provider that prints its token and repeats it in its errors.
    let (_, _, refused) = fixture("secret-in-error").await;
    let error = refused.unwrap_err();
    assert!(matches!(error, BrokerError::NotVerified { .. }));
    assert!(!error.to_string().contains(FIXTURE_TOKEN) && !format!("{error:?}").contains(FIXTURE_TOKEN), "{error:?}");
    let error =
        world.broker.resolve(&world.access, ResolveRequest::new(keyway::EntryId::from(uuid::Uuid::nil()))).await;
    assert!(error.is_err());

    let logged = logged();
    assert!(logged.contains(&connection.id.to_string()), "what is not secret is logged");
    let secrets = [
        ("token", token.as_str()),
        ("part of the token", &token[100..140]),
        ("fixture's token", FIXTURE_TOKEN),
        ("API key", world.api_key.expose_secret()),
        ("encryption key", world.encryption_key.expose_secret()),
        ("user name", text(resolved.username.as_ref()).unwrap()),
        ("password", text(resolved.password.as_ref()).unwrap()),
    ];
    for (name, secret) in secrets {
        let line = logged.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the {name} was logged");
    }
}
