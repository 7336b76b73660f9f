//! Rows of sealed tables that something else than a host wrote: none of them is believed.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, SqlitePool, query, query_scalar};
use tempfile::TempDir;

use super::tests::{api_key, bound, connection, entry, sealed, time, unlocked, workspace};
use super::*;

/// The tables of rows that decide who may open what.
const SEALED: [&str; 6] = ["workspaces", "api_keys", "connections", "connection_states", "vault_entries", "rotations"];

/// A database with two rows of each table, in two workspaces, and access to it beside the host.
struct Database {
    storage: SqliteStorage,
    pool: SqlitePool,
    workspaces: [WorkspaceId; 2],
    _folder: TempDir,
}

impl Database {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyway.db");
        let storage = unlocked(SqliteStorage::open(&path).await.unwrap());
        let workspaces = [workspace(&storage).await, workspace(&storage).await];
        for (number, workspace) in workspaces.into_iter().enumerate() {
            let connection = ConnectionRecord { name: format!("name {number}"), ..connection(workspace) };
            storage.insert_api_key(&api_key(workspace, &format!("lookup {number}"))).await.unwrap();
            storage.insert_connection(&connection, Some(&state(&connection))).await.unwrap();
            let entry = bound(workspace, &connection);
            storage.insert_entry(&entry).await.unwrap();
            storage.insert_rotation(&rotation(&entry, &connection), 1).await.unwrap();
        }
        storage.insert_entry(&entry(workspaces[0], "own")).await.unwrap();
        // As an attacker would, without the checks of the schema.
        let options = SqliteConnectOptions::new().filename(&path).foreign_keys(false);
        let pool = SqlitePool::connect_with(options.pragma("ignore_check_constraints", "ON")).await.unwrap();
        Self { storage, pool, workspaces, _folder: folder }
    }

    async fn texts(&self, sql: String) -> Vec<String> {
        query_scalar(AssertSqlSafe(sql)).fetch_all(&self.pool).await.unwrap()
    }

    /// How many rows of a table are believed.
    async fn believed(&self, table: &str) -> usize {
        async fn count<R: sqlite::Sealed>(storage: &SqliteStorage, table: &str) -> usize {
            storage.all::<R>(query(AssertSqlSafe(format!("SELECT * FROM {table}")))).await.unwrap().len()
        }
        match table {
            "workspaces" => count::<WorkspaceRecord>(&self.storage, table).await,
            "api_keys" => count::<ApiKeyRecord>(&self.storage, table).await,
            "connections" => count::<ConnectionRecord>(&self.storage, table).await,
            "connection_states" => count::<ConnectionStateRecord>(&self.storage, table).await,
            "vault_entries" => count::<EntryRecord>(&self.storage, table).await,
            "rotations" => count::<RotationRecord>(&self.storage, table).await,
            _ => panic!("{table}"),
        }
    }
}

fn state(connection: &ConnectionRecord) -> ConnectionStateRecord {
    ConnectionStateRecord {
        connection_id: connection.id,
        workspace_id: connection.workspace_id,
        settings_version: 1,
        sealed_state: sealed(1),
        version: 1,
        refresh_at: Some(time(9)),
        refresh_attempts: 1,
        updated_at: time(8),
    }
}

fn rotation(entry: &EntryRecord, connection: &ConnectionRecord) -> RotationRecord {
    RotationRecord {
        id: RotationId::generate(),
        workspace_id: entry.workspace_id,
        entry_id: entry.id,
        connection_id: entry.connection_id,
        secret_ref: entry.secret_ref.clone(),
        account_id: Some(connection.account_id.clone()),
        begun_by: Some("operator".into()),
        state: RotationState::Committing,
        reason: Some("unavailable".into()),
        message: Some("It was away.".into()),
        sealed_password: Some(sealed(1)),
        expected_revision: Some("1".into()),
        attempts: 1,
        attempt_until: Some(time(10)),
        next_attempt_at: Some(time(11)),
        failed_settings: None,
        version: 1,
        created_at: time(6),
        updated_at: time(7),
    }
}

#[tokio::test]
async fn a_row_with_any_column_changed_swapped_or_removed_is_not_believed() {
    let database = Database::new().await;
    let mut tried = 0;
    for table in SEALED {
        let all = database.believed(table).await;
        let rows = database.texts(format!("SELECT quote(rowid) FROM {table} ORDER BY rowid")).await;
        assert!(all >= 2 && rows.len() == all, "{table}");
        for column in database.texts(format!("SELECT name FROM pragma_table_info('{table}')")).await {
            let (row, other) = (&rows[0], &rows[1]);
            let value = |row: &str| format!("SELECT quote({column}) FROM {table} WHERE rowid = {row}");
            let before = database.texts(value(row)).await.remove(0);
            let elsewhere = database.texts(value(other)).await.remove(0);
            let changes = [
                "NULL".into(),
                elsewhere,
                format!(
                    "CASE typeof({column}) WHEN 'integer' THEN {column} + 1 WHEN 'blob' THEN zeroblob(32)
                         WHEN 'null' THEN 1 ELSE {column} || 'x' END"
                ),
            ];
            for (number, change) in changes.iter().enumerate() {
                // An envelope is bound to its row by its key; the seal says whether there is one.
                if *change == before || (number > 0 && column.starts_with("sealed_") && before != "NULL") {
                    continue;
                }
                let update = format!("UPDATE {table} SET {column} = {change} WHERE rowid = {row}");
                let Ok(done) = query(AssertSqlSafe(update.clone())).execute(&database.pool).await else {
                    continue; // The schema itself allows no such value.
                };
                assert_eq!(done.rows_affected(), 1, "{update}");
                assert_eq!(database.believed(table).await, all - 1, "{update}");
                let restore = format!("UPDATE {table} SET {column} = {before} WHERE rowid = {row}");
                query(AssertSqlSafe(restore)).execute(&database.pool).await.unwrap();
                assert_eq!(database.believed(table).await, all, "{update}");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

#[tokio::test]
async fn every_table_that_names_a_workspace_is_sealed_or_holds_only_keys_and_counts() {
    let database = Database::new().await;
    let with = |column: &str| {
        format!(
            "SELECT name FROM sqlite_schema WHERE type = 'table'
             AND EXISTS (SELECT 1 FROM pragma_table_info(sqlite_schema.name) WHERE name = '{column}') ORDER BY name"
        )
    };
    let mut sealed = database.texts(with("seal")).await;
    sealed.retain(|table| table != "workspaces");
    let mut all = database.texts(with("workspace_id")).await;
    // A wrapped key is bound to its row; a generation only says what is out of date.
    all.retain(|table| !["workspace_keys", "item_generations"].contains(&table.as_str()));
    assert_eq!(sealed, all);
}

#[tokio::test]
async fn a_damaged_row_is_named_costs_only_itself_and_can_be_deleted() {
    let database = Database::new().await;
    let storage = &database.storage;
    let [workspace, _] = database.workspaces;
    let before = storage.entries(workspace, None, 10, u64::MAX).await.unwrap().entries;
    let [bound, own] = &*before else { panic!("{before:?}") };
    query("UPDATE vault_entries SET domain = 'https://evil.example' WHERE id = ?")
        .bind(bound.id.as_uuid())
        .execute(&database.pool)
        .await
        .unwrap();
    assert_eq!(storage.entries(workspace, None, 10, u64::MAX).await.unwrap().entries, std::slice::from_ref(own));
    let error = storage.entry(workspace, &bound.id.into()).await.unwrap_err();
    let id = bound.id.as_uuid();
    assert!(matches!(error, StorageError::Damaged { table: "vault_entries", id: of } if of == id), "{error}");
    assert!(error.to_string().contains(&id.to_string()), "{error}");
    let changed = EntryRecord { version: 2, ..bound.clone() };
    storage.update_entry(&changed, 1).await.unwrap_err();
    assert!(storage.entry(workspace, &bound.id.into()).await.is_err(), "a change does not vouch for it");

    query("UPDATE api_keys SET scopes = 'admin', workspace_id = ? WHERE lookup = 'lookup 1'")
        .bind(workspace.as_uuid())
        .execute(&database.pool)
        .await
        .unwrap();
    assert!(matches!(storage.api_key("lookup 1").await, Err(StorageError::Damaged { table: "api_keys", .. })));

    query("DELETE FROM rotations").execute(&database.pool).await.unwrap();
    assert!(storage.delete_entry(workspace, &bound.id.into()).await.unwrap().is_some());
}

#[tokio::test]
async fn nothing_sealed_is_read_or_written_without_the_key() {
    let storage = SqliteStorage::in_memory().await.unwrap();
    let record = WorkspaceRecord {
        id: WorkspaceId::generate(),
        name: "Acme".into(),
        external_id: None,
        created_at: time(0),
        updated_at: time(0),
    };
    let error = storage.insert_api_key(&api_key(record.id, "lookup")).await.unwrap_err();
    assert!(matches!(error, StorageError::Conflict(_) | StorageError::Failed(_)), "{error}");
    assert_eq!(storage.workspaces().await.unwrap(), []);
}

#[tokio::test]
async fn what_a_trigger_made_of_a_row_is_not_sealed() {
    let database = Database::new().await;
    let storage = &database.storage;
    let [workspace, other] = database.workspaces;
    let entry = storage.entries(workspace, None, 1, u64::MAX).await.unwrap().entries.remove(0);
    let victim: String = other.as_uuid().simple().to_string();
    for trigger in [
        format!(
            "CREATE TRIGGER evil AFTER INSERT ON api_keys BEGIN
                 UPDATE api_keys SET workspace_id = x'{victim}', scopes = 'admin' WHERE id = NEW.id; END"
        ),
        "CREATE TRIGGER worse AFTER UPDATE OF user_alias ON vault_entries BEGIN
             UPDATE vault_entries SET secret_ref = 'op://vault/other' WHERE id = NEW.id; END"
            .into(),
        "CREATE TRIGGER late AFTER UPDATE OF seal ON connections BEGIN
             UPDATE connections SET account_id = 'another' WHERE id = NEW.id; END"
            .into(),
        "CREATE TRIGGER hides AFTER INSERT ON rotations BEGIN
             UPDATE rotations SET open_item = 'op://vault/other' WHERE id = NEW.id; END"
            .into(),
    ] {
        query(AssertSqlSafe(trigger)).execute(&database.pool).await.unwrap();
    }
    let key = api_key(workspace, "of the attacker");
    assert!(matches!(storage.insert_api_key(&key).await, Err(StorageError::Damaged { table: "api_keys", .. })));
    assert_eq!(storage.api_key("of the attacker").await.unwrap(), None);
    let renamed = EntryRecord { alias: Some("Renamed".into()), version: 2, ..entry.clone() };
    let changed = storage.update_entry(&renamed, 1).await;
    assert!(matches!(changed, Err(StorageError::Damaged { table: "vault_entries", .. })), "{changed:?}");
    assert_eq!(storage.entry(workspace, &entry.id.into()).await.unwrap(), Some(entry.clone()), "nothing was changed");
    let id = entry.connection_id.unwrap();
    storage.clear_cached_secrets(workspace, id).await.unwrap();
    assert!(matches!(storage.connection(workspace, id).await, Err(StorageError::Damaged { .. })));
    query("DELETE FROM rotations").execute(&database.pool).await.unwrap();
    let connection = ConnectionRecord { id, ..connection(workspace) };
    let begun = storage.insert_rotation(&rotation(&entry, &connection), 1).await;
    assert!(matches!(begun, Err(StorageError::Damaged { table: "rotations", .. })), "{begun:?}");
}

#[tokio::test]
async fn a_row_that_cannot_even_be_read_costs_only_itself() {
    let database = Database::new().await;
    let storage = &database.storage;
    let [workspace, _] = database.workspaces;
    for (table, column) in [
        ("workspaces", "name"),
        ("api_keys", "name"),
        ("connections", "name"),
        ("vault_entries", "user_alias"),
        ("rotations", "message"),
    ] {
        let all = database.believed(table).await;
        let id = match table {
            "workspaces" => "id",
            _ => "workspace_id",
        };
        let sql = format!("UPDATE {table} SET {column} = CAST(x'ff' AS TEXT) WHERE {id} = ?");
        let done = query(AssertSqlSafe(sql)).bind(workspace.as_uuid()).execute(&database.pool).await.unwrap();
        assert_eq!(database.believed(table).await, all - usize::try_from(done.rows_affected()).unwrap(), "{table}");
    }
    assert_eq!(
        storage.due_rotations(time(100), time(200), time(0), 10).await.unwrap().len(),
        1,
        "the other workspace's"
    );
    assert!(matches!(storage.workspace(workspace).await, Err(StorageError::Damaged { .. })));
}

#[tokio::test]
async fn damaged_rows_of_every_table_are_found_and_deleted_whatever_is_in_them() {
    let database = Database::new().await;
    let storage = &database.storage;
    let [workspace, other] = database.workspaces;
    assert_eq!(storage.damaged_rows(None, 100).await.unwrap(), []);
    for sql in [
        "UPDATE rotations SET state = 'prepared' WHERE workspace_id = ?",
        "UPDATE vault_entries SET user_alias = CAST(x'ff' AS TEXT) WHERE workspace_id = ?",
        "UPDATE connection_states SET refresh_attempts = -1 WHERE workspace_id = ?",
        "UPDATE connections SET name = 'another' WHERE workspace_id = ?",
        "UPDATE api_keys SET scopes = 'admin', id = x'01ff' WHERE workspace_id = ? AND lookup = 'lookup 0'",
        "UPDATE workspaces SET name = 'another' WHERE id = ?",
    ] {
        query(sql).bind(workspace.as_uuid()).execute(&database.pool).await.unwrap();
    }
    let listed = storage.entries(other, None, 10, u64::MAX).await.unwrap().entries;
    assert_eq!(listed.len(), 1, "another workspace's are not concerned");
    let found = storage.damaged_rows(None, 100).await.unwrap();
    let tables: std::collections::BTreeSet<_> = found.iter().map(|row| row.table).collect();
    assert_eq!(tables, SEALED.into_iter().collect());
    assert!(found.iter().all(|row| row.workspace == Some(workspace)), "{found:?}");
    assert!(found.iter().any(|row| row.table == "api_keys" && row.id.starts_with("rowid:")), "{found:?}");
    assert_eq!(storage.damaged_rows(None, 2).await.unwrap().len(), 2);
    let of_one = async |of| storage.damaged_rows(Some(("api_keys", of)), 100).await.unwrap();
    assert_eq!(of_one(Some(workspace)).await, of_one(None).await);
    assert_eq!((of_one(None).await.len(), of_one(Some(other)).await.len()), (1, 0));

    // A connection with an entry stays, and the others go in this order.
    let connection = found.iter().find(|row| row.table == "connections").unwrap();
    let in_use = storage.delete_row("connections", &connection.id, connection.workspace).await.unwrap_err();
    assert!(matches!(in_use, StorageError::Conflict(Constraint::Reference)), "{in_use}");
    for table in ["rotations", "vault_entries", "connection_states", "connections", "api_keys", "workspaces"] {
        for row in found.iter().filter(|row| row.table == table) {
            assert!(storage.delete_row(row.table, &row.id, row.workspace).await.unwrap(), "{row:?}");
            assert!(!storage.delete_row(row.table, &row.id, row.workspace).await.unwrap(), "{row:?}");
        }
    }
    assert_eq!(storage.damaged_rows(None, 100).await.unwrap(), []);
    assert_eq!(storage.workspaces().await.unwrap().len(), 1);
    assert!(!storage.delete_row("sqlite_schema", &connection.id, None).await.unwrap());
}

#[tokio::test]
async fn a_count_of_changes_that_was_removed_or_spoiled_begins_again_and_is_one_that_nobody_has_seen() {
    let database = Database::new().await;
    let storage = &database.storage;
    let mut seen = vec![storage.record_changes().await.unwrap()];
    for sql in [
        "DELETE FROM record_changes",
        "UPDATE record_changes SET number = -1000000",
        "UPDATE record_changes SET number = 9223372036854775807",
    ] {
        query(sql).execute(&database.pool).await.unwrap();
        let number = storage.record_changes().await.unwrap();
        let id = workspace(storage).await;
        assert!(!seen.contains(&number), "{sql}: {number}");
        seen.push(number);
        storage.rename_workspace(id, "Renamed", time(9)).await.unwrap();
        let key = api_key(id, &format!("lookup {number}"));
        storage.insert_api_key(&key).await.unwrap();
        storage.revoke_api_key(id, key.id, time(9)).await.unwrap();
        let counted = storage.record_changes().await.unwrap();
        assert!(counted > number && counted < number + 10, "{sql}: it counts again: {number}, {counted}");
        seen.extend(number..=counted);
    }
}

/// Puts a table without checks and types in the place of this one.
async fn without_types(database: &Database, table: &str, key: &str) {
    let columns = database.texts(format!("SELECT name FROM pragma_table_info('{table}')")).await.join(", ");
    let sql = format!(
        "ALTER TABLE {table} RENAME TO typed; CREATE TABLE {table} ({columns}, PRIMARY KEY ({key}));
         INSERT INTO {table} SELECT * FROM typed; DROP TABLE typed"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&database.pool).await.unwrap();
}

#[tokio::test]
async fn an_impossible_breaker_is_forgotten_and_another_one_stored() {
    let database = Database::new().await;
    let storage = &database.storage;
    without_types(&database, "breakers", "subject").await;
    let breaker = BreakerRecord { subject: [7; 16], failures: 1, pause: None, version: 1, updated_at: time(1) };
    for spoiled in [
        "failures = -1",
        "failures = 4294967296",
        "version = -1",
        "updated_at = 9223372036854775807",
        "strikes = 'text'",
        "reason = 'unknown', until = 1",
        "probing = x'00ff'",
    ] {
        assert!(storage.save_breaker(&breaker, None).await.unwrap(), "{spoiled}");
        let sql = format!("UPDATE breakers SET {spoiled}");
        query(AssertSqlSafe(sql)).execute(&database.pool).await.unwrap();
        assert_eq!(storage.breaker(&breaker.subject).await.unwrap(), None, "{spoiled}");
        assert!(storage.save_breaker(&breaker, None).await.unwrap(), "{spoiled}");
        assert_eq!(storage.breaker(&breaker.subject).await.unwrap(), Some(breaker.clone()), "{spoiled}");
        query("DELETE FROM breakers").execute(&database.pool).await.unwrap();
    }
}

#[tokio::test]
async fn an_impossible_count_of_requests_begins_again_and_costs_no_other() {
    let database = Database::new().await;
    let storage = &database.storage;
    without_types(&database, "request_counts", "subject, kind, slot").await;
    let wanted = |slot| RequestReservation {
        subject: [7; 16],
        kind: RequestKind::Read,
        slot: time(slot),
        counted_from: time(0),
        kept_from: time(0),
        future: time(1_000),
        requests: 5,
        limit: Some(100),
        returned: None,
    };
    let count = |slot, requests| RequestCount { slot: time(slot), requests };
    for spoiled in ["requests = -5", "requests = 9223372036854775807", "requests = 'many'", "requests = 1.5"] {
        storage.reserve_requests(&wanted(1)).await.unwrap();
        storage.reserve_requests(&wanted(2)).await.unwrap();
        let sql = format!("UPDATE request_counts SET {spoiled} WHERE slot = {}", time(1).as_millisecond());
        query(AssertSqlSafe(sql)).execute(&database.pool).await.unwrap();
        let read = storage.request_counts(&[7; 16], RequestKind::Read, time(0)).await.unwrap();
        assert_eq!(read, [count(2, 5)], "{spoiled}");
        let reserved = storage.reserve_requests(&wanted(1)).await.unwrap();
        assert_eq!(reserved.counts, [count(1, 5), count(2, 5)], "{spoiled}");
        query("DELETE FROM request_counts").execute(&database.pool).await.unwrap();
    }
    storage.reserve_requests(&wanted(1)).await.unwrap();
    query("UPDATE request_counts SET slot = 'late'").execute(&database.pool).await.unwrap();
    let reserved = storage.reserve_requests(&wanted(2)).await.unwrap();
    assert_eq!(reserved.counts, [count(2, 10)], "as one of the future");
}

#[tokio::test]
async fn a_spoiled_count_of_a_keys_uses_counts_as_used_up() {
    let database = Database::new().await;
    let storage = &database.storage;
    let [workspace, _] = database.workspaces;
    for uses in ["-1", "9223372036854775807"] {
        for table in ["workspace_keys", "master_keys"] {
            let sql = format!("UPDATE {table} SET uses = {uses}");
            query(AssertSqlSafe(sql)).execute(&database.pool).await.unwrap();
        }
        let of_workspace = storage.count_workspace_key_uses(workspace, 1, 256).await.unwrap().unwrap();
        let of_master = storage.count_master_key_uses(1, 1).await.unwrap();
        assert!(of_workspace > 1 << 40 && of_master > 1 << 40, "{of_workspace} {of_master}");
    }
}

#[tokio::test]
async fn a_generation_that_is_impossible_and_an_impossible_version_cost_only_their_item() {
    let database = Database::new().await;
    let storage = &database.storage;
    let [workspace, _] = database.workspaces;
    let item = ItemId { account: "echo/a".into(), reference: "echo://item".into() };
    storage.outdate_item(workspace, &item).await.unwrap();
    query("UPDATE item_generations SET generation = -1").execute(&database.pool).await.unwrap();
    let (before, _) = storage.item_state(workspace, &item).await.unwrap();
    storage.outdate_item(workspace, &item).await.unwrap();
    assert_ne!(storage.item_state(workspace, &item).await.unwrap().0, before);
    query("UPDATE connections SET version = -1").execute(&database.pool).await.unwrap();
    let column = SealedColumn::ConnectionSettings;
    let values = storage.sealed_values(workspace, column, 9, uuid::Uuid::nil(), 10, u64::MAX).await.unwrap();
    assert_eq!(values.len(), 1);
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_named_with_table_and_row() {
    let database = Database::new().await;
    let storage = &database.storage;
    let [workspace, other] = database.workspaces;
    let owned = query("UPDATE workspace_keys SET term = -4 WHERE workspace_id = ?").bind(workspace.as_uuid());
    owned.execute(&database.pool).await.unwrap();
    let row = format!("the row {workspace}/-4 of the table `workspace_keys`");
    for error in [
        storage.workspace_keys(workspace).await.map(drop).unwrap_err(),
        storage.workspace_key_terms(workspace).await.map(drop).unwrap_err(),
        storage.all_workspace_keys().await.map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().starts_with(&row) && error.is_of_one_row(), "{error}");
    }
    assert_eq!(storage.workspace_keys(other).await.unwrap().len(), 1, "it costs no other workspace");
    query("UPDATE master_keys SET created_at = 9223372036854775807").execute(&database.pool).await.unwrap();
    let error = storage.master_keys().await.unwrap_err();
    assert!(error.to_string().starts_with("the row 1 of the table `master_keys`"), "{error}");
}
