//! A database that is locked by another program.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::send;
use crate::python;
use crate::world::{DOMAIN, World};

/// Holds the write lock until standard input ends.
const LOCK: &str = "
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute('BEGIN IMMEDIATE')
print('locked', flush=True)
sys.stdin.read()
";

fn lock(database: &Path) -> Child {
    let mut command = python::program("python");
    command.args(["-c", LOCK]).arg(database).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "locked\n");
    child
}

#[test]
fn while_others_write_for_too_long_changes_are_to_be_tried_again_and_reads_go_on() {
    let world = World::start();
    let key = world.keyway(&["key", "create", "all", "--scopes", "api,resolve"]);
    let key = key["api_key"].as_str().unwrap();
    let ask = |method: &str, path: &str, body: Value| send(&world.url, method, path, key, &body.to_string());
    let entry = |user: &str| {
        json!({
            "permissioned_user_id": user, "domain": DOMAIN, "secret_provider_id": world.connection, "secret_ref": world.item().reference,
        })
    };
    let resolve = || {
        ask("POST", "/vault/resolve", json!({"permissioned_user_id": "a", "domain": DOMAIN, "fields": ["password"]}))
    };
    assert_eq!(ask("POST", "/vault", entry("a")).0, 201);
    assert_eq!(resolve().0, 200);

    let mut locked = lock(&world.folder.path().join("keyway.db"));
    let started = Instant::now();
    let (status, body) = ask("POST", "/vault", entry("b"));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["code"]), (503, &json!("BUSY")), "{body}");
    assert_eq!(resolve().0, 200);
    let path = format!("/vault?permissioned_user_id=a&domain={DOMAIN}");
    assert_eq!(send(&world.url, "GET", &path, key, "").0, 200);
    assert_eq!(send(&world.operators, "GET", "/metrics", "", "").0, 200);
    assert_eq!(send(&world.operators, "GET", "/readyz", "", "").0, 503, "it cannot write");

    drop(locked.stdin.take());
    locked.wait().unwrap();
    assert_eq!(ask("POST", "/vault", entry("b")).0, 201);
}
