//! Rotation of master key and workspace key: nothing is lost, nothing is left under the old key, and whoever is in the
//! middle of something does not notice.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyway::keyway_runtime::Runtime;
use keyway::storage::SealedColumn;
use keyway::{
    Access, AttributeChanges, Audit, Broker, BrokerError, Change, ClientKey, CredentialSource, EntryChanges, EntryId,
    HostKey, KeyError, MasterKey, MasterKeys, NewEntry, NotReady, ResolveRequest, RotationState, Scope, SqliteStorage,
    VaultEntry, WorkspaceId,
};
use secrecy::{ExposeSecret, SecretString};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Row, SqlitePool};

use crate::support::{MASTER_KEY, World, text};

pub(crate) const NEW_MASTER_KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

fn master_key() -> MasterKey {
    MasterKey::from_hex(MASTER_KEY).unwrap()
}

fn new_master_key() -> MasterKey {
    MasterKey::from_hex(NEW_MASTER_KEY).unwrap()
}

/// Another process on the same database.
async fn other_process(world: &World, keys: impl Into<MasterKeys>) -> Result<Broker, BrokerError> {
    let storage = SqliteStorage::open(world.folder.path().join("keyway.db")).await.unwrap();
    let audit = Audit::in_folder(world.audit.path());
    Broker::builder(Runtime::builder().build().unwrap(), storage, keys).audit(audit).open().await
}

pub(crate) fn password_of(user: &str) -> String {
    format!("password of {user}")
}

pub(crate) fn manual(user: &str, key: &SecretString) -> NewEntry {
    let password = ClientKey::from_hex(key).unwrap().encrypt(&password_of(user).into()).unwrap();
    let proxy = ClientKey::from_hex(key).unwrap().encrypt(&"http://user:pass@proxy.acme.com".into()).unwrap();
    let mut attributes = AttributeChanges::new();
    attributes.set("proxy_setting", "\"custom\"").unwrap();
    attributes.set("proxy_value", &format!("\"{proxy}\"")).unwrap();
    NewEntry {
        permissioned_user_id: user.into(),
        domain: "https://acme.com".into(),
        password: Some(password),
        attributes,
        ..NewEntry::default()
    }
}

/// What a client that holds `key` reads of an entry.
pub(crate) fn decrypted(entry: &VaultEntry, key: &SecretString) -> Option<String> {
    let CredentialSource::Own(own) = &entry.credentials else { panic!("{entry:?}") };
    let value = ClientKey::from_hex(key).unwrap().decrypt(own.password.as_ref()?).ok()?;
    value.map(|value| value.expose_secret().to_owned())
}

fn is_manual(entry: &VaultEntry) -> bool {
    matches!(entry.credentials, CredentialSource::Own(_))
}

/// The address of an entry's proxy, read likewise.
fn proxy_of(entry: &VaultEntry, key: &SecretString) -> Option<String> {
    let ciphertext: String = serde_json::from_str(entry.attributes.get("proxy_value").unwrap()).unwrap();
    let value = ClientKey::from_hex(key).unwrap().decrypt(&ciphertext).ok()?;
    value.map(|value| value.expose_secret().to_owned())
}

/// All entries of a workspace that have credentials of their own.
pub(crate) async fn manual_entries(broker: &Broker, access: &Access) -> Vec<VaultEntry> {
    let (mut all, mut after) = (Vec::new(), None::<EntryId>);
    loop {
        let page = broker.list_entries(access, after).await.unwrap();
        all.extend(page.entries.into_iter().filter(is_manual));
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

async fn database(world: &World) -> SqlitePool {
    database_in(world.folder.path()).await
}

pub(crate) async fn database_in(folder: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(folder.join("keyway.db"));
    SqlitePool::connect_with(options).await.unwrap()
}

/// The terms of all sealed values.
async fn terms_in_use(world: &World) -> Vec<u32> {
    terms_in(&database(world).await).await
}

pub(crate) async fn terms_in(database: &SqlitePool) -> Vec<u32> {
    let mut terms = Vec::new();
    for column in SealedColumn::ALL {
        let (table, name) = (column.table(), column.name());
        let sql = format!("SELECT substr({name}, 2, 4) AS term FROM {table} WHERE {name} IS NOT NULL");
        for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(database).await.unwrap() {
            terms.push(u32::from_be_bytes(row.get::<Vec<u8>, _>("term").try_into().unwrap()));
        }
    }
    terms.sort_unstable();
    terms.dedup();
    terms
}

/// Everything that is sealed in a workspace.
async fn sealed_values(database: &SqlitePool, workspace: WorkspaceId) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    for column in SealedColumn::ALL {
        let (table, name) = (column.table(), column.name());
        let sql = format!("SELECT {name} FROM {table} WHERE {name} IS NOT NULL AND workspace_id = ?");
        let found = sqlx::query_scalar(AssertSqlSafe(sql)).bind(workspace.as_uuid()).fetch_all(database).await;
        values.extend(found.unwrap());
    }
    values
}

fn files_contain(world: &World, part: &[u8]) -> bool {
    std::fs::read_dir(world.folder.path())
        .unwrap()
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .any(|data| data.windows(part.len()).any(|window| window == part))
}

#[tokio::test]
async fn after_its_rotation_only_the_new_master_key_opens_the_database() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    let host_key = world.broker.host_key().derive("acme.v1.test");
    let old_wrapped: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT wrapped_key FROM workspace_keys UNION SELECT wrapped_key FROM host_keys")
            .fetch_all(&database(&world).await)
            .await
            .unwrap();

    let rotated = world.broker.rotate_master_key(new_master_key()).await.unwrap();
    assert_eq!((rotated.term, rotated.keys), (2, 2), "the workspace's key and the host's");

    let refused = other_process(&world, master_key()).await.unwrap_err();
    assert!(matches!(refused, BrokerError::Key(KeyError::ReplacedMasterKey { .. })), "{refused}");
    assert!(refused.to_string().contains("was replaced on") && refused.to_string().contains("took its place"));
    let stranger = other_process(&world, MasterKey::generate().unwrap()).await.unwrap_err();
    assert!(matches!(stranger, BrokerError::Key(KeyError::WrongMasterKey { .. })), "{stranger}");

    let opened = other_process(&world, new_master_key()).await.unwrap();
    let key = opened.encryption_key(&world.access).await.unwrap();
    assert_eq!(key.expose_secret(), world.encryption_key.expose_secret(), "the workspace's key is the same");
    assert_eq!(opened.host_key().derive("acme.v1.test"), host_key, "and so is what follows from the host's");
    let audit = opened.verify_audit().await.unwrap();
    assert!(audit.is_good() && audit.records > 0, "the audit log of before verifies: {audit:?}");
    // The broker that did it goes on.
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
    server.encryption_key(&world.access).await.unwrap();

    world.broker.rotate_master_key(new_master_key()).await.unwrap();
    // The key that it has unwrapped serves.
    server.create_entry(&world.access, manual("after", &world.encryption_key)).await.unwrap();
    server.get_entry(&world.access, &entry.id.into()).await.unwrap();
    // For another one it needs the new master key.
    let refused = server.encryption_key(&unused).await.unwrap_err();
    assert!(matches!(refused, BrokerError::Key(KeyError::ReplacedMasterKey { .. })), "{refused}");
    let refused = server.create_workspace("New", Scope::Api).await.unwrap_err();
    assert!(matches!(refused, BrokerError::Key(KeyError::ReplacedMasterKey { .. })), "{refused}");
    assert_eq!(server.not_ready().await, [NotReady::MasterKey]);

    there.store(true, Ordering::SeqCst);
    server.encryption_key(&unused).await.unwrap();
    server.create_workspace("New", Scope::Api).await.unwrap();
    // What was found before counts for a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(server.not_ready().await, []);
}

#[tokio::test]
async fn a_host_that_holds_both_master_keys_works_before_and_after() {
    let world = World::new().await;
    let both = || MasterKeys::from(new_master_key()).with(master_key());
    let server = other_process(&world, both()).await.unwrap();
    world.broker.rotate_master_key(new_master_key()).await.unwrap();
    server.encryption_key(&world.access).await.unwrap();
    other_process(&world, both()).await.unwrap();
    let storage = SqliteStorage::open(world.folder.path().join("keyway.db")).await.unwrap();
    HostKey::open(&storage, &both()).await.unwrap();
}

#[tokio::test]
async fn a_master_key_that_was_used_before_is_not_taken_for_a_new_one() {
    let world = World::new().await;
    let same = world.broker.rotate_master_key(master_key()).await.unwrap_err();
    assert!(matches!(same, BrokerError::Key(KeyError::NotANewKey)), "{same}");
    world.broker.rotate_master_key(new_master_key()).await.unwrap();
    let back = world.broker.rotate_master_key(master_key()).await.unwrap_err();
    assert!(matches!(back, BrokerError::Key(KeyError::NotANewKey)), "{back}");
}

#[tokio::test]
async fn workspaces_created_while_the_master_key_is_replaced_are_under_the_new_one() {
    let world = World::new().await;
    let broker = world.broker.clone();
    let creating = tokio::spawn(async move {
        let mut created = Vec::new();
        for number in 0..40 {
            created.push(broker.create_workspace(&format!("W{number}"), Scope::Api).await.unwrap());
        }
        created
    });
    world.broker.rotate_master_key(new_master_key()).await.unwrap();
    let created = creating.await.unwrap();
    let opened = other_process(&world, new_master_key()).await.unwrap();
    for workspace in created {
        let access = Access::operator(workspace.workspace.id, "tests");
        let key = opened.encryption_key(&access).await.unwrap();
        assert_eq!(key.expose_secret(), workspace.encryption_key.expose_secret());
    }
}

#[tokio::test]
async fn a_workspaces_key_is_rotated_with_everything_that_is_sealed_under_it() {
    let (mut world, connection) = World::connected().await;
    let bound = world.bind(&connection, "Wide World Importers").await;
    world.resolve(&bound).await;
    let entry = world.broker.create_entry(&world.access, manual("user", &world.encryption_key)).await.unwrap();
    let other = world.other_workspace().await;
    let others = world.broker.encryption_key(&other).await.unwrap();
    let wrapped: Vec<u8> = sqlx::query_scalar("SELECT wrapped_key FROM workspace_keys WHERE workspace_id = ?")
        .bind(world.access.workspace().as_uuid())
        .fetch_one(&database(&world).await)
        .await
        .unwrap();

    let mut old_values = sealed_values(&database(&world).await, world.access.workspace()).await;
    assert_eq!(old_values.len(), 3, "settings, credentials, attributes");

    let rotated = world.broker.rotate_workspace_key(&world.access).await.unwrap();
    assert_eq!((rotated.term, rotated.values, rotated.resumed), (2, 3, false));
    let new = rotated.encryption_key;
    assert_ne!(new.expose_secret(), world.encryption_key.expose_secret());
    assert_eq!(world.broker.encryption_key(&world.access).await.unwrap().expose_secret(), new.expose_secret());
    assert_eq!(terms_in_use(&world).await, [2]);
    assert!(!files_contain(&world, &wrapped), "the old key is destroyed");
    assert!(!old_values.iter().any(|value| files_contain(&world, value)), "and so is what was sealed under it");
    old_values = sealed_values(&database(&world).await, world.access.workspace()).await;
    assert!(old_values.iter().all(|value| files_contain(&world, value)), "the search finds what is there");

    // At once, and after a restart.
    for _ in 0..2 {
        let read = world.broker.get_entry(&world.access, &entry.id.into()).await.unwrap();
        assert_eq!(decrypted(&read, &new), Some(password_of("user")));
        assert_eq!(decrypted(&read, &world.encryption_key), None);
        let resolved = world.broker.resolve(&world.access, ResolveRequest::new(entry.id)).await.unwrap();
        assert_eq!(text(resolved.password.as_ref()), Some(&*password_of("user")));
        assert_eq!(proxy_of(&read, &new).as_deref(), Some("http://user:pass@proxy.acme.com"));
        assert_eq!((read.created_at, read.updated_at), (entry.created_at, entry.updated_at));
        assert!(text(world.resolve(&bound).await.password.as_ref()).is_some());
        assert!(!world.broker.list_items(&world.access, connection.id).await.unwrap().is_empty());
        world.restart().await;
    }
    let old = world.broker.create_entry(&world.access, manual("old", &world.encryption_key)).await.unwrap_err();
    assert!(matches!(old, BrokerError::NotEncrypted { field: "password" }), "{old}");
    world.broker.create_entry(&world.access, manual("new", &new)).await.unwrap();
    assert_eq!(world.broker.encryption_key(&other).await.unwrap().expose_secret(), others.expose_secret());
}

/// The new password of a rotation is nowhere else, so above all it must not be lost.
#[tokio::test]
async fn password_rotations_go_on_under_the_new_key_here_and_in_a_server_that_does_not_know_of_it_yet() {
    let (world, connection, bound) = crate::rotation::world().await;
    let (bound, password) = world.begin(&bound).await;
    let own = world.broker.create_entry(&world.access, manual("user", &world.encryption_key)).await.unwrap();
    let (own, own_password) = world.begin(&own).await;
    let server = other_process(&world, master_key()).await.unwrap();
    server.encryption_key(&world.access).await.unwrap();

    let rotated = world.broker.rotate_workspace_key(&world.access).await.unwrap();
    assert_eq!(terms_in_use(&world).await, [2]);
    // It still seals under the old key, is refused, and does it anew.
    let done = server.commit_rotation(&world.access, own.id).await.unwrap();
    assert_eq!(done.state, RotationState::Done);
    let read = world.broker.get_entry(&world.access, &own.entry_id.into()).await.unwrap();
    assert_eq!(decrypted(&read, &rotated.encryption_key).as_deref(), Some(own_password.expose_secret()));
    assert!(proxy_of(&read, &rotated.encryption_key).is_some(), "the rest of the entry is under that key, too");
    let another = world.bind(&connection, "Wide World Importers").await;
    world.begin(&another).await;
    let revealed = world.broker.reveal_rotation(&world.access, bound.id).await.unwrap();
    assert_eq!(revealed.expose_secret(), password.expose_secret());
    assert_eq!(world.commit(bound.id).await.state, RotationState::Done);
    assert_eq!(world.item_password(crate::rotation::ITEM), password.expose_secret());
    assert_eq!(terms_in_use(&world).await, [2]);
}

#[tokio::test]
async fn rotating_a_workspaces_key_drops_what_was_cached_under_the_old_one() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Wide World Importers").await;
    world.resolve(&entry).await;
    world.resolve(&entry).await;
    world.item_reads();
    world.broker.rotate_workspace_key(&world.access).await.unwrap();
    world.resolve(&entry).await;
    assert_eq!(world.item_reads(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_know_of_the_rotation_yet_writes_nothing_under_the_old_key() {
    let (world, _) = World::connected().await;
    let server = other_process(&world, master_key()).await.unwrap();
    server.encryption_key(&world.access).await.unwrap();
    let rotated = world.broker.rotate_workspace_key(&world.access).await.unwrap();
    let refused = server.create_entry(&world.access, manual("old", &world.encryption_key)).await.unwrap_err();
    assert!(matches!(refused, BrokerError::NotEncrypted { .. }), "{refused}");
    let entry = server.create_entry(&world.access, manual("new", &rotated.encryption_key)).await.unwrap();
    assert_eq!(terms_in_use(&world).await, [2]);

    // A client that has the new key is right at once.
    for _ in 0..2 {
        let rotated = world.broker.rotate_workspace_key(&world.access).await.unwrap();
        let password = ClientKey::from_hex(&rotated.encryption_key).unwrap().encrypt(&"newer".into()).unwrap();
        let changes = EntryChanges { password: Change::Set(password), ..EntryChanges::default() };
        server.update_entry(&world.access, &entry.id.into(), changes).await.unwrap();
        let rotated = world.broker.rotate_workspace_key(&world.access).await.unwrap();
        let new = manual(&format!("new under key {}", rotated.term), &rotated.encryption_key);
        server.create_entry(&world.access, new).await.unwrap();
    }
    let rotated = world.broker.rotate_workspace_key(&world.access).await.unwrap();
    let shown = server.encryption_key(&world.access).await.unwrap();
    assert_eq!(shown.expose_secret(), rotated.encryption_key.expose_secret());
}

#[tokio::test]
async fn a_damaged_value_stops_the_rotation_before_anything_has_changed() {
    let (world, connection) = World::connected().await;
    let entry = world.broker.create_entry(&world.access, manual("user", &world.encryption_key)).await.unwrap();
    sqlx::query("UPDATE connections SET sealed_settings = substr(sealed_settings, 1, 40) WHERE id = ?")
        .bind(connection.id.as_uuid())
        .execute(&database(&world).await)
        .await
        .unwrap();
    let error = world.broker.rotate_workspace_key(&world.access).await.unwrap_err();
    assert!(error.to_string().contains("connections.sealed_settings"), "{error}");
    let key = world.broker.encryption_key(&world.access).await.unwrap();
    assert_eq!(key.expose_secret(), world.encryption_key.expose_secret());
    let read = world.broker.get_entry(&world.access, &entry.id.into()).await.unwrap();
    assert_eq!(decrypted(&read, &key), Some(password_of("user")));
    assert_eq!(terms_in_use(&world).await, [1]);
}

#[tokio::test]
async fn only_an_administrator_rotates_a_workspaces_key() {
    let world = World::new().await;
    let key = world.broker.create_api_key(&world.access, "ordinary", Scope::Api).await.unwrap();
    let access = world.broker.authenticate(&key.api_key).await.unwrap();
    let error = world.broker.rotate_workspace_key(&access).await.unwrap_err();
    assert!(matches!(error, BrokerError::Forbidden { needs: Scope::Admin }), "{error}");
}

/// Readers and writers in two processes, while the key is rotated again and again by both.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_are_served_while_the_key_is_rotated() {
    let (world, connection) = World::connected().await;
    for number in 0..600 {
        let new = manual(&format!("first-{number}"), &world.encryption_key);
        world.broker.create_entry(&world.access, new).await.unwrap();
    }
    let server = other_process(&world, master_key()).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for (name, broker) in [("here", world.broker.clone()), ("there", server.clone())] {
        let (access, done, reader) = (world.access.clone(), done.clone(), broker.clone());
        let reads = done.clone();
        let reading = world.access.clone();
        tasks.push(tokio::spawn(async move {
            let mut count = 0;
            while !reads.load(Ordering::SeqCst) {
                // Every value opens at every moment, and a page is under one key.
                let before = reader.encryption_key(&reading).await.unwrap();
                let (mut after, mut seen) = (None, 0);
                loop {
                    let page = reader.list_entries(&reading, after).await.unwrap();
                    let entries: Vec<_> = page.entries.iter().filter(|entry| is_manual(entry)).collect();
                    seen += entries.len();
                    for key in [&before, &reader.encryption_key(&reading).await.unwrap()] {
                        let opened = entries.iter().map(|entry| {
                            [decrypted(entry, key).is_some(), proxy_of(entry, key).is_some()].map(usize::from)
                        });
                        let opened: usize = opened.flatten().sum();
                        assert!(opened == 0 || opened == 2 * entries.len(), "{opened} of {} values", entries.len());
                    }
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert!(seen >= 600);
                count += 1;
            }
            count
        }));
        tasks.push(tokio::spawn(async move {
            let mut written = 0;
            while !done.load(Ordering::SeqCst) {
                let key = broker.encryption_key(&access).await.unwrap();
                match broker.create_entry(&access, manual(&format!("{name}-{written}"), &key)).await {
                    Ok(_) => written += 1,
                    // The key was rotated since it was asked for.
                    Err(BrokerError::NotEncrypted { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            written
        }));
    }
    for _ in 0..2 {
        let (one, other) =
            tokio::join!(world.broker.rotate_workspace_key(&world.access), server.rotate_workspace_key(&world.access));
        one.unwrap();
        other.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let mut counts = Vec::new();
    for task in tasks {
        counts.push(task.await.unwrap());
    }
    let key = world.broker.encryption_key(&world.access).await.unwrap();
    let entries = manual_entries(&world.broker, &world.access).await;
    assert_eq!(entries.len(), 600 + counts[1] + counts[3], "{counts:?}");
    for entry in &entries {
        assert_eq!(decrypted(entry, &key), Some(password_of(&entry.permissioned_user_id)));
    }
    assert_eq!(terms_in_use(&world).await.len(), 1);
    assert!(!world.broker.list_items(&world.access, connection.id).await.unwrap().is_empty());
}

/// Columns of bytes that are no envelopes: identifiers, hashes of random keys, MACs, keyed fingerprints.
const NOT_SEALED: [&str; 22] = [
    "api_keys.hash",
    "api_keys.id",
    "api_keys.workspace_id",
    "audit_anchors.head",
    "audit_anchors.mac",
    "breakers.subject",
    "connections.id",
    "connections.workspace_id",
    "item_generations.workspace_id",
    "master_keys.key_id",
    "request_counts.subject",
    "rotations.connection_id",
    "rotations.entry_id",
    "rotations.id",
    "rotations.open_entry_id",
    "rotations.workspace_id",
    "vault_entries.connection_id",
    "vault_entries.id",
    "vault_entries.workspace_id",
    "workspace_keys.workspace_id",
    "workspaces.id",
    "_sqlx_migrations.checksum",
];

/// A sealed column that is missing from the list would be lost with the rotated key. So whoever adds a column of bytes has
/// to say here what it is.
#[tokio::test]
async fn every_column_of_bytes_is_sealed_anew_or_known_to_be_no_envelope() {
    let world = World::new().await;
    let mut columns: Vec<String> = sqlx::query_scalar(
        "SELECT m.name || '.' || c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND c.type NOT IN ('INTEGER', 'TEXT', 'BIGINT', 'BOOLEAN', 'TIMESTAMP')",
    )
    .fetch_all(&database(&world).await)
    .await
    .unwrap();
    let mut expected: Vec<_> =
        SealedColumn::ALL.iter().map(|column| format!("{}.{}", column.table(), column.name())).collect();
    // Under the master key.
    expected.extend(["workspace_keys", "host_keys"].map(|table| format!("{table}.wrapped_key")));
    expected.extend(NOT_SEALED.map(str::to_owned));
    columns.sort();
    expected.sort();
    assert_eq!(columns, expected);
}
