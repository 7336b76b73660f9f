//! The audit records of the broker's operations, and their behaviour when the log fails.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use keyway::audit::{
    AuditActor, AuditError, AuditEvent, AuditQuery, AuditRecord, AuditSink, AuditSource, Durability, InMemoryAudit,
    Operation, Order, OutcomeFilter, Receipt,
};
use keyway::connections::ConnectionChanges;
use keyway::keyway_runtime::Fields;
use keyway::{BrokerError, CacheTtl, EntryContent, EntryId, ResolveRequest, Scope, WantedCode};
use secrecy::ExposeSecret;

use crate::support::World;

/// The records of the log, oldest first.
pub(crate) async fn records(world: &World) -> Vec<AuditRecord> {
    let mut query = AuditQuery::default();
    query.order = Order::Oldest;
    query.limit = Some(1_000);
    world.broker.audit().records_of_all(&query).await.unwrap().records
}

/// The records after the first `before`, as operation and outcome.
pub(crate) async fn since(world: &World, before: usize) -> Vec<(String, String)> {
    let records = records(world).await.split_off(before);
    records.into_iter().map(|record| (record.operation, record.outcome.as_str().to_owned())).collect()
}

pub(crate) fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(operation, outcome)| ((*operation).to_owned(), (*outcome).to_owned())).collect()
}

#[tokio::test]
async fn every_release_and_every_change_says_who_did_what_to_what() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Northwind Supplier Portal").await;
    let key = world.broker.api_keys().create(&world.access, "ci", Scope::Resolve).await.unwrap();
    let access = world.broker.api_keys().authenticate(&key.api_key, Some("request-1")).await.unwrap();
    for _ in 0..2 {
        world.broker.resolve(&access, ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS)).await.unwrap();
    }
    world.broker.resolve(&access, ResolveRequest::new(entry.id)).await.unwrap();
    let items = world.broker.connections().list_items(&world.access, connection.id).await.unwrap();
    world.broker.keys().encryption_key(&world.access).await.unwrap();

    let all = records(&world).await;
    let operations: Vec<_> = all.iter().map(|record| (&*record.operation, record.outcome.as_str())).collect();
    let change = |name| [(name, "begun"), (name, "ok")];
    let expected = [
        change("create_workspace").to_vec(),
        change("connect").to_vec(),
        change("create_entry").to_vec(),
        change("create_api_key").to_vec(),
        vec![("resolve", "ok"); 3],
        vec![("list_items", "ok"), ("encryption_key", "ok")],
    ];
    assert_eq!(operations, expected.concat());
    assert!(all.iter().all(|record| record.workspace == Some(world.access.workspace())));

    let [live, cached, code] = &all[8..11] else { panic!() };
    let holder = AuditActor::ApiKey { id: key.info.id, name: "ci".into() };
    for release in [live, cached, code] {
        assert_eq!((&release.actor, release.request_id.as_deref()), (&holder, Some("request-1")));
        assert_eq!((release.subject.entry, release.subject.connection), (Some(entry.id), Some(connection.id)));
        let reference = world.item("Automation", "Northwind Supplier Portal").reference;
        assert_eq!(release.subject.reference.as_deref(), Some(&*reference));
    }
    assert_eq!((live.subject.source, cached.subject.source), (Some(AuditSource::Live), Some(AuditSource::Cached)));
    assert_eq!(live.subject.fields, ["username", "password"]);
    assert_eq!(code.subject.fields, ["username", "password", "one_time_code"]);

    // The outcome of a change names the record of its beginning, which already names its subject.
    let [begun, done] = &all[4..6] else { panic!() };
    assert_eq!(
        (done.begun, begun.subject.entry, done.subject.entry),
        (Some(begun.number), Some(entry.id), Some(entry.id))
    );
    assert_eq!(begun.actor, AuditActor::Operator { name: "tests".into() });
    assert_eq!(all[7].subject.api_key, Some(key.info.id));
    assert_eq!(all[11].subject.count, Some(items.len() as u64));
    assert!(world.broker.audit().verify().await.unwrap().is_good());
}

#[tokio::test]
async fn what_fails_and_what_is_refused_is_recorded_with_its_code() {
    let (world, connection) = World::connected().await;
    let key = world.broker.api_keys().create(&world.access, "ordinary", Scope::Api).await.unwrap();
    let ordinary = world.broker.authenticate(&key.api_key).await.unwrap();
    let before = records(&world).await.len();
    let unknown = keyway::EntryId::from(uuid::Uuid::nil());
    world.broker.resolve(&ordinary, ResolveRequest::new(unknown)).await.unwrap_err();
    world.broker.api_keys().list(&ordinary).await.unwrap_err();
    world.broker.audit().records(&ordinary, AuditQuery::default()).await.unwrap_err();
    world.broker.resolve(&world.access, ResolveRequest::new(unknown)).await.unwrap_err();
    let bad = EntryContent::bound("", "https://acme.com", connection.id, "op://a/b");
    world.broker.entries().create(&world.access, bad).await.unwrap_err();
    // Operations that only read the broker's own records are recorded only when refused.
    world.broker.connections().list(&ordinary).await.unwrap();
    let expected = [
        ("resolve", "FORBIDDEN"),
        ("list_api_keys", "FORBIDDEN"),
        ("audit_records", "FORBIDDEN"),
        ("resolve", "NOT_FOUND"),
        ("create_entry", "VALIDATION_FAILED"),
    ];
    assert_eq!(since(&world, before).await, pairs(&expected));
}

#[tokio::test]
async fn refused_keys_are_recorded_without_the_key_and_cannot_fill_the_log() {
    let world = World::new().await;
    let key = world.broker.api_keys().create(&world.access, "old", Scope::Api).await.unwrap();
    world.broker.api_keys().revoke(&world.access, key.info.id).await.unwrap();
    let before = records(&world).await.len();
    let refuse = async |key: &secrecy::SecretString| {
        assert!(matches!(world.broker.authenticate(key).await, Err(BrokerError::Unauthenticated)));
    };
    refuse(&key.api_key).await;
    for _ in 0..50 {
        refuse(&"a password that was pasted here".into()).await;
    }
    world.clock.advance(Duration::from_secs(60));
    refuse(&"sk_guessed".into()).await;
    let refused = records(&world).await.split_off(before);
    assert_eq!(refused.len(), 13, "the revoked one, ten, how many more there were, and the first one a minute later");
    assert!(
        refused
            .iter()
            .all(|record| record.actor == AuditActor::Unknown && record.outcome.as_str() == "UNAUTHENTICATED")
    );
    assert_eq!((refused[0].workspace, refused[0].subject.api_key), (Some(world.access.workspace()), Some(key.info.id)));
    assert_eq!((refused[1].workspace, refused[11].unrecorded, refused[12].unrecorded), (None, Some(40), None));
}

#[tokio::test]
async fn refusals_are_counted_and_releases_and_changes_are_all_recorded() {
    let (mut world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Northwind Supplier Portal").await;
    let key = world.broker.api_keys().create(&world.access, "weak", Scope::Api).await.unwrap();
    let weak = world.broker.api_keys().authenticate(&key.api_key, None).await.unwrap();
    let sink = Arc::new(InMemoryAudit::new());
    world.restart_with(sink.clone(), |broker| broker).await;
    for _ in 0..100 {
        let resolved = world.broker.resolve(&weak, ResolveRequest::new(entry.id)).await;
        assert!(matches!(resolved, Err(BrokerError::Forbidden { .. })));
        world.broker.resolve(&world.access, ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS)).await.unwrap();
        world.broker.entries().clear_browser_state(&world.access, &entry.id.into()).await.unwrap();
        let unknown = world.broker.entries().delete(&world.access, &EntryId::generate().into()).await;
        assert!(matches!(unknown, Err(BrokerError::NotFound(_))));
    }
    // A closed broker has told its counts.
    world.broker.close().await;
    let mut query = AuditQuery::default();
    (query.order, query.limit) = (Order::Oldest, Some(1_000));
    let all = sink.read(&query).await.unwrap().records;
    let count = |operation: &str, outcome: &str| {
        all.iter().filter(|record| record.operation == operation && record.outcome.as_str() == outcome).count()
    };
    assert_eq!(
        (count("resolve", "ok"), count("clear_browser_state", "begun"), count("clear_browser_state", "ok")),
        (100, 100, 100)
    );
    assert_eq!((count("resolve", "FORBIDDEN"), count("delete_entry", "NOT_FOUND")), (11, 11));
    assert_eq!(count("delete_entry", "begun"), 0, "it was refused before it began");
    let told = all.iter().rfind(|record| record.outcome.as_str() == "FORBIDDEN").unwrap();
    assert_eq!((told.unrecorded, &told.actor), (Some(90), weak.actor()));
    assert_eq!(told.subject.scope.as_deref(), Some("resolve"));
}

#[tokio::test]
async fn the_log_of_a_workspace_shows_that_workspace_and_that_it_was_read() {
    let world = World::new().await;
    let other = world.other_workspace().await;
    let page = world.broker.audit().records(&other, AuditQuery::default()).await.unwrap();
    assert_eq!(page.records.len(), 2, "its own creation");
    assert!(page.records.iter().all(|record| record.workspace == Some(other.workspace())));
    let mut query = AuditQuery::default();
    query.workspace = Some(world.access.workspace());
    let page = world.broker.audit().records(&other, query).await.unwrap();
    assert!(page.records.iter().all(|record| record.workspace == Some(other.workspace())));
    assert_eq!(page.records[0].operation, "audit_records");
}

/// A log that works, fails or panics. (One that hangs: `audit/recorder.rs`.)
#[derive(Default)]
pub(crate) struct Moody {
    log: InMemoryAudit,
    mood: Mutex<Mood>,
}

#[derive(Clone, Copy, Default)]
pub(crate) enum Mood {
    #[default]
    Well,
    Fails,
    Panics,
}

impl Moody {
    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

#[async_trait::async_trait]
impl AuditSink for Moody {
    async fn append(&self, event: &AuditEvent, durability: Durability) -> Result<Receipt, AuditError> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well => self.log.append(event, durability).await,
            Mood::Fails => Err(AuditError::unwritable("No space left on device")),
            Mood::Panics => panic!("a fault of the sink"),
        }
    }
}

#[tokio::test]
async fn when_the_log_fails_or_panics_nothing_is_released_or_changed_until_it_is_well_again() {
    let (mut world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Northwind Supplier Portal").await;
    let sink = Arc::new(Moody::default());
    world.restart_with(sink.clone(), |broker| broker).await;
    world.resolve(&entry).await;
    for mood in [Mood::Fails, Mood::Panics] {
        sink.set(mood);
        let resolve = || world.broker.resolve(&world.access, ResolveRequest::new(entry.id).fields(Fields::CREDENTIALS));
        let error = resolve().await.unwrap_err();
        assert!(matches!(error, BrokerError::Audit(_)), "{error}");
        let changes = ConnectionChanges::default().cache_ttl(CacheTtl::OFF);
        let error = world.broker.connections().update(&world.access, connection.id, changes).await.unwrap_err();
        assert!(matches!(error, BrokerError::Audit(_)), "{error}");
        let error =
            world.broker.entries().tfa_code(&world.access, &entry.id.into(), WantedCode::default()).await.unwrap_err();
        assert!(matches!(error, BrokerError::Audit(_)), "{error}");
        let error = world.broker.keys().encryption_key(&world.access).await.unwrap_err();
        assert!(matches!(error, BrokerError::Audit(_)), "{error}");
        let error = world.broker.authenticate(&"sk_guessed".into()).await.unwrap_err();
        assert!(matches!(error, BrokerError::Audit(_)), "{error}");
        sink.set(Mood::Well);
        resolve().await.unwrap();
        world.broker.entries().tfa_code(&world.access, &entry.id.into(), WantedCode::default()).await.unwrap();
        world.broker.keys().encryption_key(&world.access).await.unwrap();
    }
    let connections = world.broker.connections().list(&world.access).await.unwrap();
    assert_eq!(connections[0].cache_ttl, CacheTtl::DEFAULT, "the change was not begun");
    // This log is kept elsewhere.
    let error = world.broker.audit().verify().await.unwrap_err();
    assert!(matches!(error, BrokerError::Audit(AuditError::Elsewhere(_))));
}

#[tokio::test]
async fn a_key_whose_creation_cannot_be_recorded_is_given_to_nobody() {
    struct FullAfterTheFirst(Mutex<u64>);
    #[async_trait::async_trait]
    impl AuditSink for FullAfterTheFirst {
        async fn append(&self, _: &AuditEvent, _: Durability) -> Result<Receipt, AuditError> {
            let mut number = self.0.lock().unwrap();
            *number += 1;
            if *number > 1 { Err(AuditError::unwritable("full")) } else { Ok(Receipt { number: *number }) }
        }
    }
    let mut world = World::new().await;
    world.restart_with(Arc::new(FullAfterTheFirst(Mutex::new(0))), |broker| broker).await;
    let error = world.broker.api_keys().create(&world.access, "lost", Scope::Admin).await.unwrap_err();
    assert!(matches!(error, BrokerError::Audit(_)));
}

#[tokio::test]
async fn a_resolve_by_user_and_domain_records_neither() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Northwind Supplier Portal").await;
    let pair =
        keyway::EntrySelector::Pair { user: "somebody@acme.example".into(), domain: "https://acme.example".into() };
    world.broker.resolve(&world.access, ResolveRequest::new(pair)).await.unwrap_err();
    world.resolve(&entry).await;
    for file in std::fs::read_dir(world.audit.path()).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for hidden in ["somebody@acme.example", "acme.example", world.api_key.expose_secret()] {
            assert!(!text.contains(hidden), "{hidden}");
        }
        assert!(text.contains(&entry.id.to_string()));
    }
    let mut query = AuditQuery::default();
    query.operation = Some(Operation::Resolve);
    query.outcome = Some(OutcomeFilter::FAILED);
    assert_eq!(world.broker.audit().records(&world.access, query).await.unwrap().records.len(), 1);
}
