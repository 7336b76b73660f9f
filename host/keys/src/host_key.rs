//! The host's own key, from which every key outside the workspaces is derived.
//!
//! **Invariant:** it is generated once for a database and never changes; the master key only wraps
//! it. When the master key is replaced, compiled code in the cache therefore stays authentic, the
//! audit trail verifiable and fingerprints comparable.

use std::sync::Arc;

use jiff::Timestamp;
use keyway_storage::{Constraint, HostKeyRecord, Storage, StorageError, WorkspaceId};
use zeroize::Zeroizing;

use crate::derive::{derive, random_key};
use crate::master_keys::FIRST_TERM;
use crate::{KeyBytes, KeyError, Locked, MasterKeys, Place, RowSealKey};

/// The name of the key from which all others are derived.
const NAME: &str = "host";

/// The table of its row.
pub const TABLE: &str = "host_keys";

/// The key of a host, from which single-purpose keys are derived: 256 random bits, stored only
/// wrapped.
pub struct HostKey {
    key: Locked<KeyBytes>,
    has_audit_root: bool,
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostKey([REDACTED])")
    }
}

impl HostKey {
    /// The host key of a database; generated if the database is new. Opening a broker does the
    /// same; this function is for a host that derives something earlier, such as the key of the
    /// runtime's code cache.
    ///
    /// # Errors
    /// [`KeyError::WrongMasterKey`], [`KeyError::ReplacedMasterKey`]; errors of the database.
    pub async fn open(storage: &dyn Storage, master_keys: &MasterKeys) -> Result<Self, KeyError> {
        Self::open_at(storage, master_keys, Timestamp::now()).await
    }

    /// As [`open`](Self::open), at the time `now`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_at(storage: &dyn Storage, master_keys: &MasterKeys, now: Timestamp) -> Result<Self, KeyError> {
        // Check even if the host key does not need it, so that a wrong master key is reported at
        // once.
        if let Err(error) = master_keys.current(storage, now).await {
            return Err(Self::why_wrong(storage, master_keys, error).await);
        }
        loop {
            let opened = match storage.host_key(NAME).await? {
                Some(record) => {
                    let key = Self::unwrapped(storage, master_keys, &record).await?;
                    let key = Self { key: Locked::new(key), has_audit_root: record.has_audit_root };
                    key.unlock_rows(storage, master_keys, record, now).await.map(|()| key)
                }
                None => Self::generate(storage, master_keys, now).await,
            };
            match opened {
                // Another process was first, or has replaced the master key in the meantime.
                Err(KeyError::Storage(StorageError::Conflict(Constraint::Unique | Constraint::KeyTerm))) => {}
                opened => return opened,
            }
        }
    }

    async fn unwrapped(
        storage: &dyn Storage,
        master_keys: &MasterKeys,
        record: &HostKeyRecord,
    ) -> Result<KeyBytes, KeyError> {
        let (place, row) = (place_of(record), (TABLE, record.name.clone()));
        master_keys.unwrap(storage, record.master_term, &record.wrapped_key, &place, row).await
    }

    /// What is wrong when the database names another master key: a row of `master_keys`, if the
    /// given key opens the host key all the same.
    async fn why_wrong(storage: &dyn Storage, master_keys: &MasterKeys, error: KeyError) -> KeyError {
        if !matches!(error, KeyError::WrongMasterKey { .. } | KeyError::ReplacedMasterKey { .. }) {
            return error;
        }
        let Ok(Some(record)) = storage.host_key(NAME).await else { return error };
        match master_keys.one_opens(record.master_term, &record.wrapped_key, &place_of(&record)).await {
            true => StorageError::DamagedKey { table: "master_keys", row: record.master_term.to_string() }.into(),
            false => error,
        }
    }

    /// Makes the host key of a new database.
    async fn generate(storage: &dyn Storage, master_keys: &MasterKeys, now: Timestamp) -> Result<Self, KeyError> {
        if !storage.all_workspace_keys().await?.is_empty() {
            return Err(KeyError::NoHostKey);
        }
        let key = Self { key: Locked::new(random_key()?), has_audit_root: false };
        let mut record = HostKeyRecord {
            name: NAME.to_owned(),
            wrapped_key: Vec::new(),
            master_term: FIRST_TERM,
            rows_sealed: true,
            has_audit_root: false,
            version: 1,
            created_at: now,
        };
        (record.master_term, record.wrapped_key) = master_keys.wrap(storage, &key.key, &place_of(&record), now).await?;
        storage.insert_host_key(&record).await?;
        storage.unlock_rows(Arc::new(key.row_seals()));
        Ok(key)
    }

    /// Gives the storage the key of the seals. In a database from before the seals, all rows are
    /// sealed first, and from then on the wrapped host key says so: taking a row's seal away does
    /// not make the row one from before.
    async fn unlock_rows(
        &self,
        storage: &dyn Storage,
        master_keys: &MasterKeys,
        mut record: HostKeyRecord,
        now: Timestamp,
    ) -> Result<(), KeyError> {
        storage.unlock_rows(Arc::new(self.row_seals()));
        if record.rows_sealed {
            return Ok(());
        }
        record.rows_sealed = true;
        Ok(storage.seal_rows(&self.wrapped_again(record, storage, master_keys, now).await?).await?)
    }

    /// Whether the audit log had a root when the key was opened.
    pub fn has_audit_root(&self) -> bool {
        self.has_audit_root
    }

    /// Notes that the audit log has a root: from then on the wrapped host key says so, and a root
    /// that is gone was removed. Returns whether it was not noted before.
    ///
    /// # Errors
    /// Errors of the database and of a key service.
    pub async fn note_audit_root(
        &self,
        storage: &dyn Storage,
        master_keys: &MasterKeys,
        now: Timestamp,
    ) -> Result<bool, KeyError> {
        loop {
            let mut record = storage.host_key(NAME).await?.ok_or(KeyError::NoHostKey)?;
            if record.has_audit_root {
                return Ok(false);
            }
            // Only what the host wrote is wrapped again.
            Self::unwrapped(storage, master_keys, &record).await?;
            record.has_audit_root = true;
            let record = self.wrapped_again(record, storage, master_keys, now).await?;
            match storage.replace_host_key(&record).await {
                // Another process was first, or has replaced the master key in the meantime.
                Err(StorageError::Conflict(Constraint::KeyTerm)) => {}
                replaced => return Ok(replaced.map(|()| true)?),
            }
        }
    }

    /// The record's next version, with the key bound to what the record says.
    async fn wrapped_again(
        &self,
        mut record: HostKeyRecord,
        storage: &dyn Storage,
        master_keys: &MasterKeys,
        now: Timestamp,
    ) -> Result<HostKeyRecord, KeyError> {
        record.version += 1;
        let (term, wrapped_key) = master_keys.wrap(storage, &self.key, &place_of(&record), now).await?;
        (record.master_term, record.wrapped_key) = (term, wrapped_key);
        Ok(record)
    }

    /// The key of the seals of rows.
    fn row_seals(&self) -> RowSealKey {
        RowSealKey::new(&self.derive("keyway.v1.row-seals"))
    }

    /// Derives a separate key for a purpose, by HKDF-SHA256 (RFC 5869). It reveals nothing about
    /// the host key or about keys for other purposes. A purpose is a unique name such as
    /// `acme.v1.code-cache`; names that begin with `keyway.` are Keyway's.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        derive(&self.key, None, purpose.as_bytes())
    }
}

/// What the wrapped key is bound to.
pub fn place_of(record: &HostKeyRecord) -> Vec<u8> {
    Place {
        // It belongs to no workspace.
        workspace: WorkspaceId::from(uuid::Uuid::nil()),
        table: TABLE,
        row: record.name.as_bytes(),
        column: match (record.rows_sealed, record.has_audit_root) {
            (false, false) => "wrapped_key",
            (true, false) => "wrapped_key of sealed rows",
            (false, true) => "wrapped_key of an audit log",
            (true, true) => "wrapped_key of sealed rows and an audit log",
        },
        version: record.version,
    }
    .encode()
}

#[cfg(test)]
mod tests {
    use keyway_storage::SqliteStorage;

    use super::*;
    use crate::MasterKey;

    #[tokio::test]
    async fn a_database_has_one_host_key_whoever_opens_it_first() {
        let folder = tempfile::tempdir().unwrap();
        let storage = SqliteStorage::open(folder.path().join("keyway.db")).await.unwrap();
        let opening: Vec<_> = (0..8)
            .map(|_| {
                let storage = storage.clone();
                tokio::spawn(async move {
                    let key = MasterKey::from_hex(&"0f".repeat(32)).unwrap();
                    HostKey::open(&storage, &key.into()).await.unwrap().derive("acme.v1.test")
                })
            })
            .collect();
        let mut keys = Vec::new();
        for opened in opening {
            keys.push(opened.await.unwrap());
        }
        keys.dedup();
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn keys_for_two_purposes_have_nothing_in_common_and_the_key_prints_as_a_placeholder() {
        let key = HostKey { key: Locked::new(KeyBytes::new([7; 32])), has_audit_root: false };
        assert_ne!(key.derive("acme.v1.one"), key.derive("acme.v1.other"));
        assert_eq!(format!("{key:?}"), "HostKey([REDACTED])");
    }
}
