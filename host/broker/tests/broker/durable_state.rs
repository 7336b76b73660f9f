//! Durable state of providers: the fixture `paths` counts its changes in it, `verify` included, and
//! requests a refresh an hour after each change.

use std::time::Duration;

use keyway::audit::{AuditQuery, Operation};
use keyway::connections::{Connection, ConnectionChanges};
use keyway::entries::VaultEntry;
use keyway::keyway_runtime::{CallError, ErrorCode, Fields, ProviderError, Settings};
use keyway::storage::SealedColumn;
use keyway::{Broker, BrokerError, CacheTtl, ResolveRequest};

use tokio::task::JoinSet;

use crate::at_rest::{Attacker, connection_bytes, contains, files, spellings};
use crate::paths::{World, new_connection, settings};
use crate::support::text;

const HOUR: Duration = Duration::from_secs(3_600);

/// A connection without a cache, and an entry whose password is the number of changes of the state;
/// each resolve changes it.
async fn world() -> (World, Connection, VaultEntry) {
    let (world, connection) = World::new().await;
    let connection = uncached(&world, &connection).await;
    let entry = world.bind(&connection, "state", "paths://state/one").await.unwrap();
    (world, connection, entry)
}

async fn uncached(world: &World, connection: &Connection) -> Connection {
    let changes =
        ConnectionChanges::default().cache_ttl(CacheTtl::from_seconds(0)).rate_limit_tier(Some("paid".into()));
    world.broker.connections().update(&world.access, connection.id, changes).await.unwrap()
}

async fn count(broker: &Broker, world: &World, entry: &VaultEntry) -> Result<u64, BrokerError> {
    let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS);
    let resolved = broker.resolve(&world.access, request).await?;
    Ok(text(resolved.password.as_ref()).unwrap().parse().unwrap())
}

fn provider_error(error: BrokerError) -> ProviderError {
    match error {
        BrokerError::Provider(error) | BrokerError::NotVerified { source: CallError::Provider(error) } => error,
        other => panic!("{other}"),
    }
}

async fn sealed(attacker: &Attacker, connection: &Connection) -> Vec<u8> {
    attacker.read("SELECT sealed_state FROM connection_states WHERE id = ?1", connection_bytes(connection)).await
}

async fn number(attacker: &Attacker, sql: &'static str, connection: &Connection) -> i64 {
    attacker.number(sql, connection_bytes(connection)).await
}

async fn replace(attacker: &Attacker, connection: &Connection, sealed: Vec<u8>) {
    let sql = "UPDATE connection_states SET sealed_state = ?1 WHERE id = ?2";
    attacker.run(sql, sealed, connection_bytes(connection)).await;
}

fn new_settings() -> ConnectionChanges {
    ConnectionChanges::default().settings(settings().with("engine", "v1"))
}

#[tokio::test]
async fn what_verify_stores_is_saved_with_the_connection_and_outlives_restarts() {
    let (mut world, _, entry) = world().await;
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 2, "`verify` was the first");
    world.restart().await;
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 3);
    world.restart().await;
    world.restart().await;
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 4);
}

#[tokio::test]
async fn a_second_broker_goes_on_with_the_state_of_the_first() {
    let (world, _, entry) = world().await;
    let beside = world.beside().await;
    for expected in [2, 4, 6] {
        assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), expected);
        assert_eq!(count(&beside, &world, &entry).await.unwrap(), expected + 1);
    }
}

#[tokio::test]
async fn of_concurrent_changes_none_is_overwritten_unseen() {
    let (world, connection, entry) = world().await;
    let beside = world.beside().await;
    let mut entries = Vec::new();
    // Several items, because calls for one are shared.
    for number in 0..8 {
        let reference = format!("paths://state/{number}");
        entries.push(world.bind(&connection, &number.to_string(), &reference).await.unwrap());
    }
    let mut running = JoinSet::new();
    for entry in &entries {
        for broker in [&world.broker, &beside] {
            let (broker, access) = (broker.clone(), world.access.clone());
            let request = ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS);
            running.spawn(async move { broker.resolve(&access, request).await });
        }
    }
    let mut seen: Vec<u64> = Vec::new();
    for resolved in running.join_all().await {
        match resolved {
            Ok(resolved) => seen.push(text(resolved.password.as_ref()).unwrap().parse().unwrap()),
            // The fixture does not read it again.
            Err(error) => assert_eq!(provider_error(error).code, ErrorCode::Conflict),
        }
    }
    seen.sort_unstable();
    let expected: Vec<_> = (2..).take(seen.len()).collect();
    assert!(!seen.is_empty() && seen == expected, "each change saw the one before: {seen:?}");
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 2 + seen.len() as u64);
}

#[tokio::test]
async fn no_state_is_in_the_database_in_plain() {
    let (world, _, entry) = world().await;
    count(&world.broker, &world, &entry).await.unwrap();
    for (file, data) in files(world.folder.path()) {
        for spelling in spellings(b"refresh-token-of-paths") {
            assert!(!contains(&data, &spelling), "{file}: {}", String::from_utf8_lossy(&spelling));
        }
    }
}

#[tokio::test]
async fn a_rotated_workspace_key_seals_the_state_anew() {
    let (mut world, connection, entry) = world().await;
    let attacker = Attacker::of(world.folder.path()).await;
    let before = sealed(&attacker, &connection).await;
    world.broker.keys().rotate_workspace(&world.access).await.unwrap();
    let after = sealed(&attacker, &connection).await;
    let term = |envelope: &[u8]| envelope[keyway::storage::KEY_TERM].to_vec();
    assert_eq!((term(&before), term(&after)), (vec![0, 0, 0, 1], vec![0, 0, 0, 2]));
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 2);
    world.restart().await;
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 3);
    assert!(SealedColumn::ALL.contains(&SealedColumn::ConnectionState));
}

#[tokio::test]
async fn a_state_goes_with_its_settings_and_stays_when_others_are_refused() {
    let (mut world, connection, entry) = world().await;
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 2);
    let wrong = ConnectionChanges::default().settings(Settings::new().with("region", "eu-1")).name("Other");
    world.broker.connections().update(&world.access, connection.id, wrong).await.unwrap_err();
    let renamed = ConnectionChanges::default().name("Other");
    world.broker.connections().update(&world.access, connection.id, renamed).await.unwrap();
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 3, "neither has changed the settings");

    world.broker.connections().update(&world.access, connection.id, new_settings()).await.unwrap();
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 2, "the new `verify` was the first");
    world.restart().await;
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 3);
}

#[tokio::test]
async fn a_state_goes_with_its_connection() {
    let (world, connection, entry) = world().await;
    let attacker = Attacker::of(world.folder.path()).await;
    const STATES: &str = "SELECT count(*) FROM connection_states WHERE id = ?1";
    assert_eq!(number(&attacker, STATES, &connection).await, 1);
    let refused = world.broker.connections().delete(&world.access, connection.id).await.unwrap_err();
    assert!(matches!(refused, BrokerError::ConnectionInUse(_)), "{refused}");
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 2, "it is still there");
    world.broker.entries().delete(&world.access, &entry.id.into()).await.unwrap();
    world.broker.connections().delete(&world.access, connection.id).await.unwrap();
    assert_eq!(number(&attacker, STATES, &connection).await, 0);
}

// ---- damage ------------------------------------------------------------------------------------

/// Everything that needs the connection's state fails, with a message that names the connection and
/// the remedy.
async fn fails(world: &World, connection: &Connection, entry: &VaultEntry, how: &str) {
    let error = provider_error(count(&world.broker, world, entry).await.unwrap_err());
    assert_eq!(error.code, ErrorCode::ActionRequired, "{how}: {error}");
    let id = connection.id.to_string();
    for part in ["durable state", &id, "Enter the connection's settings again"] {
        assert!(error.message.contains(part), "{how}: no `{part}` in: {error}");
    }
}

#[tokio::test]
async fn a_state_that_was_tampered_with_is_one_clear_error_and_new_settings_mend_it() {
    let (mut world, connection, entry) = world().await;
    let mut other = new_connection(None);
    other.name = "Other".into();
    let other = world.broker.connections().create(&world.access, other).await.unwrap();
    let other = uncached(&world, &other).await;
    let of_other = world.bind(&other, "other", "paths://state/other").await.unwrap();
    let attacker = Attacker::of(world.folder.path()).await;
    let old = sealed(&attacker, &connection).await;
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 2);
    let good = sealed(&attacker, &connection).await;

    let flipped = |index: usize| {
        let mut envelope = good.clone();
        envelope[index] ^= 1;
        envelope
    };
    let damages = [
        ("version", flipped(0)),
        ("term", flipped(3)),
        ("nonce", flipped(6)),
        ("ciphertext", flipped(good.len() / 2)),
        ("tag", flipped(good.len() - 1)),
        ("cut off", good[..good.len() - 3].to_vec()),
        ("no envelope", good[..7].to_vec()),
        ("empty", Vec::new()),
        ("moved", sealed(&attacker, &other).await),
        ("put back", old),
    ];
    for (how, damaged) in damages {
        replace(&attacker, &connection, damaged.clone()).await;
        fails(&world, &connection, &entry, how).await;
        world.restart().await;
        fails(&world, &connection, &entry, how).await;
        assert_eq!(sealed(&attacker, &connection).await, damaged, "{how}: nothing was overwritten");
        count(&world.broker, &world, &of_other).await.unwrap();
    }
    replace(&attacker, &connection, good.clone()).await;
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 3, "restored, and nothing was lost");

    replace(&attacker, &connection, good).await;
    fails(&world, &connection, &entry, "put back").await;
    world.broker.connections().update(&world.access, connection.id, new_settings()).await.unwrap();
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 2);
}

#[tokio::test]
async fn a_whole_state_of_earlier_settings_does_not_open_with_the_present_ones() {
    let (mut world, connection, entry) = world().await;
    let attacker = Attacker::of(world.folder.path()).await;
    // Both are at version 1, in the same place.
    let of_old_settings = sealed(&attacker, &connection).await;
    world.broker.connections().update(&world.access, connection.id, new_settings()).await.unwrap();
    replace(&attacker, &connection, of_old_settings).await;
    world.restart().await;
    fails(&world, &connection, &entry, "of the settings before").await;
}

// ---- renewing ----------------------------------------------------------------------------------

async fn refreshes(broker: &Broker) -> Vec<keyway::audit::AuditRecord> {
    let mut query = AuditQuery::default();
    query.operation = Some(Operation::RefreshConnection);
    broker.audit().records_of_all(&query).await.unwrap().records
}

#[tokio::test]
async fn a_state_is_renewed_at_the_time_that_the_provider_named_and_by_one_host() {
    let (world, _, entry) = world().await;
    assert_eq!(world.broker.connections().refresh_due().await.unwrap(), 0);
    world.clock.advance(HOUR - Duration::from_secs(1));
    assert_eq!(world.broker.connections().refresh_due().await.unwrap(), 0, "not before");
    world.clock.advance(Duration::from_secs(1));
    let beside = world.beside().await;
    let (here, there) = tokio::join!(world.broker.connections().refresh_due(), beside.connections().refresh_due());
    assert_eq!(here.unwrap() + there.unwrap(), 1, "of two hosts, one");
    let recorded = [refreshes(&world.broker).await, refreshes(&beside).await].concat();
    assert_eq!(recorded.len(), 2, "begun and ended: {recorded:?}");
    assert!(recorded.iter().all(|record| record.actor == keyway::audit::AuditActor::System), "{recorded:?}");
    assert_eq!(world.broker.connections().refresh_due().await.unwrap(), 0, "the next is an hour later");

    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 3, "`verify`, the renewal, and this one");
    world.clock.advance(HOUR - Duration::from_secs(1));
    assert_eq!(beside.connections().refresh_due().await.unwrap(), 0, "an hour after the last change");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(beside.connections().refresh_due().await.unwrap(), 1);
}

#[tokio::test]
async fn a_broker_renews_states_by_itself_also_of_connections_that_nobody_uses() {
    let (world, _, entry) = world().await;
    world.clock.advance(HOUR);
    let beside = world.beside_with(|builder| builder.provider(world.provider()).background_work(true)).await;
    let renewed = async {
        while refreshes(&beside).await.len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), renewed).await.unwrap();
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 3);
}

#[tokio::test]
async fn a_renewal_that_fails_is_repeated_with_growing_pauses_and_loses_nothing() {
    let (world, connection, entry) = world().await;
    let attacker = Attacker::of(world.folder.path()).await;
    let good = sealed(&attacker, &connection).await;
    let mut damaged = good.clone();
    damaged[20] ^= 1;
    replace(&attacker, &connection, damaged).await;
    world.clock.advance(HOUR);
    const WAIT: &str = "SELECT refresh_at - updated_at FROM connection_states WHERE id = ?1";
    for longest in [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600] {
        assert_eq!(world.broker.connections().refresh_due().await.unwrap(), 1);
        assert_eq!(world.broker.connections().refresh_due().await.unwrap(), 0, "it pauses");
        let wait = number(&attacker, WAIT, &connection).await;
        assert!((longest * 500..=longest * 1_000).contains(&wait), "{wait} ms, at most {longest} s");
        world.clock.advance(Duration::from_millis(wait.unsigned_abs()));
    }
    let failed = refreshes(&world.broker).await;
    assert_eq!(failed.len(), 18, "begun and ended, nine times");

    replace(&attacker, &connection, good).await;
    assert_eq!(world.broker.connections().refresh_due().await.unwrap(), 1);
    assert_eq!(number(&attacker, "SELECT refresh_attempts FROM connection_states WHERE id = ?1", &connection).await, 0);
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 3, "`verify`, the renewal, and this one");
}

#[tokio::test]
async fn a_state_waits_for_its_provider_to_be_installed_again() {
    let (world, _, entry) = world().await;
    world.clock.advance(HOUR);
    let without = world.beside_with(|builder| builder).await;
    assert_eq!(without.connections().refresh_due().await.unwrap(), 1);
    assert!(refreshes(&without).await.is_empty(), "no provider was called");
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(world.broker.connections().refresh_due().await.unwrap(), 1);
    assert_eq!(count(&world.broker, &world, &entry).await.unwrap(), 3);
}
