//! Rotation of the master key: only the new key opens the database, and operations in flight are
//! not affected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyway::keys::{HostKey, KeyError, MasterKeys};
use keyway::readiness::NotReady;
use keyway::{Access, BrokerError, MasterKey, Scope, SqliteStorage};
use secrecy::ExposeSecret;

use crate::key_rotation::{database, files_contain, manual, master_key, new_master_key, other_process};
use crate::support::{World, text};

#[tokio::test]
async fn after_its_rotation_only_the_new_master_key_opens_the_database() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    let host_key = world.broker.keys().host_key().derive("acme.v1.test");
    let old_wrapped: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT wrapped_key FROM workspace_keys UNION SELECT wrapped_key FROM host_keys")
            .fetch_all(&database(&world).await)
            .await
            .unwrap();

    let rotated = world.broker.keys().rotate_master(new_master_key()).await.unwrap();
    assert_eq!((rotated.term, rotated.keys), (2, 2), "the workspace's key and the host's");

    let refused = other_process(&world, master_key()).await.unwrap_err();
    assert!(matches!(refused, BrokerError::Key(KeyError::ReplacedMasterKey { .. })), "{refused}");
    assert!(refused.to_string().contains("was replaced on") && refused.to_string().contains("replaced it"));
    let stranger = other_process(&world, MasterKey::generate().unwrap()).await.unwrap_err();
    assert!(matches!(stranger, BrokerError::Key(KeyError::WrongMasterKey { .. })), "{stranger}");

    let opened = other_process(&world, new_master_key()).await.unwrap();
    let key = opened.keys().encryption_key(&world.access).await.unwrap();
    assert_eq!(key.expose_secret(), world.encryption_key.expose_secret(), "the workspace's key is the same");
    assert_eq!(opened.keys().host_key().derive("acme.v1.test"), host_key, "and so is what follows from the host's");
    let audit = opened.audit().verify().await.unwrap();
    assert!(audit.is_good() && audit.records > 0, "the audit log of before verifies: {audit:?}");
    // The broker that rotated it continues.
    assert!(text(world.resolve(&entry).await.password.as_ref()).is_some());
    world.other_workspace().await;
    for wrapped in old_wrapped {
        assert!(!files_contain(&world, &wrapped), "what the old master key opens is gone from the files");
    }
}

#[tokio::test]
async fn a_server_with_the_old_master_key_goes_on_and_finds_the_new_one_where_it_is_told_to_look() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    let unused = world.other_workspace().await;
    let there = Arc::new(AtomicBool::new(false));
    let look = there.clone();
    let keys = MasterKeys::from(master_key())
        .reload_from(move || if look.load(Ordering::SeqCst) { Ok(new_master_key()) } else { Ok(master_key()) });
    let server = other_process(&world, keys).await.unwrap();
    server.keys().encryption_key(&world.access).await.unwrap();

    world.broker.keys().rotate_master(new_master_key()).await.unwrap();
    // It still has the key that it unwrapped earlier.
    server.entries().create(&world.access, manual("after", &world.encryption_key)).await.unwrap();
    server.entries().get(&world.access, &entry.id.into()).await.unwrap();
    // Another key requires the new master key.
    let refused = server.keys().encryption_key(&unused).await.unwrap_err();
    assert!(matches!(refused, BrokerError::Key(KeyError::ReplacedMasterKey { .. })), "{refused}");
    let refused = server.workspaces().create("New", Scope::Api).await.unwrap_err();
    assert!(matches!(refused, BrokerError::Key(KeyError::ReplacedMasterKey { .. })), "{refused}");
    // It has no provider for the connection either.
    assert_eq!(server.readiness().check().await, [NotReady::MasterKey, NotReady::NoProvider]);

    there.store(true, Ordering::SeqCst);
    server.keys().encryption_key(&unused).await.unwrap();
    server.workspaces().create("New", Scope::Api).await.unwrap();
    // An earlier result is valid for a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(server.readiness().check().await, [NotReady::NoProvider]);
}

#[tokio::test]
async fn a_key_service_that_has_the_new_master_key_and_is_out_of_reach_is_told_apart() {
    let world = World::new().await;
    let unused = world.other_workspace().await;
    let is_out = Arc::new(AtomicBool::new(true));
    let service = is_out.clone();
    let keys = MasterKeys::from(master_key()).reload_from(move || match service.load(Ordering::SeqCst) {
        true => Err(KeyError::Service("no route to host".into())),
        false => Ok(new_master_key()),
    });
    let server = other_process(&world, keys).await.unwrap();
    assert!(server.readiness().check().await.is_empty());
    world.broker.keys().rotate_master(new_master_key()).await.unwrap();

    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(server.readiness().check().await, [NotReady::KeyService]);
    let refused = server.keys().encryption_key(&unused).await.unwrap_err();
    assert_eq!(refused.kind(), keyway::ErrorKind::KeysUnavailable, "{refused}");

    is_out.store(false, Ordering::SeqCst);
    server.keys().encryption_key(&unused).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(server.readiness().check().await.is_empty());
}

#[tokio::test]
async fn a_host_that_holds_both_master_keys_works_before_and_after() {
    let world = World::new().await;
    let both = || MasterKeys::from(new_master_key()).with(master_key());
    let server = other_process(&world, both()).await.unwrap();
    world.broker.keys().rotate_master(new_master_key()).await.unwrap();
    server.keys().encryption_key(&world.access).await.unwrap();
    other_process(&world, both()).await.unwrap();
    let storage = SqliteStorage::open(world.folder.path().join("keyway.db")).await.unwrap();
    HostKey::open(&storage, &both()).await.unwrap();
}

#[tokio::test]
async fn a_master_key_that_was_used_before_is_not_taken_for_a_new_one() {
    let world = World::new().await;
    let same = world.broker.keys().rotate_master(master_key()).await.unwrap_err();
    assert!(matches!(same, BrokerError::Key(KeyError::NotANewKey)), "{same}");
    world.broker.keys().rotate_master(new_master_key()).await.unwrap();
    let back = world.broker.keys().rotate_master(master_key()).await.unwrap_err();
    assert!(matches!(back, BrokerError::Key(KeyError::NotANewKey)), "{back}");
}

#[tokio::test]
async fn workspaces_created_while_the_master_key_is_replaced_are_under_the_new_one() {
    let world = World::new().await;
    let broker = world.broker.clone();
    let creating = tokio::spawn(async move {
        let mut created = Vec::new();
        for number in 0..40 {
            created.push(broker.workspaces().create(&format!("W{number}"), Scope::Api).await.unwrap());
        }
        created
    });
    world.broker.keys().rotate_master(new_master_key()).await.unwrap();
    let created = creating.await.unwrap();
    let opened = other_process(&world, new_master_key()).await.unwrap();
    for workspace in created {
        let access = Access::operator(workspace.workspace.id, "tests");
        let key = opened.keys().encryption_key(&access).await.unwrap();
        assert_eq!(key.expose_secret(), workspace.encryption_key.expose_secret());
    }
}

#[tokio::test]
async fn a_workspace_whose_key_does_not_open_is_named_and_stops_the_replacement_until_it_is_deleted() {
    let world = World::new().await;
    let other = world.other_workspace().await;
    sqlx::query("UPDATE workspace_keys SET wrapped_key = zeroblob(80) WHERE workspace_id = ?")
        .bind(other.workspace().as_uuid())
        .execute(&database(&world).await)
        .await
        .unwrap();
    let host = other_process(&world, master_key()).await.unwrap();
    let error = host.keys().rotate_master(new_master_key()).await.unwrap_err();
    let id = other.workspace().to_string();
    assert!(error.to_string().contains(&format!("the row {id} of the table `workspace_keys`")), "{error}");
    let damaged = host.database().damaged_rows().await.unwrap();
    assert_eq!(damaged.iter().map(|row| (row.table, &row.id)).collect::<Vec<_>>(), [("workspace_keys", &id)]);
    host.database().delete_damaged_row("workspace_keys", &id).await.unwrap();
    assert_eq!(host.workspaces().list().await.unwrap().len(), 1);
    assert_eq!(host.keys().rotate_master(new_master_key()).await.unwrap().keys, 2);
}
