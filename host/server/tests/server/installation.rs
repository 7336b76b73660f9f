//! Where the data and the master key are, the beginning of a new installation, and what is refused
//! because something was lost.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::{Folder, MASTER_KEY, Ran, set_mode};

/// A user without any settings, on a disk.
struct User(TempDir);

impl User {
    fn new() -> Self {
        Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        command.env_clear().env("HOME", self.0.path()).args(arguments).stdin(Stdio::null());
        Ran::from(command.output().unwrap())
    }

    fn data(&self) -> PathBuf {
        self.0.path().join(".local/share/keyway")
    }

    fn key(&self) -> PathBuf {
        self.0.path().join(".config/keyway/master.key")
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn a_new_installation_is_private_and_its_master_key_is_apart_and_announced() {
    let user = User::new();
    let begun = user.run(&["init"]).ok();
    assert!(begun.stderr.contains(user.key().to_str().unwrap()) && begun.stderr.contains("Back it up"), "{begun:#?}");
    assert_eq!((mode(&user.data()), mode(user.key().parent().unwrap())), (0o700, 0o700));
    assert_eq!((mode(&user.key()), mode(&user.data().join("keyway.db"))), (0o600, 0o600));
    assert!(!user.data().join("master.key").exists());
    let created = user.run(&["workspace", "create", "Acme"]).ok();
    assert_eq!(created.stderr, "");

    let again = user.run(&["init", "--json"]).failed(4);
    assert_eq!(again.json()["error"]["code"], "CONFLICT");
    assert!(user.run(&["workspace", "list"]).ok().stdout.contains("Acme"));

    // Another data folder uses the same key.
    let other = user.0.path().join("other");
    let begun = user.run(&["init", "--data-dir", other.to_str().unwrap()]).ok();
    assert!(begun.stderr.is_empty() && begun.stdout.contains(user.key().to_str().unwrap()), "{begun:#?}");
}

#[test]
fn without_a_database_every_command_says_so_and_creates_nothing() {
    let user = User::new();
    for command in [
        &["workspace", "list"][..],
        &["workspace", "create", "Acme"],
        &["workspace", "delete", "Acme", "--yes"],
        &["key", "list"],
        &["connection", "list"],
        &["items"],
        &["entry", "list"],
        &["resolve", "--user", "a", "--domain", "https://acme.com"],
        &["rotation", "list"],
        &["database", "check"],
        &["backup", "backup"],
        &["audit", "list"],
        &["audit", "verify"],
        &["audit", "root"],
        &["provider", "list"],
        &["master-key", "rotate", "--new-key-file", "new.key"],
        &["serve", "--listen", "127.0.0.1:0"],
    ] {
        let ran = user.run(&[command, &["--json"]].concat()).failed(3);
        let error = &ran.json()["error"];
        assert_eq!(error["code"], "NOT_FOUND", "{ran:#?}");
        assert!(error["message"].as_str().unwrap().contains(user.data().to_str().unwrap()), "{ran:#?}");
        assert!(error["hint"].as_str().unwrap().contains("keyway init"), "{ran:#?}");
        assert!(is_empty(user.0.path()), "{command:?} created something");
    }
    // With a key that exists, as for a mistyped folder of data.
    let folder = Folder::with(&[]);
    let mistyped = folder.path().join("mistyped");
    folder.run(&["workspace", "create", "Acme", "--data-dir", mistyped.to_str().unwrap()]).failed(3);
    assert!(!mistyped.exists());
}

#[test]
fn a_provider_file_is_inspected_without_a_database() {
    let user = User::new();
    let file = crate::support::component("fixtures/echo");
    assert!(user.run(&["provider", "inspect", file.to_str().unwrap()]).ok().stdout.contains("Fixture echo"));
    assert!(is_empty(user.0.path()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_master_key_is_not_made_where_the_next_start_erases_it() {
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else { return };
    let key = memory.path().join("master.key");
    let key = key.to_str().unwrap();
    let user = User::new();
    let refused = user.run(&["init", "--master-key-file", key]).failed(1);
    assert!(refused.stderr.contains("in memory") && refused.stderr.contains(key), "{refused:#?}");
    let checked = user.run(&["config", "check", "--master-key-file", key]).failed(1);
    assert!(checked.stdout.contains("WRONG  master key"), "{checked:#?}");
    assert!(is_empty(memory.path()) && is_empty(user.0.path()));

    let folder = Folder::with(&[]);
    let refused = folder.run(&["master-key", "rotate", "--new-key-file", key]).failed(1);
    assert!(refused.stderr.contains("in memory"), "{refused:#?}");
    assert!(is_empty(memory.path()));
    // A key that somebody has put there is used, as in containers.
    std::fs::write(key, MASTER_KEY).unwrap();
    set_mode(Path::new(key), 0o400);
    user.run(&["init", "--master-key-file", key]).ok();
}

#[test]
fn a_new_key_of_a_rotation_is_announced() {
    let user = User::new();
    user.run(&["init"]).ok();
    let new = user.0.path().join("new.key");
    let rotated = user.run(&["master-key", "rotate", "--new-key-file", new.to_str().unwrap()]).ok();
    assert!(rotated.stderr.contains(new.to_str().unwrap()) && rotated.stderr.contains("Back it up"), "{rotated:#?}");
}

#[test]
fn a_master_key_beside_the_data_still_works_and_the_hint_says_where_to_move_it() {
    let user = User::new();
    user.run(&["init"]).ok();
    user.run(&["workspace", "create", "Acme"]).ok();
    let beside = user.data().join("master.key");
    std::fs::rename(user.key(), &beside).unwrap();
    let listed = user.run(&["workspace", "list"]).ok();
    assert!(listed.stdout.contains("Acme"), "{listed:#?}");
    assert!(listed.stderr.lines().count() == 1 && listed.stderr.contains(user.key().to_str().unwrap()), "{listed:#?}");
    let checked = user.run(&["config", "check"]).ok();
    assert!(checked.stdout.contains("note   master key"), "{checked:#?}");
    // As the hint says.
    std::fs::rename(&beside, user.key()).unwrap();
    assert_eq!(user.run(&["workspace", "list"]).ok().stderr, "");
}

#[test]
fn a_missing_master_key_is_not_replaced() {
    let user = User::new();
    user.run(&["init"]).ok();
    user.run(&["workspace", "create", "Acme"]).ok();
    std::fs::remove_file(user.key()).unwrap();
    let listed = user.run(&["workspace", "list"]).failed(3);
    assert!(listed.stderr.contains("Restore the key from its backup"), "{listed:#?}");
    user.run(&["init"]).failed(4);
    // Not beside an audit log either.
    std::fs::remove_file(user.data().join("keyway.db")).unwrap();
    user.run(&["init"]).failed(3);
    assert!(!user.key().exists());
}

#[test]
fn a_database_that_is_lost_or_emptied_beside_its_audit_log_is_not_replaced() {
    let user = User::new();
    user.run(&["init"]).ok();
    user.run(&["workspace", "create", "Acme"]).ok();
    let database = user.data().join("keyway.db");
    let good = std::fs::read(&database).unwrap();
    let schema_only = {
        let empty = User::new();
        empty.run(&["init"]).ok();
        let path = empty.data().join("keyway.db");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            use sqlx::{ConnectOptions, Connection};
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).foreign_keys(false);
            let mut connection = options.connect().await.unwrap();
            for table in ["host_keys", "master_keys"] {
                sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table}")))
                    .execute(&mut connection)
                    .await
                    .unwrap();
            }
            connection.close().await.unwrap();
        });
        std::fs::read(path).unwrap()
    };
    for lost in [None, Some(&[][..]), Some(&schema_only[..])] {
        match lost {
            None => std::fs::remove_file(&database).unwrap(),
            Some(bytes) => std::fs::write(&database, bytes).unwrap(),
        }
        for command in
            [&["workspace", "list"][..], &["audit", "verify"], &["serve", "--listen", "127.0.0.1:0"], &["init"]]
        {
            let ran = user.run(command).failed(3);
            assert!(ran.stderr.contains("Restore the database from a backup"), "{command:?}: {ran:#?}");
            assert!(ran.stderr.contains("move the audit log away"), "{ran:#?}");
        }
        let checked = user.run(&["config", "check"]).failed(1);
        assert!(checked.stdout.contains("WRONG  database"), "{checked:#?}");
        let left = std::fs::read(&database).ok();
        assert_eq!(left.as_deref().map(<[u8]>::len), lost.map(<[u8]>::len), "nothing was put in its place");
        std::fs::write(&database, &good).unwrap();
        assert!(user.run(&["workspace", "list"]).ok().stdout.contains("Acme"));
    }
    // Anew, on purpose.
    std::fs::remove_file(&database).unwrap();
    std::fs::rename(user.data().join("audit"), user.data().join("audit-before")).unwrap();
    user.run(&["init"]).ok();
    assert!(user.run(&["audit", "verify"]).ok().stdout.starts_with("Good"));
}
