//! The part of a vault entry that resolving needs. Only this part of its row is kept in memory: the
//! whole row is three times as large even without its attributes, which may be megabytes.

use std::mem::size_of;
use std::sync::Arc;

use keyway_storage::{ConnectionId, EntryId, EntryRecord, EntrySelector, TfaMethod, WorkspaceId};

use super::Binding;
use crate::cache_ttl::CacheTtl;

/// The part of an entry that resolving needs.
pub(crate) struct ResolvableEntry {
    pub(crate) id: EntryId,
    pub(crate) workspace_id: WorkspaceId,
    pub(crate) tfa_method: Option<TfaMethod>,
    /// The row's version.
    pub(crate) version: u64,
    pub(crate) binding: Option<BoundItem>,
    /// The envelope with the credentials of an entry that is not bound.
    pub(super) sealed_credentials: Option<Box<[u8]>>,
}

/// The item that an entry is bound to. Its reference is in memory once: cached values share it as
/// their key.
#[derive(Clone)]
pub(crate) struct BoundItem {
    pub(crate) connection_id: ConnectionId,
    pub(crate) reference: Arc<str>,
    pub(crate) cache_ttl: Option<CacheTtl>,
}

/// The bytes that a bound entry takes in memory, with its selector and its place in the cache; most
/// take two thirds of it.
pub(crate) const ORDINARY_BYTES: u64 = 512;

impl ResolvableEntry {
    /// The approximate number of bytes that an entry takes in the cache. Its own credentials may be
    /// 500 times as large as the rest.
    pub(crate) fn weight(selector: &(WorkspaceId, EntrySelector), entry: &Arc<Self>) -> u64 {
        // The cache's share: a hash, two links, and a slot in its table.
        const PLACE: usize = 48;
        let fixed = size_of::<(WorkspaceId, EntrySelector)>() + 2 * size_of::<usize>() + size_of::<Self>() + PLACE;
        let name = match &selector.1 {
            EntrySelector::Id(_) => 0,
            EntrySelector::Pair { user, domain } => user.len() + domain.len(),
        };
        let reference = entry.binding.as_ref().map_or(0, |binding| binding.reference.len());
        let credentials = entry.sealed_credentials.as_ref().map_or(0, |sealed| sealed.len());
        (fixed + name + reference + credentials) as u64
    }
}

impl From<EntryRecord> for ResolvableEntry {
    fn from(record: EntryRecord) -> Self {
        Self {
            id: record.id,
            workspace_id: record.workspace_id,
            tfa_method: record.tfa_method,
            version: record.version,
            binding: Binding::of(&record).map(|binding| BoundItem {
                connection_id: binding.connection_id,
                reference: binding.reference.into(),
                cache_ttl: binding.cache_ttl,
            }),
            sealed_credentials: record.sealed_credentials.map(Vec::into_boxed_slice),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn entry(binding: Option<BoundItem>, credentials: usize) -> Arc<ResolvableEntry> {
        Arc::new(ResolvableEntry {
            id: EntryId::generate(),
            workspace_id: WorkspaceId::generate(),
            tfa_method: None,
            version: 1,
            binding,
            sealed_credentials: (credentials > 0).then(|| vec![0; credentials].into()),
        })
    }

    #[test]
    fn a_bound_entry_is_ordinary_and_large_credentials_weigh_what_they_are() {
        let binding = BoundItem {
            connection_id: ConnectionId::generate(),
            reference: "op://abcdefghijklmnopqrstuvwxyz/abcdefghijklmnopqrstuvwxyz".into(),
            cache_ttl: None,
        };
        let pair = EntrySelector::Pair {
            user: "somebody.with.a.name@acme.example".into(),
            domain: "https://portal.acme.example/login".into(),
        };
        let selector = (WorkspaceId::generate(), pair);
        let bound = ResolvableEntry::weight(&selector, &entry(Some(binding), 0));
        assert!((200..=ORDINARY_BYTES).contains(&bound), "{bound}");
        let large = ResolvableEntry::weight(&selector, &entry(None, 192 << 10));
        assert!(large > 192 << 10, "{large}");
    }
}
