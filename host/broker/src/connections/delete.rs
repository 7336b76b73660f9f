//! Deleting a connection.
//!
//! **Invariant:** the connection of a bound entry exists. The database enforces it by the foreign
//! key of the entries: of a deletion and a binding that race, one is refused. A deletion clears
//! memory at once: the open connection with its settings, its login session, and the cached
//! secrets. A running call keeps its connection until it ends; its result is not cached
//! ([`SecretCache::close_connection`]).
//!
//! Other processes (the command line beside a server) are not notified. They see within a second
//! that the connection is gone, and what they hold of it in memory expires there.
//!
//! [`SecretCache::close_connection`]: crate::cache::SecretCache::close_connection

use keyway_audit::{Operation, Trail};
use keyway_storage::{ConnectionId, Constraint, StorageError};
use tracing::info;

use super::Connections;
use crate::access::Access;
use crate::error::{BrokerError, Thing};

/// How many of the entries that prevent a deletion are listed: enough to work through, and an
/// answer of bounded size.
pub(crate) const DEPENDENTS_TOLD: u32 = 100;

/// How often a deletion is attempted when the entries that prevent it are gone a moment later.
const ATTEMPTS: usize = 3;

impl Connections {
    /// Deletes a connection that no entry is bound to, in the database and in memory. Needs
    /// [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// Nothing changes in the secret manager: to invalidate the credentials, revoke them there.
    ///
    /// # Errors
    /// [`BrokerError::ConnectionInUse`] with the entries that are bound to it,
    /// [`BrokerError::NotFound`].
    pub async fn delete(&self, access: &Access, id: ConnectionId) -> Result<(), BrokerError> {
        let trail = Trail::connection(id);
        self.core.audited(access, Operation::DeleteConnection, &trail, self.remove(access, id, &trail)).await
    }

    async fn remove(&self, access: &Access, id: ConnectionId, trail: &Trail) -> Result<(), BrokerError> {
        let workspace = access.workspace();
        match self.core.storage.connection(workspace, id).await {
            // A damaged one can be deleted, too.
            Ok(Some(_)) | Err(StorageError::Damaged { .. }) => {}
            Ok(None) => return Err(BrokerError::NotFound(Thing::Connection)),
            Err(error) => return Err(error.into()),
        }
        self.require_unused(access, id).await?;
        trail.begin().await?;
        for _ in 0..ATTEMPTS {
            match self.core.storage.delete_connection(workspace, id).await {
                Ok(true) => {
                    self.forget(access, id);
                    info!(connection = %id, "connection deleted");
                    return Ok(());
                }
                Ok(false) => return Err(BrokerError::NotFound(Thing::Connection)),
                // Unless they were unbound or deleted meanwhile.
                Err(StorageError::Conflict(Constraint::Reference)) => self.require_unused(access, id).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(BrokerError::Changed(Thing::Connection))
    }

    /// Refuses while entries are bound to it.
    async fn require_unused(&self, access: &Access, id: ConnectionId) -> Result<(), BrokerError> {
        let dependents = self.core.storage.entries_of_connection(access.workspace(), id, DEPENDENTS_TOLD).await?;
        if dependents.total > 0 { Err(BrokerError::ConnectionInUse(dependents)) } else { Ok(()) }
    }

    fn forget(&self, access: &Access, id: ConnectionId) {
        // First, so that a concurrent opening either sees it or is invalidated below.
        self.cache.close_connection(id);
        self.records.forget(&(access.workspace(), id));
        for (key, (connection, _)) in &self.opened {
            if key.0 == id {
                connection.clear_session();
                self.opened.invalidate(&*key);
            }
        }
    }
}
