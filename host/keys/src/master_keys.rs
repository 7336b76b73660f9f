//! The master keys that this process holds, and which of them a wrapped key needs.
//!
//! **Invariant:** the database names the master key of every wrapped key (its term, and the term's
//! [`KeyId`]); keys are never tried in turn. A process usually holds one master key. During a
//! replacement it may hold both, so that it works before and after; or it holds the old one and a
//! source for the new one, which it reads when it first meets a key that needs it. Until then it
//! continues with the workspace keys that it has already unwrapped.
//!
//! **How it can fail:** none of the held keys is the database's master key. Then nothing opens, and
//! the error says whether the given key was replaced or never belonged to this database.

use std::sync::Arc;

use jiff::Timestamp;
use keyway_storage::{Constraint, MasterKeyRecord, Storage, StorageError};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::{EnvelopeError, KeyError, KeyId, KeyWrapper, MAX_USES, MasterKey};

/// The first term of a key.
pub const FIRST_TERM: u32 = 1;

type Source = dyn Fn() -> Result<MasterKey, KeyError> + Send + Sync;

/// The master keys to open a database with: one, or two during a replacement. Made from a
/// [`MasterKey`] or any other [`KeyWrapper`]. Cheap to clone.
#[derive(Clone)]
pub struct MasterKeys {
    held: Arc<Mutex<Vec<Arc<dyn KeyWrapper>>>>,
    /// Where to look for the key that has replaced the held ones.
    source: Option<Arc<Source>>,
}

impl std::fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.held().iter().map(|key| key.key_id().to_string())).finish()
    }
}

impl<K: KeyWrapper> From<K> for MasterKeys {
    fn from(key: K) -> Self {
        Self { held: Arc::new(Mutex::new(vec![Arc::new(key)])), source: None }
    }
}

impl MasterKeys {
    /// Adds another key, for use while one replaces the other. A new database uses the first key.
    #[must_use]
    pub fn with(self, key: impl KeyWrapper) -> Self {
        self.hold(Arc::new(key));
        self
    }

    /// Sets a source for the new key after the database's master key was replaced: usually where
    /// the first key came from. It is read only then.
    #[must_use]
    pub fn reload_from(mut self, source: impl Fn() -> Result<MasterKey, KeyError> + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The database's current master key, and its record. In a new database the first key is
    /// recorded.
    ///
    /// # Errors
    /// [`KeyError::WrongMasterKey`], [`KeyError::ReplacedMasterKey`].
    pub async fn current(
        &self,
        storage: &dyn Storage,
        now: Timestamp,
    ) -> Result<(MasterKeyRecord, Arc<dyn KeyWrapper>), KeyError> {
        let mut records = storage.master_keys().await?;
        if records.is_empty() {
            let first = self.held().into_iter().next().ok_or_else(|| KeyError::Service("no master key".into()))?;
            let new = MasterKeyRecord { term: FIRST_TERM, key_id: first.key_id().0, created_at: now };
            match storage.insert_master_key(&new).await {
                // Another process was first.
                Ok(()) | Err(StorageError::Conflict(Constraint::Unique)) => records = storage.master_keys().await?,
                Err(error) => return Err(error.into()),
            }
        }
        let current = records.last().cloned().ok_or(StorageError::Corrupt { column: "master_keys".to_owned() })?;
        let wrapper = self.find(&records, &current).await?;
        Ok((current, wrapper))
    }

    /// Checks that one of these is the master key of a database with these records, the current one
    /// last. A database without a master key accepts any.
    ///
    /// # Errors
    /// [`KeyError::WrongMasterKey`], [`KeyError::ReplacedMasterKey`].
    pub async fn check(&self, records: &[MasterKeyRecord]) -> Result<(), KeyError> {
        match records.last() {
            Some(current) => self.find(records, current).await.map(drop),
            None => Ok(()),
        }
    }

    /// Wraps a new key under the current master key and returns the term.
    pub async fn wrap(
        &self,
        storage: &dyn Storage,
        key: &[u8; 32],
        associated: &[u8],
        now: Timestamp,
    ) -> Result<(u32, Vec<u8>), KeyError> {
        let (record, wrapper) = self.current(storage, now).await?;
        let uses = storage.count_master_key_uses(record.term, 1).await?;
        if uses > MAX_USES {
            return Err(EnvelopeError::Exhausted { term: record.term }.into());
        }
        Ok((record.term, wrapper.wrap(record.term, key, associated).await?))
    }

    /// Unwraps the key in this row of a table.
    ///
    /// # Errors
    /// [`StorageError::DamagedKey`] with the row if the key does not open;
    /// [`KeyError::WrongMasterKey`], [`KeyError::ReplacedMasterKey`].
    pub async fn unwrap(
        &self,
        storage: &dyn Storage,
        term: u32,
        wrapped: &[u8],
        associated: &[u8],
        (table, row): (&'static str, String),
    ) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        let opened = async {
            let records = storage.master_keys().await?;
            let record = records.iter().find(|record| record.term == term).ok_or(EnvelopeError::UnknownTerm(term))?;
            self.find(&records, record).await?.unwrap(term, wrapped, associated).await
        };
        match opened.await {
            Err(KeyError::Envelope(_)) => Err(StorageError::DamagedKey { table, row }.into()),
            // The row names an earlier master key, unless the master key is being replaced.
            Err(KeyError::WrongMasterKey { .. } | KeyError::ReplacedMasterKey { .. })
                if self.check(&storage.master_keys().await?).await.is_ok() =>
            {
                Err(StorageError::DamagedKey { table, row }.into())
            }
            opened => opened,
        }
    }

    /// Whether one of the held keys opens what is wrapped under a term, whatever the records say.
    /// Only to find out what is wrong with them.
    pub(crate) async fn one_opens(&self, term: u32, wrapped: &[u8], associated: &[u8]) -> bool {
        for key in self.held() {
            if key.unwrap(term, wrapped, associated).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// The key that this record names.
    async fn find(
        &self,
        records: &[MasterKeyRecord],
        wanted: &MasterKeyRecord,
    ) -> Result<Arc<dyn KeyWrapper>, KeyError> {
        if let Some(key) = self.held_with(wanted.key_id) {
            return Ok(key);
        }
        if let Some(source) = self.source.clone() {
            // It reads a file or calls a key service.
            let found = tokio::task::spawn_blocking(move || source()).await;
            match found.map_err(|error| KeyError::Service(error.into()))? {
                Ok(key) if key.key_id().0 == wanted.key_id => self.hold(Arc::new(key)),
                Ok(_) => {}
                // A key service that is out of reach does not say which key it has.
                Err(error @ KeyError::Service(_)) => return Err(error),
                Err(error) => tracing::warn!(%error, "the master key was replaced, and the new one cannot be read"),
            }
            if let Some(key) = self.held_with(wanted.key_id) {
                return Ok(key);
            }
        }
        let held = self.held();
        let given = held.first().map_or(KeyId([0; 16]), |key| key.key_id());
        let expected = KeyId(wanted.key_id);
        let successor = |record: &MasterKeyRecord| records.iter().find(|next| next.term == record.term + 1);
        let replaced =
            records.iter().filter(|record| record.key_id == given.0).filter_map(successor).map(|next| next.created_at);
        Err(match replaced.max() {
            Some(replaced_at) => KeyError::ReplacedMasterKey { expected, given, replaced_at },
            None => KeyError::WrongMasterKey { expected, given },
        })
    }

    fn held_with(&self, id: [u8; 16]) -> Option<Arc<dyn KeyWrapper>> {
        self.held().into_iter().find(|key| key.key_id().0 == id)
    }

    fn held(&self) -> Vec<Arc<dyn KeyWrapper>> {
        self.held.lock().clone()
    }

    /// Adds a key, unless it is already held.
    pub fn hold(&self, key: Arc<dyn KeyWrapper>) {
        let mut held = self.held.lock();
        if held.iter().all(|other| other.key_id() != key.key_id()) {
            held.push(key);
        }
    }
}
