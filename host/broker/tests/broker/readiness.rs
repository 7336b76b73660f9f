//! Whether the broker says when it cannot do its work.

use std::time::Duration;

use jiff::Span;
use keyway::readiness::NotReady;
use keyway::rotations::RotationFilter;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::World;

/// A result is used for a second, and that of a write for five.
const A_SECOND: Duration = Duration::from_millis(1_100);
const FIVE_SECONDS: Duration = Duration::from_millis(5_100);

async fn pool(world: &World) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(world.folder.path().join("keyway.db"));
    SqlitePool::connect_with(options).await.unwrap()
}

async fn check(world: &World) -> Vec<NotReady> {
    world.broker.readiness().check().await
}

#[tokio::test]
async fn a_database_that_cannot_be_written_is_not_ready_until_it_can() {
    let (world, _) = World::connected().await;
    let pool = pool(&world).await;
    let mut lock = pool.acquire().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *lock).await.unwrap();
    let found = check(&world).await;
    assert!(found.contains(&NotReady::Writes), "{found:?}");
    assert!(!found.contains(&NotReady::Database), "it is read: {found:?}");
    sqlx::query("ROLLBACK").execute(&mut *lock).await.unwrap();
    tokio::time::sleep(FIVE_SECONDS).await;
    assert_eq!(check(&world).await, []);
}

#[tokio::test]
async fn a_database_that_fails_an_operation_is_not_ready_for_a_minute() {
    let (world, _) = World::connected().await;
    assert_eq!(check(&world).await, []);
    let pool = pool(&world).await;
    sqlx::query("ALTER TABLE rotations RENAME TO elsewhere").execute(&pool).await.unwrap();
    world.broker.rotations().list(&world.access, &RotationFilter::default(), None).await.unwrap_err();
    tokio::time::sleep(A_SECOND).await;
    assert_eq!(check(&world).await, [NotReady::Damaged]);
    sqlx::query("ALTER TABLE elsewhere RENAME TO rotations").execute(&pool).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    tokio::time::sleep(A_SECOND).await;
    assert_eq!(check(&world).await, []);
}

#[tokio::test]
async fn a_clock_that_was_set_back_is_told_until_it_counts_as_put_right() {
    let (world, _) = World::connected().await;
    assert_eq!(check(&world).await, []);
    let now = keyway::clock::Clock::now(&*world.clock).timestamp();
    world.clock.set_wall(now - Span::new().hours(2));
    tokio::time::sleep(A_SECOND).await;
    let found = check(&world).await;
    assert!(matches!(&*found, [NotReady::Clock { by }] if by.as_secs() == 7_200), "{found:?}");
    assert_eq!(found[0].to_string(), "the clock was set back by 120 minutes");
    world.clock.advance(Duration::from_secs(600));
    tokio::time::sleep(A_SECOND).await;
    assert_eq!(check(&world).await, []);
}
