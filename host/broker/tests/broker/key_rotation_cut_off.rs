//! Interrupted rotations of workspace keys: several of them, and one that cannot be finished.

use std::time::Duration;

use keyway::audit::AuditQuery;
use keyway::storage::StorageError;
use keyway::{Access, BrokerError};
use sqlx::SqlitePool;

use crate::key_rotation::{database_in, manual};
use crate::support::World;

const MINUTE: Duration = Duration::from_secs(60);

/// A workspace with an entry, in the middle of its key rotation.
async fn cut_off(world: &World, database: &SqlitePool) -> Access {
    let access = world.other_workspace().await;
    let key = world.broker.keys().encryption_key(&access).await.unwrap();
    world.broker.entries().create(&access, manual("user", &key)).await.unwrap();
    let full = "CREATE TRIGGER full BEFORE UPDATE ON vault_entries BEGIN SELECT RAISE(ABORT, 'disk full'); END";
    sqlx::query(full).execute(database).await.unwrap();
    world.broker.keys().rotate_workspace(&access).await.unwrap_err();
    sqlx::query("DROP TRIGGER full").execute(database).await.unwrap();
    assert_eq!(keys_of(&access, database).await, 2);
    access
}

async fn keys_of(access: &Access, database: &SqlitePool) -> u32 {
    sqlx::query_scalar("SELECT count(*) FROM workspace_keys WHERE workspace_id = ?")
        .bind(access.workspace().as_uuid())
        .fetch_one(database)
        .await
        .unwrap()
}

async fn set_credentials(access: &Access, to: &[u8], database: &SqlitePool) -> Vec<u8> {
    let workspace = access.workspace();
    let before = sqlx::query_scalar("SELECT sealed_credentials FROM vault_entries WHERE workspace_id = ?")
        .bind(workspace.as_uuid())
        .fetch_one(database)
        .await
        .unwrap();
    sqlx::query("UPDATE vault_entries SET sealed_credentials = ? WHERE workspace_id = ?")
        .bind(to)
        .bind(workspace.as_uuid())
        .execute(database)
        .await
        .unwrap();
    before
}

#[tokio::test]
async fn one_that_cannot_be_finished_is_in_nobodys_way_and_is_tried_less_and_less_often() {
    let world = World::new().await;
    let database = database_in(world.folder.path()).await;
    let damaged = cut_off(&world, &database).await;
    let (second, third) = (cut_off(&world, &database).await, cut_off(&world, &database).await);
    let sealed = set_credentials(&damaged, &[0; 64], &database).await;
    let attempts = async || {
        let records = world.broker.audit().records(&damaged, AuditQuery::default()).await.unwrap().records;
        records.iter().filter(|record| record.outcome.as_str() == "INTERNAL_ERROR").count()
    };
    let before = attempts().await;

    let error = world.broker.keys().finish_rotations().await.unwrap_err();
    assert!(matches!(error, BrokerError::Storage(StorageError::Damaged { table: "vault_entries", .. })), "{error}");
    assert_eq!((keys_of(&second, &database).await, keys_of(&third, &database).await), (1, 1));
    assert_eq!(keys_of(&damaged, &database).await, 2);
    assert_eq!(world.broker.keys().finish_rotations().await.unwrap(), 0);
    assert_eq!(attempts().await, before + 1);

    // A minute later, and then two minutes later; the server finishes the other rotations at its
    // next look.
    world.clock.advance(MINUTE);
    world.broker.keys().finish_rotations().await.unwrap_err();
    world.clock.advance(MINUTE);
    let fourth = cut_off(&world, &database).await;
    assert_eq!(world.broker.keys().finish_rotations().await.unwrap(), 1);
    assert_eq!(keys_of(&fourth, &database).await, 1);
    assert_eq!(attempts().await, before + 2);

    set_credentials(&damaged, &sealed, &database).await;
    world.clock.advance(MINUTE);
    assert_eq!(world.broker.keys().finish_rotations().await.unwrap(), 1);
    assert_eq!(keys_of(&damaged, &database).await, 1);
}
