//! Workspaces, API keys, the master key.

use std::time::Duration;

use keyway::keys::{KeyError, KeyId, KeyWrapper, MasterKeys};
use keyway::keyway_runtime::{ProviderFolder, Runtime};
use keyway::rotations::BeginRotation;
use keyway::workspaces::NewWorkspace;
use keyway::{Access, Audit, Broker, BrokerError, MasterKey, ResolveRequest, Scope, Scopes, SqliteStorage, Thing};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::support::World;

#[tokio::test]
async fn the_first_key_opens_its_workspace_and_a_revoked_one_nothing() {
    let world = World::new().await;
    let access = world.broker.authenticate(&world.api_key).await.unwrap();
    assert_eq!(access.workspace(), world.access.workspace());
    assert_eq!(access.scopes(), Scopes::ALL);

    let second = world.broker.api_keys().create(&access, "for runs", Scope::Resolve).await.unwrap();
    assert_eq!(world.broker.authenticate(&second.api_key).await.unwrap().scopes(), Scope::Resolve.into());
    assert!(second.api_key.expose_secret().starts_with(&second.info.begins_with));

    let revoked = world.broker.api_keys().revoke(&access, second.info.id).await.unwrap();
    assert!(revoked.revoked_at.is_some());
    assert!(matches!(world.broker.authenticate(&second.api_key).await, Err(BrokerError::Unauthenticated)), "at once");
    world.clock.advance(Duration::from_secs(60));
    let again = world.broker.api_keys().revoke(&access, second.info.id).await.unwrap();
    assert_eq!(again.revoked_at, revoked.revoked_at, "the first time counts");
    let listed: Vec<_> = world.broker.api_keys().list(&access).await.unwrap().into_iter().map(|key| key.name).collect();
    assert_eq!(listed, ["first key", "for runs"]);
}

#[tokio::test]
async fn unknown_and_malformed_keys_are_refused_alike() {
    let world = World::new().await;
    let key = world.api_key.expose_secret();
    let (begin, end) = key.split_at(key.len() - 1);
    let last = if end == "a" { "b" } else { "a" };
    for wrong in
        [String::new(), "sk_".into(), "no key".into(), format!("{begin}{last}"), format!("sk_{}", "a".repeat(64))]
    {
        let refused = world.broker.authenticate(&SecretString::from(wrong.as_str())).await;
        assert!(matches!(refused, Err(BrokerError::Unauthenticated)), "{wrong}");
    }
}

#[tokio::test]
async fn an_ordinary_key_manages_nothing_and_resolves_nothing() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    let key = world.broker.api_keys().create(&world.access, "ordinary", Scope::Api).await.unwrap();
    let access = world.broker.authenticate(&key.api_key).await.unwrap();
    let broker = &world.broker;
    let forbidden = [
        (Scope::Admin, broker.connections().create(&access, world.new_connection("automation")).await.unwrap_err()),
        (Scope::Admin, broker.connections().clear_cache(&access, connection.id).await.unwrap_err()),
        (Scope::Admin, broker.connections().retry(&access, connection.id).await.unwrap_err()),
        (Scope::Admin, broker.connections().update(&access, connection.id, Default::default()).await.unwrap_err()),
        (Scope::Admin, broker.api_keys().create(&access, "more", Scopes::ALL).await.unwrap_err()),
        (Scope::Admin, broker.keys().encryption_key(&access).await.unwrap_err()),
        (Scope::Resolve, broker.resolve(&access, keyway::ResolveRequest::new(entry.id)).await.unwrap_err()),
    ];
    for (scope, error) in forbidden {
        assert!(matches!(error, BrokerError::Forbidden { needs } if needs == scope), "{error}");
    }
    assert_eq!(broker.connections().list(&access).await.unwrap().len(), 1);
    assert_eq!(broker.entries().list(&access, None).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn another_workspace_sees_nothing_and_cannot_tell_foreign_from_unknown() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    let other = world.other_workspace().await;
    let broker = &world.broker;
    assert!(broker.connections().list(&other).await.unwrap().is_empty());
    assert!(broker.entries().list(&other, None).await.unwrap().entries.is_empty());
    let foreign = broker.connections().list_items(&other, connection.id).await.unwrap_err().to_string();
    let unknown = broker
        .connections()
        .list_items(&other, keyway::ConnectionId::from(uuid::Uuid::nil()))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(foreign, unknown);
    let not_found =
        |error: BrokerError, thing: Thing| assert!(matches!(error, BrokerError::NotFound(t) if t == thing), "{error}");
    not_found(broker.connections().clear_cache(&other, connection.id).await.unwrap_err(), Thing::Connection);
    not_found(broker.connections().retry(&other, connection.id).await.unwrap_err(), Thing::Connection);
    not_found(broker.entries().get(&other, &entry.id.into()).await.unwrap_err(), Thing::Entry);
    not_found(broker.resolve(&other, keyway::ResolveRequest::new(entry.id)).await.unwrap_err(), Thing::Entry);
}

#[tokio::test]
async fn a_provider_of_another_runtime_is_refused() {
    let world = World::new().await;
    let (here, elsewhere) = (Runtime::builder().build().unwrap(), Runtime::builder().build().unwrap());
    let builder = || {
        let (runtime, key) = (here.clone(), MasterKey::generate().unwrap());
        async move { Broker::builder(runtime, SqliteStorage::in_memory().await.unwrap(), key).audit(Audit::in_memory()) }
    };
    let refused = builder().await.provider(world.provider.clone()).open().await.unwrap_err();
    assert!(matches!(refused, BrokerError::OtherRuntime), "{refused}");

    let empty = tempfile::tempdir().unwrap();
    let of_elsewhere = ProviderFolder::open(&elsewhere, empty.path()).await.unwrap();
    let refused = builder().await.provider_folder(of_elsewhere).open().await.unwrap_err();
    assert!(matches!(refused, BrokerError::OtherRuntime), "{refused}");
    let of_here = ProviderFolder::open(&here, empty.path()).await.unwrap();
    assert!(builder().await.provider_folder(of_here).open().await.is_ok());
}

#[tokio::test]
async fn another_master_key_is_recognised_before_anything_is_opened() {
    let world = World::new().await;
    let runtime = Runtime::builder().build().unwrap();
    let opened = Broker::builder(runtime, world.storage.clone(), MasterKey::generate().unwrap())
        .audit(Audit::in_memory())
        .open()
        .await;
    assert!(matches!(opened, Err(BrokerError::Key(KeyError::WrongMasterKey { .. }))));
}

#[tokio::test]
async fn the_encryption_key_is_the_same_every_time_and_another_for_each_workspace() {
    let mut world = World::new().await;
    world.restart().await;
    let key = world.broker.keys().encryption_key(&world.access).await.unwrap();
    assert_eq!(key.expose_secret(), world.encryption_key.expose_secret());
    assert_eq!(key.expose_secret().len(), 64);
    let other = world.other_workspace().await;
    assert_ne!(world.broker.keys().encryption_key(&other).await.unwrap().expose_secret(), key.expose_secret());
}

#[tokio::test]
async fn an_unknown_workspace_is_not_found() {
    let world = World::new().await;
    let nobody = Access::operator(uuid::Uuid::nil().into(), "tests");
    let error = world.broker.api_keys().create(&nobody, "key", Scope::Api).await.unwrap_err();
    assert!(matches!(error, BrokerError::NotFound(Thing::Workspace)));
    assert!(matches!(world.broker.keys().encryption_key(&nobody).await, Err(BrokerError::NotFound(Thing::Workspace))));
    assert!(world.broker.workspaces().get(world.access.workspace()).await.is_ok());
    assert_eq!(world.broker.workspaces().list().await.unwrap().len(), 1);
}

/// Servers spawn these futures. This test passes by compiling.
#[tokio::test]
async fn every_operation_can_run_in_a_task_of_its_own() {
    fn task<F: Future + Send>(_: F) {}
    let (world, connection) = World::connected().await;
    let (broker, access) = (&world.broker, &world.access);
    let entry = world.bind(&connection, "Wide World Importers").await;
    task(broker.workspaces().create("Acme", Scope::Api));
    task(broker.workspaces().list());
    task(broker.authenticate(&world.api_key));
    task(broker.api_keys().create(access, "key", Scope::Api));
    task(broker.api_keys().list(access));
    task(broker.keys().encryption_key(access));
    task(broker.connections().create(access, world.new_connection("automation")));
    task(broker.connections().update(access, connection.id, Default::default()));
    task(broker.connections().list(access));
    task(broker.connections().list_items(access, connection.id));
    task(broker.connections().clear_cache(access, connection.id));
    task(broker.entries().create(access, keyway::EntryContent::default()));
    task(broker.entries().get(access, &entry.id.into()));
    task(broker.entries().list(access, None));
    task(broker.resolve(access, keyway::ResolveRequest::new(entry.id)));
}

#[tokio::test]
async fn a_workspace_is_found_by_the_platforms_id_and_made_only_once_with_it() {
    let world = World::new().await;
    let workspaces = world.broker.workspaces();
    let new = || NewWorkspace::from("Acme").external_id("customer-42");
    let created = workspaces.create(new(), Scopes::NONE).await.unwrap();
    let access = world.broker.authenticate(&created.api_key).await.unwrap();
    assert_eq!(access.scopes(), Scopes::NONE);
    assert_eq!(workspaces.find("customer-42").await.unwrap(), created.workspace);
    assert!(matches!(workspaces.create(new(), Scopes::NONE).await, Err(BrokerError::WorkspaceExists)));
    assert!(matches!(workspaces.find("Acme").await, Err(BrokerError::NotFound(Thing::Workspace))), "not by its name");
    for external_id in [String::new(), "x".repeat(257)] {
        let refused = workspaces.create(NewWorkspace::from("Acme").external_id(external_id), Scopes::NONE).await;
        assert!(matches!(refused, Err(BrokerError::Invalid(_))), "{refused:?}");
    }

    assert!(matches!(workspaces.rename(&access, "Mine").await, Err(BrokerError::Forbidden { needs: Scope::Admin })));
    let operator = Access::operator(created.workspace.id, "sales");
    assert_eq!(workspaces.rename(&operator, "Acme Inc.").await.unwrap().name, "Acme Inc.");
    assert_eq!(workspaces.find("customer-42").await.unwrap().name, "Acme Inc.");
    assert!(workspaces.rename(&operator, " ").await.is_err());
}

#[tokio::test]
async fn a_deleted_workspace_opens_nothing_any_more_and_the_others_are_as_before() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    let request = || ResolveRequest::new(entry.id);
    let (workspaces, other) = (world.broker.workspaces(), world.other_workspace().await);
    let beside = world.beside().await;
    for broker in [&world.broker, &beside] {
        broker.resolve(&world.access, request()).await.unwrap();
        broker.authenticate(&world.api_key).await.unwrap();
    }

    let open = world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id)).await.unwrap();
    assert!(matches!(workspaces.delete(&world.access).await, Err(BrokerError::RotationOpen)));
    assert!(world.broker.resolve(&world.access, request()).await.is_ok(), "nothing was deleted");
    world.broker.rotations().abandon(&world.access, open.rotation.id, true).await.unwrap();

    workspaces.delete(&world.access).await.unwrap();
    // Immediately in this process, including what is in memory.
    assert!(matches!(world.broker.authenticate(&world.api_key).await, Err(BrokerError::Unauthenticated)));
    let gone = |result| matches!(result, Err(BrokerError::NotFound(_)));
    assert!(gone(world.broker.resolve(&world.access, request()).await.map(drop)));
    assert!(gone(world.broker.keys().encryption_key(&world.access).await.map(drop)));
    assert!(gone(workspaces.delete(&world.access).await), "a second time");
    assert!(gone(world.broker.connections().create(&world.access, world.new_connection("automation")).await.map(drop)));
    assert!(world.broker.connections().list(&other).await.is_ok());
    // In the other process at its next look for changes.
    tokio::time::sleep(keyway::storage::MAX_AGE).await;
    assert!(matches!(beside.authenticate(&world.api_key).await, Err(BrokerError::Unauthenticated)));
    assert!(gone(beside.resolve(&world.access, request()).await.map(drop)));
}

#[tokio::test]
async fn a_closed_broker_begins_nothing_any_more() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    world.resolve(&entry).await;
    world.broker.close().await;
    let closed = |error: BrokerError| assert_eq!(error.kind(), keyway::ErrorKind::Ending, "{error}");
    closed(world.broker.resolve(&world.access, ResolveRequest::new(entry.id)).await.unwrap_err());
    closed(world.broker.rotations().begin(&world.access, BeginRotation::new(entry.id)).await.unwrap_err());
    closed(world.broker.workspaces().create("late", Scopes::ALL).await.unwrap_err());
    closed(world.broker.workspaces().list().await.unwrap_err());
    closed(world.broker.authenticate(&world.api_key).await.unwrap_err());
    closed(world.broker.api_keys().is_still_valid(&world.access).await.unwrap_err());
    closed(world.broker.audit().verify().await.unwrap_err());
    closed(world.broker.rotations().write_back_due().await.unwrap_err());
    closed(world.broker.connections().refresh_due().await.unwrap_err());
    closed(world.broker.keys().finish_rotations().await.unwrap_err());
    let beside = world.beside().await;
    assert!(beside.rotations().begin(&world.access, BeginRotation::new(entry.id)).await.is_ok(), "none was begun");
}

/// A key service that can be unreachable.
struct KeyService {
    key: MasterKey,
    is_out: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl KeyService {
    fn reach(&self) -> Result<&MasterKey, KeyError> {
        match self.is_out.load(std::sync::atomic::Ordering::Relaxed) {
            true => Err(KeyError::Service("no route to host".into())),
            false => Ok(&self.key),
        }
    }
}

#[async_trait::async_trait]
impl KeyWrapper for KeyService {
    fn key_id(&self) -> KeyId {
        self.key.key_id()
    }

    async fn wrap(&self, term: u32, key: &[u8; 32], associated: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.reach()?.wrap(term, key, associated).await
    }

    async fn unwrap(&self, term: u32, wrapped: &[u8], associated: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        self.reach()?.unwrap(term, wrapped, associated).await
    }
}

#[tokio::test]
async fn a_key_service_that_is_out_of_reach_is_said_to_be_and_works_again() {
    let is_out = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let service = KeyService { key: MasterKey::generate().unwrap(), is_out: is_out.clone() };
    let storage = SqliteStorage::in_memory().await.unwrap();
    let builder = Broker::builder(Runtime::builder().build().unwrap(), storage, MasterKeys::from(service));
    let broker = builder.audit(Audit::in_memory()).open().await.unwrap();
    is_out.store(true, std::sync::atomic::Ordering::Relaxed);
    let error = broker.workspaces().create("Acme", Scopes::ALL).await.unwrap_err();
    assert_eq!(error.kind(), keyway::ErrorKind::KeysUnavailable);
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(cause.as_deref(), Some("no route to host"));
    is_out.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(broker.workspaces().create("Acme", Scopes::ALL).await.is_ok());
}
