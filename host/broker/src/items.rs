//! The broker's memory of items: their cached values, and their state from rotations.

use std::sync::Arc;

use keyway_storage::{ItemId, RecordCache, RotationRecord, StorageError, WorkspaceId};

use crate::cache::{ItemKey, SecretCache};
use crate::core::Core;
use crate::error::BrokerError;

/// The state of an item that a resolve needs besides its entry and connection.
pub(crate) struct ItemState {
    /// Grows whenever its cached values become outdated.
    pub(crate) generation: u64,
    /// The rotation whose password the site has and the item does not, if there is one.
    pub(crate) ahead: Option<RotationRecord>,
}

/// The items of all workspaces.
pub(crate) struct Items {
    pub(crate) core: Arc<Core>,
    pub(crate) cache: Arc<SecretCache>,
    pub(crate) states: RecordCache<(WorkspaceId, ItemId), Option<Arc<ItemState>>>,
}

impl Items {
    /// The state of an item, from memory if it was read recently; `None` for an item without any
    /// such state, like nearly all.
    pub(crate) async fn state(
        &self,
        workspace: WorkspaceId,
        item: &ItemId,
    ) -> Result<Option<Arc<ItemState>>, BrokerError> {
        let load = async {
            self.core.hold_keys(workspace).await?;
            let (generation, ahead) = self.core.storage.item_state(workspace, item).await?;
            let state = (generation > 0 || ahead.is_some()).then(|| Arc::new(ItemState { generation, ahead }));
            Ok::<_, BrokerError>(Some(state))
        };
        Ok(self.states.get_or_load(&(workspace, item.clone()), load).await?.flatten())
    }

    /// Forgets the state of an item: the next resolve reads it from the database.
    pub(crate) fn forget(&self, workspace: WorkspaceId, item: &ItemId) {
        self.states.forget(&(workspace, item.clone()));
    }

    /// Wipes the cached values of an item, for all connections of the workspace.
    pub(crate) async fn wipe(&self, workspace: WorkspaceId, item: &ItemId) -> Result<(), StorageError> {
        for connection in self.core.storage.connections_of_item(workspace, item).await? {
            self.cache.drop_item(&ItemKey { connection, reference: item.reference.clone() });
        }
        Ok(())
    }
}
