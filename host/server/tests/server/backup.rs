//! `keyway backup`, beside a server that is written to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::serve::{Process, api_key};
use crate::support::{Folder, MASTER_KEY, Ran, assert_without, send};

/// The program with the data of a backup, the master key, and the providers of the original.
fn keyway(backup: &Path, original: &Folder, arguments: &[&str]) -> Command {
    let mut command = original.keyway(arguments);
    command.env("KEYWAY_DATA_DIR", backup).env("KEYWAY_PROVIDERS", original.providers());
    command
}

fn run(backup: &Path, original: &Folder, arguments: &[&str]) -> Ran {
    Ran::from(keyway(backup, original, arguments).output().unwrap())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_server_that_is_written_to_is_restored_with_the_master_key() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::connected(&["fixtures/echo"]);
    let bound = folder.bind("acme-prod", "echo://item/one");
    let key = api_key(&folder);
    // Segments of the smallest size, so that new ones are begun meanwhile.
    let server = Process::start(&folder, &["--audit-segment-mib", "1"]);
    let places = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();

    let ends = Arc::new(AtomicBool::new(false));
    let connection = folder.run(&["connection", "list", "--json"]).ok().json()[0]["id"].clone();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (url, key, ends) = (format!("{}/vault", server.url), key.clone(), ends.clone());
            let connection = connection.clone();
            tokio::spawn(async move {
                let mut number = 0;
                while !ends.load(Ordering::Relaxed) {
                    let entry = json!({
                        "permissioned_user_id": format!("user-{writer}-{number}"), "domain": "https://acme.com",
                        "secret_provider_id": connection, "secret_ref": "echo://item/two",
                    });
                    let headers = [("cc-key", &*key), ("content-type", "application/json")];
                    send(&url, "POST", &headers, entry.to_string()).await.ok(201);
                    number += 1;
                    // Some thousand entries are enough.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                number
            })
        })
        .collect();
    let mut entries_before = 0;
    for round in 0..6 {
        let backup = places.path().join(format!("backup-{round}"));
        let made = folder.run(&["backup", backup.to_str().unwrap(), "--json"]).ok().json();
        assert!(made["audit_segments"].as_u64().unwrap() > 0, "{made}");
        let all = files(&backup);
        assert!(all.iter().all(|file| std::fs::metadata(file).unwrap().permissions().mode() & 0o777 == 0o600));
        assert!(all.iter().all(|file| !std::fs::read(file).unwrap().windows(64).any(|w| w == MASTER_KEY.as_bytes())));
        assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o700);

        let verified = run(&backup, &folder, &["audit", "verify", "--json"]).ok().json();
        assert_eq!(verified["good"], true, "{verified}");
        let resolved = run(&backup, &folder, &["resolve", &bound, "-w", "Acme", "--reveal", "--json"]).ok().json();
        assert_eq!(resolved["password"]["value"], "password-one");
        let entries =
            run(&backup, &folder, &["entry", "list", "-w", "Acme", "--json"]).ok().json().as_array().unwrap().len();
        assert!(entries > entries_before, "the writers go on: {entries}");
        entries_before = entries;
        // Another process, with a series of records of its own.
        folder.run(&["workspace", "create", &format!("Another {round}")]).ok();
    }
    ends.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    assert_eq!(server.end(Signal::TERM).0, 0);
    assert!(folder.run(&["audit", "verify"]).ok().stdout.starts_with("Good"));

    // The last one serves, and its log goes on.
    let backup = places.path().join("backup-5");
    let restored = Process::of(keyway(&backup, &folder, &["serve", "--listen", "127.0.0.1:0", "--json"]));
    let listed = restored.get("/vault", &key).await.ok(200);
    assert_eq!(listed.as_array().unwrap().len(), entries_before);
    assert_eq!(restored.end(Signal::TERM).0, 0);
    assert!(run(&backup, &folder, &["audit", "verify"]).ok().stdout.starts_with("Good"));
    assert_eq!(std::fs::read_dir(places.path()).unwrap().count(), 6, "nothing unfinished is left");
}

#[test]
fn a_backup_needs_no_master_key_and_never_takes_the_place_of_anything() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let places = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let there = places.path().join("there");
    std::fs::write(&there, "kept").unwrap();
    let refused = folder.run(&["backup", there.to_str().unwrap(), "--json"]).failed(4);
    assert_eq!(refused.json()["error"]["code"], "CONFLICT");
    assert_eq!(std::fs::read_to_string(&there).unwrap(), "kept");
    let missing = places.path().join("no/folder");
    let refused = folder.run(&["backup", missing.to_str().unwrap()]).failed(3);
    assert!(refused.stderr.contains("create that folder") && !refused.stderr.contains(".keyway"), "{refused:#?}");
    let unfinished = places.path().join(".keyway-backup-mine");
    let refused = folder.run(&["backup", unfinished.to_str().unwrap()]).failed(4);
    assert!(refused.stderr.contains("name it otherwise"), "{refused:#?}");

    std::fs::remove_file(folder.key_file()).unwrap();
    let new = places.path().join("new");
    let made = folder.run(&["backup", new.to_str().unwrap()]).ok();
    assert!(made.stdout.contains("The master key is not in it"), "{made:#?}");
    assert_without(&made.all(), &[MASTER_KEY]);
    assert_eq!(std::fs::read_dir(places.path()).unwrap().count(), 2, "nothing unfinished is left");
    let nothing: Value =
        folder.run(&["backup", "x", "--data-dir", missing.to_str().unwrap(), "--json"]).failed(3).json();
    assert_eq!(nothing["error"]["code"], "NOT_FOUND");
}

#[test]
fn what_a_killed_backup_left_is_removed_by_the_next_one_and_a_running_one_is_left_alone() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let places = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (dead, alive) = (places.path().join(".keyway-backup-dead"), places.path().join(".keyway-backup-alive"));
    for unfinished in [&dead, &alive] {
        std::fs::create_dir(unfinished).unwrap();
        std::fs::write(unfinished.join("keyway.db"), "half").unwrap();
    }
    let lock = std::fs::File::open(&alive).unwrap();
    lock.try_lock().unwrap();
    folder.run(&["backup", places.path().join("new").to_str().unwrap()]).ok();
    assert!(!dead.exists() && alive.exists());
}

#[test]
fn a_backup_is_not_made_inside_of_what_it_is_a_backup_of() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let audit = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let inside = folder.path().join("backup");
    let refused = folder.run(&["backup", inside.to_str().unwrap()]).failed(4);
    assert!(refused.stderr.contains("is in the data folder") && refused.stderr.contains("elsewhere"), "{refused:#?}");
    let inside = audit.path().join("backup");
    let elsewhere = ["backup", inside.to_str().unwrap(), "--audit-dir", audit.path().to_str().unwrap()];
    let refused = folder.run(&elsewhere).failed(4);
    assert!(refused.stderr.contains("is in the audit folder"), "{refused:#?}");
    assert!(!inside.exists());
}

#[test]
fn a_backup_without_the_log_that_the_database_has_is_not_made() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let places = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (new, wrong) = (places.path().join("new"), places.path().join("wrong"));
    let arguments = ["backup", new.to_str().unwrap(), "--audit-dir", wrong.to_str().unwrap()];
    let refused = folder.run(&arguments).failed(3);
    assert!(refused.stderr.contains("there is none in") && refused.stderr.contains("--audit-dir"), "{refused:#?}");
    assert!(std::fs::read_dir(places.path()).unwrap().next().is_none(), "nothing was made");
}
