//! What the command line refuses in place of guessing, and what it says about what it did.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::cli_database::change;
use crate::serve::Process;
use crate::support::{ECHO_TOKEN, Folder, MASTER_KEY, Ran, assert_without};

const ECHO: &[&str] = &["fixtures/echo"];
const PAIR: [&str; 4] = ["--user", "acme-prod", "--domain", "https://acme.com"];

fn with<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [command, more].concat()
}

#[test]
fn a_key_that_nobody_reads_is_told_to_be_lost_and_other_results_are_not_missed() {
    let folder = Folder::connected(ECHO);
    let unread = |arguments: &[&str]| {
        let mut child = folder.keyway(arguments).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    assert_eq!(unread(&["key", "list"]), (Some(0), String::new()));
    for arguments in [&["key", "create", "agent"][..], &["workspace", "create", "Other", "--json"]] {
        let (code, told) = unread(arguments);
        assert!(code == Some(1) && told.contains("the API key is lost") && told.contains("key revoke"), "{told}");
    }
}

#[test]
fn what_is_missing_is_named_in_data_too() {
    let folder = Folder::with(ECHO);
    let told = folder.run(&["resolve", "--user", "acme-prod", "--json"]).failed(2).json();
    assert!(told["error"]["message"].as_str().unwrap().contains("--domain"), "{told}");
    let told = folder.run(&["connect", "--set-file", "token"]).failed(2);
    assert!(told.stderr.contains("NAME=FILE"), "{told:#?}");
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
        (&["--listen", "0.0.0.0:0"], 1, "--insecure-plain-http"),
        (&["--listen", "127.0.0.1:0", "--metrics-listen", &address], 1, "cannot listen at"),
        (&["--listen", "127.0.0.1:0", "--tls-certificate", "no.pem", "--tls-key", "no.key"], 3, "no.pem"),
        (&["--listen", "127.0.0.1:0", "--tls-key", "no.key"], 2, "--tls-certificate"),
    ];
    for (options, code, words) in faults {
        let ran = folder.run(&with(&["serve", "--providers", "/nonexistent"], options)).failed(code);
        assert!(ran.stderr.contains(words) && !ran.stderr.contains("/nonexistent"), "{ran:#?}");
    }
}

#[test]
fn a_number_is_told_how_to_be_written() {
    let folder = Folder::with(&[]);
    for (arguments, told) in [
        (&["audit", "list", "--limit", "ten"][..], "write a number from 1 to 1000"),
        (&["audit", "list", "--limit", "0"], "write a number from 1 to 1000"),
        (&["workspace", "list", "--audit-segment-mib", "5000"], "write a number from 1 to 4096"),
        (&["serve", "--head-timeout-seconds", "1.5"], "write a number from 1 to 3600"),
        (&["rotation", "begin", "--length", "-"], "write a number from 12 to 128"),
        (&["resolve", "--min-seconds-left", "soon"], "write a number from 0 to 86400"),
    ] {
        let ran = folder.run(arguments).failed(2);
        assert!(ran.stderr.contains(told) && !ran.stderr.contains("invalid digit"), "{ran:#?}");
    }
}

#[test]
fn a_server_warns_of_a_rate_limit_tier_for_a_provider_that_is_not_installed() {
    let folder = Folder::with(&["fixtures/echo"]);
    let server = Process::start(&folder, &["--default-rate-limit-tier", "lastpass=free"]);
    let (_, said) = server.end(Signal::TERM);
    assert!(said.contains("default rate-limit tier") && said.contains("lastpass"), "{said}");
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
    let (missing, token) = ("/nonexistent/file", folder.key_file());
    let token = token.to_str().unwrap();
    let commands: [&[&str]; 12] = [
        &["workspace", "list", "--config", missing],
        &["workspace", "list", "--old-master-key-file", missing],
        &["workspace", "list", "--master-key-file", missing],
        &["items", "--providers", missing],
        &["connect", "echo", "--name", "New", "--token-file", missing],
        &["audit", "verify", "--root", missing],
        &["provider", "inspect", missing],
        &["items", "--ca-file", missing],
        &["connect", "echo", "--name", "New", "--token-file", token, "--authorities", missing],
        &["rotation", "show", "25290e80-bbd5-41b3-861e-dea30cc26e27", "--out", missing],
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

#[test]
fn messages_name_flags_and_not_the_fields_of_the_http_api() {
    let folder = Folder::connected(ECHO);
    let id = folder.bind("acme-prod", "echo://item/one");
    let file = folder.path().join("name");
    std::fs::write(&file, "ann").unwrap();
    let file = file.to_str().unwrap();
    let own = with(&["entry", "create", "--user", "own", "--domain", "https://acme.com", "--user-name-file"], &[file]);
    folder.run(&own).ok();
    let commands: [(&[&str], &str); 7] = [
        (&with(&["bind", "echo://item/two"], &PAIR), "user and domain"),
        (&["entry", "update", &id, "--user-name-file", file], "add --unbind"),
        (&["entry", "update", "--user", "own", "--domain", "https://acme.com", "--cache-ttl", "5m"], "--bind"),
        (&["entry", "update", &id, "--new-user", ""], "user is required"),
        (&["entry", "update", &id, "--tfa-method", "AUTHENTICATOR"], "--tfa-method AUTHENTICATOR is not available"),
        (&["entry", "update", &id, "--bind", "nonsense"], "reference"),
        (&["connection", "update", "--rate-limit-tier", "golden"], "--rate-limit-tier must be"),
    ];
    for (command, told) in commands {
        let refused = folder.run(command).failed(4).stderr;
        assert!(refused.contains(told), "{command:?}: {refused}");
        for name in ["permissioned_user_id", "secret_provider_id", "secret_ref", "tfa_method", "user_name", "_ttl_"] {
            assert!(!refused.contains(name), "{command:?}: {refused}");
        }
    }
    let unknown = folder.run(&["entry", "update", &id, "--tfa-method", "PIGEON"]).failed(2);
    assert!(!unknown.stderr.contains("tfa_method"), "{unknown:#?}");
}

#[test]
fn the_internal_command_is_named_nowhere() {
    let folder = Folder::with(&[]);
    // With variables that are set, clap lists all commands in place of the help.
    for arguments in [&[][..], &["compile"], &["compile-componen"], &["--json"]] {
        let ran = folder.run(arguments);
        assert_eq!(ran.code, 2, "{ran:#?}");
        assert!(!ran.all().contains("compile-component"), "{ran:#?}");
    }
}

#[test]
fn a_master_key_of_the_environment_is_replaced_there() {
    let folder = Folder::with(ECHO);
    let new = folder.path().join("new.key");
    let mut command = folder.keyway(&["master-key", "rotate", "--new-key-file", new.to_str().unwrap()]);
    command.env_remove("KEYWAY_MASTER_KEY_FILE").env("KEYWAY_MASTER_KEY", MASTER_KEY);
    let rotated = Ran::from(command.output().unwrap()).ok();
    assert!(rotated.stdout.contains("set KEYWAY_MASTER_KEY to the content of"), "{rotated:#?}");
    assert!(!rotated.stdout.contains("--master-key-file"), "{rotated:#?}");
}

#[tokio::test]
async fn what_is_damaged_is_not_said_to_be_missing_and_its_row_is_named() {
    let folder = Folder::connected(ECHO);
    let file = folder.path().join("name");
    std::fs::write(&file, "ann").unwrap();
    let create = ["entry", "create", "--user", "own", "--domain", "https://acme.com", "--json", "--user-name-file"];
    let own = folder.run(&with(&create, &[file.to_str().unwrap()])).ok().json()["id"].as_str().unwrap().to_owned();
    change(&folder, "UPDATE vault_entries SET sealed_credentials = zeroblob(100)").await;
    for command in ["resolve", "entry"] {
        let get = if command == "entry" { vec!["entry", "get", &own] } else { vec!["resolve", &own] };
        let damaged = folder.run(&get).failed(1);
        assert!(damaged.stderr.contains(&format!("the row {own} of the table `vault_entries`")), "{damaged:#?}");
        assert!(damaged.stderr.contains("`keyway database check`"), "{damaged:#?}");
    }
    change(&folder, "UPDATE connections SET name = 'Changed'").await;
    change(&folder, "UPDATE vault_entries SET domain = 'https://evil.example'").await;
    for list in [["connection", "list"], ["entry", "list"], ["connection", "budget"]] {
        let listed = folder.run(&list).ok().stdout;
        assert!(listed.contains("damaged") && !listed.contains("There is no"), "{listed}");
        assert!(listed.contains("`keyway database check`"), "{listed}");
    }
    let selected = folder.run(&["items"]).failed(3);
    assert!(selected.stderr.contains("its row is damaged"), "{selected:#?}");
    change(&folder, "UPDATE workspaces SET name = 'Changed'").await;
    assert!(folder.run(&["workspace", "list"]).ok().stdout.contains("its row is damaged"));
}

#[test]
fn a_secret_may_come_from_a_pipe_as_shells_make_them_of_a_command() {
    let folder = Folder::with(ECHO);
    folder.run(&["workspace", "create", "Acme"]).ok();
    let mut command = std::process::Command::new("bash");
    let connect = format!("exec \"$0\" connect echo --token-file <(echo {ECHO_TOKEN})");
    command.args(["-c", &connect, env!("CARGO_BIN_EXE_keyway")]).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("HOME", folder.path()).env("KEYWAY_DATA_DIR", folder.path());
    Ran::from(command.env("KEYWAY_MASTER_KEY_FILE", folder.key_file()).output().unwrap()).ok();
    // What has no end is read no further than a secret can be long.
    let endless = folder.run(&["connect", "echo", "--name", "Other", "--token-file", "/dev/zero"]).failed(4);
    assert!(endless.stderr.contains("64 KiB"), "{endless:#?}");
}
