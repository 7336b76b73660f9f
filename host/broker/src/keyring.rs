//! The workspace keys that are in use: unwrapped when first needed, kept in memory, their uses counted.
//!
//! **Invariant:** no key seals more than 2^31 times ([`MAX_USES`]), over all processes and restarts. A storage key gets
//! allowances of [`BLOCK`] uses, each counted in the database before it is given out; what a process did not use up
//! when it ends counts as used. A cache key exists only in one process (its salt is never stored), starts with all its
//! uses, and caches no more when they are gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::client_key::ClientKey;
use crate::codec::CodecError;
use crate::envelope::{EnvelopeError, KeyBytes, MAX_USES, Place, SealingKey, term_of};
use crate::error::{BrokerError, Thing};
use crate::id::WorkspaceId;
use crate::keys::{KeyError, KeyId, KeyWrapper, WorkspaceKey};
use crate::record_cache::RecordCache;
use crate::storage::{Constraint, HostKeyRecord, MasterKeyRecord, Storage, StorageError, WorkspaceKeyRecord};

/// How many uses of a key are counted at once: one write to the database for so many seals.
const BLOCK: u64 = 256;

/// How many workspaces' keys are kept unwrapped; each takes about 2 KiB.
const CAPACITY: u64 = 10_000;

/// The first term of a key.
const FIRST_TERM: u32 = 1;

/// Hands out workspace keys.
pub(crate) struct Keyring {
    storage: Arc<dyn Storage>,
    wrapper: Arc<dyn KeyWrapper>,
    master_term: u32,
    keys: RecordCache<WorkspaceId, Arc<WorkspaceKeys>>,
}

/// What is derived from the keys of one workspace.
pub(crate) struct WorkspaceKeys {
    workspace: WorkspaceId,
    storage: BTreeMap<u32, SealingKey>,
    current_term: u32,
    cache: SealingKey,
    client: ClientKey,
}

impl WorkspaceKeys {
    /// What follows from a workspace's keys by term; `None` when there is no key.
    pub(crate) fn derive(
        workspace: WorkspaceId,
        keys: &BTreeMap<u32, WorkspaceKey>,
    ) -> Result<Option<Self>, EnvelopeError> {
        let Some((&current_term, current)) = keys.last_key_value() else { return Ok(None) };
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| EnvelopeError::NoRandomness(error.to_string()))?;
        Ok(Some(Self {
            workspace,
            storage: keys.iter().map(|(&term, key)| (term, key.storage_key(term))).collect(),
            current_term,
            cache: current.cache_key(current_term, &salt, MAX_USES),
            client: current.client_key(),
        }))
    }

    /// Which workspace's keys these are.
    pub(crate) fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// The key that seals cached secrets.
    pub(crate) fn cache(&self) -> &SealingKey {
        &self.cache
    }

    /// The key that clients encrypt under.
    pub(crate) fn client(&self) -> &ClientKey {
        &self.client
    }
}

/// Whether a database was made with this master key; a new one is made with any.
///
/// Opening a [`Broker`](crate::Broker) checks this, too. This is for a host that derives other things from the master
/// key and wants to know first.
///
/// # Errors
/// [`KeyError::WrongMasterKey`]; errors of the database.
pub async fn check_master_key(storage: &dyn Storage, wrapper: &dyn KeyWrapper) -> Result<(), BrokerError> {
    match storage.master_key().await? {
        Some(record) => recognise(&record, wrapper),
        None => Ok(()),
    }
}

fn recognise(record: &MasterKeyRecord, wrapper: &dyn KeyWrapper) -> Result<(), BrokerError> {
    let (expected, given) = (KeyId(record.key_id), wrapper.key_id());
    if expected == given { Ok(()) } else { Err(KeyError::WrongMasterKey { expected, given }.into()) }
}

impl Keyring {
    /// A keyring for the database, which must have been made with this very master key, or be new.
    pub(crate) async fn open(
        storage: Arc<dyn Storage>,
        wrapper: Arc<dyn KeyWrapper>,
        now: Timestamp,
    ) -> Result<Self, BrokerError> {
        let new = MasterKeyRecord { term: FIRST_TERM, key_id: wrapper.key_id().0, created_at: now };
        let record = match storage.master_key().await? {
            Some(record) => record,
            None => match storage.insert_master_key(&new).await {
                Ok(()) => new,
                // Another process was first.
                Err(StorageError::Conflict(Constraint::Unique)) => storage.master_key().await?.unwrap_or(new),
                Err(error) => return Err(error.into()),
            },
        };
        recognise(&record, &*wrapper)?;
        Ok(Self { storage, wrapper, master_term: record.term, keys: RecordCache::new(CAPACITY, None) })
    }

    /// A new key for a new workspace, wrapped; and the key that its clients will encrypt under.
    pub(crate) async fn generate(
        &self,
        workspace: WorkspaceId,
        now: Timestamp,
    ) -> Result<(WorkspaceKeyRecord, ClientKey), BrokerError> {
        let key = WorkspaceKey::generate()?;
        let uses = self.storage.count_master_key_uses(self.master_term, 1).await?;
        if uses > MAX_USES {
            return Err(EnvelopeError::Exhausted { term: self.master_term }.into());
        }
        let mut record = WorkspaceKeyRecord {
            workspace_id: workspace,
            term: FIRST_TERM,
            wrapped_key: Vec::new(),
            master_term: self.master_term,
            version: 1,
            created_at: now,
        };
        record.wrapped_key = self.wrapper.wrap(self.master_term, key.bytes(), &place_of(&record)).await?;
        Ok((record, key.client_key()))
    }

    /// The host's own key of that name: random, kept in the database wrapped by the master key. Made when it is first
    /// asked for.
    pub(crate) async fn host_key(&self, name: &str, now: Timestamp) -> Result<KeyBytes, BrokerError> {
        let record = match self.storage.host_key(name).await? {
            Some(record) => record,
            None => {
                let new = self.new_host_key(name, now).await?;
                match self.storage.insert_host_key(&new).await {
                    Ok(()) => new,
                    // Another process was first.
                    Err(StorageError::Conflict(Constraint::Unique)) => {
                        self.storage.host_key(name).await?.unwrap_or(new)
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        Ok(self.wrapper.unwrap(record.master_term, &record.wrapped_key, &place_of_host_key(&record)).await?)
    }

    async fn new_host_key(&self, name: &str, now: Timestamp) -> Result<HostKeyRecord, BrokerError> {
        let key = WorkspaceKey::generate()?;
        let uses = self.storage.count_master_key_uses(self.master_term, 1).await?;
        if uses > MAX_USES {
            return Err(EnvelopeError::Exhausted { term: self.master_term }.into());
        }
        let mut record = HostKeyRecord {
            name: name.to_owned(),
            wrapped_key: Vec::new(),
            master_term: self.master_term,
            version: 1,
            created_at: now,
        };
        record.wrapped_key = self.wrapper.wrap(self.master_term, key.bytes(), &place_of_host_key(&record)).await?;
        Ok(record)
    }

    /// The keys of a workspace.
    pub(crate) async fn get(&self, workspace: WorkspaceId) -> Result<Arc<WorkspaceKeys>, BrokerError> {
        self.keys.get_or_load(&workspace, self.load(workspace)).await?.ok_or(BrokerError::NotFound(Thing::Workspace))
    }

    /// Makes the next [`get`](Self::get) unwrap the keys again, with a new cache key.
    pub(crate) fn forget(&self, workspace: WorkspaceId) {
        self.keys.forget(&workspace);
    }

    /// Seals a row's data.
    pub(crate) async fn seal(&self, place: &Place<'_>, plaintext: &[u8]) -> Result<Vec<u8>, BrokerError> {
        let keys = self.get(place.workspace).await?;
        let key = keys.storage.get(&keys.current_term).ok_or(EnvelopeError::UnknownTerm(keys.current_term))?;
        let associated = place.encode();
        loop {
            match key.seal(&associated, plaintext) {
                Err(EnvelopeError::Exhausted { term }) => {
                    let uses = self.storage.count_workspace_key_uses(place.workspace, term, BLOCK).await?;
                    if uses > MAX_USES {
                        return Err(EnvelopeError::Exhausted { term }.into());
                    }
                    key.allow(BLOCK);
                }
                sealed => return Ok(sealed?),
            }
        }
    }

    /// Opens a row's data, and reads it with `read`.
    pub(crate) async fn open_sealed<T>(
        &self,
        place: &Place<'_>,
        envelope: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, CodecError>,
    ) -> Result<T, BrokerError> {
        let term = term_of(envelope)?;
        let mut keys = self.get(place.workspace).await?;
        if !keys.storage.contains_key(&term) {
            // Another process may have rotated the key meanwhile.
            self.forget(place.workspace);
            keys = self.get(place.workspace).await?;
        }
        let key = keys.storage.get(&term).ok_or(EnvelopeError::UnknownTerm(term))?;
        let plaintext = key.open(&place.encode(), envelope, || place.name())?;
        Ok(read(&plaintext).map_err(|_| EnvelopeError::Malformed { place: place.name() })?)
    }

    async fn load(&self, workspace: WorkspaceId) -> Result<Option<Arc<WorkspaceKeys>>, BrokerError> {
        let mut keys = BTreeMap::new();
        for record in self.storage.workspace_keys(workspace).await? {
            let key = self.wrapper.unwrap(record.master_term, &record.wrapped_key, &place_of(&record)).await?;
            keys.insert(record.term, WorkspaceKey::from_bytes(key));
        }
        Ok(WorkspaceKeys::derive(workspace, &keys)?.map(Arc::new))
    }
}

/// What a wrapped workspace key is bound to.
fn place_of(record: &WorkspaceKeyRecord) -> Vec<u8> {
    Place {
        workspace: record.workspace_id,
        table: "workspace_keys",
        row: &record.term.to_be_bytes(),
        column: "wrapped_key",
        version: record.version,
    }
    .encode()
}

/// What a wrapped key of the host is bound to. It belongs to no workspace, which the nil UUID says.
fn place_of_host_key(record: &HostKeyRecord) -> Vec<u8> {
    Place {
        workspace: uuid::Uuid::nil().into(),
        table: "host_keys",
        row: record.name.as_bytes(),
        column: "wrapped_key",
        version: record.version,
    }
    .encode()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_key::{self, Scope};
    use crate::keys::MasterKey;
    use crate::storage::{SqliteStorage, WorkspaceRecord};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn master_key() -> MasterKey {
        MasterKey::from_hex(&"0f".repeat(32)).unwrap()
    }

    async fn keyring(storage: &SqliteStorage) -> Keyring {
        Keyring::open(Arc::new(storage.clone()), Arc::new(master_key()), NOW).await.unwrap()
    }

    async fn workspace(storage: &SqliteStorage) -> WorkspaceId {
        let workspace =
            WorkspaceRecord { id: WorkspaceId::generate(), name: "w".into(), created_at: NOW, updated_at: NOW };
        let (key, _) = keyring(storage).await.generate(workspace.id, NOW).await.unwrap();
        let (_, api_key) = api_key::generate(workspace.id, "key", Scope::Api.into(), NOW).unwrap();
        storage.insert_workspace(&workspace, &key, &api_key).await.unwrap();
        workspace.id
    }

    fn place(workspace: WorkspaceId) -> Place<'static> {
        Place { workspace, table: "table", row: b"row", column: "column", version: 1 }
    }

    async fn open(keyring: &Keyring, workspace: WorkspaceId, sealed: &[u8]) -> Result<Vec<u8>, BrokerError> {
        keyring.open_sealed(&place(workspace), sealed, |plaintext| Ok(plaintext.to_vec())).await
    }

    /// How often the storage key may still be used before the database has to be asked.
    async fn uses(storage: &SqliteStorage, workspace: WorkspaceId) -> u64 {
        storage.count_workspace_key_uses(workspace, FIRST_TERM, 0).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_sealed_opens_after_a_restart_and_in_its_own_workspace_only() {
        let storage = SqliteStorage::in_memory().await.unwrap();
        let (one, other) = (workspace(&storage).await, workspace(&storage).await);
        let sealed = keyring(&storage).await.seal(&place(one), b"data").await.unwrap();
        let keyring = keyring(&storage).await;
        assert_eq!(open(&keyring, one, &sealed).await.unwrap(), b"data");
        let error = open(&keyring, other, &sealed).await.unwrap_err();
        assert!(matches!(error, BrokerError::Envelope(EnvelopeError::NotAuthentic { .. })));
    }

    #[tokio::test]
    async fn uses_are_counted_before_they_are_made() {
        let storage = SqliteStorage::in_memory().await.unwrap();
        let workspace = workspace(&storage).await;
        let first = keyring(&storage).await;
        assert_eq!(uses(&storage, workspace).await, 0);
        for _ in 0..BLOCK {
            first.seal(&place(workspace), b"data").await.unwrap();
        }
        assert_eq!(uses(&storage, workspace).await, BLOCK);
        first.seal(&place(workspace), b"data").await.unwrap();
        assert_eq!(uses(&storage, workspace).await, 2 * BLOCK);
        // What a process has not used up is not given to the next one.
        keyring(&storage).await.seal(&place(workspace), b"data").await.unwrap();
        assert_eq!(uses(&storage, workspace).await, 3 * BLOCK);
    }

    #[tokio::test]
    async fn concurrent_seals_use_no_more_than_was_counted() {
        let storage = SqliteStorage::in_memory().await.unwrap();
        let workspace = workspace(&storage).await;
        let keyring = Arc::new(keyring(&storage).await);
        let tasks: Vec<_> = (0..1_000)
            .map(|_| {
                let keyring = keyring.clone();
                tokio::spawn(async move { keyring.seal(&place(workspace), b"data").await.map(|_| ()) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert!(uses(&storage, workspace).await >= 1_000);
    }

    #[tokio::test]
    async fn a_key_that_has_been_used_up_seals_nothing_more_and_still_opens() {
        let storage = SqliteStorage::in_memory().await.unwrap();
        let workspace = workspace(&storage).await;
        let sealed = keyring(&storage).await.seal(&place(workspace), b"data").await.unwrap();
        storage.count_workspace_key_uses(workspace, FIRST_TERM, MAX_USES).await.unwrap();
        let keyring = keyring(&storage).await;
        let error = keyring.seal(&place(workspace), b"data").await.unwrap_err();
        assert!(matches!(error, BrokerError::Envelope(EnvelopeError::Exhausted { term: FIRST_TERM })), "{error}");
        assert_eq!(open(&keyring, workspace, &sealed).await.unwrap(), b"data");
    }

    #[tokio::test]
    async fn a_term_that_does_not_exist_is_named() {
        let storage = SqliteStorage::in_memory().await.unwrap();
        let workspace = workspace(&storage).await;
        let keyring = keyring(&storage).await;
        let mut sealed = keyring.seal(&place(workspace), b"data").await.unwrap();
        sealed[4] = 9;
        let error = open(&keyring, workspace, &sealed).await.unwrap_err();
        assert!(matches!(error, BrokerError::Envelope(EnvelopeError::UnknownTerm(9))), "{error}");
    }

    #[tokio::test]
    async fn a_database_belongs_to_one_master_key() {
        let storage = SqliteStorage::in_memory().await.unwrap();
        keyring(&storage).await;
        let other = MasterKey::from_hex(&"f0".repeat(32)).unwrap();
        let opened = Keyring::open(Arc::new(storage), Arc::new(other), NOW).await;
        assert!(matches!(opened, Err(BrokerError::Key(KeyError::WrongMasterKey { .. }))));
    }
}
