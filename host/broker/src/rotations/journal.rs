//! The rows of the journal: what is sealed in them, and how one becomes the next.
//!
//! **Invariant:** a row is only ever replaced by its successor, with a version greater by one, and
//! the envelope is sealed anew for that version. Who comes second finds the version taken and
//! changes nothing. The one exception is a row whose envelope does not open any more: it cannot be
//! sealed anew, so it keeps its version and is only said to have failed (`background.rs`).

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

/// What a rotation keeps sealed.
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

    /// The row with what it keeps while it is open, sealed.
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

    /// What an open rotation keeps.
    pub(super) async fn open(&self, record: &RotationRecord) -> Result<Contents, BrokerError> {
        let sealed = record.sealed_password.as_deref().ok_or_else(|| over(record.state))?;
        self.core.keyring.open_sealed(&place_of(record), sealed, read).await
    }

    /// Replaces a row by its successor, which `change` makes out of it; `contents` is what it keeps
    /// while it is open. `None` when somebody else was first.
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

    /// Gives a rotation up and erases what it keeps, which need not open for that. `None` when
    /// somebody else was first.
    pub(super) async fn abandon(&self, before: &RotationRecord) -> Result<Option<RotationRecord>, BrokerError> {
        let record = self.changed(before, |record| end(record, RotationState::Abandoned));
        let updated = self.core.storage.update_rotation(&record, before.version).await?;
        self.forget_item(&record).await;
        Ok(updated.then_some(record))
    }

    /// The successor of a row, not yet stored, without what it keeps.
    pub(super) fn changed(&self, before: &RotationRecord, change: impl FnOnce(&mut RotationRecord)) -> RotationRecord {
        let mut record = RotationRecord { sealed_password: None, ..before.clone() };
        change(&mut record);
        record.version = before.version + 1;
        record.updated_at = self.core.timestamp();
        if record.state != RotationState::Committing {
            (record.attempt_until, record.next_attempt_at) = (None, None);
        }
        if record.state != RotationState::WriteBackFailed {
            record.failed_settings = None;
        }
        record
    }

    /// The password that the site has and the item has not yet, and its rotation; `None` when they
    /// have the same.
    pub(crate) async fn password_ahead<'a>(
        &self,
        state: Option<&'a ItemState>,
    ) -> Result<Option<(&'a RotationRecord, SecretString)>, BrokerError> {
        let Some(rotation) = state.and_then(|state| state.ahead.as_ref()) else { return Ok(None) };
        Ok(Some((rotation, self.open(rotation).await?.password)))
    }

    /// The next resolve asks the database how the item is; what was cached of an item that was
    /// written is wiped.
    pub(super) async fn forget_item(&self, record: &RotationRecord) {
        let item = record.item();
        self.items.forget(record.workspace_id, &item);
        if record.secret_ref.is_none() || !record.state.outdates_the_item() {
            return;
        }
        // That it is not used again is the generation's doing; so a database that does not say is
        // no reason to fail.
        let _ = self.items.wipe(record.workspace_id, &item).await;
    }
}

/// The error for a rotation that keeps nothing any more.
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
