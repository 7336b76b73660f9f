//! A client generated from the API's document, used by a type-checked program: the document is
//! enough to bind, resolve, rotate and distinguish errors.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::http::send;
use crate::python;
use crate::world::World;

fn succeeded(what: &str, output: &Output) {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{what}:\n{}\n{}", said(&output.stdout), said(&output.stderr));
}

fn generate(document: &str, folder: &Path) {
    let file = folder.join("openapi.json");
    fs::write(&file, document).unwrap();
    let mut generator = python::program("openapi-python-client");
    // Its formatter is in the same folder.
    let path = python::folder().join(".venv/bin");
    let generate =
        generator.current_dir(folder).env("PATH", path).args(["generate", "--meta", "none", "--path"]).arg(file);
    succeeded("openapi-python-client", &generate.args(["--output-path", "keyway_client"]).output().unwrap());
    fs::copy(python::folder().join("generated_client.py"), folder.join("generated_client.py")).unwrap();
}

#[test]
fn a_generated_client_binds_resolves_rotates_and_tells_every_error_code_apart_with_types() {
    let world = World::start();
    let folder = tempfile::tempdir().unwrap();
    generate(&send(&world.url, "GET", "/openapi.json", "", "").1, folder.path());

    let mut check = python::program("mypy");
    check.current_dir(folder.path()).args([
        "--strict",
        "--follow-imports",
        "silent",
        "--cache-dir",
        "mypy-cache",
        "generated_client.py",
    ]);
    succeeded("mypy", &check.output().unwrap());

    let key = |name: &str, scopes: &str| {
        let key = world.keyway(&["key", "create", name, "--scopes", scopes]);
        key["api_key"].as_str().unwrap().to_owned()
    };
    let item = world.item();
    let mut program = python::program("python");
    program
        .current_dir(folder.path())
        .arg("generated_client.py")
        .env("KEYWAY_URL", &world.url)
        .env("KEYWAY_CONNECTION", &world.connection)
        .env("KEYWAY_ITEM", &item.title)
        .env("KEYWAY_KEY", key("all", "api,admin,resolve,rotate"))
        .env("KEYWAY_NARROW_KEY", key("narrow", "api"));
    let output = program.output().unwrap();
    succeeded("generated_client.py", &output);
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["user name"], *item.username.as_ref().unwrap());
    assert_eq!(seen["password"], *item.password.as_ref().unwrap());
    assert_eq!(seen["state"], "done");
    assert!(seen["new password"].is_string() && seen["new password"] == seen["rotated password"], "and not in a log");
    assert_eq!(seen["entries"], 1);
    let caller = |code: &str| json!([code, "caller"]);
    let because = |code: &str, reason: &str| json!([code, "caller", reason]);
    assert_eq!(
        seen["errors"],
        json!({
            "rotation open": because("CONFLICT", "ROTATION_OPEN"),
            "no key": caller("UNAUTHENTICATED"),
            "no scope": caller("FORBIDDEN"),
            "no entry": because("NOT_FOUND", "NO_SUCH_ENTRY"),
            "no name": caller("VALIDATION_FAILED"),
            "twice": because("CONFLICT", "ENTRY_EXISTS"),
            "in the clear": caller("NOT_ENCRYPTED"),
            "wrong token": because("VALIDATION_FAILED", "SETTINGS_REFUSED"),
            "unknown type": ["PROVIDER_NOT_INSTALLED", "operator"],
        })
    );
}
