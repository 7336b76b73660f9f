//! Replacing the master key.
//!
//! **Invariant:** all keys of the database are wrapped by one master key, the one with the highest
//! term. Every key is first wrapped again. Then one transaction stores all of them together with
//! the record of the new master key; it fails and is repeated if any key was added or changed
//! meanwhile. A process that is killed before the transaction is durable has changed nothing; after
//! it, the old master key opens nothing.
//!
//! A process that holds only the old key continues with the workspace keys that it has unwrapped.
//! It cannot add a key under the old one: the database accepts new keys under the current master
//! key only ([`Constraint::KeyTerm`]). For everything else it needs the new key, see
//! [`super::MasterKeys`].

use std::sync::Arc;

use keyway_audit::{Operation, Trail};
use keyway_keys::{KeyError, KeyId, KeyWrapper, host_key};
use keyway_storage::{Constraint, MasterKeyRecord, StorageError};
use tracing::info;

use super::Keys;
use crate::database::WORKSPACE_KEYS;
use crate::error::BrokerError;
use crate::keyring;

/// How often to start over because keys were added meanwhile, before failing.
const ATTEMPTS: u32 = 100;

/// The master key was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RotatedMasterKey {
    /// The id of the new key.
    pub key_id: KeyId,
    /// The number of the master key in this database, counted from 1.
    pub term: u32,
    /// How many keys were wrapped again.
    pub keys: u64,
}

impl Keys {
    /// Replaces the master key: every workspace key is wrapped again, all or none. From then on,
    /// only the new key opens the database; keep the old one only for earlier backups. For the code
    /// that embeds the broker; it takes no [`Access`](crate::Access).
    ///
    /// Store the new key safely before calling this. This broker continues with it. Other processes
    /// that serve the same database continue with the workspace keys they hold, and need the new
    /// master key for all others, see [`MasterKeys`](super::MasterKeys).
    ///
    /// # Errors
    /// [`KeyError::NotANewKey`]; [`StorageError::Damaged`] with the workspace whose key does not
    /// open, see [`Database`](crate::database::Database); errors of the database and of a key
    /// service. After an error, nothing has changed.
    pub async fn rotate_master(&self, new: impl KeyWrapper) -> Result<RotatedMasterKey, BrokerError> {
        let new: Arc<dyn KeyWrapper> = Arc::new(new);
        let trail = Trail::new();
        let rotate = async {
            for _ in 0..ATTEMPTS {
                match self.try_rotate_master_key(&new, &trail).await {
                    // A key was added or changed since they were read.
                    Err(BrokerError::Storage(StorageError::Conflict(Constraint::KeyTerm))) => {}
                    rotated => {
                        let keys = rotated.as_ref().ok().map(|rotated| rotated.keys);
                        trail.note(|subject| subject.count = keys);
                        return rotated;
                    }
                }
            }
            Err(StorageError::Conflict(Constraint::KeyTerm).into())
        };
        self.core.audited_for_operator(Operation::RotateMasterKey, &trail, rotate).await
    }

    async fn try_rotate_master_key(
        &self,
        new: &Arc<dyn KeyWrapper>,
        trail: &Trail,
    ) -> Result<RotatedMasterKey, BrokerError> {
        let (storage, now) = (&*self.core.storage, self.core.timestamp());
        let master_keys = self.core.keyring.master_keys();
        let (current, old) = master_keys.current(storage, now).await?;
        let record = MasterKeyRecord { term: current.term + 1, key_id: new.key_id().0, created_at: now };
        if storage.master_keys().await?.iter().any(|used| used.key_id == record.key_id) {
            return Err(KeyError::NotANewKey.into());
        }
        trail.begin().await?;
        let mut workspace_keys = storage.all_workspace_keys().await?;
        for key in &mut workspace_keys {
            let opened = old.unwrap(key.master_term, &key.wrapped_key, &keyring::place_of(key)).await;
            let opened = opened.map_err(|error| match error {
                KeyError::Envelope(_) => {
                    StorageError::Damaged { table: WORKSPACE_KEYS, id: key.workspace_id.as_uuid() }.into()
                }
                error => BrokerError::from(error),
            })?;
            (key.master_term, key.version) = (record.term, key.version + 1);
            key.wrapped_key = new.wrap(record.term, &opened, &keyring::place_of(key)).await?;
        }
        let mut host_keys = storage.host_keys().await?;
        for key in &mut host_keys {
            let opened = old.unwrap(key.master_term, &key.wrapped_key, &host_key::place_of(key)).await;
            let opened = opened.map_err(|error| match error {
                KeyError::Envelope(_) => {
                    StorageError::DamagedKey { table: host_key::TABLE, row: key.name.clone() }.into()
                }
                error => BrokerError::from(error),
            })?;
            (key.master_term, key.version) = (record.term, key.version + 1);
            key.wrapped_key = new.wrap(record.term, &opened, &host_key::place_of(key)).await?;
        }
        let keys = (workspace_keys.len() + host_keys.len()) as u64;
        // Before the database has it: a reader that finds there which key is current must find it
        // here. If it never gets there, it opens nothing.
        master_keys.hold(Arc::clone(new));
        storage.replace_master_key(&record, keys, &workspace_keys, &host_keys).await?;
        info!(term = record.term, keys, "master key replaced");
        Ok(RotatedMasterKey { key_id: new.key_id(), term: record.term, keys })
    }
}
