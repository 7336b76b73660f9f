//! Compares the API's document with the running server, using schemathesis: some two thousand
//! requests that follow or violate it.

use std::process::Stdio;

use keyway::keys::ClientKey;
use serde_json::{Value, json};

use crate::http::send;
use crate::metrics::Samples;
use crate::python;
use crate::world::{DOMAIN, World};

/// Routes that no generated request can succeed on: a made-up token is not accepted by 1Password,
/// and its values have no leases.
const NEVER_GRANTED: [(&str, &str); 3] =
    [("POST", "/secret-providers"), ("POST", "/vault/leases/renew"), ("POST", "/vault/leases/revoke")];

/// Begins to rotate the password of an entry with its own credentials, and returns the rotation's
/// id.
fn begin_rotation(world: &World, key: &str, user: &str) -> String {
    let post = |path: &str, body: Value| {
        let (status, answer) = send(&world.url, "POST", path, key, &body.to_string());
        assert_eq!(status, 201, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let encryption_key = ClientKey::from_hex(&world.encryption_key.as_str().into()).unwrap();
    let password = encryption_key.encrypt(&"the old one".into()).unwrap();
    post("/vault", json!({"permissioned_user_id": user, "domain": DOMAIN, "password": password}));
    let rotation = post("/vault/rotations", json!({"permissioned_user_id": user, "domain": DOMAIN}));
    rotation["id"].as_str().unwrap().to_owned()
}

#[test]
fn the_server_does_what_its_document_says_and_nothing_else() {
    let world = World::start();
    let key = world.keyway(&["key", "create", "all", "--scopes", "api,admin,resolve,rotate"]);
    let key = key["api_key"].as_str().unwrap();
    let entry = json!({
        "permissioned_user_id": "user", "domain": DOMAIN, "secret_provider_id": world.connection, "secret_ref": world.item().reference,
    });
    assert_eq!(send(&world.url, "POST", "/vault", key, &entry.to_string()).0, 201);

    let token = world.emulator.token("automation").unwrap();
    let settings = json!({"token": token.expose()});
    let spare = json!({"name": "Spare", "provider_type": "1password", "settings": settings});
    let (status, spare) = send(&world.url, "POST", "/secret-providers", key, &spare.to_string());
    assert_eq!(status, 201, "{spare}");
    let spare: Value = serde_json::from_str(&spare).unwrap();

    let rotations = ["open", "committed", "abandoned"].map(|user| begin_rotation(&world, key, user));
    let [open, committed, abandoned] = &rotations;
    assert_eq!(send(&world.url, "POST", &format!("/vault/rotations/{committed}/commit"), key, "").0, 200);
    let document: Value = serde_json::from_str(&send(&world.url, "GET", "/openapi.json", "", "").1).unwrap();
    let operations: Vec<(String, &String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(route, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), route))
        })
        .collect();
    // How often each operation succeeded: then its answers are checked against the document, and
    // not only its refusals.
    let granted = || {
        let metrics = Samples::read(&send(&world.operators, "GET", "/metrics", "", "").1);
        let of = |(method, route): &(String, &String)| {
            let count = |status: &str| {
                let labels = json!({"method": method, "route": route, "status": status});
                metrics.sum("keyway_http_request_duration_seconds_count", labels)
            };
            count("200") + count("201") + count("204")
        };
        operations.iter().map(of).collect::<Vec<_>>()
    };
    let granted_before = granted();

    // It writes notes to its working folder.
    let notes = tempfile::tempdir().unwrap();
    let config = python::folder().join("schemathesis.toml");
    let output = python::program("schemathesis")
        .current_dir(notes.path())
        .arg("--config-file")
        .arg(config)
        .args(["run", &format!("{}/openapi.json", world.url)])
        .args(["--header", &format!("cc-key: {key}"), "--generation-database", "none"])
        .env("KEYWAY_CONNECTION", &world.connection)
        .env("KEYWAY_SPARE_CONNECTION", spare["id"].as_str().unwrap())
        .env("KEYWAY_USER", "user")
        .env("KEYWAY_OWN_USER", "open")
        .env("KEYWAY_DOMAIN", DOMAIN)
        .env("KEYWAY_ROTATION_OPEN", open)
        .env("KEYWAY_ROTATION_COMMITTED", committed)
        .env("KEYWAY_ROTATION_ABANDONED", abandoned)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let tested = |line: &str| line.trim().strip_prefix("Tested: ").and_then(|number| number.parse::<usize>().ok());
    // All but the operation that returned the document, which it omits.
    assert_eq!(said.lines().find_map(tested), Some(operations.len() - 1), "{said}");
    assert!(!said.contains("Unresolvable references"), "{said}");
    for ((before, now), (method, route)) in granted_before.iter().zip(granted()).zip(&operations) {
        if !NEVER_GRANTED.contains(&(method.as_str(), route.as_str())) {
            assert!(now > *before, "no {method} {route} was granted");
        }
    }
    // The server is still there, with its entry and its connection.
    assert_eq!(send(&world.url, "GET", "/readyz", "", "").0, 200);
    let resolve = json!({"permissioned_user_id": "user", "domain": DOMAIN});
    assert_eq!(send(&world.url, "POST", "/vault/resolve", key, &resolve.to_string()).0, 200);
}
