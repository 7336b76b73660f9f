//! What the broker has in memory about items: what was resolved of them, and what their rotations
//! say about them.

use std::sync::Arc;

use keyway_storage::{ItemId, RecordCache, RotationRecord, StorageError, WorkspaceId};

use crate::cache::{ItemKey, SecretCache};
use crate::core::Core;
use crate::error::BrokerError;

/// What a resolve has to know about an item besides its entry and connection.
pub(crate) struct ItemState {
    /// Greater after each time that what was cached of it counts no more.
    pub(crate) generation: u64,
    /// The rotation whose password the site has and the item has not, if there is one.
    pub(crate) ahead: Option<RotationRecord>,
}

/// The items of all workspaces.
pub(crate) struct Items {
    pub(crate) core: Arc<Core>,
    pub(crate) cache: Arc<SecretCache>,
    pub(crate) states: RecordCache<(WorkspaceId, ItemId), Option<Arc<ItemState>>>,
}

impl Items {
    /// What a resolve has to know of an item, from memory if it was read a moment ago; nothing of
    /// an item to which nothing has happened, as to nearly all.
    pub(crate) async fn state(
        &self,
        workspace: WorkspaceId,
        item: &ItemId,
    ) -> Result<Option<Arc<ItemState>>, BrokerError> {
        self.core.hold_keys(workspace).await?;
        let load = async {
            let (generation, ahead) = self.core.storage.item_state(workspace, item).await?;
            let state = (generation > 0 || ahead.is_some()).then(|| Arc::new(ItemState { generation, ahead }));
            Ok::<_, BrokerError>(Some(state))
        };
        Ok(self.states.get_or_load(&(workspace, item.clone()), load).await?.flatten())
    }

    /// The next resolve asks the database how the item is.
    pub(crate) fn forget(&self, workspace: WorkspaceId, item: &ItemId) {
        self.states.forget(&(workspace, item.clone()));
    }

    /// Wipes what is cached of an item, over all connections of the workspace.
    pub(crate) async fn wipe(&self, workspace: WorkspaceId, item: &ItemId) -> Result<(), StorageError> {
        for connection in self.core.storage.connections_of_item(workspace, item).await? {
            self.cache.drop_item(&ItemKey { connection, reference: item.reference.clone() });
        }
        Ok(())
    }
}
