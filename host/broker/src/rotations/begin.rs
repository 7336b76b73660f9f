//! Beginning a rotation. All checks that can fail before the site is changed are made here.

use std::future::ready;
use std::sync::Arc;

use keyway_audit::{AuditActor, Operation, Shortfall, Trail};
use keyway_budget::ProviderOperation;
use keyway_runtime::contract::WriteAccess;
use keyway_storage::{ConnectionRecord, EntryRecord, RotationId, RotationRecord, RotationState, Scope};
use secrecy::{ExposeSecret, SecretString};
use tracing::info;

use super::journal::{Contents, Fingerprint, same};
use super::{BeginRotation, BegunRotation, NewPassword, Rotations, item, not_in, refused};
use crate::access::Access;
use crate::entries::Binding;
use crate::error::{BrokerError, InvalidInput, Thing};
use crate::keyring::WorkspaceKeys;
use crate::text::required;

/// Longer than any site allows.
const PASSWORD_LIMIT: usize = 1_024;

/// The current password, and the revision of its item; an entry's own credentials are recognised by
/// the password alone.
type Current = (Option<SecretString>, Option<String>);

/// Why a rotation is not begun.
struct Skip {
    reason: &'static str,
    message: String,
}

impl Skip {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl Rotations {
    /// Begins to rotate an entry's password. Needs [`Scope::Rotate`].
    ///
    /// The provider is asked whether it can write this very item. If not, the rotation is
    /// [skipped](RotationState::Skipped) with the reason, and the site must not be changed. Else
    /// the new password is stored before it is returned: set it on the site, then
    /// [`commit`](Self::commit), or [`abandon`](Self::abandon) if the site did not take it.
    ///
    /// Dropping the future may leave a prepared rotation, which never expires because the site may
    /// have its password. With an [id](BeginRotation::id), beginning again returns it while it is
    /// prepared; without one, the list of rotations shows it. The password comes again only to the
    /// same API key (or operator), or with [`Scope::Admin`].
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::RotationOpen`], [`BrokerError::Invalid`],
    /// [`BrokerError::Changed`] when the entry was changed concurrently, and the errors of the
    /// provider; none of them leaves a rotation. [`BrokerError::RotationState`] when the rotation
    /// with this id is no longer prepared. After [`BrokerError::Audit`] there may be a prepared
    /// rotation, as after dropping the future.
    pub async fn begin(&self, access: &Access, begin: BeginRotation) -> Result<BegunRotation, BrokerError> {
        if begin.id.is_some_and(|id| id.as_uuid().is_nil()) {
            // Lists begin after it.
            return Err(InvalidInput::RotationId.into());
        }
        let id = begin.id.unwrap_or_else(RotationId::generate);
        let trail = Trail::selected(&begin.entry);
        trail.note(|subject| subject.rotation = Some(id));
        self.core
            .audited(access, Operation::BeginRotation, &trail, self.prepare_or_skip(access, id, begin, &trail))
            .await
    }

    async fn prepare_or_skip(
        &self,
        access: &Access,
        id: RotationId,
        begin: BeginRotation,
        trail: &Trail,
    ) -> Result<BegunRotation, BrokerError> {
        let password = self.new_password(access, begin.password).await?;
        self.core.hold_keys(access.workspace()).await?;
        let entry = self.core.storage.entry(access.workspace(), &begin.entry).await?;
        let entry = entry.ok_or(BrokerError::NotFound(Thing::Entry))?;
        trail.note(|subject| subject.entry = Some(entry.id));
        if begin.id.is_some()
            && let Some(begun) = self.core.storage.rotation(access.workspace(), id).await?
        {
            return self.begun_before(access, begun, &entry, trail).await;
        }
        let mut record = self.new_rotation(access, id, &entry);
        let bound = match Binding::of(&entry) {
            Some(Binding { connection_id, reference, .. }) => {
                trail.note(|subject| subject.bound_to(connection_id, &reference));
                let connection = self.connections.record(access.workspace(), connection_id).await?;
                record.account_id = Some(connection.account_id.clone());
                Some((connection, reference))
            }
            None => None,
        };
        // A cheap check before the provider is called; the constraint at the end decides.
        if self.core.storage.open_rotation_of_item(access.workspace(), &record.item()).await?.is_some() {
            return Err(BrokerError::RotationOpen);
        }
        let current = match bound {
            Some((connection, reference)) => self.current_item(&connection, &reference, trail).await?,
            None => self.current_own(&entry).await?,
        };
        let none = || Skip::new("no_password", "there is no password to rotate; store one in the item or entry first");
        let current = current.and_then(|(password, revision)| Ok((password.ok_or_else(none)?, revision)));
        match current {
            Err(skip) => {
                record.reason = Some(skip.reason.into());
                record.message = Some(skip.message);
                trail.begin().await?;
                self.insert(&record, &entry).await?;
                trail.fell_short(Shortfall::Skipped);
                info!(rotation = %record.id, entry = %entry.id, reason = skip.reason, "password rotation skipped");
                Ok(BegunRotation { rotation: record.into(), password: None })
            }
            Ok((old, revision)) => {
                if same(&old, &password) {
                    return Err(InvalidInput::SamePassword.into());
                }
                trail.begin().await?;
                record.state = RotationState::Prepared;
                record.expected_revision = revision;
                let contents = Contents { replaces: Fingerprint::of(&old)?, password };
                let (prepared, entry, kept) = (&record, &entry, &contents);
                let insert = |keys: Arc<WorkspaceKeys>| async move {
                    let sealed = self.journal.sealed(&keys, prepared.clone(), kept).await?;
                    self.insert(&sealed, entry).await
                };
                self.core.keyring.with_current(access.workspace(), insert).await?;
                trail.note(|subject| subject.released_new_password());
                info!(rotation = %record.id, entry = %entry.id, "password rotation prepared");
                Ok(BegunRotation { rotation: record.into(), password: Some(contents.password) })
            }
        }
    }

    /// Returns the rotation that an earlier call with the same id has begun. Its password goes only
    /// to the caller that began it, and to those who may reveal passwords of rotations anyway.
    async fn begun_before(
        &self,
        access: &Access,
        record: RotationRecord,
        entry: &EntryRecord,
        trail: &Trail,
    ) -> Result<BegunRotation, BrokerError> {
        if record.entry_id != entry.id {
            return Err(InvalidInput::RotationId.into());
        }
        if record.begun_by != Some(begun_by(access)) {
            access.require(Scope::Admin)?;
        }
        let password = match record.state {
            RotationState::Prepared => Some(self.journal.open(&record).await?.password),
            RotationState::Skipped => None,
            state => return Err(not_in(state, "its id is already in use; choose a new one for another rotation")),
        };
        match password {
            Some(_) => trail.note(|subject| subject.released_new_password()),
            None => trail.fell_short(Shortfall::Skipped),
        }
        Ok(BegunRotation { rotation: record.into(), password })
    }

    async fn new_password(&self, access: &Access, password: NewPassword) -> Result<SecretString, BrokerError> {
        let given = match password {
            NewPassword::Generated(policy) => return policy.generate(),
            NewPassword::Given(password) => password,
            NewPassword::Encrypted(ciphertext) => {
                let decrypt = |keys: Arc<WorkspaceKeys>| {
                    let decrypted = keys.client().decrypt(&ciphertext);
                    ready(decrypted.map_err(|error| BrokerError::of_client_value("password", error)))
                };
                let decrypted = self.core.keyring.with_current(access.workspace(), decrypt).await?;
                decrypted.ok_or(InvalidInput::Required { field: "password" })?
            }
        };
        required("password", given.expose_secret(), PASSWORD_LIMIT)?;
        Ok(given)
    }

    fn new_rotation(&self, access: &Access, id: RotationId, entry: &EntryRecord) -> RotationRecord {
        let now = self.core.timestamp();
        RotationRecord {
            id,
            workspace_id: entry.workspace_id,
            entry_id: entry.id,
            connection_id: entry.connection_id,
            secret_ref: entry.secret_ref.clone(),
            account_id: None,
            begun_by: Some(begun_by(access)),
            state: RotationState::Skipped,
            reason: None,
            message: None,
            sealed_password: None,
            expected_revision: None,
            attempts: 0,
            attempt_until: None,
            next_attempt_at: None,
            failed_settings: None,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    async fn insert(&self, record: &RotationRecord, entry: &EntryRecord) -> Result<(), BrokerError> {
        if self.core.storage.insert_rotation(record, entry.version).await.map_err(refused)? {
            Ok(())
        } else {
            Err(BrokerError::Changed(Thing::Entry))
        }
    }

    /// Checks that the item can be written, then reads it.
    async fn current_item(
        &self,
        connection: &ConnectionRecord,
        reference: &str,
        trail: &Trail,
    ) -> Result<Result<Current, Skip>, BrokerError> {
        let opened = self.connections.open(connection).await?.changing(trail);
        let description = opened.description();
        if !description.capabilities.write {
            let name = &description.display_name;
            let message = format!("the provider {name} cannot write passwords; update the password manually");
            return Ok(Err(Skip::new("provider_cannot_write", message)));
        }
        match item::check_write_access(&opened, reference).await? {
            WriteAccess::Granted => {}
            WriteAccess::Denied(reason) => {
                let message = format!(
                    "password rotation was skipped and nothing was changed, because the connection cannot write this item. {reason} Then begin again, or update the password manually"
                );
                return Ok(Err(Skip::new("read_only", message)));
            }
        }
        let (password, revision) = item::read_password(&opened, reference, ProviderOperation::Resolve).await?;
        Ok(Ok((password, Some(revision))))
    }

    async fn current_own(&self, entry: &EntryRecord) -> Result<Result<Current, Skip>, BrokerError> {
        if entry.passkey {
            return Ok(Err(Skip::new("passkey", "the vault entry uses a passkey, and passkeys are not rotated")));
        }
        Ok(Ok((self.own_password(entry).await?, None)))
    }
}

/// The caller, as a rotation keeps it.
fn begun_by(access: &Access) -> String {
    match access.actor() {
        AuditActor::ApiKey { id, .. } => id.to_string(),
        actor => actor.name().to_owned(),
    }
}
