//! Helpers of the key rotation tests: keys, entries encrypted by clients, and the contents of the
//! database and its files.

use std::path::Path;

use keyway::entries::{AttributeKind, CredentialSource, Credentials, VaultEntry};
use keyway::keys::{ClientKey, MasterKeys};
use keyway::keyway_runtime::Runtime;
use keyway::storage::SealedColumn;
use keyway::{Access, Audit, Broker, BrokerError, EntryContent, EntryId, MasterKey, SqliteStorage, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Row, SqlitePool};

use crate::support::{MASTER_KEY, World};

pub(crate) const NEW_MASTER_KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

pub(crate) fn master_key() -> MasterKey {
    MasterKey::from_hex(MASTER_KEY).unwrap()
}

pub(crate) fn new_master_key() -> MasterKey {
    MasterKey::from_hex(NEW_MASTER_KEY).unwrap()
}

/// Another process on the same database.
pub(crate) async fn other_process(world: &World, keys: impl Into<MasterKeys>) -> Result<Broker, BrokerError> {
    let storage = SqliteStorage::open(world.folder.path().join("keyway.db")).await.unwrap();
    let audit = Audit::in_folder(world.audit.path());
    Broker::builder(Runtime::builder().build().unwrap(), storage, keys).audit(audit).open().await
}

pub(crate) fn password_of(user: &str) -> String {
    format!("password of {user}")
}

pub(crate) fn manual(user: &str, key: &SecretString) -> EntryContent {
    let password = ClientKey::from_hex(key).unwrap().encrypt(&password_of(user).into()).unwrap();
    let proxy = ClientKey::from_hex(key).unwrap().encrypt(&"http://user:pass@proxy.acme.com".into()).unwrap();
    let credentials = Credentials { password: Some(password), ..Credentials::default() };
    let mut entry = EntryContent::own(user, "https://acme.com", credentials);
    entry.attributes.set("proxy_value", AttributeKind::Encrypted, &format!("\"{proxy}\"")).unwrap();
    entry
}

/// What a client with `key` reads of an entry.
pub(crate) fn decrypted(entry: &VaultEntry, key: &SecretString) -> Option<String> {
    let CredentialSource::Own(own) = &entry.credentials else { panic!("{entry:?}") };
    let value = ClientKey::from_hex(key).unwrap().decrypt(own.password.as_ref()?).ok()?;
    value.map(|value| value.expose_secret().to_owned())
}

pub(crate) fn is_manual(entry: &VaultEntry) -> bool {
    matches!(entry.credentials, CredentialSource::Own(_))
}

/// The address of an entry's proxy, read the same way.
pub(crate) fn proxy_of(entry: &VaultEntry, key: &SecretString) -> Option<String> {
    let ciphertext: String = serde_json::from_str(entry.attributes.get("proxy_value").unwrap()).unwrap();
    let value = ClientKey::from_hex(key).unwrap().decrypt(&ciphertext).ok()?;
    value.map(|value| value.expose_secret().to_owned())
}

/// All entries of a workspace with their own credentials.
pub(crate) async fn manual_entries(broker: &Broker, access: &Access) -> Vec<VaultEntry> {
    let (mut all, mut after) = (Vec::new(), None::<EntryId>);
    loop {
        let page = broker.entries().list(access, after).await.unwrap();
        all.extend(page.entries.into_iter().filter(is_manual));
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

pub(crate) async fn database(world: &World) -> SqlitePool {
    database_in(world.folder.path()).await
}

pub(crate) async fn database_in(folder: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(folder.join("keyway.db"));
    SqlitePool::connect_with(options).await.unwrap()
}

/// The terms of all sealed values.
pub(crate) async fn terms_in_use(world: &World) -> Vec<u32> {
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
pub(crate) async fn sealed_values(database: &SqlitePool, workspace: WorkspaceId) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    for column in SealedColumn::ALL {
        let (table, name) = (column.table(), column.name());
        let sql = format!("SELECT {name} FROM {table} WHERE {name} IS NOT NULL AND workspace_id = ?");
        let found = sqlx::query_scalar(AssertSqlSafe(sql)).bind(workspace.as_uuid()).fetch_all(database).await;
        values.extend(found.unwrap());
    }
    values
}

pub(crate) fn files_contain(world: &World, part: &[u8]) -> bool {
    std::fs::read_dir(world.folder.path())
        .unwrap()
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .any(|data| data.windows(part.len()).any(|window| window == part))
}
