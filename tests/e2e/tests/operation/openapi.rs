//! The document of the API, held against the running server by schemathesis: some two thousand requests that follow it or break it.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::http::send;
use crate::python;
use crate::world::{DOMAIN, World};

#[test]
fn the_server_does_what_its_document_says_and_nothing_else() {
    let world = World::start();
    let key = world.keyway(&["key", "create", "all", "--scopes", "api,admin,resolve"]);
    let key = key["api_key"].as_str().unwrap();
    let entry = json!({
        "permissioned_user_id": "user", "domain": DOMAIN, "secret_provider_id": world.connection, "secret_ref": world.item().reference,
    });
    assert_eq!(send(&world.url, "POST", "/vault", key, &entry.to_string()).0, 201);

    // It leaves notes where it runs.
    let notes = tempfile::tempdir().unwrap();
    let config = python::folder().join("schemathesis.toml");
    let output = python::program("schemathesis")
        .current_dir(notes.path())
        .arg("--config-file")
        .arg(config)
        .args(["run", &format!("{}/openapi.json", world.url)])
        .args(["--header", &format!("cc-key: {key}"), "--generation-database", "none"])
        .env("KEYWAY_CONNECTION", &world.connection)
        .env("KEYWAY_USER", "user")
        .env("KEYWAY_DOMAIN", DOMAIN)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let tested = |line: &str| line.trim().strip_prefix("Tested: ").and_then(|number| number.parse::<usize>().ok());
    let document: Value = serde_json::from_str(&send(&world.url, "GET", "/openapi.json", "", "").1).unwrap();
    let operations: usize =
        document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
    // All but the one that the document was fetched from, which it leaves out by itself.
    assert_eq!(said.lines().find_map(tested), Some(operations - 1), "{said}");
    assert!(!said.contains("Unresolvable references"), "{said}");
    // It is still there, with its entry and its connection.
    assert_eq!(send(&world.url, "GET", "/readyz", "", "").0, 200);
    let resolve = json!({"permissioned_user_id": "user", "domain": DOMAIN});
    assert_eq!(send(&world.url, "POST", "/vault/resolve", key, &resolve.to_string()).0, 200);
}
