//! The contents of the database file: no secret in any encoding, and nothing that can be moved,
//! restored or altered unnoticed.

use std::path::Path;

use data_encoding::{BASE32, BASE64, HEXLOWER};
use keyway::entries::{AttributeKind, Attributes, CredentialSource, Credentials, VaultEntry};
use keyway::keys::{HostKey, KeyError};
use keyway::storage::StorageError;
use keyway::{BrokerError, EntryContent, MasterKey, ResolveRequest, Scope, SqliteStorage};
use secrecy::ExposeSecret;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;

use crate::rotation::ITEM;
use crate::support::{MASTER_KEY, World, id_bytes, text};

/// Every file of the database: the file itself, its write-ahead log and its index.
pub(crate) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect()
}

pub(crate) fn contains(data: &[u8], part: &[u8]) -> bool {
    data.windows(part.len()).any(|window| window == part)
}

/// The ways in which a secret could be written down: plain, and in the usual encodings, at every
/// alignment of base64. Of six digits, seven characters of base64 are certain, and these do not
/// occur by chance.
pub(crate) fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = HEXLOWER.encode(secret);
    let mut all =
        vec![secret.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes(), BASE32.encode(secret).into_bytes()];
    for offset in 0..3 {
        // Without the characters at its ends, which depend on the neighbouring text.
        let padded = [&b"..."[..offset], secret].concat();
        let encoded = BASE64.encode(&padded);
        let inner = encoded[(offset * 8).div_ceil(6)..padded.len() * 8 / 6].to_owned();
        all.push(inner.replace('+', "-").replace('/', "_").into_bytes());
        all.push(inner.into_bytes());
    }
    all
}

#[tokio::test]
async fn no_secret_is_in_the_database_in_plain_base64_or_hex() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, "Northwind Supplier Portal").await;
    let resolved = world.resolve(&entry).await;
    world.resolve(&entry).await;
    let client_key = keyway::keys::ClientKey::from_hex(&world.encryption_key).unwrap();
    let own = client_key.encrypt(&"an own password 4711".into()).unwrap();
    let credentials = Credentials { password: Some(own.clone()), ..Credentials::default() };
    let new = EntryContent::own("own", "https://acme.com", credentials).attributes(attributes());
    world.broker.entries().create(&world.access, new).await.unwrap();

    let token = world.token("automation");
    let code = resolved.one_time_code.unwrap();
    let raw = |hex: &str| HEXLOWER.decode(hex.as_bytes()).unwrap();
    let secrets = [
        ("token", token.clone().into_bytes()),
        ("part of the token", token[100..140].into()),
        ("API key", world.api_key.expose_secret().into()),
        ("encryption key", raw(world.encryption_key.expose_secret())),
        ("master key", raw(MASTER_KEY)),
        ("user name", text(resolved.username.as_ref()).unwrap().into()),
        ("password", text(resolved.password.as_ref()).unwrap().into()),
        ("code", code.code.expose_secret().into()),
        ("own password", b"an own password 4711".to_vec()),
        ("cookie", b"cookie-4711-of-a-session".to_vec()),
        ("header", b"bearer-4711-of-a-header".to_vec()),
        ("own password as the client encrypted it", raw(&own)),
    ];
    let mut files = files(world.folder.path());
    files.extend(self::files(world.audit.path()));
    assert!(
        files.iter().any(|(name, data)| name.ends_with("-wal") && !data.is_empty()),
        "what was just written is in the log"
    );
    for (file, data) in &files {
        for (name, secret) in &secrets {
            for spelling in spellings(secret) {
                assert!(
                    !contains(data, &spelling),
                    "{file} contains the {name} as {}",
                    String::from_utf8_lossy(&spelling)
                );
            }
        }
    }
    // The search works: it finds what is not secret.
    assert!(files.iter().any(|(_, data)| contains(data, connection.name.as_bytes())));
    assert!(files.iter().any(|(_, data)| contains(data, connection.hints["token"].as_bytes())));
}

/// Secrets that grant access without a password.
fn attributes() -> Attributes {
    let mut attributes = Attributes::default();
    let cookies = r#"[{"name": "s", "value": "cookie-4711-of-a-session"}]"#;
    attributes.set("cookies", AttributeKind::BrowserState, cookies).unwrap();
    let headers = r#"[{"name": "Authorization", "value": "bearer-4711-of-a-header"}]"#;
    attributes.set("headers", AttributeKind::Secret, headers).unwrap();
    attributes
}

#[tokio::test]
async fn attributes_of_one_entry_do_not_open_in_another_nor_do_older_ones_of_the_same() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for user in ["one", "other"] {
        let new = EntryContent::new(user, "https://acme.com").attributes(attributes());
        ids.push(world.broker.entries().create(&world.access, new).await.unwrap().id);
    }
    let attacker = Attacker::on(&world).await;
    let bytes = |id: &keyway::EntryId| id.as_uuid().as_bytes().to_vec();
    let fails = async |id: &keyway::EntryId| {
        let error = world.broker.entries().get(&world.access, &(*id).into()).await.unwrap_err();
        assert!(is_about(&error, "vault_entries", id.as_uuid()), "{error}");
    };
    let sql = "UPDATE vault_entries SET sealed_attributes = (SELECT sealed_attributes FROM vault_entries WHERE id = ?1) WHERE id = ?2";
    attacker.run(sql, bytes(&ids[0]), bytes(&ids[1])).await;
    fails(&ids[1]).await;

    let old = attacker.read("SELECT sealed_attributes FROM vault_entries WHERE id = ?", bytes(&ids[0])).await;
    world.broker.entries().clear_browser_state(&world.access, &ids[0].into()).await.unwrap();
    attacker.run("UPDATE vault_entries SET sealed_attributes = ?1 WHERE id = ?2", old, bytes(&ids[0])).await;
    fails(&ids[0]).await;
}

#[tokio::test]
async fn an_api_key_that_was_moved_into_another_workspace_opens_nothing() {
    let (world, connection) = World::connected().await;
    let entry = world.bind(&connection, ITEM).await;
    let other = world.other_workspace().await;
    let key = world.broker.api_keys().create(&other, "attacker", Scope::Resolve).await.unwrap();
    let (id, victim) = (key.info.id.as_uuid().as_bytes().to_vec(), id_bytes(world.access.workspace()));
    let attacker = Attacker::on(&world).await;
    attacker
        .run("UPDATE api_keys SET workspace_id = ?1, scopes = 'api admin resolve rotate' WHERE id = ?2", victim, id)
        .await;
    let broker = world.beside().await;
    let error = broker.authenticate(&key.api_key).await.unwrap_err();
    assert!(matches!(error, BrokerError::Unauthenticated), "{error}");
    // Everything else works.
    broker.resolve(&world.access, ResolveRequest::new(entry.id)).await.unwrap();
}

#[tokio::test]
async fn an_entry_or_connection_that_was_pointed_elsewhere_resolves_to_nothing() {
    let (world, connection) = World::connected().await;
    let titles = [ITEM, "Wide World Importers"];
    let (first, second) = (world.bind(&connection, titles[0]).await, world.bind(&connection, titles[1]).await);
    let bytes = |entry: &VaultEntry| entry.id.as_uuid().as_bytes().to_vec();
    let attacker = Attacker::on(&world).await;
    let sql =
        "UPDATE vault_entries SET secret_ref = (SELECT secret_ref FROM vault_entries WHERE id = ?1) WHERE id = ?2";
    attacker.run(sql, bytes(&second), bytes(&first)).await;
    let broker = world.beside().await;
    let resolve = async |entry: &VaultEntry| broker.resolve(&world.access, ResolveRequest::new(entry.id)).await;
    let error = resolve(&first).await.unwrap_err();
    assert!(matches!(error, BrokerError::Storage(StorageError::Damaged { table: "vault_entries", .. })), "{error}");
    resolve(&second).await.unwrap();
    assert_eq!(broker.entries().list(&world.access, None).await.unwrap().entries.len(), 1, "the others are listed");

    let id = connection.id.as_uuid().as_bytes().to_vec();
    attacker.run("UPDATE connections SET account_id = ?1 || account_id WHERE id = ?2", b"x".to_vec(), id).await;
    let broker = world.beside().await;
    let error = broker.resolve(&world.access, ResolveRequest::new(second.id)).await.unwrap_err();
    assert!(matches!(error, BrokerError::Storage(StorageError::Damaged { table: "connections", .. })), "{error}");
}

#[tokio::test]
async fn rows_do_not_become_those_of_a_database_from_before_the_seals() {
    let (world, _) = World::connected().await;
    let pool = Attacker::on(&world).await.0;
    let open = async || {
        let storage = SqliteStorage::open(world.folder.path().join("keyway.db")).await.unwrap();
        let keys = MasterKey::from_hex(MASTER_KEY).unwrap();
        HostKey::open(&storage, &keys.into()).await.map(drop)
    };
    open().await.unwrap();
    sqlx::query("UPDATE host_keys SET rows_sealed = 0").execute(&pool).await.unwrap();
    let error = open().await.unwrap_err().to_string();
    assert!(error.starts_with("the row host of the table `host_keys` was damaged"), "{error}");
    sqlx::query("DELETE FROM host_keys").execute(&pool).await.unwrap();
    assert!(matches!(open().await, Err(KeyError::NoHostKey)));
}

#[cfg(unix)]
#[tokio::test]
async fn files_that_others_could_read_are_the_owners_when_the_database_was_opened() {
    use std::os::unix::fs::PermissionsExt;
    let (world, _) = World::connected().await;
    // As a restored backup leaves them. The first broker has the database open, so all files exist.
    let files = || std::fs::read_dir(world.folder.path()).unwrap().map(|file| file.unwrap().path());
    let modes = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let names: Vec<_> = files().filter(|path| path.to_string_lossy().contains("keyway.db")).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for path in &names {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    SqliteStorage::open(world.folder.path().join("keyway.db")).await.unwrap().close().await;
    assert!(names.iter().all(|path| modes(path) == 0o600));
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_database() {
    use std::os::unix::fs::PermissionsExt;
    let (world, _) = World::connected().await;
    for file in std::fs::read_dir(world.folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}

/// An attacker who can write to the database, and has no key.
pub(crate) struct Attacker(SqlitePool);

impl Attacker {
    async fn on(world: &World) -> Self {
        Self::of(world.folder.path()).await
    }

    pub(crate) async fn of(folder: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(folder.join("keyway.db")).foreign_keys(false);
        Self(SqlitePool::connect_with(options).await.unwrap())
    }

    pub(crate) async fn run(&self, sql: &'static str, first: Vec<u8>, second: Vec<u8>) {
        let done = sqlx::query(sql).bind(first).bind(second).execute(&self.0).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{sql}");
    }

    pub(crate) async fn read(&self, sql: &'static str, id: Vec<u8>) -> Vec<u8> {
        sqlx::query_scalar(sql).bind(id).fetch_one(&self.0).await.unwrap()
    }

    pub(crate) async fn number(&self, sql: &'static str, id: Vec<u8>) -> i64 {
        sqlx::query_scalar(sql).bind(id).fetch_one(&self.0).await.unwrap()
    }
}

pub(crate) fn connection_bytes(connection: &keyway::connections::Connection) -> Vec<u8> {
    connection.id.as_uuid().as_bytes().to_vec()
}

/// Whether an error names this row, whose sealed data does not open.
fn is_about(error: &BrokerError, in_table: &str, row: uuid::Uuid) -> bool {
    matches!(error, BrokerError::Storage(StorageError::Damaged { table, id }) if *table == in_table && *id == row)
}

async fn listing_fails(world: &World, connection: &keyway::connections::Connection) {
    let error = world.broker.connections().list_items(&world.access, connection.id).await.unwrap_err();
    assert!(is_about(&error, "connections", connection.id.as_uuid()), "{error}");
    assert!(error.is_internal());
}

#[tokio::test]
async fn settings_of_one_connection_do_not_open_in_another() {
    let (mut world, connection) = World::connected().await;
    let other = world.connect("auditor").await;
    let attacker = Attacker::on(&world).await;
    let sql = "UPDATE connections SET sealed_settings = (SELECT sealed_settings FROM connections WHERE id = ?1) WHERE id = ?2";
    attacker.run(sql, connection_bytes(&other), connection_bytes(&connection)).await;
    world.restart().await;
    listing_fails(&world, &connection).await;
    assert!(world.broker.connections().list_items(&world.access, other.id).await.is_ok());
}

#[tokio::test]
async fn a_connection_does_not_open_in_another_workspace() {
    let (mut world, connection) = World::connected().await;
    let other = world.other_workspace().await;
    let attacker = Attacker::on(&world).await;
    let sql = "UPDATE connections SET workspace_id = ?1 WHERE id = ?2";
    attacker.run(sql, id_bytes(other.workspace()), connection_bytes(&connection)).await;
    world.restart().await;
    world.access = other;
    let error = world.broker.connections().list_items(&world.access, connection.id).await.unwrap_err();
    assert!(matches!(error, BrokerError::Storage(StorageError::Damaged { table: "connections", .. })), "{error}");
}

#[tokio::test]
async fn settings_from_before_a_change_do_not_open_after_it() {
    let (mut world, connection) = World::connected().await;
    let attacker = Attacker::on(&world).await;
    let old =
        attacker.read("SELECT sealed_settings FROM connections WHERE id = ?1", connection_bytes(&connection)).await;
    let changes = keyway::connections::ConnectionChanges::default().name("Changed");
    world.broker.connections().update(&world.access, connection.id, changes).await.unwrap();
    world.restart().await;
    world.broker.connections().list_items(&world.access, connection.id).await.unwrap();
    attacker.run("UPDATE connections SET sealed_settings = ?1 WHERE id = ?2", old, connection_bytes(&connection)).await;
    world.restart().await;
    listing_fails(&world, &connection).await;
}

#[tokio::test]
async fn settings_are_not_given_to_another_provider() {
    let (mut world, connection) = World::connected().await;
    let attacker = Attacker::on(&world).await;
    let sql = "UPDATE connections SET provider_type = CAST(?1 AS TEXT) WHERE id = ?2";
    attacker.run(sql, b"echo".to_vec(), connection_bytes(&connection)).await;
    world.restart().await;
    let error = world.broker.connections().list_items(&world.access, connection.id).await.unwrap_err();
    assert!(matches!(error, BrokerError::Storage(StorageError::Damaged { table: "connections", .. })), "{error}");
}

#[tokio::test]
async fn one_altered_byte_of_the_settings_is_noticed() {
    let (mut world, connection) = World::connected().await;
    let attacker = Attacker::on(&world).await;
    let sealed =
        attacker.read("SELECT sealed_settings FROM connections WHERE id = ?1", connection_bytes(&connection)).await;
    for index in [5, 17, sealed.len() / 2, sealed.len() - 1] {
        let mut altered = sealed.clone();
        altered[index] ^= 1;
        attacker
            .run("UPDATE connections SET sealed_settings = ?1 WHERE id = ?2", altered, connection_bytes(&connection))
            .await;
        world.restart().await;
        listing_fails(&world, &connection).await;
    }
}

#[tokio::test]
async fn a_workspaces_key_does_not_open_in_another_workspace() {
    let (mut world, connection) = World::connected().await;
    let other = world.other_workspace().await;
    let attacker = Attacker::on(&world).await;
    let sql = "UPDATE workspace_keys SET wrapped_key = (SELECT wrapped_key FROM workspace_keys WHERE workspace_id = ?1) WHERE workspace_id = ?2";
    attacker.run(sql, id_bytes(other.workspace()), id_bytes(world.access.workspace())).await;
    world.restart().await;
    let error = world.broker.connections().list_items(&world.access, connection.id).await.unwrap_err();
    let row = format!("the row {}/1 of the table `workspace_keys` was damaged", world.access.workspace());
    assert!(error.to_string().starts_with(&row), "{error}");
    assert!(world.broker.keys().encryption_key(&other).await.is_ok());
}

#[tokio::test]
async fn credentials_of_one_entry_do_not_open_in_another() {
    let mut world = World::new().await;
    let client_key = keyway::keys::ClientKey::from_hex(&world.encryption_key).unwrap();
    let mut ids = Vec::new();
    for user in ["one", "other"] {
        let password = Some(client_key.encrypt(&format!("password of {user}").into()).unwrap());
        let new = EntryContent::own(user, "https://acme.com", Credentials { password, ..Credentials::default() });
        ids.push(world.broker.entries().create(&world.access, new).await.unwrap().id);
    }
    let attacker = Attacker::on(&world).await;
    let sql = "UPDATE vault_entries SET sealed_credentials = (SELECT sealed_credentials FROM vault_entries WHERE id = ?1) WHERE id = ?2";
    let bytes = |id: &keyway::EntryId| id.as_uuid().as_bytes().to_vec();
    attacker.run(sql, bytes(&ids[0]), bytes(&ids[1])).await;
    world.restart().await;
    let error = world.broker.entries().get(&world.access, &ids[1].into()).await.unwrap_err();
    assert!(is_about(&error, "vault_entries", ids[1].as_uuid()), "{error}");
    let untouched = world.broker.entries().get(&world.access, &ids[0].into()).await.unwrap();
    assert!(matches!(untouched.credentials, CredentialSource::Own(_)));
    let resolved = world.broker.resolve(&world.access, ResolveRequest::new(ids[0])).await.unwrap();
    assert_eq!(text(resolved.password.as_ref()), Some("password of one"));
}
