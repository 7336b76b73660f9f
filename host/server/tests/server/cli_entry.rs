//! `keyway entry`: the whole life of an entry on the command line, and what the command does not
//! print.

use serde_json::{Value, json};

use crate::support::{Folder, assert_without};

const ECHO: &[&str] = &["fixtures/echo"];
const SECRETS: &[&str] = &["hunter2-hunter2", "GEZDGNBVGY3TQOJQ", "cookie-4711", "user:word@proxy.example"];
const PAIR: [&str; 4] = ["--user", "acme-prod", "--domain", "https://acme.com"];

fn file(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn entry<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    ["entry", command, "--json"].into_iter().chain(PAIR).chain(more.iter().copied()).collect()
}

#[test]
fn an_entry_lives_its_whole_life_on_the_command_line() {
    let folder = Folder::connected(ECHO);
    let (user_name, secret) = (file(&folder, "user", "alice\n"), file(&folder, "secret", "GEZDGNBVGY3TQOJQ"));
    let cookies = format!("cookies={}", file(&folder, "cookies", r#"[{"value": "cookie-4711"}]"#));
    let proxy = format!("proxy_value={}", file(&folder, "proxy", "http://user:word@proxy.example:8080"));
    let create = entry(
        "create",
        &[
            "--user-name-file",
            &user_name,
            "--password-file",
            "-",
            "--tfa-secret-file",
            &secret,
            "--tfa-method",
            "AUTHENTICATOR",
            "--set",
            "persist_cookies=true",
            "--set",
            "user_agent=Mozilla/5.0",
            "--set",
            "proxy_setting=custom",
            "--set-file",
            &proxy,
            "--set-file",
            &cookies,
        ],
    );
    let created = folder.run_with(&create, "hunter2-hunter2\n").ok();
    assert_without(&created.all(), SECRETS);
    let row = created.json();
    assert_eq!(row["hidden"], json!(["user_name", "password", "tfa_secret", "cookies", "proxy_value"]));
    assert_eq!((&row["password"], &row["cookies"]), (&Value::Null, &Value::Null));
    assert_eq!((&row["persist_cookies"], &row["user_agent"]), (&true.into(), &"Mozilla/5.0".into()));

    let id = row["id"].as_str().unwrap();
    let resolved = folder.run(&["resolve", id, "--json", "--reveal"]).ok().json();
    assert_eq!(
        (&resolved["username"]["value"], &resolved["password"]["value"]),
        (&"alice".into(), &"hunter2-hunter2".into())
    );
    let code = folder.run(&entry("code", &[])).ok().json();
    assert_eq!((code["type"].as_str(), code["code"].as_str().unwrap().len()), (Some("authenticator"), 6));

    let shown = folder.run(&["entry", "get", id]).ok();
    assert!(shown.stdout.contains("its own (user_name, password, tfa_secret)"), "{shown:#?}");
    assert_without(&shown.all(), SECRETS);
    let revealed = folder.run(&["entry", "get", id, "--reveal", "--json"]).ok().json();
    assert_eq!(revealed["cookies"], json!([{"value": "cookie-4711"}]));

    let updated =
        folder.run(&entry("update", &["--alias", "Main", "--clear", "cookies", "--set", "persist_local_storage=true"]));
    let updated = updated.ok().json();
    assert_eq!((&updated["user_alias"], &updated["persist_local_storage"]), (&"Main".into(), &true.into()));
    assert_eq!(updated["hidden"], json!(["user_name", "password", "tfa_secret", "proxy_value"]));

    // The setting has been custom since the entry was created, so this is encrypted, too.
    folder.run(&entry("update", &["--set-file", &proxy])).ok();

    // As much as over HTTP, and no more.
    let cookies = |size: usize| file(&folder, "cookies", &format!(r#"[{{"value": "{}"}}]"#, "x".repeat(size)));
    let large = format!("cookies={}", cookies(2_000_000));
    folder.run(&entry("update", &["--set-file", &large])).ok();
    cookies(3_000_000);
    let refused = folder.run(&entry("update", &["--set-file", &large])).failed(4);
    assert!(refused.stderr.contains("at most 2 MiB in total"), "{refused:#?}");
    folder.run(&entry("update", &["--clear", "cookies"])).ok();

    let bound = folder.run(&entry("update", &["--bind", "echo://item/one", "--cache-ttl", "1h"])).ok().json();
    assert_eq!((&bound["secret_ref"], &bound["hidden"]), (&"echo://item/one".into(), &json!(["proxy_value"])));
    assert_eq!((&bound["secret_cache_ttl_seconds"], &bound["tfa_method"]), (&3_600.into(), &Value::Null));
    let unbound = folder.run_with(&entry("update", &["--unbind", "--password-file", "-"]), "hunter2-hunter2").ok();
    assert_eq!(unbound.json()["hidden"], json!(["password", "proxy_value"]));

    assert_eq!(folder.run(&entry("delete", &[])).ok().json(), json!({"deleted": true}));
    folder.run(&entry("delete", &[])).failed(3);
    assert_eq!(folder.run(&["entry", "list", "--json"]).ok().json(), json!([]));
}

#[test]
fn what_is_wrong_is_said_before_anything_is_stored() {
    let folder = Folder::connected(ECHO);
    folder.bind("acme-prod", "echo://item/one");
    let cases: [(&[&str], i32, &str); 9] = [
        (&["--password-file", "-"], 4, "provider-backed vault entries cannot include --password-file"),
        (&["--tfa-method", "AUTHENTICATOR"], 4, "AUTHENTICATOR is not available"),
        (&["--passkey", "true"], 4, "passkey, but not both"),
        (&["--set", "cookies=[]"], 2, "--set-file cookies=FILE"),
        (&["--set", "max_concurrency=none"], 4, "a positive integer"),
        (&["--set", "nonsense=1"], 4, "`nonsense`"),
        (&["--clear", "nonsense"], 2, "`nonsense`"),
        (&["--new-domain", "acme.com"], 4, "domain must be a URL"),
        (&["--user-name-file", "-", "--password-file", "-"], 2, "only one value"),
    ];
    for (more, code, words) in cases {
        let ran = folder.run_with(&entry("update", more), "hunter2-hunter2").failed(code);
        assert!(ran.stderr.contains(words), "{words}: {ran:#?}");
        assert_without(&ran.all(), SECRETS);
    }
    folder.run(&["entry", "get"]).failed(2);
    folder.run(&["entry", "code", "25290e80-bbd5-41b3-861e-dea30cc26e27"]).failed(3);
    folder.run(&["entry", "create", "--user", "b", "--domain", "https://acme.com", "--tfa-method", "SMS"]).ok();
    let ran = folder.run(&["entry", "code", "--user", "b", "--domain", "https://acme.com"]).failed(4);
    assert!(ran.stderr.contains("--tfa-method SMS"), "{ran:#?}");
}
