//! The records of changes: the beginning of each is recorded before its first effect, and a change
//! that is refused before that is a refusal like any other.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;

use keyway::audit::{
    AuditError, AuditEvent, AuditQuery, AuditSink, Durability, InMemoryAudit, Operation, Order, Receipt,
};
use keyway::connections::ConnectionChanges;
use keyway::entries::VaultEntry;
use keyway::keyway_runtime::Settings;
use keyway::rotations::BeginRotation;
use keyway::workspaces::NewWorkspace;
use keyway::{
    ApiKeyId, BrokerError, CacheTtl, ConnectionId, EntryContent, EntryId, EntrySelector, InvalidInput, MasterKey,
    NewConnection, RotationId, Scope, Scopes,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection, query_scalar};

use crate::rotation::ITEM;
use crate::support::{MASTER_KEY, World};

/// An operation that is run again and again.
type Run<'a> = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), BrokerError>> + 'a>> + 'a>;

fn run<'a, F: Future<Output = Result<(), BrokerError>> + 'a>(start: impl Fn() -> F + 'a) -> Run<'a> {
    Box::new(move || Box::pin(start()))
}

/// `$operation => $future`: runs the future each time.
macro_rules! runs {
    ($($operation:ident => $future:expr;)*) => {
        vec![$((Operation::$operation, run(|| async { $future.await.map(drop) })),)*]
    };
}

/// A log that has room for outcomes only.
#[derive(Default)]
struct NoBeginnings {
    log: InMemoryAudit,
    refused: Mutex<Vec<AuditEvent>>,
}

#[async_trait::async_trait]
impl AuditSink for NoBeginnings {
    async fn append(&self, event: &AuditEvent, durability: Durability) -> Result<Receipt, AuditError> {
        if event.outcome.as_str() == "begun" {
            assert_eq!(durability, Durability::Synced);
            self.refused.lock().unwrap().push(event.clone());
            return Err(AuditError::unwritable("No space left on device"));
        }
        self.log.append(event, durability).await
    }
}

/// All rows of all tables, except the log's own and counts of requests.
async fn rows(world: &World) -> BTreeMap<String, Vec<String>> {
    let options = SqliteConnectOptions::new().filename(world.folder.path().join("keyway.db"));
    let mut database: SqliteConnection = options.connect().await.unwrap();
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table'
        AND name NOT IN ('audit_roots', 'audit_anchors', 'request_counts', 'breakers')";
    let mut all = BTreeMap::new();
    let names: Vec<String> = query_scalar(tables).fetch_all(&mut database).await.unwrap();
    for table in names {
        let columns = format!("SELECT group_concat('quote(' || name || ')', '||') FROM pragma_table_info('{table}')");
        let columns: String = query_scalar(AssertSqlSafe(columns)).fetch_one(&mut database).await.unwrap();
        let rows = format!("SELECT {columns} FROM {table} ORDER BY 1");
        all.insert(table, query_scalar(AssertSqlSafe(rows)).fetch_all(&mut database).await.unwrap());
    }
    all
}

fn pair(entry: &VaultEntry) -> EntrySelector {
    EntrySelector::Pair { user: entry.user.clone(), domain: entry.domain.clone() }
}

fn rename(entry: &mut EntryContent) -> Result<(), InvalidInput> {
    entry.alias = Some("Production".into());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_has_an_effect_before_its_beginning_is_recorded_with_what_it_is_about() {
    let (mut world, connection) = World::connected().await;
    let unused = world.connect("automation").await;
    let entry = world.bind(&connection, ITEM).await;
    let other = world.bind(&connection, "Wide World Importers").await;
    let (rotation, _) = world.begin(&other).await;
    let key = world.broker.api_keys().create(&world.access, "key", Scope::Api).await.unwrap().info.id;
    let empty = world.other_workspace().await;
    let log = Arc::new(NoBeginnings::default());
    world.restart_with(log.clone(), |broker| broker).await;
    world.emulator.reset_calls();
    let (broker, access) = (&world.broker, &world.access);
    let reference = || world.item("Automation", ITEM).reference;
    let new_key = || MasterKey::from_hex(&"1f".repeat(32)).unwrap();
    let operations = runs! {
        CreateWorkspace => broker.workspaces().create("Another", Scopes::NONE);
        RenameWorkspace => broker.workspaces().rename(access, "Renamed");
        DeleteWorkspace => broker.workspaces().delete(&empty);
        RotateWorkspaceKey => broker.keys().rotate_workspace(access);
        RotateMasterKey => broker.keys().rotate_master(new_key());
        CreateApiKey => broker.api_keys().create(access, "another", Scope::Api);
        RevokeApiKey => broker.api_keys().revoke(access, key);
        Connect => broker.connections().create(access, world.new_connection("automation"));
        UpdateConnection => broker.connections().update(
            access, connection.id, ConnectionChanges::default().settings(world.new_connection("automation").settings)
        );
        UpdateConnection => broker.connections().update(
            access, connection.id, ConnectionChanges::default().cache_ttl(CacheTtl::OFF)
        );
        DeleteConnection => broker.connections().delete(access, unused.id);
        ClearCache => broker.connections().clear_cache(access, connection.id);
        RetryConnection => broker.connections().retry(access, connection.id);
        CreateEntry => broker.entries().create(
            access, EntryContent::bound("new", "https://acme.example", connection.id, reference())
        );
        UpdateEntry => broker.entries().update(access, &pair(&entry), rename);
        ClearBrowserState => broker.entries().clear_browser_state(access, &pair(&entry));
        DeleteEntry => broker.entries().delete(access, &pair(&entry));
        BeginRotation => broker.rotations().begin(access, BeginRotation::new(pair(&entry)));
        CommitRotation => broker.rotations().commit(access, rotation.id);
        AbandonRotation => broker.rotations().abandon(access, rotation.id, false);
    };
    let before = rows(&world).await;
    for (operation, run) in &operations {
        let error = run().await.unwrap_err();
        assert!(matches!(error, BrokerError::Audit(_)), "{operation}: {error}");
        assert_eq!(rows(&world).await, before, "{operation}");
        assert_eq!(world.emulator.calls().total, 0, "{operation}");
        let begun = log.refused.lock().unwrap().pop().unwrap();
        assert_eq!(begun.operation, *operation);
        // Also when it was selected by user and site.
        let is_of_entry = ["update_entry", "clear_browser_state", "delete_entry", "begin_rotation"];
        if is_of_entry.contains(&operation.name()) {
            assert_eq!(begun.subject.entry, Some(entry.id), "{operation}");
        }
    }
    drop(operations);
    let mut query = AuditQuery::default();
    query.limit = Some(1_000);
    let recorded = log.log.read(&query).await.unwrap().records;
    assert!(recorded.is_empty(), "nothing happened: {recorded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_refused_changes_of_each_route_leave_a_handful_of_records() {
    let (mut world, connection) = World::connected().await;
    let entry = world.bind(&connection, ITEM).await;
    let other = world.bind(&connection, "Wide World Importers").await;
    let (rotation, _) = world.begin(&entry).await;
    let own = || NewWorkspace::from("Acme").external_id("customer-42");
    world.broker.workspaces().create(own(), Scopes::NONE).await.unwrap();
    let log = Arc::new(InMemoryAudit::new());
    world.restart_with(log.clone(), |broker| broker).await;
    let (broker, access) = (&world.broker, &world.access);
    let nil = uuid::Uuid::nil();
    let (no_entry, no_connection) = (EntrySelector::from(EntryId::from(nil)), ConnectionId::from(nil));
    let no_rotation = RotationId::from(nil);
    let connect = |provider: &str| NewConnection::new("x", provider, Settings::new().with("token", "malformed"));
    let same = || {
        let reference = world.item("Automation", ITEM).reference;
        EntryContent::bound(entry.user.clone(), entry.domain.clone(), connection.id, reference)
    };
    let to_pair = |content: &mut EntryContent| {
        content.user.clone_from(&entry.user);
        Ok(())
    };
    let operations = runs! {
        CreateWorkspace => broker.workspaces().create(own(), Scopes::NONE);
        RenameWorkspace => broker.workspaces().rename(access, "");
        DeleteWorkspace => broker.workspaces().delete(access);
        RotateMasterKey => broker.keys().rotate_master(MasterKey::from_hex(MASTER_KEY).unwrap());
        CreateApiKey => broker.api_keys().create(access, "", Scope::Api);
        RevokeApiKey => broker.api_keys().revoke(access, ApiKeyId::from(nil));
        Connect => broker.connections().create(access, connect("not-installed"));
        Connect => broker.connections().create(access, connect("1password"));
        UpdateConnection => broker.connections().update(access, no_connection, ConnectionChanges::default());
        UpdateConnection => broker.connections().update(
            access, connection.id, ConnectionChanges::default().settings(connect("1password").settings)
        );
        DeleteConnection => broker.connections().delete(access, no_connection);
        DeleteConnection => broker.connections().delete(access, connection.id);
        ClearCache => broker.connections().clear_cache(access, no_connection);
        RetryConnection => broker.connections().retry(access, no_connection);
        CreateEntry => broker.entries().create(access, same());
        UpdateEntry => broker.entries().update(access, &no_entry, rename);
        UpdateEntry => broker.entries().update(access, &other.id.into(), to_pair);
        ClearBrowserState => broker.entries().clear_browser_state(access, &no_entry);
        DeleteEntry => broker.entries().delete(access, &no_entry);
        DeleteEntry => broker.entries().delete(access, &pair(&entry));
        BeginRotation => broker.rotations().begin(access, BeginRotation::new(entry.id));
        CommitRotation => broker.rotations().commit(access, no_rotation);
        RetryRotation => broker.rotations().retry(access, rotation.id, false);
        AbandonRotation => broker.rotations().abandon(access, no_rotation, false);
        RenewLease => broker.entries().renew_lease(access, &entry.id.into(), "lease", None);
        RevokeLease => broker.entries().revoke_lease(access, &entry.id.into(), "lease");
    };
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for (operation, run) in &operations {
        *expected.entry(operation.name()).or_default() += 1_000;
        for _ in 0..1_000 {
            let error = run().await.unwrap_err();
            assert!(!matches!(error, BrokerError::Audit(_)), "{operation}: {error}");
        }
    }
    drop(operations);
    // A closed broker has told its counts.
    world.broker.close().await;
    let mut query = AuditQuery::default();
    (query.order, query.limit) = (Order::Oldest, Some(1_000));
    let page = log.read(&query).await.unwrap();
    assert!(page.next.is_none() && page.records.len() <= 30 * 11, "{}", page.records.len());
    for (operation, times) in expected {
        let of_it = || page.records.iter().filter(|record| record.operation == operation);
        assert!(of_it().all(|record| record.outcome.as_str() != "begun" && record.begun.is_none()), "{operation}");
        let told: u64 = of_it().map(|record| record.unrecorded.unwrap_or(1)).sum();
        assert_eq!(told, times, "none of {operation} is lost");
    }
    // Those that found the entry by user and site name it.
    let refused = page.records.iter().find(|record| record.outcome.as_str() == "CONFLICT");
    assert!(refused.is_some());
    let named = page.records.iter().any(|r| r.operation == "delete_entry" && r.subject.entry == Some(entry.id));
    assert!(named);
}
