//! What resolving needs of a vault entry: so much of its row is kept in memory, and no more. A row takes three times as much
//! without its attributes, which may be megabytes.

use super::sealed::binding_of;
use super::{Binding, TfaMethod};
use crate::id::{EntryId, WorkspaceId};
use crate::storage::EntryRecord;

/// An entry without what only its readers want to know.
pub(crate) struct ResolvableEntry {
    pub(crate) id: EntryId,
    pub(crate) workspace_id: WorkspaceId,
    pub(crate) tfa_method: Option<TfaMethod>,
    /// The row's version.
    pub(crate) version: u64,
    pub(crate) binding: Option<Binding>,
    /// Envelope with the credentials of an entry that is not bound.
    sealed_credentials: Option<Box<[u8]>>,
}

impl From<EntryRecord> for ResolvableEntry {
    fn from(record: EntryRecord) -> Self {
        Self {
            id: record.id,
            workspace_id: record.workspace_id,
            tfa_method: record.tfa_method,
            version: record.version,
            binding: binding_of(&record),
            sealed_credentials: record.sealed_credentials.map(Vec::into_boxed_slice),
        }
    }
}

/// An envelope with credentials, and where it is from.
pub(crate) struct SealedCredentials<'a> {
    pub(super) workspace: WorkspaceId,
    pub(super) entry: EntryId,
    pub(super) version: u64,
    pub(super) envelope: Option<&'a [u8]>,
}

impl<'a> From<&'a ResolvableEntry> for SealedCredentials<'a> {
    fn from(entry: &'a ResolvableEntry) -> Self {
        Self {
            workspace: entry.workspace_id,
            entry: entry.id,
            version: entry.version,
            envelope: entry.sealed_credentials.as_deref(),
        }
    }
}

impl<'a> From<&'a EntryRecord> for SealedCredentials<'a> {
    fn from(record: &'a EntryRecord) -> Self {
        Self {
            workspace: record.workspace_id,
            entry: record.id,
            version: record.version,
            envelope: record.sealed_credentials.as_deref(),
        }
    }
}
