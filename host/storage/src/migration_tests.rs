//! Databases of earlier releases: their data survives when the present code opens them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, SqlitePool};
use uuid::Uuid;

use super::tests::unlocked;
use super::*;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// For each migration, rows of the tables that it adds and values of the columns that it adds.
/// Identifiers are sixteen letters.
const ROWS: [&str; 18] = [
    "INSERT INTO master_keys (term, key_id, uses, created_at) VALUES (1, CAST('master-key-00001' AS BLOB), 7, 1000);
     INSERT INTO workspaces (id, name, created_at, updated_at)
     VALUES (CAST('workspace-000001' AS BLOB), 'Acme', 1001, 1002), (CAST('workspace-000002' AS BLOB), 'Other', 1003, 1004);
     INSERT INTO workspace_keys (workspace_id, term, wrapped_key, master_term, uses, version, created_at)
     VALUES (CAST('workspace-000001' AS BLOB), 1, x'0a', 1, 9, 3, 1005);
     INSERT INTO api_keys (id, workspace_id, name, lookup, hash, scopes, created_at, revoked_at)
     VALUES (CAST('apikey-000000001' AS BLOB), CAST('workspace-000001' AS BLOB), 'first', 'aaaa', zeroblob(32), 'api', 1006, NULL),
            (CAST('apikey-000000002' AS BLOB), CAST('workspace-000001' AS BLOB), 'gone', 'bbbb', zeroblob(32), 'resolve', 1007, 1008);
     INSERT INTO connections (id, workspace_id, name, provider_type, sealed_settings, hints, account, read_only,
                              cache_ttl_seconds, cache_generation, version, created_at, updated_at)
     VALUES (CAST('connection-00001' AS BLOB), CAST('workspace-000001' AS BLOB), 'Acme 1Password', '1password',
             x'0100000001aa', '{\"token\":\"wxyz\"}', 'acme.1password.com', 0, 300, 4, 5, 1009, 1010);
     INSERT INTO vault_entries (id, workspace_id, permissioned_user_id, domain, user_alias, tfa_method, connection_id,
                                secret_ref, cache_ttl_seconds, sealed_credentials, version, created_at, updated_at)
     VALUES (CAST('entry-0000000001' AS BLOB), CAST('workspace-000001' AS BLOB), 'bound', 'https://acme.com', 'Main', 'EMAIL',
             CAST('connection-00001' AS BLOB), 'op://vault/item', 60, NULL, 6, 1011, 1012),
            (CAST('entry-0000000002' AS BLOB), CAST('workspace-000001' AS BLOB), 'own', 'https://acme.com', NULL, NULL,
             NULL, NULL, NULL, x'0100000001bb', 7, 1013, 1014);",
    "UPDATE vault_entries SET sealed_attributes = x'0100000001cc', session_data_set_at = 1015;
     UPDATE vault_entries SET passkey = 1 WHERE connection_id IS NULL;",
    "",
    "INSERT INTO audit_anchors (series, number, head, mac, at)
     VALUES (1, 12, CAST('0123456789abcdef0123456789abcdef' AS BLOB), zeroblob(32), 1016);",
    "INSERT INTO host_keys (name, wrapped_key, master_term, version, created_at) VALUES ('budgets', x'0b', 1, 2, 1017);
     INSERT INTO request_counts (subject, kind, slot, requests) VALUES (CAST('token-0000000001' AS BLOB), 'read', 60000, 11);
     INSERT INTO breakers (subject, failures, reason, until, strikes, probing, version, updated_at)
     VALUES (CAST('token-0000000001' AS BLOB), 0, 'refused', 90000, 2, 1, 3, 80000),
            (CAST('token-0000000002' AS BLOB), 4, NULL, NULL, 0, 0, 4, 80001);",
    "INSERT INTO rotations (id, workspace_id, entry_id, connection_id, secret_ref, state, reason, message, sealed_password,
                            expected_revision, attempts, attempt_until, next_attempt_at, open_entry_id, open_item,
                            version, created_at, updated_at)
     VALUES (CAST('rotation-0000001' AS BLOB), CAST('workspace-000001' AS BLOB), CAST('entry-0000000001' AS BLOB),
             CAST('connection-00001' AS BLOB), 'op://vault/item', 'committing', 'unavailable', 'It was away.', x'0100000001dd',
             '17', 3, 1018, 1019, CAST('entry-0000000001' AS BLOB), 'op://vault/item', 8, 1020, 1021),
            (CAST('rotation-0000002' AS BLOB), CAST('workspace-000001' AS BLOB), CAST('entry-0000000001' AS BLOB),
             CAST('connection-00001' AS BLOB), 'op://vault/other', 'write_back_failed', 'permission_denied', 'No.', x'0100000001ee',
             '18', 4, NULL, NULL, CAST('entry-0000000001' AS BLOB), 'op://vault/other', 9, 1022, 1023),
            (CAST('rotation-0000003' AS BLOB), CAST('workspace-000001' AS BLOB), CAST('entry-0000000001' AS BLOB),
             CAST('connection-00001' AS BLOB), 'op://vault/third', 'write_back_failed', 'damaged', 'No.', x'0100000001ff',
             '19', 5, NULL, NULL, CAST('entry-0000000001' AS BLOB), 'op://vault/third', 10, 1024, 1025),
            (CAST('rotation-0000004' AS BLOB), CAST('workspace-000001' AS BLOB), CAST('entry-0000000009' AS BLOB),
             NULL, NULL, 'done', NULL, NULL, NULL, NULL, 1, NULL, NULL, NULL, NULL, 11, 1026, 1027);
     INSERT INTO item_generations (workspace_id, secret_ref, generation)
     VALUES (CAST('workspace-000001' AS BLOB), 'op://vault/item', 2);",
    "UPDATE record_changes SET number = 41;",
    "UPDATE connections SET settings_version = 4;
     UPDATE rotations SET failed_settings = 3 WHERE reason = 'permission_denied';",
    "UPDATE connections SET account_key = 'acme', rate_limit_tier = 'teams';",
    "",
    "INSERT INTO connection_states (id, workspace_id, settings_version, sealed_state, version, refresh_at, refresh_attempts, updated_at)
     VALUES (CAST('connection-00001' AS BLOB), CAST('workspace-000001' AS BLOB), 4, x'0100000001ab', 12, 1028, 2, 1029);",
    "UPDATE workspaces SET external_id = 'customer-42' WHERE id = CAST('workspace-000001' AS BLOB);",
    "INSERT INTO audit_roots (root) VALUES (CAST('a root' AS BLOB));",
    "UPDATE rotations SET begun_by = 'operator' WHERE id = CAST('rotation-0000001' AS BLOB);",
    "",
    "INSERT INTO rotations (id, workspace_id, entry_id, state, version, created_at, updated_at)
     VALUES (CAST('rotation-0000001' AS BLOB), CAST('workspace-000002' AS BLOB), CAST('entry-0000000003' AS BLOB),
             'skipped', 1, 1030, 1031);",
    "",
    "INSERT INTO components (provider_type, digest) VALUES ('1password', 'c0ffee');",
];

/// A table's columns and their contents, row by row.
type Tables = BTreeMap<String, (Vec<String>, Vec<String>)>;

async fn texts(database: &SqlitePool, sql: String) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(database).await.unwrap()
}

/// Everything except the count of changes, which a migration that changes rows increases.
async fn tables(database: &SqlitePool) -> Tables {
    let sql =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('_sqlx_migrations', 'record_changes')";
    let mut tables = Tables::new();
    for table in texts(database, sql.into()).await {
        let columns = texts(database, format!("SELECT name FROM pragma_table_info('{table}')")).await;
        let rows = rows(database, &table, &columns).await;
        tables.insert(table, (columns, rows));
    }
    tables
}

async fn rows(database: &SqlitePool, table: &str, columns: &[String]) -> Vec<String> {
    let values: Vec<_> = columns.iter().map(|column| format!("quote({column})")).collect();
    texts(database, format!("SELECT {} FROM {table} ORDER BY 1", values.join(" || ' ' || "))).await
}

#[tokio::test]
async fn a_database_of_each_earlier_release_opens_and_its_rows_are_as_they_were() {
    assert_eq!(MIGRATIONS.iter().count(), ROWS.len(), "a new migration needs rows to be tried with");
    for release in 1..=ROWS.len() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyway.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let database = SqlitePool::connect_with(options).await.unwrap();
        for (before, rows) in ROWS[..release].iter().enumerate() {
            let migrations = MIGRATIONS.iter().take(before + 1).cloned().collect();
            Migrator::with_migrations(migrations).run(&database).await.unwrap();
            sqlx::raw_sql(*rows).execute(&database).await.unwrap();
        }
        let before = tables(&database).await;
        for (table, (_, rows)) in &before {
            assert!(!rows.is_empty(), "{table} has no row to lose");
        }

        let storage = SqliteStorage::open(&path).await.unwrap();
        for (table, (columns, before)) in &before {
            assert_eq!(&rows(&database, table, columns).await, before, "{table} of a database of release {release}");
        }
        assert_eq!(texts(&database, "PRAGMA integrity_check".into()).await, ["ok"]);
        let broken = sqlx::query("PRAGMA foreign_key_check").fetch_all(&database).await.unwrap();
        assert!(broken.is_empty(), "{release}");
        let storage = unlocked(storage);
        assert_eq!(storage.workspaces().await.unwrap(), [], "nothing is believed that is not sealed");
        seal_rows(&storage).await;
        everything_is_read(&storage, release).await;
        database.close().await;
        storage.close().await;
    }
}

/// Seals the rows, as a host does that opens the database for the first time since there are seals.
async fn seal_rows(storage: &SqliteStorage) {
    let new = HostKeyRecord {
        name: "host".into(),
        wrapped_key: vec![12],
        master_term: 1,
        rows_sealed: false,
        has_audit_root: false,
        version: 1,
        created_at: Timestamp::UNIX_EPOCH,
    };
    storage.insert_host_key(&new).await.unwrap();
    let sealed = HostKeyRecord { rows_sealed: true, version: 2, ..new };
    storage.seal_rows(&sealed).await.unwrap();
    assert!(matches!(storage.seal_rows(&sealed).await, Err(StorageError::Conflict(Constraint::KeyTerm))), "once");
    let again = HostKeyRecord { version: 3, ..sealed.clone() };
    assert!(matches!(storage.seal_rows(&again).await, Err(StorageError::AlreadySealed)), "none has a seal before");
    assert_eq!(storage.host_key("host").await.unwrap(), Some(sealed));
}

/// How the present code reads the rows, including columns that the release did not have.
async fn everything_is_read(storage: &SqliteStorage, release: usize) {
    let id = WorkspaceId::from(Uuid::from_bytes(*b"workspace-000001"));
    assert_eq!(storage.master_keys().await.unwrap()[0].key_id, *b"master-key-00001");
    assert_eq!(storage.workspaces().await.unwrap().len(), 2);
    let found = storage.workspace_by_external_id("customer-42").await.unwrap();
    assert_eq!(found.map(|workspace| workspace.id), (release >= 12).then_some(id));
    assert_eq!(storage.workspace_keys(id).await.unwrap()[0].wrapped_key, [10]);
    let revoked = storage.api_key("bbbb").await.unwrap().unwrap().revoked_at;
    assert_eq!(revoked.map(Timestamp::as_millisecond), Some(1008));
    let connection = storage.connections(id).await.unwrap().remove(0);
    assert_eq!((&*connection.account, connection.cache_generation, connection.version), ("acme.1password.com", 4, 5));
    assert_eq!(connection.settings_version, if release < 8 { 1 } else { 4 });
    let key = if release >= 9 { "acme" } else { "acme.1password.com" };
    assert_eq!(connection.account_key.as_deref(), Some(key), "requests counted by name are still counted");
    assert_eq!(connection.rate_limit_tier.as_deref(), (release >= 9).then_some("teams"));
    let state = storage.connection_state(id, connection.id).await.unwrap();
    assert_eq!(state.map(|state| state.version), (release >= 11).then_some(12));
    let entries = storage.entries(id, None, 10, u64::MAX).await.unwrap().entries;
    assert_eq!((entries[0].connection_id, entries[0].passkey), (Some(connection.id), false));
    assert_eq!((entries[1].sealed_credentials.is_some(), entries[1].passkey), (true, release >= 2));
    assert!(entries.iter().all(|entry| entry.sealed_attributes.is_some() == (release >= 2)));

    let anchors = storage.audit_anchors().await.unwrap();
    assert_eq!(anchors.first().map(|anchor| anchor.number), (release >= 4).then_some(12));
    let roots = storage.audit_roots().await.unwrap();
    assert_eq!(roots.first().map(Vec::as_slice), (release >= 13).then_some(&b"a root"[..]));
    let token = b"token-0000000001";
    let counts = storage.request_counts(token, RequestKind::Read, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(counts.first().map(|count| count.requests), (release >= 5).then_some(11));
    let pause = storage.breaker(token).await.unwrap().and_then(|breaker| breaker.pause);
    assert_eq!(pause.map(|pause| pause.reason), (release >= 5).then_some(PauseReason::Refused));
    let host_key = storage.host_key("budgets").await.unwrap();
    assert_eq!(host_key.map(|key| key.wrapped_key), (release >= 5).then(|| vec![11]));

    let rotations = storage.rotations(id, &RotationFilter::default(), None, 10).await.unwrap();
    assert_eq!(rotations.len(), if release < 6 { 0 } else { 4 });
    let other = WorkspaceId::from(Uuid::from_bytes(*b"workspace-000002"));
    let of_other = storage.rotations(other, &RotationFilter::default(), None, 10).await.unwrap();
    let same_id: Vec<_> = of_other.iter().map(|rotation| rotation.id).collect();
    assert_eq!(same_id, rotations[..usize::from(release >= 16)].iter().map(|rotation| rotation.id).collect::<Vec<_>>());
    let begun_by = rotations.first().and_then(|rotation| rotation.begun_by.as_deref());
    assert_eq!(begun_by, (release >= 14).then_some("operator"));
    // The settings of a failed write were not recorded at first; only an attempt with the current
    // ones can tell.
    let failed: Vec<_> = rotations.iter().map(|rotation| rotation.failed_settings).collect();
    let with = if release < 8 { 1 } else { 3 };
    assert_eq!(failed, [None, Some(with), None, None][..rotations.len()]);
    if let Some(rotation) = rotations.first() {
        let open = storage.open_rotation_of_item(id, &connection.item(&"op://vault/item".into())).await.unwrap();
        assert_eq!(open.map(|open| open.id), Some(rotation.id), "it is the account's");
    }
    let item = connection.item(&"op://vault/item".into());
    assert_eq!(*item.account, format!("1password/{key}"));
    let (generation, _) = storage.item_state(id, &item).await.unwrap();
    assert_eq!(generation, if release < 6 { 0 } else { 2 });
    assert!(storage.record_changes().await.unwrap() >= if release < 7 { 0 } else { 41 });
}
