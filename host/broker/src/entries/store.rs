//! The rows of vault entries: what resolving needs of them is kept in memory.

use std::sync::Arc;

use keyway_storage::{EntryRecord, EntrySelector, RecordCache, WorkspaceId};

use super::resolvable::ResolvableEntry;
use crate::core::Core;
use crate::error::{BrokerError, Thing};

/// The stored entries of all workspaces. Sealing and opening them is in `sealed.rs`.
pub(crate) struct EntryStore {
    pub(crate) core: Arc<Core>,
    pub(crate) resolvable: RecordCache<(WorkspaceId, EntrySelector), Arc<ResolvableEntry>>,
}

impl EntryStore {
    /// The part of an entry that resolving needs, from memory if it was read before and has not
    /// changed since.
    pub(crate) async fn resolvable(
        &self,
        workspace: WorkspaceId,
        entry: &EntrySelector,
    ) -> Result<Arc<ResolvableEntry>, BrokerError> {
        let selector = (workspace, entry.clone());
        let load = async {
            self.core.hold_keys(workspace).await?;
            let record = self.core.storage.entry(workspace, entry).await?;
            Ok::<_, BrokerError>(record.map(|record| Arc::new(record.into())))
        };
        let record = self.resolvable.get_or_load(&selector, load).await?;
        record.ok_or(BrokerError::NotFound(Thing::Entry))
    }

    /// Forgets an entry: the next reader reads it from the database.
    pub(crate) fn forget(&self, record: &EntryRecord) {
        for selector in [EntrySelector::Id(record.id), pair_of(record)] {
            self.resolvable.forget(&(record.workspace_id, selector));
        }
    }

    /// The same for one of its selectors, which may be a former one.
    pub(super) fn forget_selector(&self, workspace: WorkspaceId, selector: EntrySelector) {
        self.resolvable.forget(&(workspace, selector));
    }
}

/// An entry's other selector: its pair of user and domain.
pub(super) fn pair_of(record: &EntryRecord) -> EntrySelector {
    EntrySelector::Pair { user: record.user.clone(), domain: record.domain.clone() }
}
