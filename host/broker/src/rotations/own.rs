//! Rotation of an entry with credentials of its own: the new password is encrypted as a client
//! would encrypt it and replaces the old one in the entry.
//!
//! Entry and rotation change in one transaction.

use std::sync::Arc;

use keyway_storage::{EntryRecord, EntrySelector, RotationRecord, RotationState};
use secrecy::SecretString;
use tracing::info;

use super::Rotations;
use super::journal::{Contents, same};
use super::write_back::{Outcome, end};
use crate::error::BrokerError;
use crate::keyring::WorkspaceKeys;

/// How often the write is attempted against concurrent changes of the entry.
const ATTEMPTS: u32 = 16;

impl Rotations {
    /// The password of an entry that is not bound.
    pub(super) async fn own_password(&self, entry: &EntryRecord) -> Result<Option<SecretString>, BrokerError> {
        let (row, sealed) = ((entry.id, entry.version), entry.sealed_credentials.as_deref());
        let (own, keys) = self.entries.open_credentials(entry.workspace_id, row, sealed).await?;
        let Some(ciphertext) = own.password else { return Ok(None) };
        let opened = keys.client().decrypt(&ciphertext);
        opened.map_err(|_| {
            BrokerError::Host("the password of a vault entry cannot be opened with its workspace key".into())
        })
    }

    /// Puts the new password into the entry and ends the rotation. Returns the rotation as it is
    /// then, even if another change came first.
    pub(super) async fn write_own(
        &self,
        record: &RotationRecord,
        contents: &Contents,
    ) -> Result<Result<RotationRecord, Outcome>, BrokerError> {
        let selector = EntrySelector::Id(record.entry_id);
        for _ in 0..ATTEMPTS {
            self.core.hold_keys(record.workspace_id).await?;
            let Some(stored) = self.core.storage.entry(record.workspace_id, &selector).await? else {
                return Ok(Err(Outcome::failed("not-found", "the vault entry was deleted")));
            };
            let current = self.own_password(&stored).await?.unwrap_or_default();
            if !same(&current, &contents.password) && !contents.replaces.fits(&current) {
                return Ok(Err(Outcome::Conflicted));
            }
            let done = self.journal.changed(record, |record| end(record, RotationState::Done));
            let (ended, stored) = (&done, &stored);
            let finish = |keys: Arc<WorkspaceKeys>| async move {
                let changed = self.with_password(&keys, stored.clone(), &contents.password).await?;
                let (rotation, entry) = (record.version, stored.version);
                let finished = self.core.storage.finish_own_rotation(ended, rotation, &changed, entry).await?;
                Ok(finished.then_some(changed))
            };
            if let Some(changed) = self.core.keyring.with_current(record.workspace_id, finish).await? {
                self.entries.forget(&changed);
                self.journal.forget_item(&done).await;
                info!(rotation = %done.id, entry = %done.entry_id, "password rotation done");
                return Ok(Ok(done));
            }
            let now = self.journal.record(record.workspace_id, record.id).await?;
            if now.version != record.version {
                return Ok(Ok(now));
            }
        }
        Ok(Err(Outcome::later("host_error", "the vault entry keeps changing", None)))
    }

    /// The entry's row with its password replaced by this one.
    async fn with_password(
        &self,
        keys: &WorkspaceKeys,
        stored: EntryRecord,
        password: &SecretString,
    ) -> Result<EntryRecord, BrokerError> {
        // If the entry is under newer keys, the database refuses a row that is sealed under these.
        let version = stored.version;
        let mut entry = self.entries.open(stored).await?;
        if let Some(own) = entry.content.own_credentials_mut() {
            own.password = Some(keys.client().encrypt(password)?);
        }
        entry.updated_at = self.core.timestamp();
        self.entries.seal(keys, &entry, version + 1).await
    }
}
