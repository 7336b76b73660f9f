//! Creating and reading vault entries.

use super::{Binding, CredentialSource, Credentials, EntryPage, NewEntry, VaultEntry};
use crate::api_key::{Access, Scope};
use crate::broker::Broker;
use crate::cache_ttl::CacheTtl;
use crate::codec::{self, CodecError, Decoder};
use crate::envelope::{EnvelopeError, Place};
use crate::error::{BrokerError, InvalidInput, Thing};
use crate::id::{EntryId, WorkspaceId};
use crate::storage::{Constraint, EntryRecord, EntrySelector, StorageError};

/// How many entries a page of [`Broker::list_entries`] has at most.
pub const ENTRIES_PER_PAGE: u32 = 1_000;

impl Broker {
    /// Creates a vault entry. Needs [`Scope::Api`].
    ///
    /// Whether the bound item exists is not asked, so that entries can be created in bulk, and while the provider
    /// cannot be reached.
    ///
    /// # Errors
    /// [`BrokerError::Invalid`] with the rule that is broken, [`BrokerError::NotEncrypted`],
    /// [`BrokerError::EntryExists`].
    pub async fn create_entry(&self, access: &Access, new: NewEntry) -> Result<VaultEntry, BrokerError> {
        access.require(Scope::Api)?;
        let keys = self.keyring().get(access.workspace()).await?;
        let new = new.check(keys.client())?;
        if let CredentialSource::Bound(binding) = &new.credentials {
            self.check_binding(access, binding).await?;
        }
        let now = self.timestamp();
        let entry = VaultEntry {
            id: EntryId::generate(),
            workspace_id: access.workspace(),
            permissioned_user_id: new.permissioned_user_id,
            domain: new.domain,
            user_alias: new.user_alias,
            tfa_method: new.tfa_method,
            credentials: new.credentials,
            created_at: now,
            updated_at: now,
        };
        let record = self.seal_entry(&entry, 1).await?;
        self.storage().insert_entry(&record).await.map_err(|error| match error {
            StorageError::Conflict(Constraint::Unique) => BrokerError::EntryExists,
            StorageError::Conflict(Constraint::Reference) => InvalidInput::UnknownConnection.into(),
            error => error.into(),
        })?;
        Ok(entry)
    }

    /// A vault entry. Needs [`Scope::Api`].
    ///
    /// # Errors
    /// [`BrokerError::NotFound`].
    pub async fn get_entry(&self, access: &Access, entry: &EntrySelector) -> Result<VaultEntry, BrokerError> {
        access.require(Scope::Api)?;
        let record = self.storage().entry(access.workspace(), entry).await?;
        self.open_entry(record.ok_or(BrokerError::NotFound(Thing::Entry))?).await
    }

    /// A page of a workspace's entries: those after `after`, at most [`ENTRIES_PER_PAGE`]. Needs [`Scope::Api`].
    ///
    /// # Errors
    /// Only those of the host itself.
    pub async fn list_entries(&self, access: &Access, after: Option<EntryId>) -> Result<EntryPage, BrokerError> {
        access.require(Scope::Api)?;
        let records = self.storage().entries(access.workspace(), after, ENTRIES_PER_PAGE).await?;
        let next = if records.len() == ENTRIES_PER_PAGE as usize { records.last().map(|entry| entry.id) } else { None };
        let mut entries = Vec::with_capacity(records.len());
        for record in records {
            entries.push(self.open_entry(record).await?);
        }
        Ok(EntryPage { entries, next })
    }

    /// The connection is there, and the reference looks like one of its provider's.
    async fn check_binding(&self, access: &Access, binding: &Binding) -> Result<(), BrokerError> {
        let connection = match self.connection_record(access.workspace(), binding.connection_id).await {
            Err(BrokerError::NotFound(_)) => return Err(InvalidInput::UnknownConnection.into()),
            connection => connection?,
        };
        if let Some(provider) = self.providers().get(&connection.provider_type) {
            let description = provider.description();
            if !has_form(&binding.reference, &description.reference_scheme, &description.reference_format) {
                return Err(InvalidInput::Reference { expected: description.reference_format.clone() }.into());
            }
        }
        Ok(())
    }

    async fn seal_entry(&self, entry: &VaultEntry, version: u64) -> Result<EntryRecord, BrokerError> {
        let (binding, sealed_credentials) = match &entry.credentials {
            CredentialSource::Bound(binding) => (Some(binding), None),
            CredentialSource::Own(own) if own.is_empty() => (None, None),
            CredentialSource::Own(own) => {
                let fields =
                    [&own.user_name, &own.password, &own.tfa_secret].map(|field| field.as_deref().map(str::as_bytes));
                let plaintext = codec::encode(&fields).map_err(|_| EnvelopeError::TooLarge)?;
                let id = entry.id.as_uuid();
                let place = credentials_place(entry.workspace_id, id.as_bytes(), version);
                (None, Some(self.keyring().seal(&place, &plaintext).await?))
            }
        };
        Ok(EntryRecord {
            id: entry.id,
            workspace_id: entry.workspace_id,
            permissioned_user_id: entry.permissioned_user_id.clone(),
            domain: entry.domain.clone(),
            user_alias: entry.user_alias.clone(),
            tfa_method: entry.tfa_method,
            connection_id: binding.map(|binding| binding.connection_id),
            secret_ref: binding.map(|binding| binding.reference.clone()),
            cache_ttl_seconds: binding.and_then(|binding| binding.cache_ttl).map(CacheTtl::seconds),
            sealed_credentials,
            version,
            created_at: entry.created_at,
            updated_at: entry.updated_at,
        })
    }

    async fn open_entry(&self, record: EntryRecord) -> Result<VaultEntry, BrokerError> {
        let credentials = match (binding_of(&record), &record.sealed_credentials) {
            (Some(binding), _) => CredentialSource::Bound(binding),
            (None, None) => CredentialSource::Own(Credentials::default()),
            (None, Some(sealed)) => {
                let id = record.id.as_uuid();
                let place = credentials_place(record.workspace_id, id.as_bytes(), record.version);
                CredentialSource::Own(self.keyring().open_sealed(&place, sealed, read_credentials).await?)
            }
        };
        Ok(VaultEntry {
            id: record.id,
            workspace_id: record.workspace_id,
            permissioned_user_id: record.permissioned_user_id,
            domain: record.domain,
            user_alias: record.user_alias,
            tfa_method: record.tfa_method,
            credentials,
            created_at: record.created_at,
            updated_at: record.updated_at,
        })
    }
}

/// An entry's binding, if it has one.
pub(crate) fn binding_of(record: &EntryRecord) -> Option<Binding> {
    let (connection_id, reference) = record.connection_id.zip(record.secret_ref.clone())?;
    Some(Binding { connection_id, reference, cache_ttl: record.cache_ttl_seconds.map(CacheTtl::from_seconds) })
}

fn credentials_place(workspace: WorkspaceId, row: &[u8], version: u64) -> Place<'_> {
    Place { workspace, table: "vault_entries", row, column: "sealed_credentials", version }
}

fn read_credentials(plaintext: &[u8]) -> Result<Credentials, CodecError> {
    let mut fields = Decoder::new(plaintext)?;
    let mut next = || fields.optional_text().map(|text| text.map(str::to_owned));
    let credentials = Credentials { user_name: next()?, password: next()?, tfa_secret: next()? };
    fields.finish()?;
    Ok(credentials)
}

/// Whether a text can be a reference at all: the scheme, and as many parts as the provider's own description has, none of them empty. Whether there is such
/// an item only the provider can tell, and binding must not depend on its being reachable.
fn has_form(reference: &str, scheme: &str, format: &str) -> bool {
    let parts = |text: &str| {
        let rest = text.strip_prefix(scheme)?.strip_prefix("://")?;
        rest.split('/').all(|part| !part.is_empty()).then(|| rest.split('/').count())
    };
    // A format that is no reference itself says nothing about the parts.
    parts(reference).is_some_and(|count| parts(format).is_none_or(|expected| count == expected))
}

#[cfg(test)]
mod tests {
    use super::has_form;

    #[test]
    fn a_reference_has_the_parts_that_its_provider_describes() {
        let is_one = |text| has_form(text, "op", "op://<vaultId>/<itemId>");
        assert!(is_one("op://vault/item"));
        for text in
            ["", "op", "op://", "op://vault", "op://vault/", "op:///item", "op://a/b/c", "vault/item", "opx://a/b"]
        {
            assert!(!is_one(text), "{text}");
        }
        assert!(has_form("kv://a/b/c", "kv", "see the manual"));
    }
}
