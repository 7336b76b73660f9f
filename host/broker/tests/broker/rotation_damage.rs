//! A rotation whose new password can no longer be opened, because the database is damaged.

use std::time::Duration;

use keyway::connections::ConnectionChanges;
use keyway::rotations::RotationState;
use keyway::{BrokerError, RotationId};
use keyway_emulator_onepassword::{Endpoint, Fault, FaultRule, VaultAccess};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;

use crate::audit::{pairs, records, since};
use crate::logs::logged;
use crate::rotation::{OLD, VAULT, world};
use crate::support::World;

/// Longer than any pause.
const LONG: Duration = Duration::from_secs(3_600);

/// Flips the last bit of a rotation's stored password.
async fn damage(world: &World, id: RotationId) {
    let options = SqliteConnectOptions::new().filename(world.folder.path().join("keyway.db"));
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let sealed = sqlx::query_scalar("SELECT sealed_password FROM rotations WHERE id = ?").bind(id.as_uuid());
    let mut sealed: Vec<u8> = sealed.fetch_one(&pool).await.unwrap();
    *sealed.last_mut().unwrap() ^= 1;
    let update = sqlx::query("UPDATE rotations SET sealed_password = ? WHERE id = ?").bind(sealed).bind(id.as_uuid());
    update.execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn it_is_said_once_to_have_failed_and_can_be_abandoned() {
    let (mut world, connection, entry) = world().await;
    let (rotation, _) = world.begin(&entry).await;
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::status(503)));
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Committing);
    damage(&world, rotation.id).await;
    world.restart().await;
    world.clock.advance(LONG);
    let before = records(&world).await.len();
    for _ in 0..3 {
        world.broker.rotations().write_back_due().await.unwrap();
        world.clock.advance(LONG);
    }
    let failed = world.rotation(rotation.id).await;
    assert_eq!((failed.state, failed.reason.as_deref()), (RotationState::WriteBackFailed, Some("damaged")));
    assert!(failed.message.unwrap().contains("was altered"));
    let tried = [("write_back", "begun"), ("write_back", "WRITE_BACK_FAILED")];
    assert_eq!(since(&world, before).await, pairs(&tried));
    let id = rotation.id.to_string();
    let logged = logged();
    assert_eq!(logged.lines().filter(|line| line.contains("can no longer be read") && line.contains(&id)).count(), 1);

    // It blocks nothing else.
    let settings = ConnectionChanges::default().settings(world.new_connection("automation").settings);
    world.broker.connections().update(&world.access, connection.id, settings).await.unwrap();
    let error = world.broker.rotations().retry(&world.access, rotation.id, false).await.unwrap_err();
    assert!(matches!(error, BrokerError::Envelope(_)), "{error}");
    let abandoned = world.broker.rotations().abandon(&world.access, rotation.id, true).await.unwrap();
    assert_eq!(abandoned.state, RotationState::Abandoned);
    assert_eq!(world.password_of(&entry).await, OLD);
    let (next, _) = world.begin(&entry).await;
    assert_eq!(world.commit(next.id).await.state, RotationState::Done);
}

#[tokio::test]
async fn one_that_had_failed_before_is_not_tried_for_ever_with_a_new_token() {
    let (mut world, connection, entry) = world().await;
    let (rotation, _) = world.begin(&entry).await;
    world.emulator.set_access("automation", VAULT, Some(VaultAccess::ReadOnly)).unwrap();
    assert_eq!(world.commit(rotation.id).await.reason.as_deref(), Some("permission-denied"));
    damage(&world, rotation.id).await;
    world.restart().await;
    let settings = ConnectionChanges::default().settings(world.new_connection("automation").settings);
    world.broker.connections().update(&world.access, connection.id, settings).await.unwrap();
    let before = records(&world).await.len();
    for _ in 0..3 {
        world.broker.rotations().write_back_due().await.unwrap();
    }
    assert_eq!(world.rotation(rotation.id).await.reason.as_deref(), Some("damaged"));
    assert_eq!(since(&world, before).await, pairs(&[("write_back", "begun"), ("write_back", "WRITE_BACK_FAILED")]));
}
