//! `keyway database`: damaged rows are listed and deleted, and nothing else is.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql};

use crate::support::Folder;

/// Changes the database as another program would, without the key.
pub(crate) async fn change(folder: &Folder, sql: &str) {
    let options = SqliteConnectOptions::new().filename(folder.path().join("keyway.db")).foreign_keys(false);
    let mut database = options.connect().await.unwrap();
    raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_row_is_listed_stops_a_rotation_by_name_and_is_deleted_when_that_is_confirmed() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let bind = ["bind", "echo://item/one", "--user", "user", "--domain", "https://acme.com"];
    let entry = folder.run(&[&bind[..], &["--json"]].concat()).ok().json();
    let good = folder.run(&["database", "check"]).ok();
    assert!(good.stdout.contains("No row is damaged"), "{good:#?}");
    let id = entry["id"].as_str().unwrap();
    let healthy = folder.run(&["database", "delete-damaged", "vault_entries", id, "--yes"]).failed(3);
    assert!(healthy.stderr.contains("`keyway database check`"), "{healthy:#?}");

    change(&folder, "UPDATE vault_entries SET domain = 'https://evil.example'").await;
    let found = folder.run(&["database", "check", "--json"]).failed(1);
    let rows: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!((rows[0]["table"].as_str(), rows[0]["id"].as_str()), (Some("vault_entries"), Some(id)), "{rows}");
    assert!(found.stderr.contains("1 row is damaged") && found.stderr.contains("delete-damaged"), "{found:#?}");

    let unconfirmed = folder.run(&["database", "delete-damaged", "vault_entries", id]).failed(2);
    assert!(unconfirmed.stderr.contains("--yes"), "{unconfirmed:#?}");
    folder.run(&["database", "delete-damaged", "vault_entries", id, "--yes"]).ok();
    folder.run(&["database", "check"]).ok();
    folder.run(&bind).ok();

    change(&folder, "UPDATE connections SET sealed_settings = zeroblob(100)").await;
    let stopped = folder.run(&["workspace", "rotate-key"]).failed(1);
    assert!(stopped.stderr.contains("of the table `connections`") && stopped.stderr.contains("database check"));
    let connection = folder.run(&["database", "check", "--json"]).failed(1);
    let connection: serde_json::Value = serde_json::from_str(&connection.stdout).unwrap();
    let connection = connection[0]["id"].as_str().unwrap();
    let in_use = folder.run(&["database", "delete-damaged", "connections", connection, "--yes"]).failed(4);
    assert!(in_use.stderr.contains("still in use by 1 vault entry (user at https://acme.com)"), "{in_use:#?}");
    change(&folder, "UPDATE connections SET name = 'another'").await;
    let left_out = folder.run(&["items"]).failed(3);
    assert!(left_out.stderr.contains("one is left out because its row is damaged"), "{left_out:#?}");
    let listed = folder.run(&["connection", "list"]).ok();
    assert!(listed.stdout.contains("one is left out because its row is damaged"), "{listed:#?}");
}

#[tokio::test]
async fn a_spoiled_count_of_changes_stops_nothing() {
    let folder = Folder::connected(&["fixtures/echo"]);
    // Without STRICT, a text can stand in the place of the number.
    let any_type = "PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'record_changes'";
    change(&folder, any_type).await;
    for sql in [
        "DELETE FROM record_changes",
        "UPDATE record_changes SET number = -5",
        "UPDATE record_changes SET number = 'zz'",
    ] {
        change(&folder, sql).await;
        folder.run(&["database", "check"]).ok();
        change(&folder, sql).await;
        folder.run(&["items"]).ok();
    }
}
