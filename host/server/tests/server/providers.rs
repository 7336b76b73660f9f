//! `keyway provider`: the installed providers, what a component declares, and why one is refused.

use serde_json::Value;

use crate::support::{ECHO_TOKEN, Folder, component};

#[test]
fn a_component_shows_what_it_may_do() {
    let folder = Folder::with(&["onepassword"]);
    let ran = folder.run(&["provider", "inspect", "1password"]).ok();
    for words in
        ["1Password", "op://", "resolve one-time codes", "https://*.1password.com", "token", "64 MiB of memory"]
    {
        assert!(ran.stdout.contains(words), "{words}: {ran:#?}");
    }
    let data = folder.run(&["provider", "inspect", "1password", "--json"]).ok().json();
    assert_eq!(data["description"]["provider_type"], "1password");
    assert_eq!(data["digest"].as_str().unwrap().len(), 64);
    let file = component("onepassword");
    let by_file = folder.run(&["provider", "inspect", file.to_str().unwrap(), "--json"]).ok().json();
    assert_eq!(by_file, data);
}

#[test]
fn a_component_that_is_refused_is_named_with_the_reason() {
    let folder = Folder::with(&["fixtures/echo", "fixtures/forbidden-import"]);
    std::fs::write(folder.providers().join("garbage.wasm"), "this is not a component").unwrap();
    let ran = folder.run(&["provider", "list", "--log", "off"]).ok();
    for words in ["echo.wasm", "forbidden-import.wasm", "may not use", "garbage.wasm", "not a WebAssembly component"] {
        assert!(ran.stdout.contains(words), "{words}: {ran:#?}");
    }
    let data = folder.run(&["provider", "list", "--json", "--log", "off"]).ok().json();
    assert_eq!(data.as_array().unwrap().iter().filter(|file| file["error"].is_string()).count(), 2);

    let files = [
        ("fixtures/forbidden-import", "may not use"),
        ("fixtures/no-exports", "not a secret provider"),
        ("fixtures/future-version", "this host offers"),
        ("fixtures/bad-description", "description is invalid"),
    ];
    for (name, words) in files {
        let file = component(name);
        let ran = folder.run(&["provider", "inspect", file.to_str().unwrap(), "--json"]).failed(7);
        assert!(ran.stderr.contains(words), "{ran:#?}");
        assert_eq!(ran.json()["error"]["code"], "COMPONENT_REFUSED");
    }
}

#[test]
fn of_two_files_of_one_type_the_one_that_is_not_used_is_named_with_the_reason_here_and_in_the_log() {
    let folder = Folder::with(&["fixtures/echo"]);
    std::fs::copy(component("fixtures/echo"), folder.providers().join("old-echo.wasm")).unwrap();
    let ran = folder.run(&["provider", "list"]).ok();
    let reason = "provider type `echo` is served by echo.wasm, the first by name; remove one of the two files";
    assert!(ran.stdout.contains(&format!("old-echo.wasm: {reason}")), "{ran:#?}");
    assert_eq!(ran.stderr, "", "told once");
    let logged = folder.run(&["provider", "list", "--log", "warn"]).ok().stderr;
    assert!(logged.contains("provider not in use") && logged.contains(reason), "{logged}");
    let data = folder.run(&["provider", "list", "--json", "--log", "off"]).ok().json();
    assert_eq!((&data[0]["provider_type"], &data[0]["served_by"]), (&"echo".into(), &Value::Null));
    assert_eq!((&data[1]["provider_type"], &data[1]["served_by"]), (&Value::Null, &"echo.wasm".into()));
    folder.run(&["workspace", "create", "Acme"]).ok();
    folder.run_with(&["connect", "echo", "--token-file", "-"], ECHO_TOKEN).ok();
}

#[test]
fn an_empty_provider_folder_says_what_to_do() {
    let folder = Folder::with(&[]);
    let listed = folder.run(&["provider", "list"]).failed(3).stdout;
    let place = folder.providers().display().to_string();
    assert!(listed.contains("Put a component") && listed.contains(&place), "{listed}");
    let ran = folder.run(&["provider", "list", "--providers", "/nonexistent"]).failed(3);
    assert!(ran.stderr.contains("/nonexistent"), "{ran:#?}");

    folder.run(&["workspace", "create", "Acme"]).ok();
    for connect in [&["connect"][..], &["connect", "echo"]] {
        let ran = folder.run(connect).failed(3);
        assert!(ran.stderr.contains(&place), "{ran:#?}");
    }
}
