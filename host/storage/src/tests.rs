//! Properties of every [`Storage`], tested on SQLite.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;

use super::*;

pub(super) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

/// Bytes in the form of an envelope.
pub(super) fn sealed(term: u32) -> Vec<u8> {
    [&[1], &term.to_be_bytes()[..], &[0; 28]].concat()
}

pub(super) fn api_key(workspace_id: WorkspaceId, lookup: &str) -> ApiKeyRecord {
    ApiKeyRecord {
        id: ApiKeyId::generate(),
        workspace_id,
        name: "key".into(),
        lookup: lookup.into(),
        hash: [7; 32],
        scopes: Scopes::from(Scope::Api).with(Scope::Resolve),
        created_at: time(1),
        revoked_at: None,
    }
}

pub(super) fn connection(workspace_id: WorkspaceId) -> ConnectionRecord {
    let id = ConnectionId::generate();
    ConnectionRecord {
        id,
        workspace_id,
        name: "Acme".into(),
        provider_type: "1password".into(),
        sealed_settings: sealed(1),
        hints: "{}".into(),
        account: "acme".into(),
        account_key: Some("acme".into()),
        account_id: account_id("1password", Some("acme"), id),
        rate_limit_tier: Some("teams".into()),
        read_only: None,
        cache_ttl_seconds: u32::MAX,
        cache_generation: 0,
        settings_version: 1,
        version: 1,
        created_at: time(2),
        updated_at: time(3),
    }
}

pub(super) fn entry(workspace_id: WorkspaceId, user: &str) -> EntryRecord {
    EntryRecord {
        id: EntryId::generate(),
        workspace_id,
        user: user.into(),
        domain: "https://acme.com".into(),
        alias: None,
        tfa_method: Some(TfaMethod::MagicLink),
        passkey: false,
        connection_id: None,
        secret_ref: None,
        cache_ttl_seconds: None,
        sealed_credentials: Some(sealed(1)),
        sealed_attributes: Some(sealed(1)),
        session_data_set_at: Some(time(4)),
        version: 1,
        created_at: time(4),
        updated_at: time(5),
    }
}

pub(super) fn bound(workspace_id: WorkspaceId, connection: &ConnectionRecord) -> EntryRecord {
    EntryRecord {
        connection_id: Some(connection.id),
        secret_ref: Some("op://vault/item".into()),
        cache_ttl_seconds: Some(0),
        sealed_credentials: None,
        ..entry(workspace_id, "bound")
    }
}

pub(super) async fn workspace(storage: &SqliteStorage) -> WorkspaceId {
    let record = WorkspaceRecord {
        id: WorkspaceId::generate(),
        name: "Acme".into(),
        external_id: None,
        created_at: time(0),
        updated_at: time(0),
    };
    let key = WorkspaceKeyRecord {
        workspace_id: record.id,
        term: 1,
        wrapped_key: vec![1, 2, 3],
        master_term: 1,
        version: 1,
        created_at: time(0),
    };
    if storage.master_keys().await.unwrap().is_empty() {
        let master = MasterKeyRecord { term: 1, key_id: [9; 16], created_at: time(0) };
        storage.insert_master_key(&master).await.unwrap();
    }
    storage.insert_workspace(&record, &key, &api_key(record.id, &record.id.to_string())).await.unwrap();
    assert_eq!(storage.workspace(record.id).await.unwrap(), Some(record.clone()));
    assert_eq!(storage.workspace_keys(record.id).await.unwrap(), [key]);
    record.id
}

/// Seals as a host does, with a checksum in place of a MAC.
struct Checksums;

impl RowSealer for Checksums {
    fn seal(&self, row: &[u8]) -> [u8; 32] {
        let mut seal = [0; 32];
        for (number, part) in seal.chunks_exact_mut(8).enumerate() {
            let mut hasher = DefaultHasher::new();
            (number, row).hash(&mut hasher);
            part.copy_from_slice(&hasher.finish().to_be_bytes());
        }
        seal
    }

    fn is_seal(&self, row: &[u8], seal: &[u8]) -> bool {
        self.seal(row) == seal
    }
}

pub(super) fn unlocked(storage: SqliteStorage) -> SqliteStorage {
    storage.unlock_rows(Arc::new(Checksums));
    storage
}

pub(super) async fn storage() -> SqliteStorage {
    unlocked(SqliteStorage::in_memory().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_that_wait_for_another_process_leave_readers_alone_and_give_up_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyway.db");
    let storage = unlocked(SqliteStorage::open(&path).await.unwrap());
    let id = workspace(&storage).await;
    let other = sqlx::SqlitePool::connect_with(sqlx::sqlite::SqliteConnectOptions::new().filename(&path));
    let locked = other.await.unwrap().begin_with("BEGIN IMMEDIATE").await.unwrap();
    let began = std::time::Instant::now();
    let writers: Vec<_> = (0..40)
        .map(|number| {
            let storage = storage.clone();
            tokio::spawn(async move { storage.insert_api_key(&api_key(id, &format!("lookup {number}"))).await })
        })
        .collect();
    for _ in 0..100 {
        let asked = std::time::Instant::now();
        assert!(storage.workspace(id).await.unwrap().is_some());
        assert!(asked.elapsed() < std::time::Duration::from_secs(1), "{:?}", asked.elapsed());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for writer in writers {
        assert!(matches!(writer.await.unwrap(), Err(StorageError::Busy)));
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(12), "{:?}", began.elapsed());
    drop(locked);
    storage.insert_api_key(&api_key(id, "afterwards")).await.unwrap();
}

#[tokio::test]
async fn a_file_that_was_removed_or_replaced_takes_no_change_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, aside) = (folder.path().join("keyway.db"), folder.path().join("aside"));
    let storage = unlocked(SqliteStorage::open(&path).await.unwrap());
    let id = workspace(&storage).await;
    std::fs::copy(&path, folder.path().join("copy")).unwrap();
    std::fs::rename(&path, &aside).unwrap();
    for name in ["one", "other"] {
        let refused = storage.insert_api_key(&api_key(id, name)).await.unwrap_err();
        assert!(refused.to_string().contains("was removed or replaced"), "{refused}");
        let breaker = BreakerRecord { subject: [1; 16], failures: 0, pause: None, version: 1, updated_at: time(0) };
        assert!(storage.save_breaker(&breaker, None).await.is_err(), "what readiness writes");
        let _ = std::fs::rename(folder.path().join("copy"), &path);
    }
    std::fs::rename(&aside, &path).unwrap();
    storage.insert_api_key(&api_key(id, "afterwards")).await.unwrap();
}

#[tokio::test]
async fn each_change_of_what_hosts_keep_in_memory_is_counted_and_what_they_do_not_keep_is_not() {
    let storage = storage().await;
    let id = workspace(&storage).await;
    let (key, connection, entry) = (api_key(id, "lookup"), connection(id), entry(id, "user"));
    storage.insert_api_key(&key).await.unwrap();
    storage.insert_connection(&connection, None).await.unwrap();
    storage.insert_entry(&entry).await.unwrap();
    let mut before = storage.record_changes().await.unwrap();
    let mut is_counted = async || {
        let now = storage.record_changes().await.unwrap();
        std::mem::replace(&mut before, now) != now
    };
    storage.count_workspace_key_uses(id, 1, 256).await.unwrap();
    assert!(!is_counted().await, "uses");
    storage.revoke_api_key(id, key.id, time(9)).await.unwrap();
    assert!(is_counted().await, "revoked");
    let changed = ConnectionRecord { version: 2, ..connection.clone() };
    assert!(storage.update_connection(&changed, 1, false, None).await.unwrap() && is_counted().await, "changed");
    assert!(storage.clear_cached_secrets(id, connection.id).await.unwrap() && is_counted().await, "cleared");
    assert!(storage.delete_connection(id, connection.id).await.unwrap() && is_counted().await, "deleted");
    let changed = EntryRecord { version: 2, ..entry.clone() };
    assert!(storage.update_entry(&changed, 1).await.unwrap() && is_counted().await, "entry changed");
    storage.delete_entry(id, &entry.id.into()).await.unwrap();
    assert!(is_counted().await, "entry deleted");
    workspace(&storage).await;
    assert!(is_counted().await, "a workspace's first key");
}

fn conflict(result: Result<(), StorageError>) -> Constraint {
    match result {
        Err(StorageError::Conflict(constraint)) => constraint,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn records_come_back_as_they_were_also_after_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyway.db");
    let storage = unlocked(SqliteStorage::open(&file).await.unwrap());
    let workspace = workspace(&storage).await;
    let (key, connection) = (api_key(workspace, "lookup"), connection(workspace));
    let (manual, bound) = (entry(workspace, "manual"), bound(workspace, &connection));
    storage.insert_api_key(&key).await.unwrap();
    storage.insert_connection(&connection, None).await.unwrap();
    storage.insert_entry(&manual).await.unwrap();
    storage.insert_entry(&bound).await.unwrap();
    storage.close().await;

    let storage = unlocked(SqliteStorage::open(&file).await.unwrap());
    assert_eq!(storage.workspaces().await.unwrap().len(), 1);
    assert_eq!(storage.api_key("lookup").await.unwrap(), Some(key));
    assert_eq!(storage.connection(workspace, connection.id).await.unwrap(), Some(connection));
    assert_eq!(storage.entry(workspace, &bound.id.into()).await.unwrap(), Some(bound.clone()));
    let pair = EntrySelector::Pair { user: "manual".into(), domain: manual.domain.clone() };
    assert_eq!(storage.entry(workspace, &pair).await.unwrap(), Some(manual.clone()));
    let entries = async |after, rows, bytes| storage.entries(workspace, after, rows, bytes).await.unwrap();
    let page =
        |entries: &[&EntryRecord], next| EntryRecords { entries: entries.iter().copied().cloned().collect(), next };
    assert_eq!(entries(None, 10, 1_000).await, page(&[&manual, &bound], None));
    assert_eq!(entries(None, 2, 1_000).await, page(&[&manual, &bound], None));
    assert_eq!(entries(Some(manual.id), 10, 1_000).await, page(&[&bound], None));
    assert_eq!(entries(None, 1, 1_000).await, page(&[&manual], Some(manual.id)));
    // The first one always fits.
    let length = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, |value| value.len() as u64);
    let size = |entry: &EntryRecord| length(&entry.sealed_credentials) + length(&entry.sealed_attributes);
    assert!(size(&manual) > 0 && size(&bound) > 0);
    assert_eq!(entries(None, 10, 1).await, page(&[&manual], Some(manual.id)));
    let both = size(&manual) + size(&bound);
    assert_eq!(entries(None, 10, both - 1).await, page(&[&manual], Some(manual.id)));
    assert_eq!(entries(None, 10, both).await, page(&[&manual, &bound], None));
}

#[tokio::test]
async fn a_workspace_is_created_as_a_whole_or_not_at_all() {
    let storage = storage().await;
    let first = workspace(&storage).await;
    let record = WorkspaceRecord {
        id: WorkspaceId::generate(),
        name: "Other".into(),
        external_id: None,
        created_at: time(0),
        updated_at: time(0),
    };
    let key = WorkspaceKeyRecord { workspace_id: record.id, ..storage.workspace_keys(first).await.unwrap().remove(0) };
    // The lookup id of its API key is taken; that key is inserted last.
    let result = storage.insert_workspace(&record, &key, &api_key(record.id, &first.to_string())).await;
    assert_eq!(conflict(result), Constraint::Unique);
    assert_eq!(storage.workspace(record.id).await.unwrap(), None);
    assert_eq!(storage.workspace_keys(record.id).await.unwrap(), []);
}

#[tokio::test]
async fn nothing_is_left_of_a_deleted_workspace_and_everything_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyway.db");
    let storage = unlocked(SqliteStorage::open(&file).await.unwrap());
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    let (gone, other) = (workspace(&storage).await, workspace(&storage).await);
    for workspace in [gone, other] {
        let connection = connection(workspace);
        storage.insert_connection(&connection, None).await.unwrap();
        storage.insert_entry(&bound(workspace, &connection)).await.unwrap();
    }
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema WHERE type = 'table'
         AND EXISTS (SELECT 1 FROM pragma_table_info(sqlite_schema.name) WHERE name = 'workspace_id')",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(tables.len() >= 6, "{tables:?}");
    let rows = async |workspace: WorkspaceId| {
        let mut rows = 0_i64;
        for table in &tables {
            let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table} WHERE workspace_id = ?"));
            let count: i64 = sqlx::query_scalar(sql).bind(workspace.as_uuid()).fetch_one(&pool).await.unwrap();
            rows += count;
        }
        rows
    };
    let (before, others) = (rows(gone).await, rows(other).await);
    assert!(before >= 4);
    assert!(storage.delete_workspace(gone).await.unwrap());
    assert_eq!((rows(gone).await, rows(other).await), (0, others));
    assert_eq!(storage.workspace(gone).await.unwrap(), None);
    assert!(!storage.delete_workspace(gone).await.unwrap());
}

#[tokio::test]
async fn of_two_entries_with_the_same_user_and_domain_one_is_refused() {
    let storage = storage().await;
    let (one, other) = (workspace(&storage).await, workspace(&storage).await);
    storage.insert_entry(&entry(one, "user")).await.unwrap();
    assert_eq!(conflict(storage.insert_entry(&entry(one, "user")).await), Constraint::Unique);
    storage.insert_entry(&entry(other, "user")).await.unwrap();
}

#[tokio::test]
async fn an_entry_cannot_be_bound_to_a_connection_of_another_workspace_or_to_none() {
    let storage = storage().await;
    let (one, other) = (workspace(&storage).await, workspace(&storage).await);
    let connection = connection(one);
    assert_eq!(conflict(storage.insert_entry(&bound(one, &connection)).await), Constraint::Reference);
    storage.insert_connection(&connection, None).await.unwrap();
    assert_eq!(conflict(storage.insert_entry(&bound(other, &connection)).await), Constraint::Reference);
    storage.insert_entry(&bound(one, &connection)).await.unwrap();
}

#[tokio::test]
async fn half_a_binding_or_both_sources_at_once_cannot_be_stored() {
    let storage = storage().await;
    let workspace = workspace(&storage).await;
    let connection = connection(workspace);
    storage.insert_connection(&connection, None).await.unwrap();
    for impossible in [
        EntryRecord { secret_ref: None, ..bound(workspace, &connection) },
        EntryRecord { connection_id: None, ..bound(workspace, &connection) },
        EntryRecord { cache_ttl_seconds: Some(1), ..entry(workspace, "x") },
        EntryRecord { sealed_credentials: Some(sealed(1)), ..bound(workspace, &connection) },
        EntryRecord { passkey: true, ..bound(workspace, &connection) },
    ] {
        assert!(matches!(storage.insert_entry(&impossible).await, Err(StorageError::Failed(_))));
    }
}

#[tokio::test]
async fn an_entry_is_replaced_only_at_the_expected_version_and_within_the_rules() {
    let storage = storage().await;
    let (one, other) = (workspace(&storage).await, workspace(&storage).await);
    let (first, connection) = (entry(one, "first"), connection(one));
    storage.insert_connection(&connection, None).await.unwrap();
    storage.insert_entry(&first).await.unwrap();
    storage.insert_entry(&entry(one, "taken")).await.unwrap();

    let second = EntryRecord {
        sealed_attributes: None,
        session_data_set_at: None,
        version: 2,
        ..EntryRecord { id: first.id, ..bound(one, &connection) }
    };
    assert!(storage.update_entry(&second, 1).await.unwrap());
    assert_eq!(storage.entry(one, &first.id.into()).await.unwrap(), Some(second.clone()));
    let late = EntryRecord { version: 2, ..first.clone() };
    assert!(!storage.update_entry(&late, 1).await.unwrap());
    let foreign = EntryRecord { workspace_id: other, version: 3, ..first.clone() };
    assert!(!storage.update_entry(&foreign, 2).await.unwrap());
    let taken = EntryRecord { user: "taken".into(), version: 3, ..second.clone() };
    assert_eq!(conflict(storage.update_entry(&taken, 2).await.map(drop)), Constraint::Unique);
    let unknown = EntryRecord { connection_id: Some(ConnectionId::generate()), version: 3, ..second.clone() };
    assert_eq!(conflict(storage.update_entry(&unknown, 2).await.map(drop)), Constraint::Reference);
    assert_eq!(storage.entry(one, &first.id.into()).await.unwrap(), Some(second));
}

#[tokio::test]
async fn a_deleted_entry_is_what_it_was_and_deleted_once() {
    let storage = storage().await;
    let (one, other) = (workspace(&storage).await, workspace(&storage).await);
    let (first, second) = (entry(one, "first"), entry(one, "second"));
    storage.insert_entry(&first).await.unwrap();
    storage.insert_entry(&second).await.unwrap();
    assert_eq!(storage.delete_entry(other, &first.id.into()).await.unwrap(), None);
    assert_eq!(storage.delete_entry(one, &first.id.into()).await.unwrap(), Some(first.clone()));
    assert_eq!(storage.delete_entry(one, &first.id.into()).await.unwrap(), None);
    let pair = EntrySelector::Pair { user: "second".into(), domain: second.domain.clone() };
    assert_eq!(storage.delete_entry(one, &pair).await.unwrap(), Some(second));
    assert_eq!(storage.entries(one, None, 10, 1_000).await.unwrap().entries, []);
}

#[tokio::test]
async fn a_connection_is_replaced_only_at_the_expected_version() {
    let storage = storage().await;
    let workspace = workspace(&storage).await;
    let first = connection(workspace);
    storage.insert_connection(&first, None).await.unwrap();
    let second = ConnectionRecord { name: "New".into(), version: 2, read_only: Some(true), ..first.clone() };
    assert!(storage.update_connection(&second, 1, false, None).await.unwrap());
    assert_eq!(storage.connection(workspace, first.id).await.unwrap(), Some(second.clone()));
    let late = ConnectionRecord { name: "Late".into(), version: 2, ..first.clone() };
    assert!(!storage.update_connection(&late, 1, false, None).await.unwrap());
    assert_eq!(storage.connections(workspace).await.unwrap(), [second]);
}

#[tokio::test]
async fn the_cache_generation_only_grows_whatever_is_replaced_meanwhile() {
    let storage = storage().await;
    let workspace = workspace(&storage).await;
    let first = connection(workspace);
    storage.insert_connection(&first, None).await.unwrap();
    assert!(storage.clear_cached_secrets(workspace, first.id).await.unwrap());
    // A caller writes back the record that it read earlier.
    assert!(
        storage.update_connection(&ConnectionRecord { version: 2, ..first.clone() }, 1, false, None).await.unwrap()
    );
    assert_eq!(storage.connection(workspace, first.id).await.unwrap().unwrap().cache_generation, 1);
    assert!(storage.update_connection(&ConnectionRecord { version: 3, ..first.clone() }, 2, true, None).await.unwrap());
    assert_eq!(storage.connection(workspace, first.id).await.unwrap().unwrap().cache_generation, 2);
    assert!(!storage.clear_cached_secrets(workspace, ConnectionId::generate()).await.unwrap());
}

#[tokio::test]
async fn nothing_of_another_workspace_is_found() {
    let storage = storage().await;
    let (one, other) = (workspace(&storage).await, workspace(&storage).await);
    let (connection, entry) = (connection(one), entry(one, "user"));
    storage.insert_connection(&connection, None).await.unwrap();
    storage.insert_entry(&entry).await.unwrap();
    let key = storage.api_keys(one).await.unwrap().remove(0);
    assert_eq!(storage.connection(other, connection.id).await.unwrap(), None);
    assert_eq!(storage.connections(other).await.unwrap(), []);
    assert!(!storage.clear_cached_secrets(other, connection.id).await.unwrap());
    assert_eq!(storage.entry(other, &entry.id.into()).await.unwrap(), None);
    assert_eq!(storage.entries(other, None, 10, 1_000).await.unwrap().entries, []);
    assert_eq!(storage.revoke_api_key(other, key.id, time(9)).await.unwrap(), None);
    assert_eq!(storage.api_key(&key.lookup).await.unwrap().unwrap().revoked_at, None);
}

#[tokio::test]
async fn a_change_that_others_keep_waiting_too_long_may_be_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyway.db");
    let storage = unlocked(SqliteStorage::open(&file).await.unwrap());
    let workspace = workspace(&storage).await;
    let other = sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    let held = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let waited = storage.count_workspace_key_uses(workspace, 1, 1).await;
    assert!(matches!(waited, Err(StorageError::Busy)), "{waited:?}");
    held.rollback().await.unwrap();
    assert_eq!(storage.count_workspace_key_uses(workspace, 1, 1).await.unwrap(), Some(1));
}

#[tokio::test]
async fn uses_are_counted_without_losing_any() {
    let folder = tempfile::tempdir().unwrap();
    let storage = unlocked(SqliteStorage::open(folder.path().join("keyway.db")).await.unwrap());
    let workspace = workspace(&storage).await;
    let counts: Vec<_> = (0..20)
        .map(|_| {
            let storage = storage.clone();
            tokio::spawn(async move { storage.count_workspace_key_uses(workspace, 1, 10).await.unwrap().unwrap() })
        })
        .collect();
    let mut seen = HashSet::new();
    for count in counts {
        seen.insert(count.await.unwrap());
    }
    assert_eq!(seen, (1..=20).map(|number| number * 10).collect());
    assert_eq!(storage.count_master_key_uses(1, 3).await.unwrap(), 3);
    assert_eq!(storage.count_workspace_key_uses(workspace, 2, 1).await.unwrap(), None, "there is no such key");
}

#[tokio::test]
async fn a_new_file_can_be_opened_by_several_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyway.db");
    let opening: Vec<_> = (0..8).map(|_| tokio::spawn(SqliteStorage::open(file.clone()))).collect();
    for opened in opening {
        assert!(opened.await.unwrap().unwrap().workspaces().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "not a database, but long enough to have a header of some kind").unwrap();
    let error = SqliteStorage::open(&file).await.unwrap_err();
    assert!(error.to_string().contains("notes.txt"), "{error}");
    assert!(SqliteStorage::open(folder.path().join("missing/keyway.db")).await.is_err());
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_others_could_read_is_closed_to_them() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyway.db");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    SqliteStorage::open(&file).await.unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_connection_that_entries_are_bound_to_cannot_be_deleted_and_they_are_listed() {
    let storage = storage().await;
    let (workspace, other) = (workspace(&storage).await, workspace(&storage).await);
    let (used, free) = (connection(workspace), connection(workspace));
    storage.insert_connection(&used, None).await.unwrap();
    storage.insert_connection(&free, None).await.unwrap();
    let mut entries = Vec::new();
    for user in ["a", "b", "c"] {
        let record = EntryRecord { user: user.into(), ..bound(workspace, &used) };
        storage.insert_entry(&record).await.unwrap();
        entries.push(record);
    }
    let refused = storage.delete_connection(workspace, used.id).await.map(drop);
    assert_eq!(conflict(refused), Constraint::Reference);
    let dependents = storage.entries_of_connection(workspace, used.id, 2).await.unwrap();
    assert_eq!((dependents.total, dependents.entries.len()), (3, 2));
    assert_eq!(dependents.entries[0].id, entries[0].id);
    assert_eq!(storage.entries_of_connection(workspace, free.id, 2).await.unwrap(), DependentEntries::default());
    assert_eq!(storage.entries_of_connection(other, used.id, 2).await.unwrap().total, 0);
    assert!(!storage.delete_connection(other, free.id).await.unwrap(), "not from another workspace");
    assert!(storage.delete_connection(workspace, free.id).await.unwrap());
    assert!(!storage.delete_connection(workspace, free.id).await.unwrap());
    let item = used.item(&"op://vault/item".into());
    assert_eq!(storage.connections_of_item(workspace, &item).await.unwrap(), [used.id]);
    assert_eq!(storage.connections_of_item(other, &item).await.unwrap(), []);
    let elsewhere = ItemId { account: "1password/other".into(), ..item };
    assert_eq!(storage.connections_of_item(workspace, &elsewhere).await.unwrap(), []);
}

fn state(connection: &ConnectionRecord, version: u64) -> ConnectionStateRecord {
    ConnectionStateRecord {
        connection_id: connection.id,
        workspace_id: connection.workspace_id,
        settings_version: connection.settings_version,
        sealed_state: sealed(1),
        version,
        refresh_at: Some(time(100)),
        refresh_attempts: 0,
        updated_at: time(6),
    }
}

#[tokio::test]
async fn a_state_is_replaced_at_the_expected_version_only() {
    let storage = storage().await;
    let id = workspace(&storage).await;
    let connection = connection(id);
    storage.insert_connection(&connection, None).await.unwrap();
    let stored = async || storage.connection_state(id, connection.id).await.unwrap();
    assert_eq!(stored().await, None);
    let (first, second) = (state(&connection, 1), state(&connection, 2));
    assert!(!storage.put_connection_state(&second, Some(1)).await.unwrap(), "there is none to replace");
    assert!(storage.put_connection_state(&first, None).await.unwrap());
    assert!(!storage.put_connection_state(&second, None).await.unwrap(), "there is one");
    assert!(storage.put_connection_state(&second, Some(1)).await.unwrap());
    assert!(!storage.put_connection_state(&state(&connection, 2), Some(1)).await.unwrap(), "it is at 2");
    assert!(!storage.put_connection_state(&state(&connection, 3), Some(u64::MAX)).await.unwrap());
    assert_eq!(stored().await, Some(second));
}

#[tokio::test]
async fn a_state_comes_and_goes_with_the_settings_that_it_belongs_to() {
    let storage = storage().await;
    let id = workspace(&storage).await;
    let connection = connection(id);
    let stored = async || storage.connection_state(id, connection.id).await.unwrap();
    let old = ConnectionStateRecord { sealed_state: sealed(0), ..state(&connection, 1) };
    let refused = storage.insert_connection(&connection, Some(&old)).await.unwrap_err();
    assert!(matches!(refused, StorageError::Conflict(Constraint::KeyTerm)), "{refused}");
    assert_eq!(storage.connection(id, connection.id).await.unwrap(), None, "both or none");
    storage.insert_connection(&connection, Some(&state(&connection, 1))).await.unwrap();

    let renamed = ConnectionRecord { version: 2, ..connection.clone() };
    assert!(storage.update_connection(&renamed, 1, false, None).await.unwrap());
    assert_eq!(stored().await, Some(state(&connection, 1)));
    let late = ConnectionRecord { version: 2, settings_version: 2, ..connection.clone() };
    assert!(!storage.update_connection(&late, 1, false, Some(&state(&late, 1))).await.unwrap());
    assert_eq!(stored().await, Some(state(&connection, 1)), "what came too late changed nothing");

    let new = ConnectionRecord { version: 3, settings_version: 3, ..connection.clone() };
    assert!(storage.update_connection(&new, 2, false, Some(&state(&new, 1))).await.unwrap());
    assert_eq!(stored().await, Some(state(&new, 1)));
    let of_old = storage.put_connection_state(&state(&connection, 2), Some(1)).await.unwrap_err();
    assert!(matches!(of_old, StorageError::Conflict(Constraint::Reference)), "{of_old}");
    let newer = ConnectionRecord { version: 4, settings_version: 4, ..connection.clone() };
    assert!(storage.update_connection(&newer, 3, false, None).await.unwrap());
    assert_eq!(stored().await, None, "with the settings that it belonged to");

    assert!(storage.put_connection_state(&state(&newer, 1), None).await.unwrap());
    assert!(storage.delete_connection(id, connection.id).await.unwrap());
    assert_eq!(stored().await, None);
    let gone = storage.put_connection_state(&state(&newer, 1), None).await.unwrap_err();
    assert!(matches!(gone, StorageError::Conflict(Constraint::Reference)), "{gone}");
}

#[tokio::test]
async fn one_of_several_hosts_puts_a_renewal_off() {
    let storage = storage().await;
    let id = workspace(&storage).await;
    let connection = connection(id);
    let first = state(&connection, 1);
    storage.insert_connection(&connection, Some(&first)).await.unwrap();
    let due = async |now| storage.connection_states_to_refresh(time(now), time(now + 1_000), 10).await.unwrap();
    assert_eq!((due(99).await.len(), due(100).await), (0, vec![first.clone()]));
    assert_eq!(
        storage.connection_states_to_refresh(time(5), time(5), 10).await.unwrap().len(),
        1,
        "changed in the future"
    );

    let claimed = ConnectionStateRecord { refresh_at: Some(time(200)), refresh_attempts: 1, ..first.clone() };
    assert!(storage.put_off_refresh(&first, &claimed).await.unwrap());
    assert!(!storage.put_off_refresh(&first, &claimed).await.unwrap(), "another was first");
    assert_eq!((due(199).await.len(), due(200).await), (0, vec![claimed.clone()]));
    assert!(storage.put_connection_state(&state(&connection, 2), Some(1)).await.unwrap());
    let over = ConnectionStateRecord { refresh_at: None, ..claimed.clone() };
    assert!(!storage.put_off_refresh(&claimed, &over).await.unwrap(), "it was stored again in the meantime");
    let second = state(&connection, 2);
    assert!(
        storage.put_off_refresh(&second, &ConnectionStateRecord { refresh_at: None, ..second.clone() }).await.unwrap()
    );
    assert!(due(1_000_000).await.is_empty());
}

#[tokio::test]
async fn a_database_is_read_where_nothing_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyway.db");
    assert!(matches!(SqliteStorage::open_read_only(&path).await, Err(StorageError::Open { .. })));
    assert!(!path.exists(), "it is not created");
    let storage = SqliteStorage::open(&path).await.unwrap();
    assert!(storage.put_audit_root(&[], None, b"a root").await.unwrap());

    // Beside a process that writes.
    let reader = SqliteStorage::open_read_only(&path).await.unwrap();
    assert_eq!(reader.audit_roots().await.unwrap(), [b"a root"]);
    let roots = [b"a root".to_vec()];
    assert!(storage.put_audit_root(&roots, Some(b"a root"), b"the next").await.unwrap());
    assert_eq!(reader.audit_roots().await.unwrap(), [b"the next"]);
    assert!(reader.put_audit_root(&[b"the next".to_vec()], None, b"another").await.is_err());
    reader.close().await;
    storage.close().await;

    // In a folder where SQLite cannot make the file that it needs to write.
    std::fs::create_dir(folder.path().join("keyway.db-shm")).unwrap();
    let reader = SqliteStorage::open_read_only(&path).await.unwrap();
    assert_eq!(reader.audit_roots().await.unwrap(), [b"the next"]);
    reader.close().await;
}

#[tokio::test]
async fn a_root_takes_the_place_only_of_the_one_that_was_read() {
    let storage = SqliteStorage::in_memory().await.unwrap();
    let roots = |all: &[&str]| all.iter().map(|root| root.as_bytes().to_vec()).collect::<Vec<_>>();
    assert!(storage.put_audit_root(&[], None, b"1").await.unwrap());
    assert!(!storage.put_audit_root(&[], None, b"other 1").await.unwrap(), "another process was first");
    assert!(storage.put_audit_root(&roots(&["1"]), Some(b"1"), b"2").await.unwrap());
    assert!(!storage.put_audit_root(&roots(&["1"]), Some(b"1"), b"other 2").await.unwrap());
    assert!(storage.put_audit_root(&roots(&["2"]), None, b"3").await.unwrap());
    assert_eq!(storage.audit_roots().await.unwrap(), roots(&["2", "3"]), "evidence is kept");
}
