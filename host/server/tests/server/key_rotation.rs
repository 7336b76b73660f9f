//! `keyway master-key rotate` and `keyway workspace rotate-key`, with and without a running server.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::serve::Process;
use crate::support::{Folder, send, set_mode};

const ECHO: &[&str] = &["fixtures/echo"];

#[test]
fn the_master_key_is_replaced_and_the_old_one_is_refused_in_a_sentence_that_says_so() {
    let folder = Folder::connected(ECHO);
    let new = folder.path().join("new.key");
    let rotated = folder.run(&["master-key", "rotate", "--new-key-file", new.to_str().unwrap(), "--json"]).ok().json();
    assert_eq!(rotated["key_term"], 2);
    assert_eq!(rotated["keys"], 2);
    assert_eq!(rotated["key_file"], new.to_str().unwrap());
    assert_eq!(std::fs::read_to_string(&new).unwrap().trim().len(), 64, "a missing file is made");

    let refused = folder.run(&["workspace", "list"]).failed(1);
    assert!(refused.stderr.contains("was replaced on") && !refused.stderr.contains("WARN"), "{refused:#?}");
    let by_file = ["workspace", "list", "--master-key-file", new.to_str().unwrap()];
    folder.run(&by_file).ok();
    let key = folder.key_file();
    let both = ["items", "--master-key-file", key.to_str().unwrap(), "--old-master-key-file", new.to_str().unwrap()];
    let ran = folder.run(&both).ok();
    assert!(ran.stderr.is_empty(), "what was compiled is still good: {ran:#?}");
    std::fs::rename(&new, &key).unwrap();
    folder.run(&["workspace", "list"]).ok();

    let again = folder.run(&["master-key", "rotate", "--new-key-file", key.to_str().unwrap()]).failed(4);
    assert!(again.stderr.contains("already uses the new master key"), "{again:#?}");
}

#[test]
fn a_master_key_that_cannot_be_used_changes_nothing_and_leaves_no_file() {
    let folder = Folder::connected(ECHO);
    let open = folder.path().join("open.key");
    std::fs::write(&open, "00".repeat(32)).unwrap();
    set_mode(&open, 0o644);
    let ran = folder.run(&["master-key", "rotate", "--new-key-file", open.to_str().unwrap()]).failed(1);
    assert!(ran.stderr.contains("chmod 600"), "{ran:#?}");
    folder.run(&["workspace", "list"]).ok();
    let (wrong, new) = (folder.path().join("wrong.key"), folder.path().join("new.key"));
    std::fs::write(&wrong, "00".repeat(32)).unwrap();
    set_mode(&wrong, 0o600);
    let arguments = ["master-key", "rotate", "--master-key-file", wrong.to_str().unwrap(), "--new-key-file"];
    folder.run(&[&arguments[..], &[new.to_str().unwrap()]].concat()).failed(1);
    assert!(!new.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_serves_on_while_both_keys_are_replaced() {
    let folder = Folder::connected(ECHO);
    let created = folder.run(&["workspace", "create", "Second", "--scopes", "api,admin", "--json"]).ok().json();
    let first = folder.run(&["key", "create", "test", "-w", "Acme", "--json"]).ok().json();
    let (first, second) = (first["api_key"].as_str().unwrap(), created["api_key"].as_str().unwrap());
    let server = Process::start(&folder, &[]);
    server.get("/vault", first).await.ok(200);

    let new = folder.path().join("new.key");
    folder.run(&["master-key", "rotate", "--new-key-file", new.to_str().unwrap()]).ok();
    server.get("/vault", first).await.ok(200);
    // The server finds the new key in place of the old one when it needs it.
    std::fs::rename(&new, folder.key_file()).unwrap();
    server.get("/vault", second).await.ok(200);

    let rotated = folder.run(&["workspace", "rotate-key", "-w", "Acme", "--json"]).ok().json();
    assert_eq!((&rotated["key_term"], &rotated["resumed"]), (&json!(2), &json!(false)));
    let shown = folder.run(&["workspace", "encryption-key", "-w", "Acme", "--json"]).ok().json();
    assert_eq!(shown["encryption_key"], rotated["encryption_key"]);
    let create = async |user: &str, key: &Value| {
        let key = keyway::keys::ClientKey::from_hex(&key.as_str().unwrap().into()).unwrap();
        let body = json!({
            "permissioned_user_id": user, "domain": "https://acme.com", "password": key.encrypt(&"s3cret".into()).unwrap(),
        });
        let headers = [("cc-key", first), ("content-type", "application/json")];
        send(&format!("{}/vault", server.url), "POST", &headers, body.to_string()).await
    };
    create("other", &created["encryption_key"]).await.error(401, "NOT_ENCRYPTED");
    create("new", &rotated["encryption_key"]).await.ok(201);
    assert_eq!(server.end(Signal::TERM).0, 0);
}

#[test]
fn a_rotated_key_is_told_once_and_what_to_do_with_it() {
    let folder = Folder::connected(ECHO);
    let ran = folder.run(&["workspace", "rotate-key"]).ok();
    assert!(ran.stdout.contains("1 value was re-encrypted"), "{ran:#?}");
    assert!(ran.stdout.contains("Give clients the new encryption key"), "{ran:#?}");
    let key = folder.run(&["workspace", "encryption-key"]).ok();
    assert!(ran.stdout.contains(key.stdout.trim()), "{ran:#?}");
}

#[test]
fn both_rotations_are_in_the_audit_log_from_before_they_begin() {
    let folder = Folder::connected(ECHO);
    let new = folder.path().join("new.key");
    folder.run(&["workspace", "rotate-key"]).ok();
    folder.run(&["master-key", "rotate", "--new-key-file", new.to_str().unwrap()]).ok();
    std::fs::rename(&new, folder.key_file()).unwrap();
    for operation in ["rotate_workspace_key", "rotate_master_key"] {
        let arguments = ["audit", "list", "--operation", operation, "--order", "oldest", "--json"];
        let listed = folder.run(&arguments).ok().json();
        let outcomes: Vec<_> =
            listed["records"].as_array().unwrap().iter().map(|record| record["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["begun", "ok"], "{operation}");
    }
    folder.run(&["audit", "verify"]).ok();
}
