//! Configuration by file, environment and flags, and `keyway config check`.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli_database::change;
use crate::support::{Api, Folder, MASTER_KEY, Ran, assert_without, set_mode};

const ECHO: &[&str] = &["fixtures/echo"];

fn setting(ran: &Ran, name: &str) -> (String, String) {
    let json = ran.json();
    let all = json["settings"].as_array().unwrap();
    let setting = all.iter().find(|setting| setting["name"] == name).unwrap();
    let values: Vec<_> = setting["values"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    (values.join(","), setting["origin"].as_str().unwrap().to_owned())
}

fn finding<'j>(json: &'j Value, what: &str) -> &'j str {
    let all = json["checks"].as_array().unwrap();
    all.iter().find(|check| check["what"] == what).unwrap()["finding"].as_str().unwrap()
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let folder = Folder::with(ECHO);
    let file = folder.path().join("keyway.toml");
    std::fs::write(
        &file,
        "listen = \"127.0.0.1:7001\"\nlog = \"error\"\nlog_format = \"json\"\nproviders = \"providers\"\n",
    )
    .unwrap();
    let mut command = folder.keyway(&["config", "check", "--json", "--log-format", "text"]);
    command.env("KEYWAY_CONFIG", &file).env("KEYWAY_LOG", "debug");
    let ran = Ran::from(command.output().unwrap()).ok();
    assert_eq!(setting(&ran, "listen"), ("127.0.0.1:7001".into(), "file".into()));
    assert_eq!(setting(&ran, "log"), ("debug".into(), "environment".into()));
    assert_eq!(setting(&ran, "log_format"), ("text".into(), "flag".into()));
    let providers = folder.path().join("providers").display().to_string();
    assert_eq!(setting(&ran, "providers"), (providers, "file".into()), "a path starts at the file's folder");
    assert_eq!(setting(&ran, "connect_to"), (String::new(), "default".into()));
}

#[test]
fn the_file_of_the_users_configuration_is_read_when_none_is_named() {
    let folder = Folder::with(ECHO);
    let own = folder.path().join(".config/keyway");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("config.toml"), "listen = \"127.0.0.1:7002\"\n").unwrap();
    let ran = folder.run(&["config", "check", "--json"]).ok();
    assert_eq!(setting(&ran, "listen"), ("127.0.0.1:7002".into(), "file".into()));
    assert!(ran.json()["file"].as_str().unwrap().ends_with("config.toml"));
}

#[test]
fn commands_follow_the_file() {
    let folder = Folder::with(ECHO);
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let file = folder.path().join("keyway.toml");
    std::fs::write(&file, "providers = \"empty\"\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(folder.run(&["provider", "list", "--json", "--config", file]).failed(3).json(), serde_json::json!([]));
    assert_ne!(folder.run(&["provider", "list", "--json"]).ok().json(), serde_json::json!([]));
}

#[test]
fn a_file_that_is_wrong_ends_the_program_and_says_where() {
    let folder = Folder::with(ECHO);
    let file = folder.path().join("keyway.toml");
    for (text, told) in [
        ("listn = \"127.0.0.1:1\"", "there is no setting `listn`"),
        ("listen = [", "line 1"),
        ("log_format = \"xml\"", "'log_format': use text or json"),
        ("connect_to = [\"nonsense\"]", "'connect_to'"),
        ("log_format = \"\"\"\nxml\n\"\"\"", "'log_format'"),
    ] {
        std::fs::write(&file, text).unwrap();
        let ran = folder.run(&["--config", file.to_str().unwrap(), "workspace", "list"]).failed(2);
        assert!(ran.stderr.contains("keyway.toml is invalid") && ran.stderr.contains(told), "{text}: {ran:#?}");
        assert!(!ran.stderr.contains("--"), "nobody gave a flag: {ran:#?}");
    }
    let ran = folder.run(&["--config", "missing.toml", "--json", "workspace", "list"]).failed(3);
    assert!(ran.json()["error"]["message"].as_str().unwrap().contains("missing.toml"), "{ran:#?}");
}

#[test]
fn the_master_key_in_the_environment_wins_over_the_name_of_its_file_in_the_configuration() {
    let folder = Folder::with(ECHO);
    let file = folder.path().join("keyway.toml");
    std::fs::write(&file, "master_key_file = \"nowhere/key\"\n").unwrap();
    let key = std::fs::read_to_string(folder.key_file()).unwrap();
    let mut command = folder.keyway(&["workspace", "create", "Acme"]);
    command.env_remove("KEYWAY_MASTER_KEY_FILE").env("KEYWAY_MASTER_KEY", &key).env("KEYWAY_CONFIG", &file);
    let ran = Ran::from(command.output().unwrap()).ok();
    assert!(!folder.path().join("nowhere").exists());
    assert_without(&ran.all(), &[&key]);
}

#[test]
fn the_other_master_key_can_be_named_in_the_file_and_is_looked_at() {
    let folder = Folder::with(ECHO);
    let file = folder.path().join("keyway.toml");
    std::fs::write(&file, "old_master_key_file = \"old.key\"\n").unwrap();
    let check = ["config", "check", "--json", "--config", file.to_str().unwrap()];
    let ran = folder.run(&check).failed(1);
    assert_eq!(finding(&ran.json(), "old master key"), "wrong", "it is missing");
    std::fs::copy(folder.key_file(), folder.path().join("old.key")).unwrap();
    let ran = folder.run(&check).ok();
    let old = folder.path().join("old.key").display().to_string();
    assert_eq!(setting(&ran, "old_master_key_file"), (old, "file".into()));
    assert_eq!(finding(&ran.json(), "old master key"), "note");
}

#[test]
fn looking_changes_nothing_and_finds_what_is_wrong() {
    let folder = Folder::with(ECHO);
    let data = folder.path().join("new");
    let data = data.to_str().unwrap();
    let ran = folder.run(&["config", "check", "--json", "--data-dir", data]).failed(1);
    assert_eq!(finding(&ran.json(), "database"), "wrong");
    assert!(message(&ran.json(), "database").contains("run `keyway init`"), "{ran:#?}");
    assert!(!std::fs::exists(data).unwrap(), "nothing was made");

    let key = folder.key_file();
    std::fs::write(&key, "too short").unwrap();
    let ran = folder.run(&["config", "check", "--json"]).failed(1);
    assert_eq!(finding(&ran.json(), "master key"), "wrong");
    assert_eq!(finding(&ran.json(), "providers"), "good");

    // A setting that is not set is shown with its effective value.
    let audit = folder.path().join("audit").display().to_string();
    assert_eq!(setting(&ran, "audit_dir"), (audit, "default".into()));
    assert_eq!(setting(&ran, "audit_segment_mib"), ("64".into(), "default".into()));

    let mut both = folder.keyway(&["config", "check", "--json"]);
    both.env("KEYWAY_LISTEN", "127.0.0.1:8699").env("KEYWAY_METRICS_LISTEN", "127.0.0.1:8699");
    assert_eq!(finding(&Ran::from(both.output().unwrap()).failed(1).json(), "metrics listen"), "wrong");

    let mut beyond = folder.keyway(&["config", "check", "--json"]);
    let ran = Ran::from(beyond.env("KEYWAY_LISTEN", "0.0.0.0:0").output().unwrap()).failed(1);
    assert!(message(&ran.json(), "listen").contains("--insecure-plain-http"), "{ran:#?}");
    let ran = Ran::from(beyond.env("KEYWAY_INSECURE_PLAIN_HTTP", "1").output().unwrap());
    assert_eq!(finding(&ran.json(), "listen"), "good");
    let mut half = folder.keyway(&["config", "check", "--json"]);
    let ran = Ran::from(half.env("KEYWAY_TLS_KEY", "tls.key").output().unwrap()).failed(1);
    assert!(message(&ran.json(), "serve").contains("tls_certificate"), "{ran:#?}");
    let ran = Ran::from(half.env("KEYWAY_TLS_CERTIFICATE", "tls.pem").output().unwrap()).failed(1);
    assert!(message(&ran.json(), "certificate").contains("tls.pem"), "{ran:#?}");

    // A folder cannot be created inside a file.
    let inside = key.join("data");
    let ran = folder.run(&["config", "check", "--json", "--data-dir", inside.to_str().unwrap()]).failed(1);
    assert_eq!(finding(&ran.json(), "data folder"), "wrong");
    let ran = folder.run(&["config", "check", "--json", "--audit-dir", key.join("audit").to_str().unwrap()]).failed(1);
    assert_eq!(finding(&ran.json(), "audit log"), "wrong");

    let mut command = folder.keyway(&["config", "check", "--providers", "missing"]);
    let ran = Ran::from(command.env("KEYWAY_LISTEN", "nonsense").output().unwrap()).failed(1);
    assert!(ran.stdout.contains("WRONG  providers") && ran.stdout.contains("WRONG  serve"), "{ran:#?}");
}

fn message<'j>(json: &'j Value, what: &str) -> &'j str {
    let all = json["checks"].as_array().unwrap();
    all.iter().find(|check| check["what"] == what).unwrap()["message"].as_str().unwrap()
}

/// The contents of a data folder, by name.
fn contents(folder: &Folder) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.is_file()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

#[test]
fn a_master_key_that_is_not_the_databases_is_noticed_and_nothing_is_changed() {
    let folder = Folder::with(ECHO);
    let check = ["config", "check", "--json"];
    assert_eq!(finding(&folder.run(&check).ok().json(), "master key"), "good");

    let other = folder.path().join("other.key");
    std::fs::write(&other, "ab".repeat(32)).unwrap();
    set_mode(&other, 0o600);
    let before = contents(&folder);
    let named = ["--master-key-file", other.to_str().unwrap()];
    let ran = folder.run(&[&check[..], &named].concat()).failed(1);
    assert_eq!((finding(&ran.json(), "master key"), finding(&ran.json(), "database")), ("wrong", "good"));
    assert!(message(&ran.json(), "master key").contains("this database is under another master key"), "{ran:#?}");
    assert_eq!(contents(&folder), before);

    // Each of the two keys, during a replacement.
    let old = folder.key_file();
    let both = [&check[..], &named, &["--old-master-key-file", old.to_str().unwrap()]].concat();
    folder.run(&both).ok();
    let new = folder.path().join("new.key");
    folder.run(&["master-key", "rotate", "--new-key-file", new.to_str().unwrap()]).ok();
    let ran = folder.run(&check).failed(1);
    assert!(message(&ran.json(), "master key").contains("this master key was replaced on"), "{ran:#?}");

    // A file that is not a database is not blamed on the key.
    std::fs::write(folder.path().join("keyway.db"), "x".repeat(10_000)).unwrap();
    let ran = folder.run(&check).failed(1);
    assert_eq!((finding(&ran.json(), "master key"), finding(&ran.json(), "database")), ("good", "wrong"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_is_checked_beside_a_server_that_runs_too() {
    let (api, _) = Api::echo().await;
    let check = api.folder.keyway(&["config", "check", "--json"]).output().unwrap();
    assert_eq!(finding(&Ran::from(check).ok().json(), "master key"), "good");
    let mut wrong = api.folder.keyway(&["config", "check", "--json"]);
    wrong.env_remove("KEYWAY_MASTER_KEY_FILE").env("KEYWAY_MASTER_KEY", MASTER_KEY.replace('6', "7"));
    let ran = Ran::from(wrong.output().unwrap()).failed(1);
    assert_eq!(finding(&ran.json(), "master key"), "wrong");
    api.get("/vault").await.ok(200);
}

/// Where nothing listens.
const NOWHERE: &str = "http://127.0.0.1:1";

#[test]
fn what_serve_refuses_is_wrong_in_the_same_words() {
    let folder = Folder::with(ECHO);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let shared = folder.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    set_mode(&shared, 0o777);
    std::fs::write(folder.path().join("socket"), "another file").unwrap();
    let (socket, missing) = (format!("unix:{}", path("socket")), format!("unix:{}", path("missing/socket")));
    for (what, variable, value) in [
        ("providers", "KEYWAY_PROVIDERS", path("shared")),
        ("providers", "KEYWAY_PROVIDERS", path("missing")),
        ("database", "KEYWAY_DATA_DIR", path("mistyped")),
        ("master key", "KEYWAY_MASTER_KEY_FILE", path("missing")),
        ("certificate authorities", "KEYWAY_CA_FILE", path("missing")),
        ("listen", "KEYWAY_LISTEN", socket),
        ("listen", "KEYWAY_LISTEN", missing),
    ] {
        let run = |arguments: &[&str]| {
            let mut command = folder.keyway(arguments);
            // One place for all, so that it is not what fails.
            command.env("KEYWAY_LISTEN", "127.0.0.1:0").env(variable, &value);
            Ran::from(command.output().unwrap())
        };
        let checked = run(&["config", "check", "--json"]).failed(1).json();
        assert_eq!(finding(&checked, what), "wrong", "{value}: {checked}");
        let served = run(&["serve"]);
        assert_ne!(served.code, 0, "{value}: {served:#?}");
        let told = served.stderr.lines().find_map(|line| line.strip_prefix("error: ")).unwrap();
        assert!(message(&checked, what).starts_with(told), "{value}: {checked}, and not {told}");
    }
}

/// Runs the program as a user who is not root, and owns the data.
fn ordinary(folder: &Folder, arguments: &[&str]) -> Command {
    const NOBODY: u32 = 65_534;
    let mut command = folder.keyway(arguments);
    if rustix::process::geteuid().is_root() {
        let owned = Command::new("chown").args(["-R", "-h", &format!("{NOBODY}:{NOBODY}")]).arg(folder.path()).status();
        assert!(owned.unwrap().success());
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

#[tokio::test]
async fn data_that_serve_refuses_is_wrong_in_the_same_words_and_left_as_it_is() {
    for (what, told, sql, file) in [
        ("database", "keyway.db cannot be written", "", "keyway.db"),
        ("database", "keyway.db-wal cannot be written", "", "keyway.db-wal"),
        ("database", "keyway.db-shm cannot be written", "", "keyway.db-shm"),
        (
            "database",
            "made by a later release",
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (99999999999999, 'later', 1, x'00', 0)",
            "",
        ),
        ("database", "", "UPDATE host_keys SET wrapped_key = zeroblob(length(wrapped_key))", ""),
        ("code cache", "something else is in its place", "", "code-cache"),
    ] {
        let folder = Folder::with(ECHO);
        if !sql.is_empty() {
            change(&folder, sql).await;
        }
        if file == "code-cache" {
            std::fs::remove_file(folder.path().join(file)).unwrap();
        }
        if !file.is_empty() {
            let file = folder.path().join(file);
            std::fs::OpenOptions::new().append(true).create(true).open(&file).unwrap();
            set_mode(&file, 0o400);
        }
        let before = contents(&folder);
        let checked = Ran::from(ordinary(&folder, &["config", "check", "--json"]).output().unwrap()).json();
        assert_eq!(finding(&checked, what), "wrong", "{told}{sql}: {checked}");
        assert_eq!(contents(&folder), before, "{told}");
        let served = Ran::from(ordinary(&folder, &["serve", "--listen", "127.0.0.1:0"]).output().unwrap());
        let error = served.stderr.lines().find_map(|line| line.strip_prefix("error: ")).unwrap();
        assert!(error.contains(told) && message(&checked, what).starts_with(error), "{checked}, and not {error}");
    }
}

#[test]
fn an_audit_log_that_cannot_be_written_or_lacks_its_folder_is_wrong() {
    let folder = Folder::with(ECHO);
    folder.run(&["workspace", "create", "Acme"]).ok();
    let check = || Ran::from(ordinary(&folder, &["config", "check", "--json"]).output().unwrap());
    check().ok();
    let audit = folder.path().join("audit");
    set_mode(&std::fs::read_dir(&audit).unwrap().next().unwrap().unwrap().path(), 0o400);
    let checked = check().failed(1).json();
    assert!(message(&checked, "audit log").contains(".jsonl: Permission denied"), "{checked}");
    std::fs::rename(&audit, folder.path().join("away")).unwrap();
    std::os::unix::fs::symlink("nowhere", &audit).unwrap();
    let checked = check().failed(1).json();
    assert!(message(&checked, "audit log").contains("something else is in its place"), "{checked}");
}

#[test]
fn what_a_server_does_not_get_of_the_system_is_wrong() {
    let folder = Folder::with(ECHO);
    let limited = |limit: &str, arguments: &[&str]| {
        let mut command = Command::new("/bin/sh");
        let limited = format!("ulimit {limit}; exec \"$0\" \"$@\"");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_keyway")]).args(arguments).env_clear();
        command.env("HOME", folder.path()).env("KEYWAY_DATA_DIR", folder.path());
        Ran::from(command.env("KEYWAY_MASTER_KEY_FILE", folder.key_file()).output().unwrap()).failed(1)
    };
    for limit in [24, 63] {
        let limit = format!("-n {limit}");
        let checked = limited(&limit, &["config", "check", "--json"]).json();
        assert!(message(&checked, "listen").contains("LimitNOFILE="), "{checked}");
        let served = limited(&limit, &["serve", "--listen", "127.0.0.1:0"]);
        assert!(served.stderr.contains("LimitNOFILE="), "{served:#?}");
    }
}

#[test]
fn what_serve_stumbles_over_later_is_a_warning() {
    let folder = Folder::with(ECHO);
    let component = folder.providers().join("echo.wasm");
    set_mode(&component, 0o666);
    let mut command = folder.keyway(&["config", "check", "--json"]);
    command.env("KEYWAY_PROXY", NOWHERE).env("KEYWAY_CONNECT_TO", format!("vault.example={NOWHERE}"));
    let checked = Ran::from(command.output().unwrap()).ok().json();
    for (what, told) in [
        ("outgoing", "the proxy http://127.0.0.1:1 does not answer"),
        ("audit log", "is missing"),
        ("providers", "chmod go-w"),
    ] {
        assert_eq!(finding(&checked, what), "warning", "{checked}");
        assert!(message(&checked, what).contains(told), "{checked}");
    }
    assert!(checked.to_string().contains("vault.example=http://127.0.0.1:1 does not answer"), "{checked}");
    set_mode(&component, 0o600);
    std::fs::create_dir(folder.path().join("audit")).unwrap();
    let checked = folder.run(&["config", "check"]).ok();
    assert!(!checked.stdout.contains("warn "), "{checked:#?}");
}

#[test]
fn too_little_address_space_is_refused_with_what_to_allow_and_never_halfway() {
    let folder = Folder::with(ECHO);
    folder.run(&["provider", "list"]).ok();
    for mebibytes in [700, 900, 1_100, 1_300, 1_500, 1_700, 1_800, 1_900, 2_000] {
        let limited = format!("ulimit -v {}; exec \"$0\" \"$@\"", mebibytes << 10);
        for arguments in [&["provider", "list"][..], &["config", "check"]] {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &limited, env!("CARGO_BIN_EXE_keyway")]).args(arguments).env_clear();
            command.env("HOME", folder.path()).env("KEYWAY_DATA_DIR", folder.path());
            let ran = Ran::from(command.env("KEYWAY_MASTER_KEY_FILE", folder.key_file()).output().unwrap()).failed(1);
            assert!(ran.all().contains("Allow at least 4 GiB"), "{mebibytes} MiB: {ran:#?}");
        }
    }
}

#[test]
fn a_configuration_file_that_is_no_regular_file_or_too_large_is_refused_at_once() {
    let folder = Folder::with(ECHO);
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let large = folder.path().join("large");
    std::fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    let began = Instant::now();
    for (file, told) in [
        (pipe.to_str().unwrap(), "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (large.to_str().unwrap(), "larger than 4 MiB"),
    ] {
        let ran = folder.run(&["workspace", "list", "--config", file]).failed(2);
        assert!(ran.stderr.contains(file) && ran.stderr.contains(told), "{ran:#?}");
        for command in [
            &["provider", "inspect", file][..],
            &["demo", "--emulator-info", file],
            &["workspace", "list", "--master-key-file", file],
            &["audit", "verify", "--root", file],
            &["provider", "list", "--ca-file", file],
        ] {
            let ran = folder.run(command);
            assert!(ran.code > 0 && ran.stderr.contains(file), "{command:?}: {ran:#?}");
        }
    }
    assert!(began.elapsed() < Duration::from_secs(60), "none of them was read");
}

#[test]
fn a_value_of_the_environment_is_blamed_on_its_variable() {
    let folder = Folder::with(ECHO);
    let run = |arguments: &[&str]| {
        let mut command = folder.keyway(arguments);
        Ran::from(command.env("KEYWAY_LOG_FORMAT", "xml").output().unwrap())
    };
    let ran = run(&["workspace", "list", "--json"]).failed(2);
    assert!(ran.stderr.contains("KEYWAY_LOG_FORMAT") && !ran.stderr.contains("--log-format"), "{ran:#?}");
    let told = ran.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(told.contains("'KEYWAY_LOG_FORMAT': use text or json"), "{told}");
    let ran = run(&["workspace", "list", "--log-format", "yaml"]).failed(2);
    assert!(ran.stderr.contains("--log-format"), "{ran:#?}");
    let mut check = folder.keyway(&["config", "check", "--json"]);
    let ran = Ran::from(check.env("KEYWAY_LISTEN", "nonsense").output().unwrap()).failed(1);
    assert!(message(&ran.json(), "serve").contains("KEYWAY_LISTEN"), "{ran:#?}");
}
