//! Converting between a vault entry and its row: credentials and attributes are sealed, each bound
//! to its row and version.

use std::sync::Arc;

use keyway_keys::{EnvelopeError, term_of};
use keyway_storage::{EntryId, EntryRecord, SealedColumn, WorkspaceId};
use tracing::error;
use zeroize::Zeroizing;

use super::store::EntryStore;
use super::{Attributes, Binding, CredentialSource, Credentials, EntryContent, VaultEntry};
use crate::cache_ttl::CacheTtl;
use crate::codec::{self, CodecError};
use crate::error::BrokerError;
use crate::keyring::{WorkspaceKeys, place};

impl EntryStore {
    /// Seals the entry as version `version` of its row. `keys` must be those that its credentials
    /// were checked with.
    pub(crate) async fn seal(
        &self,
        keys: &WorkspaceKeys,
        entry: &VaultEntry,
        version: u64,
    ) -> Result<EntryRecord, BrokerError> {
        let binding = entry.binding();
        let mut record = EntryRecord {
            id: entry.id,
            workspace_id: entry.workspace_id,
            user: entry.user.clone(),
            domain: entry.domain.clone(),
            alias: entry.alias.clone(),
            tfa_method: entry.tfa_method,
            passkey: entry.passkey,
            connection_id: binding.map(|binding| binding.connection_id),
            secret_ref: binding.map(|binding| binding.reference.clone()),
            cache_ttl_seconds: binding.and_then(|binding| binding.cache_ttl).map(CacheTtl::seconds),
            sealed_credentials: None,
            sealed_attributes: None,
            session_data_set_at: entry.session_data_set_at,
            version,
            created_at: entry.created_at,
            updated_at: entry.updated_at,
        };
        if let Some(own) = entry.own_credentials().filter(|own| !own.is_empty()) {
            let plaintext = codec::encode(&own.fields().map(|(_, value)| value.as_deref().map(str::as_bytes)));
            record.sealed_credentials =
                Some(self.seal_column(keys, &record, SealedColumn::EntryCredentials, plaintext).await?);
        }
        if entry.attributes != Attributes::default() {
            let plaintext = entry.attributes.encode();
            record.sealed_attributes =
                Some(self.seal_column(keys, &record, SealedColumn::EntryAttributes, plaintext).await?);
        }
        Ok(record)
    }

    /// Opens the entry in a row.
    ///
    /// # Errors
    /// [`StorageError::Damaged`](keyway_storage::StorageError::Damaged) when it does not open.
    pub(crate) async fn open(&self, record: EntryRecord) -> Result<VaultEntry, BrokerError> {
        let id = record.id.as_uuid();
        let open = async {
            let keys = self.core.keyring.get_for(record.workspace_id, sealed_in(&record)).await?;
            Ok::<_, BrokerError>(open_entry(&keys, record)?)
        };
        open.await.map_err(|error| error.in_row(SealedColumn::EntryCredentials, id))
    }

    /// Opens the entries in rows of a workspace. All values that clients encrypted are returned
    /// under one client key, even while the workspace's key is rotated, together with its term. A
    /// damaged entry is left out and named in the log.
    pub(super) async fn open_all(
        &self,
        workspace: WorkspaceId,
        records: Vec<EntryRecord>,
    ) -> Result<(Vec<VaultEntry>, u32), BrokerError> {
        let envelopes = records.iter().flat_map(sealed_in).filter(|envelope| term_of(envelope).is_ok());
        let keys = self.core.keyring.get_for(workspace, envelopes).await?;
        let entries = records.into_iter().filter_map(|record| {
            let id = record.id;
            let opened = open_entry(&keys, record);
            opened.inspect_err(|error| error!(entry = %id, %error, "a vault entry is missing from a list")).ok()
        });
        Ok((entries.collect(), keys.current_term()))
    }

    /// The credentials of an entry that is not bound, as clients encrypt them, and the keys whose
    /// client key opens them.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) async fn open_credentials(
        &self,
        workspace: WorkspaceId,
        row: (EntryId, u64),
        sealed: Option<&[u8]>,
    ) -> Result<(Credentials, Arc<WorkspaceKeys>), BrokerError> {
        let open = async {
            let keys = self.core.keyring.get_for(workspace, sealed).await?;
            Ok::<_, BrokerError>((open_credentials(&keys, row, sealed)?, keys))
        };
        open.await.map_err(|error| error.in_row(SealedColumn::EntryCredentials, row.0.as_uuid()))
    }

    async fn seal_column(
        &self,
        keys: &WorkspaceKeys,
        record: &EntryRecord,
        column: SealedColumn,
        plaintext: Result<Zeroizing<Vec<u8>>, CodecError>,
    ) -> Result<Vec<u8>, BrokerError> {
        let plaintext = plaintext.map_err(|_| EnvelopeError::TooLarge)?;
        let place = place(record.workspace_id, column, record.id.as_bytes(), record.version);
        self.core.keyring.seal(keys, &place, &plaintext).await
    }
}

/// The sealed values of an entry.
fn sealed_in(record: &EntryRecord) -> impl Iterator<Item = &[u8]> {
    [&record.sealed_credentials, &record.sealed_attributes].into_iter().flatten().map(Vec::as_slice)
}

fn open_entry(keys: &WorkspaceKeys, record: EntryRecord) -> Result<VaultEntry, EnvelopeError> {
    let credentials = match Binding::of(&record) {
        Some(binding) => CredentialSource::Bound(binding),
        None => {
            let row = (record.id, record.version);
            CredentialSource::Own(open_credentials(keys, row, record.sealed_credentials.as_deref())?)
        }
    };
    let attributes = match &record.sealed_attributes {
        None => Attributes::default(),
        Some(sealed) => {
            let column = SealedColumn::EntryAttributes;
            let place = place(record.workspace_id, column, record.id.as_bytes(), record.version);
            keys.open(&place, sealed, Attributes::decode)?
        }
    };
    Ok(VaultEntry {
        id: record.id,
        workspace_id: record.workspace_id,
        content: EntryContent {
            user: record.user,
            domain: record.domain,
            alias: record.alias,
            tfa_method: record.tfa_method,
            passkey: record.passkey,
            credentials,
            attributes,
        },
        session_data_set_at: record.session_data_set_at,
        created_at: record.created_at,
        updated_at: record.updated_at,
    })
}

/// `row` is the entry and its version.
fn open_credentials(
    keys: &WorkspaceKeys,
    (entry, version): (EntryId, u64),
    sealed: Option<&[u8]>,
) -> Result<Credentials, EnvelopeError> {
    let Some(sealed) = sealed else { return Ok(Credentials::default()) };
    let place = place(keys.workspace(), SealedColumn::EntryCredentials, entry.as_bytes(), version);
    keys.open(&place, sealed, read_credentials)
}

fn read_credentials(plaintext: &[u8]) -> Result<Credentials, CodecError> {
    let [user_name, password, tfa_secret] = codec::decode_texts(plaintext)?[..] else { return Err(CodecError) };
    let [user_name, password, tfa_secret] = [user_name, password, tfa_secret].map(|text| text.map(str::to_owned));
    Ok(Credentials { user_name, password, tfa_secret })
}
