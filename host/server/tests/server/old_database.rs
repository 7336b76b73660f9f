//! A database of the first version (commit 7ab9900), made by its command line: it opens, and
//! everything in it works.
//!
//! `tests/data/first-database` holds the database as SQL, and its audit log. In it are a connection
//! of the fixture `echo`, three bound entries of `alice` (one, two, three), one of `bob` with
//! credentials of its own, a rotation that is done (two) and two that are prepared (one, own), and
//! three API keys, the last of which is revoked.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql};

use crate::cli_database::change;
use crate::serve::Process;
use crate::support::{Folder, send};

const FIRST: &str = "sk_6hntevohpeo2j26vnbjyjfxq4mhwfujnn567zmwavw5nxaza5pwundsacglsg6l2";
const READER: &str = "sk_qumv6z4pkrm2wwb2s4ycnfrwbgorptjedwl4njwqskx6w7cljqtebgebwlfglzd6";
const REVOKED: &str = "sk_rfqhohdwjcftt2dgrmo7pfzyzo53fldooofkbukttfydma65bel3iduvfyi3dem3";

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/first-database")
}

/// A folder with that database and its audit log, under the master key of all tests.
async fn folder() -> Folder {
    let folder = Folder::with(&["fixtures/echo"]);
    let database = folder.path().join("keyway.db");
    std::fs::remove_file(&database).unwrap();
    let options = SqliteConnectOptions::new().filename(&database).create_if_missing(true).foreign_keys(false);
    let mut connection = options.connect().await.unwrap();
    let sql = std::fs::read_to_string(data().join("keyway.sql")).unwrap();
    raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    std::fs::create_dir(folder.path().join("audit")).unwrap();
    for file in std::fs::read_dir(data().join("audit")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join("audit").join(file.file_name())).unwrap();
    }
    folder
}

fn revealed(folder: &Folder, user: &str, site: &str) -> Value {
    let domain = format!("https://{site}.example");
    folder.run(&["resolve", "--user", user, "--domain", &domain, "--reveal", "--json"]).ok().json()
}

fn rotation_of(folder: &Folder, reference: &Value) -> String {
    let listed = folder.run(&["rotation", "list", "--open", "--json"]).ok().json();
    let of_it = listed.as_array().unwrap().iter().find(|rotation| rotation["secret_ref"] == *reference);
    of_it.unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_first_version_opens_and_everything_in_it_works() {
    let folder = folder().await;
    let verified = folder.run(&["audit", "verify"]).ok();
    assert!(verified.stdout.starts_with("Good: 27 records"), "{verified:#?}");

    // Connections, entries, values of items and of entries.
    let connections = folder.run(&["connection", "list", "--json"]).ok().json();
    assert_eq!((&connections[0]["name"], &connections[0]["provider_type"]), (&json!("Echo"), &json!("echo")));
    assert_eq!(folder.run(&["items", "--json"]).ok().json().as_array().unwrap().len(), 3);
    assert_eq!(revealed(&folder, "alice", "three")["password"]["value"], "password-three");
    let own = revealed(&folder, "bob", "own");
    assert_eq!((&own["username"]["value"], &own["password"]["value"]), (&json!("own-user"), &json!("own-pass")));
    assert_eq!(own["one_time_code"]["code"].as_str().unwrap().len(), 6);

    // Rotations go on.
    let one = rotation_of(&folder, &json!("echo://item/one"));
    let shown = folder.run(&["rotation", "show", &one, "--reveal", "--json"]).ok().json();
    assert_eq!(shown["password"], "Prepared-Password-1");
    // The fixture takes a new password and goes on showing the old one, which is told.
    let unconfirmed = folder.run(&["rotation", "commit", &one, "--json"]).failed(6).json();
    assert_eq!((&unconfirmed["state"], &unconfirmed["reason"]), (&json!("committing"), &json!("unconfirmed")));
    folder.run(&["rotation", "abandon", &one, "--discard-password"]).ok();
    let of_own = rotation_of(&folder, &Value::Null);
    folder.run(&["rotation", "commit", &of_own]).ok();
    assert_eq!(revealed(&folder, "bob", "own")["password"]["value"], "Committed-Password-2");

    // API keys, over HTTP, with what each may do.
    let server = Process::start(&folder, &[]);
    assert_eq!(server.get("/vault", FIRST).await.ok(200).as_array().unwrap().len(), 4);
    server.get("/vault", REVOKED).await.error(401, "UNAUTHENTICATED");
    server.get("/vault", READER).await.error(403, "FORBIDDEN");
    let body = json!({"permissioned_user_id": "alice", "domain": "https://two.example"});
    let headers = [("cc-key", READER), ("content-type", "application/json")];
    let url = format!("{}/vault/resolve", server.url);
    let resolved = send(&url, "POST", &headers, body.to_string()).await.ok(200);
    assert_eq!(resolved["password"]["value"], "password-two", "{resolved}");
    assert_eq!(server.end(Signal::TERM).0, 0);

    // New ones beside the old, and new keys under all of it.
    folder.run(&["connection", "update", "--cache-ttl", "off"]).ok();
    let domain = "https://new.example";
    folder.run(&["bind", "echo://item/new", "--user", "alice", "--domain", domain, "--no-check"]).ok();
    folder.run(&["workspace", "rotate-key"]).ok();
    let new = folder.path().join("new.key");
    folder.run(&["master-key", "rotate", "--new-key-file", new.to_str().unwrap()]).ok();
    std::fs::rename(&new, folder.key_file()).unwrap();
    assert_eq!(revealed(&folder, "bob", "own")["password"]["value"], "Committed-Password-2");
    assert_eq!(revealed(&folder, "alice", "new")["password"]["value"], "password-new");
    folder.run(&["audit", "verify"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_copy_of_the_hosts_key_does_not_get_changed_rows_sealed_unnoticed() {
    let folder = folder().await;
    let alter = async |sql: &str| change(&folder, sql).await;
    alter("CREATE TABLE aside AS SELECT wrapped_key, version FROM host_keys WHERE name = 'host';").await;
    folder.run(&["workspace", "list"]).ok();
    alter(
        "UPDATE host_keys SET (wrapped_key, version) = (SELECT wrapped_key, version FROM aside), rows_sealed = 0,
             has_audit_root = 0 WHERE name = 'host';",
    )
    .await;
    // The rows say that they are sealed.
    for _ in 0..2 {
        let refused = folder.run(&["workspace", "list"]).failed(1);
        assert!(refused.stderr.contains("the host's key in the database is an earlier copy"), "{refused:#?}");
    }
    // Without their seals, the root of the audit log says it, for ever.
    for table in ["workspaces", "api_keys", "connections", "connection_states", "vault_entries", "rotations"] {
        alter(&format!("UPDATE {table} SET seal = NULL;")).await;
    }
    folder.run(&["workspace", "list"]).ok();
    for name in ["Another", "A third"] {
        let found = folder.run(&["audit", "verify"]).failed(8);
        assert!(found.stderr.contains("an earlier copy of the host's key"), "{found:#?}");
        folder.run(&["workspace", "create", name]).ok();
    }
    // Under a new master key, that copy opens nothing.
    let new = folder.path().join("new.key");
    folder.run(&["master-key", "rotate", "--new-key-file", new.to_str().unwrap()]).ok();
    std::fs::rename(&new, folder.key_file()).unwrap();
    alter(
        "UPDATE host_keys SET (wrapped_key, version) = (SELECT wrapped_key, version FROM aside), rows_sealed = 0,
             has_audit_root = 0, master_term = 1 WHERE name = 'host';",
    )
    .await;
    assert_ne!(folder.run(&["workspace", "list"]).code, 0);
}
