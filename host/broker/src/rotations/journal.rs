//! The rows of the journal: what is sealed in them, and how they change.
//!
//! **Invariant:** a row is only ever replaced by its successor, with a version greater by one, and
//! the envelope is sealed again for that version. Of two concurrent changes, the second finds the
//! version taken and changes nothing. The one exception is a row whose envelope no longer opens: it
//! cannot be sealed again, so it keeps its version and is only marked as failed (`background.rs`).

use std::sync::Arc;

use getrandom::fill;
use keyway_keys::{EnvelopeError, Place};
use keyway_storage::{RotationId, RotationRecord, RotationState, SealedColumn, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::write_back::end;
use crate::codec::{self, CodecError};
use crate::core::Core;
use crate::error::{BrokerError, Thing};
use crate::items::{ItemState, Items};
use crate::keyring::{WorkspaceKeys, place};

/// The sealed contents of a rotation.
pub(super) struct Contents {
    /// The new password.
    pub(super) password: SecretString,
    /// Recognises the password that it replaces.
    pub(super) replaces: Fingerprint,
}

/// Recognises a password without holding it: a salt, and the SHA-256 of salt and password. It is
/// only ever kept in an envelope, so it need not resist guessing.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Fingerprint(Zeroizing<[u8; SALT + 32]>);

const SALT: usize = 16;

impl Fingerprint {
    pub(super) fn of(password: &SecretString) -> Result<Self, EnvelopeError> {
        let mut salt = [0; SALT];
        fill(&mut salt).map_err(EnvelopeError::NoRandomness)?;
        Ok(Self::salted(&salt, password))
    }

    pub(super) fn fits(&self, password: &SecretString) -> bool {
        let Some(salt) = self.0.first_chunk::<SALT>() else { return false };
        self.0.as_slice().ct_eq(Self::salted(salt, password).0.as_slice()).into()
    }

    fn salted(salt: &[u8; SALT], password: &SecretString) -> Self {
        let hash = Sha256::new().chain_update(salt).chain_update(password.expose_secret()).finalize();
        let mut bytes = Zeroizing::new([0; SALT + 32]);
        for (to, from) in bytes.iter_mut().zip(salt.iter().chain(hash.iter())) {
            *to = *from;
        }
        Self(bytes)
    }
}

/// Whether two passwords are the same.
pub(super) fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret().as_bytes().ct_eq(other.expose_secret().as_bytes()).into()
}

/// The rotations of all workspaces, as they are stored.
pub(crate) struct Journal {
    pub(crate) core: Arc<Core>,
    pub(crate) items: Arc<Items>,
}

impl Journal {
    /// A rotation's row.
    pub(super) async fn record(&self, workspace: WorkspaceId, id: RotationId) -> Result<RotationRecord, BrokerError> {
        self.core.hold_keys(workspace).await?;
        self.core.storage.rotation(workspace, id).await?.ok_or(BrokerError::NotFound(Thing::Rotation))
    }

    /// The row with its contents sealed, while the rotation is open.
    pub(super) async fn sealed(
        &self,
        keys: &WorkspaceKeys,
        mut record: RotationRecord,
        contents: &Contents,
    ) -> Result<RotationRecord, BrokerError> {
        if record.state.is_open() {
            let fields = [contents.password.expose_secret().as_bytes(), contents.replaces.0.as_slice()];
            let plaintext = codec::encode(&fields.map(Some)).map_err(|_| EnvelopeError::TooLarge)?;
            let sealed = self.core.keyring.seal(keys, &place_of(&record), &plaintext).await?;
            record.sealed_password = Some(sealed);
        }
        Ok(record)
    }

    /// Opens the contents of an open rotation.
    pub(super) async fn open(&self, record: &RotationRecord) -> Result<Contents, BrokerError> {
        let sealed = record.sealed_password.as_deref().ok_or_else(|| over(record.state))?;
        self.core.keyring.open_sealed(&place_of(record), sealed, read).await
    }

    /// Replaces a row by its successor, which `change` makes from it; `contents` is sealed in it
    /// while the rotation is open. `None` when another change came first.
    pub(super) async fn advance(
        &self,
        before: &RotationRecord,
        contents: &Contents,
        change: impl FnOnce(&mut RotationRecord),
    ) -> Result<Option<RotationRecord>, BrokerError> {
        let record = &self.changed(before, change);
        let update = |keys: Arc<WorkspaceKeys>| async move {
            let sealed = self.sealed(&keys, record.clone(), contents).await?;
            Ok(self.core.storage.update_rotation(&sealed, before.version).await?.then_some(sealed))
        };
        let updated = self.core.keyring.with_current(before.workspace_id, update).await?;
        self.forget_item(record).await;
        Ok(updated)
    }

    /// Abandons a rotation and erases its contents, even if they no longer open. `None` when
    /// another change came first.
    pub(super) async fn abandon(&self, before: &RotationRecord) -> Result<Option<RotationRecord>, BrokerError> {
        let record = self.changed(before, |record| end(record, RotationState::Abandoned));
        let updated = self.core.storage.update_rotation(&record, before.version).await?;
        self.forget_item(&record).await;
        Ok(updated.then_some(record))
    }

    /// The successor of a row, not yet stored, without its contents.
    pub(super) fn changed(&self, before: &RotationRecord, change: impl FnOnce(&mut RotationRecord)) -> RotationRecord {
        let mut record = RotationRecord { sealed_password: None, ..before.clone() };
        change(&mut record);
        record.version = before.version + 1;
        record.updated_at = self.core.timestamp();
        if record.state != RotationState::Committing {
            (record.attempt_until, record.next_attempt_at) = (None, None);
        }
        if !matches!(record.state, RotationState::Committing | RotationState::WriteBackFailed) {
            record.failed_settings = None;
        }
        record
    }

    /// The password that the site has and the item does not have yet, and its rotation; `None` when
    /// both have the same.
    pub(crate) async fn password_ahead<'a>(
        &self,
        state: Option<&'a ItemState>,
    ) -> Result<Option<(&'a RotationRecord, SecretString)>, BrokerError> {
        let Some(rotation) = state.and_then(|state| state.ahead.as_ref()) else { return Ok(None) };
        Ok(Some((rotation, self.open(rotation).await?.password)))
    }

    /// Forgets the state of an item, so that the next resolve reads it from the database, and wipes
    /// the cached values of an item that was written.
    pub(super) async fn forget_item(&self, record: &RotationRecord) {
        let item = record.item();
        self.items.forget(record.workspace_id, &item);
        if record.secret_ref.is_none() || !record.state.outdates_the_item() {
            return;
        }
        // The generation prevents its use; so an error of the database here is harmless.
        let _ = self.items.wipe(record.workspace_id, &item).await;
    }
}

/// The error for a rotation that has ended and has no contents.
pub(super) fn over(state: RotationState) -> BrokerError {
    super::not_in(state, "it is over, and its password has been erased")
}

fn place_of(record: &RotationRecord) -> Place<'_> {
    place(record.workspace_id, SealedColumn::RotationPassword, record.id.as_bytes(), record.version)
}

fn read(plaintext: &[u8]) -> Result<Contents, CodecError> {
    let [Some(password), Some(replaces)] = codec::decode(plaintext)?[..] else { return Err(CodecError) };
    let password = std::str::from_utf8(password).map_err(|_| CodecError)?.into();
    let replaces = replaces.try_into().map_err(|_| CodecError)?;
    Ok(Contents { password, replaces: Fingerprint(Zeroizing::new(replaces)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_fits_its_own_password_only() {
        let fingerprint = Fingerprint::of(&"old".into()).unwrap();
        assert!(fingerprint.fits(&"old".into()));
        for other in ["", "Old", "old ", "new"] {
            assert!(!fingerprint.fits(&other.into()), "{other}");
        }
        assert!(fingerprint != Fingerprint::of(&"old".into()).unwrap(), "salted");
    }
}
