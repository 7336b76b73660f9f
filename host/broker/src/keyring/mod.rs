//! The workspace keys in use: unwrapped when first needed and kept in memory, with their uses
//! counted.
//!
//! **Invariants**
//!
//! 1. No key seals more than 2^31 times ([`MAX_USES`]), across all processes and restarts. A
//!    storage key gets allowances of [`BLOCK`] uses, each counted in the database before it is
//!    granted; uses that are left when a process ends count as used. A cache key exists in one
//!    process only (its salt is never stored), starts with all its uses, and stops caching when
//!    they are spent.
//! 2. The keys are those of the database: the terms are read again after [`MAX_AGE`], so a rotation
//!    by another process is noticed within a second. Writes cannot wait for that, so the database
//!    checks them: it refuses values that are sealed under an older key
//!    ([`Constraint::KeyTerm`](keyway_storage::Constraint::KeyTerm)), and the writer repeats the
//!    operation with the new keys ([`with_current`](Keyring::with_current)).
//! 3. Every row that was read opens. A deleted key is kept in memory for [`RETIRED_FOR`], for
//!    readers that read a row just before it was sealed again, and dropped by the first
//!    [`get`](Keyring::get) after that. Readers call [`get`](Keyring::get) before they read rows,
//!    so that the keys of that moment are in memory.
//! 4. Values that clients encrypted are read as encrypted under the current client key, see
//!    [`WorkspaceKeys::open`]. Writers of such values check and seal with one and the same
//!    [`WorkspaceKeys`].

mod workspace_keys;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use keyway_audit::{AuditCause, RootNote};
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use workspace_keys::TermKeys;
pub(crate) use workspace_keys::WorkspaceKeys;

use keyway_clock::Clock;
use keyway_keys::{
    ClientKey, EnvelopeError, FIRST_TERM, HostKey, KeyError, Locked, MAX_USES, MasterKeys, Place, WorkspaceKey, term_of,
};
use keyway_storage::{
    Changes, Constraint, RecordCache, SealedColumn, Storage, StorageError, WorkspaceId, WorkspaceKeyRecord,
};

use crate::codec::CodecError;
use crate::error::{BrokerError, Thing};

/// How many uses of a key are counted at once: one write to the database for this many seals.
const BLOCK: u64 = 256;

/// How many workspaces' keys are kept unwrapped; each takes about 4 KiB, a
/// locked page.
const CAPACITY: usize = 10_000;

/// How long a deleted key is kept in memory: longer than any request holds a row that it has read.
pub(crate) const RETIRED_FOR: Duration = Duration::from_secs(120);

/// Provides the keys of workspaces.
pub(crate) struct Keyring {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    master_keys: MasterKeys,
    host_key: HostKey,
    keys: Cache<WorkspaceId, Arc<WorkspaceKeys>>,
    /// Held while loaded keys are merged with those in memory.
    merging: Mutex<()>,
    /// The terms in the database.
    terms: RecordCache<WorkspaceId, Arc<[u32]>>,
}

#[async_trait]
impl RootNote for Keyring {
    fn is_noted(&self) -> bool {
        self.host_key.has_audit_root()
    }

    async fn note(&self) -> Result<bool, AuditCause> {
        let now = self.clock.now().timestamp();
        let noted = self.host_key.note_audit_root(&*self.storage, &self.master_keys, now).await;
        noted.map_err(|error| Arc::new(error) as AuditCause)
    }
}

impl Keyring {
    /// Opens the keyring of a database, which is new or has one of these master keys.
    pub(crate) async fn open(
        storage: Arc<dyn Storage>,
        master_keys: MasterKeys,
        changes: &Arc<Changes>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BrokerError> {
        let host_key = HostKey::open_at(&*storage, &master_keys, clock.now().timestamp()).await?;
        let keys = Cache::new(CAPACITY);
        let terms = RecordCache::new(CAPACITY, changes);
        Ok(Self { storage, clock, master_keys, host_key, keys, merging: Mutex::default(), terms })
    }

    /// The key from which keys for purposes beyond single workspaces are derived.
    pub(crate) fn host_key(&self) -> &HostKey {
        &self.host_key
    }

    /// The master keys, which wrap the other keys.
    pub(crate) fn master_keys(&self) -> &MasterKeys {
        &self.master_keys
    }

    /// A new wrapped key for a workspace, and the key that its clients will encrypt under.
    pub(crate) async fn generate(
        &self,
        workspace: WorkspaceId,
        term: u32,
        now: Timestamp,
    ) -> Result<(WorkspaceKeyRecord, ClientKey), BrokerError> {
        let key = WorkspaceKey::generate()?;
        let mut record = WorkspaceKeyRecord {
            workspace_id: workspace,
            term,
            wrapped_key: Vec::new(),
            master_term: FIRST_TERM,
            version: 1,
            created_at: now,
        };
        (record.master_term, record.wrapped_key) =
            self.master_keys.wrap(&*self.storage, key.bytes(), &place_of(&record), now).await?;
        Ok((record, key.client_key()))
    }

    /// The keys of a workspace.
    pub(crate) async fn get(&self, workspace: WorkspaceId) -> Result<Arc<WorkspaceKeys>, BrokerError> {
        let load = async {
            let terms = self.storage.workspace_key_terms(workspace).await?;
            Ok::<_, BrokerError>(if terms.is_empty() { None } else { Some(Arc::from(terms)) })
        };
        let terms: Arc<[u32]> =
            self.terms.get_or_load(&workspace, load).await?.ok_or(BrokerError::NotFound(Thing::Workspace))?;
        match self.keys.get(&workspace) {
            Some(keys) if keys.are_up_to_date(&terms, self.clock.as_ref()) => Ok(keys),
            known => self.load(workspace, known).await,
        }
    }

    /// Makes the next [`get`](Self::get) check in the database whether the key was rotated.
    pub(crate) fn forget(&self, workspace: WorkspaceId) {
        self.terms.forget(&workspace);
    }

    /// Forgets a deleted workspace: none of its data opens from now on.
    pub(crate) async fn remove(&self, workspace: WorkspaceId) {
        self.terms.forget(&workspace);
        self.keys.remove(&workspace);
        // Its API keys, entries and connections.
        self.terms.forget_changed().await;
    }

    /// Does `work` with the workspace's keys, and repeats it with newer ones for as long as it
    /// fails only because the key was rotated meanwhile ([`outdated`](Self::outdated)).
    ///
    /// `work` uses the same keys to its end, so values that clients encrypted are sealed under the
    /// key that they were checked with.
    pub(crate) async fn with_current<T, F>(
        &self,
        workspace: WorkspaceId,
        work: impl Fn(Arc<WorkspaceKeys>) -> F,
    ) -> Result<T, BrokerError>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        loop {
            let keys = self.get(workspace).await?;
            match work(keys.clone()).await {
                Err(error) if self.outdated(&keys, &error).await? => {}
                done => return done,
            }
        }
    }

    /// Whether an operation failed only because the workspace's key was rotated after it got these
    /// keys: the database refused a value under an older key, or a client already encrypts under
    /// the new one.
    async fn outdated(&self, keys: &WorkspaceKeys, error: &BrokerError) -> Result<bool, BrokerError> {
        match error {
            BrokerError::Storage(StorageError::Conflict(Constraint::KeyTerm)) => {
                self.forget(keys.workspace());
                Ok(true)
            }
            BrokerError::NotEncrypted { .. } => {
                self.forget(keys.workspace());
                Ok(self.get(keys.workspace()).await?.current_term() > keys.current_term())
            }
            _ => Ok(false),
        }
    }

    /// The keys of a workspace, including those that sealed these envelopes.
    pub(crate) async fn get_for<'a>(
        &self,
        workspace: WorkspaceId,
        envelopes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Arc<WorkspaceKeys>, BrokerError> {
        let keys = self.get(workspace).await?;
        let mut has_all = true;
        for envelope in envelopes {
            has_all &= keys.terms.contains_key(&term_of(envelope)?);
        }
        if has_all {
            return Ok(keys);
        }
        // Another process may have rotated the key a moment ago.
        self.forget(workspace);
        self.get(workspace).await
    }

    /// Seals a row's data under the current key.
    pub(crate) async fn seal(
        &self,
        keys: &WorkspaceKeys,
        place: &Place<'_>,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, BrokerError> {
        let associated = place.encode();
        loop {
            match keys.current.storage.seal(&associated, plaintext) {
                Err(EnvelopeError::Exhausted { term }) => {
                    let uses = self.storage.count_workspace_key_uses(keys.workspace(), term, BLOCK).await?;
                    // `None`: the key was rotated and deleted. The database will refuse what it
                    // seals, so nothing is counted.
                    if uses.is_some_and(|uses| uses > MAX_USES) {
                        return Err(EnvelopeError::Exhausted { term }.into());
                    }
                    keys.current.storage.allow(BLOCK);
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
        Ok(self.get_for(place.workspace, [envelope]).await?.open(place, envelope, read)?)
    }

    /// The keys of a workspace that these rows hold, and the terms of those that hold none: their
    /// keys do not open. `None` when no key opens.
    pub(crate) async fn usable(
        &self,
        workspace: WorkspaceId,
        records: impl IntoIterator<Item = &WorkspaceKeyRecord>,
    ) -> Result<(Option<WorkspaceKeys>, Vec<u32>), BrokerError> {
        let (mut terms, mut damaged) = (BTreeMap::new(), Vec::new());
        for record in records {
            match self.unwrap(record).await {
                Ok(key) => drop(terms.insert(record.term, key)),
                Err(KeyError::Storage(StorageError::DamagedKey { .. })) => damaged.push(record.term),
                Err(error) => return Err(error.into()),
            }
        }
        Ok((WorkspaceKeys::of(workspace, terms), damaged))
    }

    async fn unwrap(&self, record: &WorkspaceKeyRecord) -> Result<Arc<Locked<TermKeys>>, KeyError> {
        let (place, master_term) = (place_of(record), record.master_term);
        let row = ("workspace_keys", format!("{}/{}", record.workspace_id, record.term));
        let key = self.master_keys.unwrap(&*self.storage, master_term, &record.wrapped_key, &place, row).await?;
        Ok(Arc::new(Locked::new(TermKeys::derive(record.term, WorkspaceKey::from_bytes(key))?)))
    }

    /// Loads the keys, unwrapping those that are not in memory yet.
    async fn load(
        &self,
        workspace: WorkspaceId,
        known: Option<Arc<WorkspaceKeys>>,
    ) -> Result<Arc<WorkspaceKeys>, BrokerError> {
        let mut terms = BTreeMap::new();
        for record in self.storage.workspace_keys(workspace).await? {
            // A key never changes, only its wrapping; so a key in memory needs no master key.
            let key = match known.as_ref().and_then(|known| known.terms.get(&record.term)) {
                Some(key) => Arc::clone(key),
                None => self.unwrap(&record).await?,
            };
            terms.insert(record.term, key);
        }
        let loaded = WorkspaceKeys::of(workspace, terms).ok_or(BrokerError::NotFound(Thing::Workspace))?;
        let now = self.clock.now();
        let _merging = self.merging.lock();
        let keys = match self.keys.get(&workspace) {
            // A concurrent load was first, or is newer. (If it holds a key too long, the next `get`
            // drops it.)
            Some(present) if present.is_after(&loaded) => return Ok(present),
            Some(present) if present.in_database == loaded.in_database && !present.hold_expired(now) => {
                return Ok(present);
            }
            present => Arc::new(loaded.following(present.as_deref(), now)),
        };
        self.keys.insert(workspace, Arc::clone(&keys));
        Ok(keys)
    }
}

/// The place that a sealed value is bound to: it opens nowhere else.
pub(crate) fn place(workspace: WorkspaceId, column: SealedColumn, row: &[u8; 16], version: u64) -> Place<'_> {
    Place { workspace, table: column.table(), row, column: column.name(), version }
}

/// The place that a wrapped workspace key is bound to.
pub(crate) fn place_of(record: &WorkspaceKeyRecord) -> Vec<u8> {
    Place {
        workspace: record.workspace_id,
        table: "workspace_keys",
        row: &record.term.to_be_bytes(),
        column: "wrapped_key",
        version: record.version,
    }
    .encode()
}

#[cfg(test)]
mod retired_tests;

#[cfg(test)]
mod tests {
    use keyway_clock::ManualClock;
    use keyway_keys::MasterKey;
    use keyway_storage::{KeyStorage, SqliteStorage};

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn master_key() -> MasterKey {
        MasterKey::from_hex(&"0f".repeat(32)).unwrap()
    }

    fn clock() -> Arc<dyn Clock> {
        Arc::new(ManualClock::new(NOW))
    }

    async fn keyring(storage: &SqliteStorage) -> Keyring {
        let storage: Arc<dyn Storage> = Arc::new(storage.clone());
        Keyring::open(storage.clone(), master_key().into(), &Changes::new(storage), clock()).await.unwrap()
    }

    async fn workspace(storage: &SqliteStorage) -> WorkspaceId {
        retired_tests::workspace(&keyring(storage).await).await
    }

    fn place(workspace: WorkspaceId) -> Place<'static> {
        Place { workspace, table: "table", row: b"row", column: "column", version: 1 }
    }

    async fn seal(keyring: &Keyring, workspace: WorkspaceId) -> Result<Vec<u8>, BrokerError> {
        let keys = keyring.get(workspace).await?;
        keyring.seal(&keys, &place(workspace), b"data").await
    }

    async fn open(keyring: &Keyring, workspace: WorkspaceId, sealed: &[u8]) -> Result<Vec<u8>, BrokerError> {
        keyring.open_sealed(&place(workspace), sealed, |plaintext| Ok(plaintext.to_vec())).await
    }

    /// The uses of the storage key that the database has counted.
    async fn uses(storage: &SqliteStorage, workspace: WorkspaceId) -> u64 {
        storage.count_workspace_key_uses(workspace, FIRST_TERM, 0).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn what_is_sealed_opens_after_a_restart_and_in_its_own_workspace_only() {
        let storage = SqliteStorage::in_memory().await.unwrap();
        let (one, other) = (workspace(&storage).await, workspace(&storage).await);
        let sealed = seal(&keyring(&storage).await, one).await.unwrap();
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
            seal(&first, workspace).await.unwrap();
        }
        assert_eq!(uses(&storage, workspace).await, BLOCK);
        seal(&first, workspace).await.unwrap();
        assert_eq!(uses(&storage, workspace).await, 2 * BLOCK);
        // Unused uses of one process are not passed on to the next.
        seal(&keyring(&storage).await, workspace).await.unwrap();
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
                tokio::spawn(async move { seal(&keyring, workspace).await.map(|_| ()) })
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
        let sealed = seal(&keyring(&storage).await, workspace).await.unwrap();
        storage.count_workspace_key_uses(workspace, FIRST_TERM, MAX_USES).await.unwrap();
        let keyring = keyring(&storage).await;
        let error = seal(&keyring, workspace).await.unwrap_err();
        assert!(matches!(error, BrokerError::Envelope(EnvelopeError::Exhausted { term: FIRST_TERM })), "{error}");
        assert_eq!(open(&keyring, workspace, &sealed).await.unwrap(), b"data");
    }

    #[tokio::test]
    async fn a_term_that_does_not_exist_is_named() {
        let storage = SqliteStorage::in_memory().await.unwrap();
        let workspace = workspace(&storage).await;
        let keyring = keyring(&storage).await;
        let mut sealed = seal(&keyring, workspace).await.unwrap();
        sealed[4] = 9;
        let error = open(&keyring, workspace, &sealed).await.unwrap_err();
        assert!(matches!(error, BrokerError::Envelope(EnvelopeError::UnknownTerm(9))), "{error}");
    }

    #[tokio::test]
    async fn a_database_belongs_to_one_master_key() {
        let storage = SqliteStorage::in_memory().await.unwrap();
        keyring(&storage).await;
        let other = MasterKey::from_hex(&"f0".repeat(32)).unwrap();
        let storage: Arc<dyn Storage> = Arc::new(storage);
        let opened = Keyring::open(storage.clone(), other.into(), &Changes::new(storage), clock()).await;
        assert!(matches!(opened, Err(BrokerError::Key(KeyError::WrongMasterKey { .. }))));
    }
}
