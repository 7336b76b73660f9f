//! Rotation of an entry with credentials of its own: the new password is encrypted as a client
//! would encrypt it and takes the place of the old one in the entry.
//!
//! Entry and rotation change in one transaction, so there is no moment between the two.

use keyway_storage::{Constraint, EntryRecord, EntrySelector, RotationRecord, RotationState, StorageError};
use secrecy::SecretString;

use super::journal::{Contents, same};
use super::write_back::{Outcome, end};
use crate::broker::Broker;
use crate::error::BrokerError;

/// How often it is tried anew when the entry changes at the same moment.
const ATTEMPTS: u32 = 16;

impl Broker {
    /// The password of an entry that is not bound.
    pub(super) async fn own_password(&self, entry: &EntryRecord) -> Result<Option<SecretString>, BrokerError> {
        let (own, keys) = self.open_credentials(entry).await?;
        let Some(ciphertext) = own.password else { return Ok(None) };
        let opened = keys.client().decrypt(&ciphertext);
        opened.map_err(|_| {
            BrokerError::Host("the password of a vault entry does not open with its workspace's key".into())
        })
    }

    /// Puts the new password into the entry and ends the rotation. The record is the rotation as it
    /// is now if it ended; `None` when somebody else was first.
    pub(super) async fn write_own(
        &self,
        record: &RotationRecord,
        contents: &Contents,
    ) -> Result<Result<Option<RotationRecord>, Outcome>, BrokerError> {
        let selector = EntrySelector::Id(record.entry_id);
        for _ in 0..ATTEMPTS {
            self.core.hold_keys(record.workspace_id).await?;
            let Some(stored) = self.core.storage.entry(record.workspace_id, &selector).await? else {
                return Ok(Err(Outcome::failed("not-found", "the vault entry is gone")));
            };
            let current = self.own_password(&stored).await?.unwrap_or_default();
            if !same(&current, &contents.password) && !contents.replaces.fits(&current) {
                return Ok(Err(Outcome::Conflicted));
            }
            let version = stored.version;
            let changed = self.with_password(stored, &contents.password).await?;
            let done = self.successor(record, contents, |record| end(record, RotationState::Done)).await?;
            match self.core.storage.finish_own_rotation(&done, record.version, &changed, version).await {
                Ok(true) => {
                    self.forget_entry(&changed);
                    self.forget_item(&done).await;
                    return Ok(Ok(Some(done)));
                }
                Ok(false) => {}
                // The workspace's key was rotated since.
                Err(StorageError::Conflict(Constraint::KeyTerm)) => self.core.keyring.forget(record.workspace_id),
                Err(error) => return Err(error.into()),
            }
            let now = self.rotation_record(record.workspace_id, record.id).await?;
            if now.version != record.version {
                return Ok(Ok(None));
            }
        }
        Ok(Err(Outcome::later("host_error", "the vault entry keeps changing", None)))
    }

    /// The entry's row with this password in place of its own.
    async fn with_password(&self, stored: EntryRecord, password: &SecretString) -> Result<EntryRecord, BrokerError> {
        // The same keys to the end. If the entry is under newer ones, the database refuses it under
        // these.
        let keys = self.core.keyring.get(stored.workspace_id).await?;
        let version = stored.version;
        let mut entry = self.open_entry(stored).await?;
        if let Some(own) = entry.content.own_credentials_mut() {
            own.password = Some(keys.client().encrypt(password)?);
        }
        entry.updated_at = self.core.timestamp();
        self.seal_entry(&keys, &entry, version + 1).await
    }
}
