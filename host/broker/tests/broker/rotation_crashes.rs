//! A process that ends between any two steps of a rotation, and what the next one finds: the new
//! password is never lost and never written twice. Includes the traces in the database and in the
//! log.

use std::time::Duration;

use keyway::Audit;
use keyway::entries::VaultEntry;
use keyway::rotations::{RotationFilter, RotationState};
use keyway_emulator_onepassword::{Endpoint, Fault, FaultRule};
use secrecy::ExposeSecret;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;

use crate::at_rest::{contains, files, spellings};
use crate::logs::logged;
use crate::rotation::{ITEM, OLD};
use crate::support::World;

/// Longer than the wait for an attempt that never ends.
const LONG: Duration = Duration::from_secs(3_600);

async fn world() -> (World, VaultEntry) {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, ITEM).await;
    (world, entry)
}

/// Makes the database refuse some changes of rotations, as a full disk would at that moment.
async fn refuse(world: &World, changes: &str) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(world.folder.path().join("keyway.db"));
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let trigger = format!("CREATE TRIGGER refused BEFORE {changes} BEGIN SELECT RAISE(ABORT, 'disk full'); END");
    sqlx::query(sqlx::AssertSqlSafe(trigger)).execute(&pool).await.unwrap();
    pool
}

async fn allow_again(pool: &SqlitePool) {
    sqlx::query("DROP TRIGGER refused").execute(pool).await.unwrap();
}

#[tokio::test]
async fn ended_after_begin_the_password_is_there_and_is_written_once_after_commit() {
    let (mut world, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    world.restart().await;
    let revealed = world.broker.rotations().reveal(&world.access, rotation.id).await.unwrap();
    assert_eq!(revealed.expose_secret(), password.expose_secret());
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 0, "the site's password is not confirmed");
    world.clock.advance(LONG);
    assert_eq!(world.rotation(rotation.id).await.state, RotationState::Prepared);
    world.writes();
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Done);
    assert_eq!(world.writes(), 1);
    assert_eq!(world.item_password(ITEM), password.expose_secret());
}

#[tokio::test]
async fn ended_before_the_write_reached_the_server_it_is_written_after_the_restart() {
    let (mut world, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    // The attempt is claimed, and its outcome cannot be recorded.
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::Drop { handled: false }));
    let refused = refuse(&world, "UPDATE OF state ON rotations WHEN OLD.state = 'committing'").await;
    world.broker.rotations().commit(&world.access, rotation.id).await.unwrap_err();
    allow_again(&refused).await;
    world.restart().await;
    assert_eq!(world.rotation(rotation.id).await.state, RotationState::Committing);
    assert_eq!(world.item_password(ITEM), OLD);
    assert_eq!(world.password_of(&entry).await, password.expose_secret());
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 0, "another process may still be at it");
    world.clock.advance(LONG);
    world.writes();
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    assert_eq!((world.rotation(rotation.id).await.state, world.writes()), (RotationState::Done, 1));
    assert_eq!(world.item_password(ITEM), password.expose_secret());
}

#[tokio::test]
async fn ended_between_the_servers_write_and_its_answer_it_is_not_written_again() {
    let (mut world, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::Drop { handled: true }));
    let waiting = world.commit(rotation.id).await;
    assert_eq!((waiting.state, waiting.reason.as_deref()), (RotationState::Committing, Some("unavailable")));
    let version = world.emulator.item("Automation", ITEM).unwrap().item_version;
    world.restart().await;
    world.clock.advance(LONG);
    world.writes();
    assert_eq!(world.broker.rotations().write_back_due().await.unwrap(), 1);
    assert_eq!((world.rotation(rotation.id).await.state, world.writes()), (RotationState::Done, 0));
    assert_eq!(world.emulator.item("Automation", ITEM).unwrap().item_version, version);
    assert_eq!(world.item_password(ITEM), password.expose_secret());
    assert_eq!(world.password_of(&entry).await, password.expose_secret());
}

#[tokio::test]
async fn ended_between_the_answer_and_the_journal_it_is_not_written_again() {
    let (mut world, entry) = world().await;
    assert_eq!(world.password_of(&entry).await, OLD);
    let (rotation, password) = world.begin(&entry).await;
    let refused = refuse(&world, "UPDATE ON rotations WHEN NEW.state = 'done'").await;
    world.broker.rotations().commit(&world.access, rotation.id).await.unwrap_err();
    assert_eq!(world.item_password(ITEM), password.expose_secret());
    assert_eq!(world.password_of(&entry).await, password.expose_secret(), "also what was cached is not used");
    allow_again(&refused).await;
    for _ in 0..2 {
        world.restart().await;
        world.writes();
        let done = world.broker.rotations().retry(&world.access, rotation.id, false).await.unwrap();
        assert_eq!((done.state, world.writes()), (RotationState::Done, 0));
        assert_eq!(world.password_of(&entry).await, password.expose_secret());
    }
}

#[tokio::test]
async fn a_begin_that_could_not_be_stored_gives_no_password_away() {
    let (world, entry) = world().await;
    let pool = refuse(&world, "INSERT ON rotations").await;
    let begin = keyway::rotations::BeginRotation::new(entry.id);
    assert!(world.broker.rotations().begin(&world.access, begin).await.unwrap_err().is_internal());
    allow_again(&pool).await;
    let all = world.broker.rotations().list(&world.access, &RotationFilter::default(), None).await.unwrap();
    assert!(all.rotations.is_empty());
    world.begin(&entry).await;
}

#[tokio::test]
async fn an_open_broker_writes_back_by_itself_what_an_earlier_process_has_left() {
    let (mut world, entry) = world().await;
    let (rotation, password) = world.begin(&entry).await;
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::status(503)));
    assert_eq!(world.commit(rotation.id).await.state, RotationState::Committing);
    world.clock.advance(LONG);
    let audit = Audit::in_folder(world.audit.path());
    world.restart_with(audit, |broker| broker.background_work(true)).await;
    while world.rotation(rotation.id).await.state != RotationState::Done {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.item_password(ITEM), password.expose_secret());
}

#[tokio::test]
async fn the_password_is_in_no_file_and_no_log_and_is_erased_when_the_rotation_is_over() {
    let (world, entry) = world().await;
    let (first, abandoned) = world.begin(&entry).await;
    world.broker.rotations().abandon(&world.access, first.id, false).await.unwrap();
    let (second, password) = world.begin(&entry).await;
    world.emulator.fault(FaultRule::next_of(Endpoint::PatchItems, Fault::status(503)));
    world.commit(second.id).await;
    let refused =
        world.emulator.set_access("automation", "Automation", Some(keyway_emulator_onepassword::VaultAccess::ReadOnly));
    refused.unwrap();
    let failed = world.broker.rotations().retry(&world.access, second.id, false).await.unwrap();
    assert_eq!((failed.state, failed.reason.as_deref()), (RotationState::Committing, Some("permission-denied")));
    let told = format!("{failed:?} {password:?}");
    let secrets = [("old", OLD), ("abandoned", abandoned.expose_secret()), ("new", password.expose_secret())];
    let log = logged();
    assert!(log.contains(&second.id.to_string()) && log.contains("could not be written back yet"), "it is reported");
    for (name, secret) in secrets {
        assert!(!told.contains(secret), "{name}");
        for spelling in spellings(secret.as_bytes()) {
            assert!(!contains(log.as_bytes(), &spelling), "the {name} password is in the log");
            for (file, data) in files(world.folder.path()).into_iter().chain(files(world.audit.path())) {
                assert!(!contains(&data, &spelling), "{file} contains the {name} password");
            }
        }
    }
    let sealed = async || {
        let options = SqliteConnectOptions::new().filename(world.folder.path().join("keyway.db"));
        let pool = SqlitePool::connect_with(options).await.unwrap();
        let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM rotations WHERE sealed_password IS NOT NULL")
            .fetch_one(&pool)
            .await
            .unwrap();
        kept
    };
    assert_eq!(sealed().await, 1, "nothing remains of the abandoned rotation");
    world.broker.rotations().abandon(&world.access, second.id, true).await.unwrap();
    assert_eq!(sealed().await, 0);
}

#[tokio::test]
async fn a_sealed_password_opens_in_its_own_row_only() {
    let (mut world, entry) = world().await;
    let connection = world.broker.connections().list(&world.access).await.unwrap().remove(0);
    let other = world.bind(&connection, "Wide World Importers").await;
    let ((first, _), (second, _)) = (world.begin(&entry).await, world.begin(&other).await);
    let options = SqliteConnectOptions::new().filename(world.folder.path().join("keyway.db"));
    let pool = SqlitePool::connect_with(options).await.unwrap();
    sqlx::query(
        "UPDATE rotations SET sealed_password = (SELECT sealed_password FROM rotations WHERE id = ?) WHERE id = ?",
    )
    .bind(first.id.as_uuid())
    .bind(second.id.as_uuid())
    .execute(&pool)
    .await
    .unwrap();
    world.restart().await;
    let error = world.broker.rotations().reveal(&world.access, second.id).await.unwrap_err();
    assert!(matches!(error, keyway::BrokerError::Envelope(_)), "{error}");
    assert!(world.broker.rotations().reveal(&world.access, first.id).await.is_ok());
}
