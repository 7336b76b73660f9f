//! A deleted key is kept for readers that still hold older rows, and no longer.

use keyway_clock::ManualClock;
use keyway_keys::MasterKey;
use keyway_storage::{MAX_AGE, Scope, SqliteStorage, WorkspaceRecord};

use super::*;
use crate::workspaces::api_key;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

pub(super) async fn workspace(keyring: &Keyring) -> WorkspaceId {
    let workspace = WorkspaceRecord {
        id: WorkspaceId::generate(),
        name: "w".into(),
        external_id: None,
        created_at: NOW,
        updated_at: NOW,
    };
    let (key, _) = keyring.generate(workspace.id, FIRST_TERM, NOW).await.unwrap();
    let (_, api_key) = api_key::generate(workspace.id, "key", Scope::Api.into(), NOW).unwrap();
    keyring.storage.insert_workspace(&workspace, &key, &api_key).await.unwrap();
    workspace.id
}

async fn replace_key(keyring: &Keyring, workspace: WorkspaceId) {
    let (key, _) = keyring.generate(workspace, FIRST_TERM + 1, NOW).await.unwrap();
    keyring.storage.insert_workspace_key(&key).await.unwrap();
    assert!(keyring.storage.delete_replaced_workspace_keys(workspace, FIRST_TERM + 1).await.unwrap());
    keyring.forget(workspace);
}

#[tokio::test]
async fn a_deleted_key_opens_for_two_minutes_and_then_it_is_gone_and_nothing_is_read_on_its_account() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyway.db");
    let storage: Arc<dyn Storage> = Arc::new(SqliteStorage::open(&file).await.unwrap());
    let clock = Arc::new(ManualClock::new(NOW));
    let master_key = MasterKey::from_hex(&"0f".repeat(32)).unwrap();
    let keyring =
        Keyring::open(storage.clone(), master_key.into(), &Changes::new(storage), clock.clone()).await.unwrap();
    let workspace = workspace(&keyring).await;
    let place = Place { workspace, table: "table", row: b"row", column: "column", version: 1 };
    let keys = keyring.get(workspace).await.unwrap();
    let sealed = keyring.seal(&keys, &place, b"data").await.unwrap();

    replace_key(&keyring, workspace).await;
    clock.advance(RETIRED_FOR - Duration::from_secs(1));
    keyring.get(workspace).await.unwrap();
    clock.advance(RETIRED_FOR - Duration::from_secs(1));
    assert!(
        keyring.get(workspace).await.unwrap().open_plaintext(&place, &sealed).is_ok(),
        "known as deleted since then"
    );

    clock.advance(Duration::from_secs(1));
    let after = keyring.get(workspace).await.unwrap();
    let gone = after.open_plaintext(&place, &sealed).unwrap_err();
    assert!(matches!(gone, EnvelopeError::UnknownTerm(FIRST_TERM)), "{gone}");

    // So that the terms are those after the rotation, by the database's count of changes.
    tokio::time::sleep(MAX_AGE + Duration::from_millis(100)).await;
    keyring.get(workspace).await.unwrap();
    // From now on, reading the keys from the database fails: the table is gone.
    let database = sqlx::SqlitePool::connect_with(sqlx::sqlite::SqliteConnectOptions::new().filename(&file));
    sqlx::query("ALTER TABLE workspace_keys RENAME TO elsewhere").execute(&database.await.unwrap()).await.unwrap();
    for _ in 0..2 {
        assert!(Arc::ptr_eq(&keyring.get(workspace).await.unwrap(), &after));
    }
}
