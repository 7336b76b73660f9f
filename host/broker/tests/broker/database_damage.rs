//! One damaged row costs one row: a check goes on behind it and names it, and the server stays
//! ready.

use keyway::database::DamagedRow;
use keyway::{Access, BrokerError};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::key_rotation::{master_key, new_master_key, other_process};
use crate::support::{World, text};

/// As another program would, without the checks of the schema.
async fn change(world: &World, sql: &str) {
    let options = SqliteConnectOptions::new().filename(world.folder.path().join("keyway.db")).foreign_keys(false);
    let pool = SqlitePool::connect_with(options.pragma("ignore_check_constraints", "ON")).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&pool).await.unwrap();
    pool.close().await;
}

fn names(rows: &[DamagedRow]) -> Vec<(&str, &str)> {
    let mut names: Vec<_> = rows.iter().map(|row| (row.table, &*row.id)).collect();
    names.sort_unstable();
    names
}

fn digits(access: &Access) -> String {
    access.workspace().as_uuid().simple().to_string()
}

#[tokio::test]
async fn a_check_goes_on_behind_values_that_cannot_be_read_and_names_each_row() {
    let (world, connection) = World::connected().await;
    let [version, term, changed, none] = [
        world.other_workspace().await,
        world.other_workspace().await,
        world.other_workspace().await,
        world.other_workspace().await,
    ];
    let sql = format!(
        "UPDATE workspace_keys SET version = -1 WHERE workspace_id = x'{}';
         UPDATE workspace_keys SET term = -4 WHERE workspace_id = x'{}';
         UPDATE workspace_keys SET wrapped_key = zeroblob(80) WHERE workspace_id = x'{}';
         DELETE FROM workspace_keys WHERE workspace_id = x'{}';
         UPDATE connections SET version = -1;
         INSERT INTO workspace_keys SELECT x'0102', term, wrapped_key, master_term, uses, version, created_at
         FROM workspace_keys WHERE term = 1 LIMIT 1",
        digits(&version),
        digits(&term),
        digits(&changed),
        digits(&none)
    );
    change(&world, &sql).await;
    let host = other_process(&world, master_key()).await.unwrap();
    let found = host.database().damaged_rows().await.unwrap();
    let connection = connection.id.to_string();
    let without = [version, term, changed, none].map(|access| access.workspace().to_string());
    let strange = found.iter().find(|row| row.workspace.is_none()).unwrap().id.clone();
    assert!(strange.starts_with("rowid:"), "{strange}");
    let mut expected = vec![("connections", &*connection), ("workspace_keys", &*strange)];
    expected.extend(without.iter().map(|id| ("workspace_keys", &**id)));
    expected.sort_unstable();
    assert_eq!(names(&found), expected);

    for (table, id) in expected {
        host.database().delete_damaged_row(table, id).await.unwrap();
    }
    assert_eq!(host.database().damaged_rows().await.unwrap(), []);
    assert_eq!(host.workspaces().list().await.unwrap().len(), 1);
    host.keys().rotate_master(new_master_key()).await.unwrap();
}

#[tokio::test]
async fn an_inserted_copy_of_a_key_is_deleted_alone_and_the_workspace_stays() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    let workspace = world.access.workspace();
    change(
        &world,
        "INSERT INTO workspace_keys SELECT workspace_id, term + 1, wrapped_key, master_term, uses, version, created_at
         FROM workspace_keys",
    )
    .await;
    let host = other_process(&world, master_key()).await.unwrap();
    let id = format!("{workspace}/2");
    let stopped = host.keys().encryption_key(&world.access).await.unwrap_err();
    assert!(stopped.to_string().contains(&format!("the row {id} of the table `workspace_keys`")), "{stopped}");
    assert_eq!(names(&host.database().damaged_rows().await.unwrap()), [("workspace_keys", &*id)]);
    let all = host.database().delete_damaged_row("workspace_keys", &workspace.to_string()).await.unwrap_err();
    assert!(matches!(all, BrokerError::NotFound(_)), "its key is in order: {all}");
    host.database().delete_damaged_row("workspace_keys", &id).await.unwrap();
    assert_eq!(host.database().damaged_rows().await.unwrap(), []);
    let beside = world.beside().await;
    let resolved = beside.resolve(&world.access, keyway::ResolveRequest::new(entry.id)).await.unwrap();
    assert!(text(resolved.password.as_ref()).is_some());
}

#[tokio::test]
async fn a_workspace_whose_row_is_gone_is_named_and_deleted_with_what_is_left_of_it() {
    let world = World::new().await;
    let other = world.other_workspace().await;
    change(&world, &format!("DELETE FROM workspaces WHERE id = x'{}'", digits(&other))).await;
    let id = other.workspace().to_string();
    let database = world.broker.database();
    assert_eq!(names(&database.damaged_rows().await.unwrap()), [("workspaces", &*id)]);
    database.delete_damaged_row("workspaces", &id).await.unwrap();
    assert_eq!(database.damaged_rows().await.unwrap(), []);
}

#[tokio::test]
async fn a_changed_row_of_the_master_key_is_not_taken_for_another_master_key() {
    let world = World::new().await;
    change(&world, "UPDATE master_keys SET key_id = x'000102030405060708090a0b0c0d0e0f'").await;
    let error = other_process(&world, master_key()).await.unwrap_err();
    assert!(error.to_string().starts_with("the row 1 of the table `master_keys` was damaged"), "{error}");
    let stranger = other_process(&world, new_master_key()).await.unwrap_err();
    assert!(stranger.to_string().contains("under another master key"), "{stranger}");
}

#[tokio::test]
async fn a_damaged_key_of_one_workspace_leaves_the_server_ready_and_the_others_served() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    let other = world.other_workspace().await;
    let sql = format!("UPDATE workspace_keys SET term = -4 WHERE workspace_id = x'{}'", digits(&other));
    change(&world, &sql).await;
    let host = world.beside().await;
    let error = host.keys().encryption_key(&other).await.unwrap_err();
    assert!(error.to_string().contains("of the table `workspace_keys`"), "{error}");
    host.keys().finish_rotations().await.unwrap();
    host.resolve(&world.access, keyway::ResolveRequest::new(entry.id)).await.unwrap();
    assert_eq!(host.readiness().check().await, []);
}

#[tokio::test]
async fn impossible_counts_and_breakers_fail_no_call() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    change(
        &world,
        "UPDATE request_counts SET requests = -7;
         INSERT INTO breakers SELECT DISTINCT subject, -1, NULL, NULL, 0, 0, 1, 0 FROM request_counts WHERE true
         ON CONFLICT (subject) DO UPDATE SET failures = -1;
         INSERT INTO breakers VALUES (zeroblob(16), -1, NULL, NULL, 0, 0, 1, 0)
         ON CONFLICT (subject) DO UPDATE SET failures = -1",
    )
    .await;
    let host = world.beside().await;
    let resolved = host.resolve(&world.access, keyway::ResolveRequest::new(entry.id)).await.unwrap();
    assert!(text(resolved.password.as_ref()).is_some());
    host.connections().budget(&world.access, connection.id).await.unwrap();
    assert_eq!(host.readiness().check().await, []);
}

#[tokio::test]
async fn a_damaged_workspace_is_deleted_with_its_open_rotations_and_an_entry_or_connection_names_what_depends_on_it() {
    let (world, connection, entry) = crate::rotation::world().await;
    world.begin(&entry).await;
    change(&world, "UPDATE connections SET name = 'x'; UPDATE vault_entries SET domain = 'x'").await;
    let host = other_process(&world, master_key()).await.unwrap();
    let delete = async |table, id: String| host.database().delete_damaged_row(table, &id).await;
    let rotates = delete("vault_entries", entry.id.to_string()).await.unwrap_err();
    assert!(matches!(rotates, BrokerError::RotationOpen), "{rotates}");
    let in_use = delete("connections", connection.id.to_string()).await.unwrap_err();
    assert_eq!(
        in_use.to_string(),
        "this connection is still in use by 1 vault entry whose row is damaged; bind them elsewhere or delete them first"
    );
    change(&world, "UPDATE workspaces SET name = 'x'").await;
    delete("workspaces", world.access.workspace().to_string()).await.unwrap();
    assert_eq!(host.database().damaged_rows().await.unwrap(), []);
}

#[tokio::test]
async fn an_index_that_lost_rows_is_named_and_made_anew_and_damaged_pages_are_told() {
    let (world, connection) = World::connected().await;
    world.bind(&connection, "Wide World Importers").await;
    let file = world.folder.path().join("keyway.db");
    let schema = async |sql: &str| {
        let options = SqliteConnectOptions::new().filename(&file).pragma("writable_schema", "ON");
        let pool = SqlitePool::connect_with(options).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&pool).await.unwrap();
        pool.close().await;
    };
    // It is made anew while its definition selects no row.
    for sql in [
        "UPDATE sqlite_schema SET sql = replace(sql, 'IS NOT NULL', 'IS NULL') WHERE name = 'vault_entries_of_connection'",
        "REINDEX vault_entries_of_connection",
        "UPDATE sqlite_schema SET sql = replace(sql, 'IS NULL', 'IS NOT NULL') WHERE name = 'vault_entries_of_connection'",
    ] {
        schema(sql).await;
    }

    let host = other_process(&world, master_key()).await.unwrap();
    let found = host.database().damaged_rows().await.unwrap();
    assert_eq!(names(&found), [("index", "vault_entries_of_connection")]);
    host.database().delete_damaged_row("index", "vault_entries_of_connection").await.unwrap();
    assert_eq!(host.database().damaged_rows().await.unwrap(), []);

    host.close().await;
    world.broker.close().await;
    let page = "SELECT rootpage FROM sqlite_schema WHERE name = 'vault_entries_of_connection'";
    let pool = SqlitePool::connect_with(SqliteConnectOptions::new().filename(&file)).await.unwrap();
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(&pool).await.unwrap();
    let page: u32 = sqlx::query_scalar(page).fetch_one(&pool).await.unwrap();
    pool.close().await;
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[(page as usize - 1) * 4096..][..4096].fill(0xff);
    std::fs::write(&file, bytes).unwrap();
    let host = other_process(&world, master_key()).await.unwrap();
    let error = host.database().damaged_rows().await.unwrap_err();
    assert!(error.to_string().contains("its file is damaged"), "{error}");
}
