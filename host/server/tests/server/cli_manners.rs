//! What the command line refuses in place of guessing, and what it says about what it did.

use std::net::TcpListener;

use crate::support::{ECHO_TOKEN, Folder, Ran, assert_without};

const ECHO: &[&str] = &["fixtures/echo"];
const PAIR: [&str; 4] = ["--user", "acme-prod", "--domain", "https://acme.com"];

fn with<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [command, more].concat()
}

#[test]
fn an_entry_without_any_content_is_refused() {
    let folder = Folder::with(ECHO);
    folder.run(&["workspace", "create", "Acme"]).ok();
    let create = with(&["entry", "create"], &PAIR);
    let refused = folder.run(&create).failed(2);
    assert!(refused.stderr.contains("would be empty") && refused.stderr.contains("--password-file"), "{refused:#?}");
    folder.run(&with(&create, &["--alias", "Main"])).failed(2);
    assert_eq!(folder.run(&["entry", "list", "--json"]).ok().json(), serde_json::json!([]));
    // An entry may consist of attributes.
    folder.run(&with(&create, &["--set", "persist_cookies=true"])).ok();
}

#[test]
fn an_update_that_changes_nothing_is_refused() {
    let folder = Folder::connected(ECHO);
    folder.bind("acme-prod", "echo://item/one");
    let refused = folder.run(&with(&["entry", "update"], &PAIR)).failed(2);
    assert!(refused.stderr.contains("there is nothing to change"), "{refused:#?}");
    folder.run(&with(&["entry", "update", "--alias", "Main"], &PAIR)).ok();
}

#[test]
fn a_second_connection_of_one_name_is_refused() {
    let folder = Folder::connected(ECHO);
    let connect = ["connect", "echo", "--token-file", "-", "--name", "Echo"];
    let refused = folder.run_with(&connect, ECHO_TOKEN).failed(4);
    assert!(refused.stderr.contains("`Echo` already exists") && refused.stderr.contains("--name"), "{refused:#?}");
    folder.run_with(&["connect", "echo", "--token-file", "-", "--name", "Other"], ECHO_TOKEN).ok();
    folder.run(&["connection", "update", "-c", "Other", "--name", "Echo"]).failed(4);
    folder.run(&["connection", "update", "-c", "Echo", "--name", "Echo"]).ok();
    // In another workspace it is free.
    folder.run(&["workspace", "create", "Second"]).ok();
    folder.run_with(&with(&connect, &["--workspace", "Second"]), ECHO_TOKEN).ok();
}

#[test]
fn a_rotation_says_where_it_wrote_the_password() {
    let folder = Folder::connected(ECHO);
    folder.bind("acme-prod", "echo://item/one");
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let begun = folder.run(&with(&["rotation", "begin", "--out", first.to_str().unwrap()], &PAIR)).ok();
    assert!(begun.stdout.contains(first.to_str().unwrap()), "{begun:#?}");
    let id = folder.run(&["rotation", "list", "--json"]).ok().json()[0]["id"].as_str().unwrap().to_owned();
    let shown = folder.run(&["rotation", "show", &id, "--out", second.to_str().unwrap(), "--json"]).ok();
    assert_eq!(shown.json()["password_file"], second.to_str().unwrap());
    let password = std::fs::read_to_string(&second).unwrap();
    assert_eq!(std::fs::read_to_string(&first).unwrap(), password);
    assert_without(&begun.all(), &[password.trim()]);
    assert_without(&shown.all(), &[password.trim()]);
}

#[test]
fn a_usage_line_is_the_commands_own_whatever_the_environment_sets() {
    let folder = Folder::connected(ECHO);
    let mut command = folder.keyway(&["key", "create"]);
    let ran = Ran::from(command.env("KEYWAY_WORKSPACE", "Acme").output().unwrap()).failed(2);
    assert!(ran.stderr.contains("Usage: keyway key create [OPTIONS] <NAME>"), "{ran:#?}");
    assert!(!ran.stderr.contains("--data-dir") && !ran.stderr.contains("--workspace"), "{ran:#?}");
}

#[test]
fn a_server_finds_faults_of_its_command_line_before_it_opens_anything() {
    // A provider folder that cannot be opened shows what came first.
    let folder = Folder::with(&[]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let faults: [(&[&str], i32, &str); 5] = [
        (&["--listen", &address], 1, "cannot listen at"),
        (&["--listen", "0.0.0.0:0"], 1, "insecure_plain_http"),
        (&["--listen", "127.0.0.1:0", "--metrics-listen", &address], 1, "cannot listen at"),
        (&["--listen", "127.0.0.1:0", "--tls-certificate", "no.pem", "--tls-key", "no.key"], 3, "no.pem"),
        (&["--listen", "127.0.0.1:0", "--tls-key", "no.key"], 2, "tls_certificate"),
    ];
    for (options, code, words) in faults {
        let ran = folder.run(&with(&["serve", "--providers", "/nonexistent"], options)).failed(code);
        assert!(ran.stderr.contains(words) && !ran.stderr.contains("/nonexistent"), "{ran:#?}");
    }
}

#[test]
fn the_configuration_is_checked_for_rate_limit_tiers_that_no_provider_has() {
    let folder = Folder::with(&["onepassword"]);
    let check = |tier: &str, code: i32| {
        let ran = folder.run(&["config", "check", "--json", "--default-rate-limit-tier", tier]);
        assert_eq!(ran.code, code, "{ran:#?}");
        let checks = ran.json()["checks"].as_array().unwrap().clone();
        let found = checks.into_iter().find(|check| check["what"] == "rate-limit tiers").unwrap();
        found["finding"].as_str().unwrap().to_owned()
    };
    assert_eq!(check("1password=golden", 1), "wrong");
    assert_eq!(check("1password=teams", 0), "good");
    assert_eq!(check("vault=teams", 0), "note");
}

#[test]
fn a_missing_file_is_exit_code_3_wherever_it_is_named() {
    let folder = Folder::connected(ECHO);
    let missing = "/nonexistent/file";
    let commands: [&[&str]; 9] = [
        &["workspace", "list", "--config", missing],
        &["workspace", "list", "--old-master-key-file", missing],
        &["workspace", "list", "--master-key-file", missing],
        &["items", "--providers", missing],
        &["connect", "echo", "--name", "New", "--token-file", missing],
        &["audit", "verify", "--root", missing],
        &["provider", "inspect", missing],
        &["demo", "--emulator-info", missing],
        &["serve", "--listen", "127.0.0.1:0", "--tls-certificate", missing, "--tls-key", missing],
    ];
    for command in commands {
        let ran = folder.run(command).failed(3);
        assert!(ran.stderr.contains(missing), "{command:?}: {ran:#?}");
    }
}

#[test]
fn messages_are_in_words_of_the_product() {
    let folder = Folder::with(&[]);
    let file = folder.path().join("keyway.toml");
    for (text, words) in [
        ("listn = \"127.0.0.1:1\"", "there is no setting `listn`"),
        ("listen = 8600", "`listen` must be a text in quotation marks"),
        ("connect_to = \"a=http://b\"", "`connect_to` must be a list"),
        ("audit_segment_mib = \"64\"", "`audit_segment_mib` must be a whole number"),
        ("insecure_plain_http = \"true\"", "`insecure_plain_http` must be true or false"),
    ] {
        std::fs::write(&file, text).unwrap();
        let ran = folder.run(&["workspace", "list", "--config", file.to_str().unwrap()]).failed(2);
        assert!(ran.stderr.contains(words) && ran.stderr.contains("line 1"), "{ran:#?}");
        for jargon in ["invalid type", "expected", "sequence", "field", "u32"] {
            assert!(!ran.stderr.contains(jargon), "{jargon}: {ran:#?}");
        }
    }
}
