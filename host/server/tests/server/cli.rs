//! The command line: results as text and as data, exit codes, and what errors say.

use keyway_runtime::egress::EgressPolicy;
use serde_json::Value;

use crate::support::{ECHO_TOKEN, Folder, Ran, assert_without, set_mode};

const ECHO: &[&str] = &["fixtures/echo"];

#[test]
fn a_script_sets_everything_up_from_nothing_and_resolves() {
    let folder = Folder::with(ECHO);
    let workspace = folder.run(&["workspace", "create", "Acme", "--json"]).ok().json();
    assert!(workspace["api_key"].as_str().unwrap().starts_with("sk_"));
    assert_eq!(workspace["encryption_key"].as_str().unwrap().len(), 64);
    let key = folder.run(&["workspace", "encryption-key"]).ok();
    assert_eq!(key.stdout.trim(), workspace["encryption_key"].as_str().unwrap());

    let connect = ["connect", "echo", "--token-file", "-", "--cache-ttl", "1h", "--json"];
    let connected = folder.run_with(&connect, &format!("{ECHO_TOKEN}\n")).ok();
    assert_eq!(connected.json()["config_hint"]["token_last4"], "wxyz");
    assert_eq!(connected.json()["cache_ttl_seconds"], 3_600);
    assert_eq!(connected.json()["name"], "Fixture echo");
    assert_without(&connected.all(), &[ECHO_TOKEN]);

    let items = folder.run(&["items", "--json"]).ok().json();
    assert_eq!(items.as_array().unwrap().len(), 3, "over all pages");
    let reference = items[0]["ref"].as_str().unwrap();
    let bind = ["bind", reference, "--user", "acme-prod", "--domain", "https://acme.com", "--json"];
    let entry = folder.run(&bind).ok().json();
    let id = entry["id"].as_str().unwrap();

    let resolved = folder.run(&["resolve", id, "--json", "--reveal"]).ok().json();
    assert_eq!(resolved["username"]["value"], "user-one");
    assert_eq!(resolved["password"]["value"], "password-one");
    assert_eq!(resolved["password"]["source"], "live");
    assert_eq!(resolved["one_time_code"]["code"].as_str().unwrap().len(), 6);
    assert!((0..=30).contains(&resolved["one_time_code"]["seconds_left"].as_i64().unwrap()));

    let by_pair = ["resolve", "--user", "acme-prod", "--domain", "https://acme.com"];
    let masked = folder.run(&by_pair).ok();
    assert!(masked.stdout.contains("user-one") && masked.stdout.contains("************"), "{masked:#?}");
    assert_without(&masked.all(), &["password-one", ECHO_TOKEN]);

    assert_eq!(folder.run(&["entry", "list", "--json"]).ok().json()[0], entry);
    folder.run(&["connection", "clear-cache"]).ok();
}

#[test]
fn every_command_has_a_result_for_people_too() {
    let folder = Folder::connected(ECHO);
    let id = folder.bind("acme-prod", "echo://item/one");
    let cases: [(&[&str], &[&str]); 8] = [
        (&["workspace", "list"], &["NAME", "Acme"]),
        (&["key", "list"], &["first key", "sk_", "api"]),
        (&["key", "create", "ci", "--scopes", "api,resolve"], &["Created the API key ci.", "api resolve", "only once"]),
        (&["connection", "list"], &["Echo", "...wxyz", "5 minutes", "read, write"]),
        (&["items"], &["TITLE", "Item one", "Vault", "echo://item/one"]),
        (&["entry", "list"], &["acme-prod", "https://acme.com", "echo://item/one"]),
        (&["resolve", &id], &["username", "user-one", "live", "good for", "in the provider"]),
        (&["provider", "list"], &["echo", "Fixture echo", "1.0.0", "echo.wasm"]),
    ];
    for (command, words) in cases {
        let ran = folder.run(command).ok();
        for word in words {
            assert!(ran.stdout.contains(word), "{word}: {ran:#?}");
        }
        assert!(!ran.stdout.contains('\u{1b}'), "no colours without a terminal: {ran:#?}");
        assert_eq!(ran.stderr, "", "{command:?}");
        assert_without(&ran.all(), &[ECHO_TOKEN, "password-one"]);
    }
}

#[test]
fn an_exit_code_says_what_kind_of_failure_it_was() {
    let folder = Folder::connected(&["fixtures/echo", "fixtures/traps"]);
    folder.run_with(&["connect", "traps", "--name", "Traps", "--token-file", "-"], ECHO_TOKEN).ok();
    let bind = |user: &str, reference: &str| {
        let connection = if reference.starts_with("traps") { "Traps" } else { "Echo" };
        let command = ["bind", reference, "--user", user, "--domain", "https://acme.com", "--connection", connection];
        folder.run(&[&command[..], &["--no-check", "--json"]].concat()).ok().json()["id"].as_str().unwrap().to_owned()
    };
    let cases = [
        ("item/missing", 3, "NOT_FOUND"),
        ("error/invalid-reference", 4, "VALIDATION_FAILED"),
        ("error/unauthenticated", 5, "PROVIDER_REFUSED"),
        ("error/permission-denied", 5, "PROVIDER_REFUSED"),
        ("error/rate-limited", 6, "RATE_LIMITED"),
        ("error/unavailable", 6, "PROVIDER_UNAVAILABLE"),
        ("error/unexpected-answer", 7, "PROVIDER_FAULT"),
        ("error/other", 7, "PROVIDER_FAULT"),
        ("big/9000000", 7, "PROVIDER_FAULT"),
    ];
    let mut entries: Vec<_> = cases
        .iter()
        .map(|(reference, code, name)| (bind(reference, &format!("echo://{reference}")), *code, *name))
        .collect();
    entries.push((bind("traps", "traps://item/one"), 7, "PROVIDER_FAULT"));
    for (entry, code, name) in entries {
        let ran = folder.run(&["resolve", &entry, "--json"]).failed(code);
        let error = &ran.json()["error"];
        assert_eq!(error["code"], name, "{ran:#?}");
        assert!(error["message"].as_str().unwrap().contains(' '), "{ran:#?}");
        if name == "RATE_LIMITED" {
            assert_eq!(error["retry_after_seconds"], 17);
        }
        assert_without(&ran.all(), &[ECHO_TOKEN]);
    }
}

#[test]
fn what_is_not_there_is_exit_code_3_with_a_hint() {
    let folder = Folder::with(ECHO);
    let ran = folder.run(&["items"]).failed(3);
    assert!(
        ran.stderr.contains("no workspace yet") && ran.stderr.contains("`keyway workspace create NAME`"),
        "{ran:#?}"
    );
    folder.run(&["workspace", "create", "Acme"]).ok();
    assert!(folder.run(&["items"]).failed(3).stderr.contains("`keyway connect`"));
    assert!(folder.run(&["items", "--workspace", "Other"]).failed(3).stderr.contains("`Other`"));
    let unknown = "25290e80-bbd5-41b3-861e-dea30cc26e27";
    assert!(folder.run(&["resolve", unknown]).failed(3).stderr.contains("`keyway entry list`"));
    assert!(folder.run(&["connect", "vaultwarden"]).failed(3).stderr.contains("installed: echo"));
    assert!(folder.run(&["provider", "inspect", "/nonexistent.wasm"]).failed(3).stderr.contains("/nonexistent.wasm"));
    folder.run(&["connect", "echo", "--token-file", "/nonexistent"]).failed(3);
}

#[test]
fn a_wrong_command_line_is_exit_code_2_also_as_data() {
    let folder = Folder::connected(ECHO);
    let cases: [&[&str]; 9] = [
        &[],
        &["frobnicate"],
        &["resolve"],
        &["resolve", "not-a-uuid"],
        &["resolve", "--user", "a"],
        &["connect", "echo", "--cache-ttl", "soon"],
        &["items", "--connect-to", "nonsense"],
        &["items", "--log", "loud=very=much"],
        &["connect", "echo", "--set", "nosuch=1"],
    ];
    for arguments in cases {
        let ran = folder.run(arguments);
        assert_eq!(ran.code, 2, "{ran:#?}");
        assert_eq!(ran.stdout, "", "{ran:#?}");
        let with_json: Vec<_> = arguments.iter().chain(&["--json"]).copied().collect();
        let ran = folder.run(&with_json);
        assert_eq!((ran.code, &ran.json()["error"]["code"]), (2, &"USAGE".into()), "{ran:#?}");
    }
    let ran = folder.run(&["--help"]).ok();
    assert!(ran.stdout.contains("Exit codes:") && !ran.stdout.contains("compile-component"), "{ran:#?}");
}

#[test]
fn an_empty_variable_of_the_environment_is_not_a_setting() {
    let folder = Folder::connected(ECHO);
    let mut command = folder.keyway(&["items"]);
    for name in
        ["CONNECT_TO", "ALLOW_PRIVATE", "LOG", "LOG_FORMAT", "WORKSPACE", "CONNECTION", "PROVIDERS", "MASTER_KEY"]
    {
        command.env(format!("KEYWAY_{name}"), "");
    }
    Ran::from(command.output().unwrap()).ok();
}

#[test]
fn a_token_comes_from_a_file_or_the_environment_and_never_from_an_argument() {
    let folder = Folder::with(ECHO);
    folder.run(&["workspace", "create", "Acme"]).ok();
    let argument = format!("token={ECHO_TOKEN}");
    let ran = folder.run(&["connect", "echo", "--set", &argument]).failed(2);
    assert!(ran.stderr.contains("--set-file token=FILE"), "{ran:#?}");
    assert_without(&ran.all(), &[ECHO_TOKEN]);

    let ran = folder.run(&["connect", "echo"]).failed(2);
    assert!(
        ran.stderr.contains("`token` (Token) is missing") && ran.stderr.contains("KEYWAY_SETTING_TOKEN"),
        "{ran:#?}"
    );

    let file = folder.path().join("token.txt");
    std::fs::write(&file, format!("{ECHO_TOKEN}\n")).unwrap();
    folder.run(&["connect", "echo", "--name", "a", "--token-file", file.to_str().unwrap()]).ok();
    folder.run(&["connect", "echo", "--name", "b", "--set-file", &format!("token={}", file.display())]).ok();
    let from_environment =
        folder.keyway(&["connect", "echo", "--name", "c"]).env("KEYWAY_SETTING_TOKEN", ECHO_TOKEN).output();
    assert!(from_environment.unwrap().status.success());
    std::fs::write(&file, "\n").unwrap();
    let ran = folder.run(&["connect", "echo", "--token-file", file.to_str().unwrap()]).failed(4);
    assert!(ran.stderr.contains("is empty"), "{ran:#?}");
}

#[test]
fn a_connection_that_fails_to_validate_is_not_stored() {
    let folder = Folder::with(ECHO);
    folder.run(&["workspace", "create", "Acme"]).ok();
    for (token, words) in [("refused", "Create a new one"), ("no-vaults", "can read no vault")] {
        let ran = folder.run_with(&["connect", "echo", "--token-file", "-"], token).failed(5);
        assert!(ran.stderr.contains(words) && ran.stderr.contains("nothing was stored"), "{ran:#?}");
    }
    assert_eq!(folder.run(&["connection", "list", "--json"]).ok().json(), Value::Array(Vec::new()));
}

#[test]
fn rules_of_vault_entries_hold_on_the_command_line() {
    let folder = Folder::connected(ECHO);
    let bind = |arguments: &[&str]| {
        let all: Vec<_> = ["bind"].iter().chain(arguments).copied().collect();
        folder.run(&all)
    };
    folder.bind("acme-prod", "echo://item/one");
    let twice = bind(&["echo://item/one", "--user", "acme-prod", "--domain", "https://acme.com"]).failed(4);
    assert!(twice.stderr.contains("already exists"), "{twice:#?}");
    for (reference, domain) in
        [("op://a/b", "https://acme.com"), ("echo://item/one", "acme.com"), ("", "https://acme.com")]
    {
        bind(&[reference, "--user", "b", "--domain", domain]).failed(4);
    }
    let method = ["echo://item/one", "--user", "b", "--domain", "https://acme.com", "--tfa-method", "AUTHENTICATOR"];
    assert!(bind(&method).failed(4).stderr.contains("AUTHENTICATOR is not available"));
}

#[test]
fn a_connection_is_changed_and_deleted_from_the_command_line() {
    let folder = Folder::with(ECHO);
    folder.run(&["workspace", "create", "Acme"]).ok();
    let add = ["connection", "add", "echo", "--name", "Echo", "--token-file", "-", "--json"];
    let connection = folder.run_with(&add, ECHO_TOKEN).ok().json();
    let id = connection["id"].as_str().unwrap();

    let update = ["connection", "update", "--name", "Renamed", "--cache-ttl", "off", "--json"];
    let changed = folder.run(&update).ok().json();
    assert_eq!((&changed["name"], &changed["cache_ttl_seconds"]), (&"Renamed".into(), &0.into()));
    assert_eq!(changed["config_hint"]["token_last4"], "wxyz");
    let token = "another-token-9d24c07be1f35a68-1234";
    // It has a different setting, which may be set.
    let half = folder.run_with(&["connection", "update", "-c", id, "--token-file", "-"], token).failed(2);
    assert!(half.stderr.contains("base_url") && half.stderr.contains("--replace-settings"), "{half:?}");
    let replace = ["connection", "update", "-c", id, "--token-file", "-", "--replace-settings"];
    let replaced = folder.run_with(&replace, token).ok();
    assert!(replaced.stdout.contains("...1234") && replaced.stdout.contains("within a second"), "{replaced:#?}");
    assert_without(&replaced.all(), &[token]);
    let refused =
        folder.run_with(&["connection", "update", "--token-file", "-", "--replace-settings"], "refused").failed(5);
    assert!(refused.stderr.contains("nothing was stored"), "{refused:#?}");
    assert_eq!(folder.run(&["connection", "list", "--json"]).ok().json()[0]["config_hint"]["token_last4"], "1234");
    assert!(folder.run(&["connection", "update"]).failed(2).stderr.contains("there is nothing to change"));
    assert!(folder.run(&["connection", "update", "--replace-settings"]).failed(2).stderr.contains("is missing"));

    let entry = folder.bind("acme-prod", "echo://item/one");
    let ran = folder.run(&["connection", "delete", "Renamed", "--json"]).failed(4);
    let error = &ran.json()["error"];
    assert!(ran.stderr.contains("1 vault entry (acme-prod at https://acme.com)"), "{ran:#?}");
    assert_eq!((&error["code"], &error["dependents"]["total"]), (&"CONFLICT".into(), &1.into()));
    assert_eq!(error["dependents"]["entries"][0]["id"], entry);
    assert_eq!(folder.run(&["connection", "delete"]).code, 2, "the connection must be named");
    folder.run(&["connection", "delete", "nosuch"]).failed(3);

    let second = folder.run_with(&["connect", "echo", "--name", "Free", "--token-file", "-", "--json"], ECHO_TOKEN);
    let second = second.ok().json();
    let deleted = folder.run(&["connection", "delete", second["id"].as_str().unwrap()]).ok();
    assert!(
        deleted.stdout.contains("Deleted the connection Free") && deleted.stdout.contains("revoke it"),
        "{deleted:#?}"
    );
    assert_eq!(folder.run(&["connection", "list", "--json"]).ok().json().as_array().unwrap().len(), 1);
}

#[test]
fn a_resolve_says_what_was_asked_for_and_whether_the_rejected_revision_is_still_there() {
    let folder = Folder::connected(ECHO);
    let id = folder.bind("acme-prod", "echo://item/one");
    let resolved = folder.run(&["resolve", &id, "--fields", "username,password", "--json"]).ok().json();
    assert_eq!(resolved["one_time_code"], Value::Null);
    assert_eq!((&resolved["username"]["revision"], &resolved["revision"]), (&"1".into(), &"1".into()));
    assert_eq!(resolved["rejected_is_current"], false);
    let rejected = folder.run(&["resolve", &id, "--rejected", "1", "--json"]).ok().json();
    assert_eq!((&rejected["rejected_is_current"], &rejected["one_time_code"]["revision"]), (&true.into(), &"1".into()));
    let text = folder.run(&["resolve", &id, "--rejected", "1", "--fields", "one_time_code"]).ok().stdout;
    assert!(text.contains("still holds the rejected revision") && !text.contains("username"), "{text}");
    assert_eq!(folder.run(&["resolve", &id, "--fields", "pin"]).code, 2);
}

#[test]
fn a_second_workspace_of_the_same_name_is_made_only_when_told_to() {
    let folder = Folder::with(ECHO);
    folder.run(&["workspace", "create", "Acme"]).ok();
    let ran = folder.run(&["workspace", "create", "Acme", "--json"]).failed(4);
    assert_eq!(ran.json()["error"]["code"], "CONFLICT");
    assert!(ran.stderr.contains("`Acme` already") && ran.stderr.contains("--same-name"), "{ran:#?}");
    let second = folder.run(&["workspace", "create", "Acme", "--same-name", "--json"]).ok().json();
    folder.run(&["connection", "list", "-w", "Acme"]).failed(2);
    folder.run(&["connection", "list", "-w", second["id"].as_str().unwrap()]).ok();
}

#[test]
fn keys_are_made_with_scopes_listed_without_the_key_and_revoked() {
    let folder = Folder::with(ECHO);
    folder.run(&["workspace", "create", "Acme"]).ok();
    let made = folder.run(&["key", "create", "ci", "--scopes", "resolve,admin", "--json"]).ok().json();
    assert_eq!(made["scopes"], "admin resolve");
    let key = made["api_key"].as_str().unwrap();
    let listed = folder.run(&["key", "list", "--json"]).ok();
    assert_without(&listed.all(), &[key]);
    let row = listed.json().as_array().unwrap().iter().find(|row| row["name"] == "ci").unwrap().clone();
    assert!(key.starts_with(row["begins_with"].as_str().unwrap()) && row["revoked_at"].is_null(), "{row}");
    let revoked = folder.run(&["key", "revoke", row["id"].as_str().unwrap(), "--json"]).ok().json();
    assert!(revoked["revoked_at"].is_string());
    folder.run(&["key", "revoke", "25290e80-bbd5-41b3-861e-dea30cc26e27"]).failed(3);
    for scopes in ["root", "", "api,"] {
        assert_eq!(folder.run(&["key", "create", "x", "--scopes", scopes]).code, 2, "{scopes:?}");
    }
}

#[test]
fn what_went_wrong_on_the_way_is_told_once_and_not_logged_beside_it() {
    let folder = Folder::connected(ECHO);
    // No server listens there.
    let base_url = "base_url=http://127.0.0.1:9";
    let connect = ["connect", "echo", "--token-file", "-", "--set", base_url, "--name", "Down"];
    let allow = ["--allow-private", "http://127.0.0.1:9"];
    folder.run_with(&[&connect[..], &allow].concat(), ECHO_TOKEN).ok();
    let items = [&["items", "-c", "Down"][..], &allow].concat();
    let ran = folder.run(&items).failed(6);
    assert!(!ran.stderr.contains("WARN") && !ran.stderr.contains("request failed"), "{ran:#?}");
    let asked_for = folder.run(&[&items[..], &["--log", "warn"]].concat()).failed(6);
    assert!(asked_for.stderr.contains("request failed"), "{asked_for:#?}");
}

#[test]
fn a_file_that_is_no_component_is_said_to_be_none_whatever_its_name() {
    let folder = Folder::with(ECHO);
    let inspect = |file: &str| {
        let mut command = folder.keyway(&["provider", "inspect", file, "--json"]);
        Ran::from(command.current_dir(folder.path()).output().unwrap())
    };
    std::fs::write(folder.path().join("README.md"), "# Not a component").unwrap();
    std::fs::write(folder.path().join("echo"), "# Not a component, with the name of a provider").unwrap();
    let ran = inspect("README.md").failed(7);
    assert_eq!(ran.json()["error"]["code"], "COMPONENT_REFUSED");
    assert!(ran.stderr.contains("README.md: this is not a WebAssembly component"), "{ran:#?}");
    assert!(ran.stderr.contains("is it the right one?"), "{ran:#?}");
    inspect("echo").ok();
    inspect("./echo").failed(7);
    inspect("providers").failed(3);
    inspect("nosuch").failed(3);
}

#[test]
fn of_several_one_has_to_be_chosen() {
    let folder = Folder::connected(ECHO);
    folder.run_with(&["connect", "echo", "--name", "Second", "--token-file", "-"], ECHO_TOKEN).ok();
    let ran = folder.run(&["items"]).failed(2);
    assert!(ran.stderr.contains("(Echo, Second)") && ran.stderr.contains("--connection"), "{ran:#?}");
    folder.run(&["items", "--connection", "Second"]).ok();
    folder.run(&["workspace", "create", "Other"]).ok();
    assert!(folder.run(&["entry", "list"]).failed(2).stderr.contains("--workspace"));
    folder.run(&["entry", "list", "-w", "Acme"]).ok();
}

#[test]
fn a_database_without_its_master_key_is_not_opened_with_another() {
    let folder = Folder::connected(ECHO);
    std::fs::rename(folder.key_file(), folder.path().join("elsewhere")).unwrap();
    let ran = folder.run(&["workspace", "list"]).failed(3);
    assert!(ran.stderr.contains("Restore the key from its backup"), "{ran:#?}");
    assert!(!folder.key_file().exists(), "no key was made in its place");

    std::fs::write(folder.key_file(), "00".repeat(32)).unwrap();
    set_mode(&folder.key_file(), 0o600);
    let ran = folder.run(&["workspace", "list"]).failed(1);
    let file = folder.key_file();
    assert!(ran.stderr.contains("another master key") && ran.stderr.contains(file.to_str().unwrap()), "{ran:#?}");
    let compiled = || {
        let files = std::fs::read_dir(folder.config(EgressPolicy::default()).code_cache()).unwrap();
        let mut files: Vec<_> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        files.sort();
        files
    };
    let before = compiled();
    let ran = folder.run(&["provider", "list"]).failed(1);
    assert!(ran.stderr.contains("another master key") && !ran.stderr.contains("WARN"), "{ran:#?}");
    assert!(!before.is_empty() && before == compiled(), "what was compiled under the right key stays");
    set_mode(&folder.key_file(), 0o644);
    assert!(folder.run(&["workspace", "list"]).failed(1).stderr.contains("chmod 600"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let folder = Folder::with(ECHO);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let ran = Ran::from(folder.keyway(&["workspace", "create", "Acme"]).stdout(full).output().unwrap()).failed(1);
    assert!(ran.stderr.contains("cannot be written to standard output"), "{ran:#?}");
}

#[test]
fn a_secret_that_was_given_as_an_argument_is_not_repeated() {
    let folder = Folder::with(&[]);
    for more in [&[][..], &["--json"]] {
        let ran = folder.run(&[&["connect", "1password", "ops_hunter2hunter2"][..], more].concat()).failed(2);
        assert_without(&ran.all(), &["hunter2hunter2"]);
        assert!(ran.stderr.contains("may be a secret"), "{ran:#?}");
    }
    // Without anything, it says what there is.
    let ran = Ran::from(folder.keyway(&[]).output().unwrap());
    assert!(ran.code == 2 && ran.all().contains("Usage: keyway"), "{ran:#?}");
}
