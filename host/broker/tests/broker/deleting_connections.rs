//! Deleting connections: what prevents it, what remains, and the race with a binding.

use keyway::entries::{Binding, CredentialSource, VaultEntry};
use keyway::{
    Access, Broker, BrokerError, ConnectionId, EntryContent, EntryId, ResolveRequest, Scope, SqliteStorage, Thing,
};
use secrecy::ExposeSecret;

use crate::support::{World, fixture_broker, fixture_in, new_fixture_connection};

const ITEM: &str = "Wide World Importers";

/// Rounds of each race: many more than are needed for each side to win some.
const ROUNDS: usize = 300;

fn in_use(error: &BrokerError) -> &keyway::connections::DependentEntries {
    match error {
        BrokerError::ConnectionInUse(dependents) => dependents,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_connection_with_entries_is_kept_and_the_entries_are_listed() {
    let (world, connection) = World::connected().await;
    let reference = world.item("Automation", ITEM).reference;
    for number in 0..103 {
        let user = format!("user-{number}");
        let mut new = EntryContent::bound(user, "https://acme.example", connection.id, reference.as_str());
        new.alias = (number == 0).then(|| "Main login".into());
        world.broker.entries().create(&world.access, new).await.unwrap();
    }
    let error = world.broker.connections().delete(&world.access, connection.id).await.unwrap_err();
    let dependents = in_use(&error);
    assert_eq!((dependents.total, dependents.entries.len()), (103, 100));
    assert_eq!(dependents.entries[0].alias.as_deref(), Some("Main login"));
    assert_eq!(dependents.entries[1].user, "user-1");
    assert_eq!(dependents.entries[1].domain, "https://acme.example");
    let message = error.to_string();
    assert!(message.contains("in use by 103 vault entries (") && message.contains("and 98 more"), "{message}");
    assert!(message.contains("Main login at https://acme.example, user-1 at"), "{message}");
    assert_eq!(world.broker.connections().get(&world.access, connection.id).await.unwrap(), connection);
}

#[tokio::test]
async fn one_entry_in_the_way_is_told_in_the_singular() {
    let (world, connection) = World::connected().await;
    world.bind(&connection, ITEM).await;
    let error = world.broker.connections().delete(&world.access, connection.id).await.unwrap_err();
    assert!(error.to_string().contains("in use by 1 vault entry ("), "{error}");
}

#[tokio::test]
async fn a_deleted_connection_is_gone_and_cannot_be_used() {
    let (world, connection) = World::connected().await;
    let other = world.connect("automation").await;
    world.broker.connections().list_items(&world.access, connection.id).await.unwrap();
    world.broker.connections().delete(&world.access, connection.id).await.unwrap();
    assert_eq!(world.broker.connections().list(&world.access).await.unwrap(), std::slice::from_ref(&other));
    let gone = |error: BrokerError| assert!(matches!(error, BrokerError::NotFound(Thing::Connection)), "{error}");
    gone(world.broker.connections().get(&world.access, connection.id).await.unwrap_err());
    gone(world.broker.connections().list_items(&world.access, connection.id).await.unwrap_err());
    gone(world.broker.connections().delete(&world.access, connection.id).await.unwrap_err());
    gone(world.broker.connections().clear_cache(&world.access, connection.id).await.unwrap_err());
    let new =
        EntryContent::bound("late", "https://acme.example", connection.id, world.item("Automation", ITEM).reference);
    assert!(matches!(world.broker.entries().create(&world.access, new).await, Err(BrokerError::Invalid(_))));
    world.broker.connections().list_items(&world.access, other.id).await.unwrap();
}

#[tokio::test]
async fn nothing_of_a_deleted_connection_is_left_in_the_database() {
    let (world, connection) = World::connected().await;
    world.broker.connections().delete(&world.access, connection.id).await.unwrap();
    world.storage.close().await;
    let file = std::fs::read(world.folder.path().join("keyway.db")).unwrap();
    let id = connection.id.as_uuid().as_bytes().to_vec();
    assert!(!file.windows(id.len()).any(|window| window == id), "deleted rows are overwritten");
}

#[tokio::test]
async fn only_an_administrator_of_the_workspace_deletes() {
    let (world, connection) = World::connected().await;
    let key = world.broker.api_keys().create(&world.access, "ordinary", Scope::Api).await.unwrap();
    let ordinary = world.broker.authenticate(&key.api_key).await.unwrap();
    let error = world.broker.connections().delete(&ordinary, connection.id).await.unwrap_err();
    assert!(matches!(error, BrokerError::Forbidden { needs: Scope::Admin }));
    assert!(!key.api_key.expose_secret().is_empty());
    let elsewhere = world.other_workspace().await;
    let error = world.broker.connections().delete(&elsewhere, connection.id).await.unwrap_err();
    assert!(matches!(error, BrokerError::NotFound(Thing::Connection)));
    world.broker.connections().get(&world.access, connection.id).await.unwrap();
}

#[tokio::test]
async fn an_administrator_sees_connections_without_the_scope_api() {
    let (world, connection) = World::connected().await;
    let key = world.broker.api_keys().create(&world.access, "admin", Scope::Admin).await.unwrap();
    let admin = world.broker.authenticate(&key.api_key).await.unwrap();
    assert_eq!(world.broker.connections().list(&admin).await.unwrap(), std::slice::from_ref(&connection));
    assert_eq!(world.broker.connections().get(&admin, connection.id).await.unwrap(), connection);
    let key = world.broker.api_keys().create(&world.access, "resolver", Scope::Resolve).await.unwrap();
    let resolver = world.broker.authenticate(&key.api_key).await.unwrap();
    let error = world.broker.connections().list(&resolver).await.unwrap_err();
    assert!(matches!(error, BrokerError::Forbidden { needs: Scope::Api }));
}

/// Real threads, a database file, and a fixture that needs no network: a connection is deleted
/// while `bind` binds an entry to it, again and again, and exactly one of the two is refused. An
/// entry that was not bound keeps its values. Within one process, and between two.
async fn race<F>(bind: impl Fn(Broker, Access, EntryId, ConnectionId) -> F)
where
    F: Future<Output = Result<VaultEntry, BrokerError>> + Send + 'static,
{
    let folder = tempfile::tempdir().unwrap();
    let storage = async || SqliteStorage::open(folder.path().join("keyway.db")).await.unwrap();
    let (broker, access, _) = fixture_in("echo", storage().await).await;
    let beside = fixture_broker("echo", storage().await).await;
    for deleter in [broker.clone(), beside] {
        race_between(&deleter, &broker, &access, &bind).await;
    }
}

async fn race_between<F>(
    deleter: &Broker,
    broker: &Broker,
    access: &Access,
    bind: &impl Fn(Broker, Access, EntryId, ConnectionId) -> F,
) where
    F: Future<Output = Result<VaultEntry, BrokerError>> + Send + 'static,
{
    let (mut deleted, mut bound) = (0, Vec::new());
    // How many steps the deletion waits for the binding, which does more before it writes. Adjusted
    // by the winner of each round, so that the two meet.
    let mut head_start = 0_u32;
    for _ in 0..ROUNDS {
        let connection = broker.connections().create(access, new_fixture_connection("echo")).await.unwrap().id;
        let there = EntryContent::new(format!("there-{connection}"), "https://acme.com");
        let there = broker.entries().create(access, there).await.unwrap().id;
        let start = std::sync::Arc::new(tokio::sync::Barrier::new(2));
        let deleting = {
            let (deleter, access, start) = (deleter.clone(), access.clone(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                for _ in 0..head_start {
                    tokio::task::yield_now().await;
                }
                deleter.connections().delete(&access, connection).await
            })
        };
        let binding = bind(broker.clone(), access.clone(), there, connection);
        let binding = tokio::spawn(async move {
            start.wait().await;
            binding.await
        });
        match (deleting.await.unwrap(), binding.await.unwrap()) {
            (Ok(()), Err(BrokerError::Invalid(_))) => {
                deleted += 1;
                head_start += head_start / 4 + 1;
                assert!(broker.entries().get(access, &there.into()).await.unwrap().binding().is_none());
            }
            (Err(BrokerError::ConnectionInUse(_)), Ok(entry)) => {
                bound.push(entry.id);
                head_start -= head_start / 4;
                broker.resolve(access, ResolveRequest::new(entry.id)).await.unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(deleted + bound.len(), ROUNDS);
    assert!(deleted > 0 && !bound.is_empty(), "one side was always first, so nothing raced: {deleted} deleted");
    let connections = broker.connections().list(access).await.unwrap();
    for entry in bound {
        let entry = broker.entries().get(access, &entry.into()).await.unwrap();
        let binding = entry.binding().unwrap();
        assert!(connections.iter().any(|connection| connection.id == binding.connection_id), "without its connection");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_deletion_and_a_new_entry_that_race_one_is_refused() {
    race(|broker, access, there, connection| async move {
        let new = EntryContent::bound(format!("new beside {there}"), "https://acme.com", connection, "echo://item/one");
        broker.entries().create(&access, new).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_deletion_and_a_binding_of_an_entry_that_was_there_one_is_refused() {
    race(|broker, access, there, connection| async move {
        let bind = |entry: &mut EntryContent| {
            entry.credentials = CredentialSource::Bound(Binding::new(connection, "echo://item/one"));
            Ok(())
        };
        broker.entries().update(&access, &there.into(), bind).await
    })
    .await;
}
