//! The host's own key, from which every key outside the workspaces is derived.
//!
//! **Invariant:** it is generated once for a database and never changes; the master key only wraps
//! it. When the master key is replaced, compiled code in the cache therefore stays authentic, the
//! audit trail verifiable and fingerprints comparable.

use jiff::Timestamp;
use keyway_storage::{Constraint, HostKeyRecord, Storage, StorageError, WorkspaceId};
use zeroize::Zeroizing;

use crate::derive::{derive, random_key};
use crate::master_keys::FIRST_TERM;
use crate::{KeyBytes, KeyError, MasterKeys, Place};

/// The name of the key from which all others are derived.
const NAME: &str = "host";

/// The key of a host, from which single-purpose keys are derived: 256 random bits, stored only
/// wrapped.
pub struct HostKey(KeyBytes);

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
        master_keys.current(storage, now).await?;
        loop {
            if let Some(record) = storage.host_key(NAME).await? {
                let place = place_of(&record);
                let key = master_keys.unwrap(storage, record.master_term, &record.wrapped_key, &place).await?;
                return Ok(Self(key));
            }
            let key = random_key()?;
            let mut record = HostKeyRecord {
                name: NAME.to_owned(),
                wrapped_key: Vec::new(),
                master_term: FIRST_TERM,
                version: 1,
                created_at: now,
            };
            (record.master_term, record.wrapped_key) = master_keys.wrap(storage, &key, &place_of(&record), now).await?;
            match storage.insert_host_key(&record).await {
                Ok(()) => return Ok(Self(key)),
                // Another process was first, or has replaced the master key in the meantime.
                Err(StorageError::Conflict(Constraint::Unique | Constraint::KeyTerm)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Derives a separate key for a purpose, by HKDF-SHA256 (RFC 5869). It reveals nothing about
    /// the host key or about keys for other purposes. A purpose is a unique name such as
    /// `acme.v1.code-cache`; names that begin with `keyway.` are Keyway's.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        derive(&self.0, None, purpose.as_bytes())
    }
}

/// What the wrapped key is bound to.
pub fn place_of(record: &HostKeyRecord) -> Vec<u8> {
    Place {
        // It belongs to no workspace.
        workspace: WorkspaceId::from(uuid::Uuid::nil()),
        table: "host_keys",
        row: record.name.as_bytes(),
        column: "wrapped_key",
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
        let key = HostKey(KeyBytes::new([7; 32]));
        assert_ne!(key.derive("acme.v1.one"), key.derive("acme.v1.other"));
        assert_eq!(format!("{key:?}"), "HostKey([REDACTED])");
    }
}
