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
const DEPENDENTS_TOLD: u32 = 100;

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
        self.core.audited(access, Operation::DeleteConnection, &Trail::connection(id), self.remove(access, id)).await
    }

    async fn remove(&self, access: &Access, id: ConnectionId) -> Result<(), BrokerError> {
        let workspace = access.workspace();
        for _ in 0..ATTEMPTS {
            match self.core.storage.delete_connection(workspace, id).await {
                Ok(true) => {
                    self.forget(access, id);
                    info!(connection = %id, "connection deleted");
                    return Ok(());
                }
                Ok(false) => return Err(BrokerError::NotFound(Thing::Connection)),
                Err(StorageError::Conflict(Constraint::Reference)) => {
                    let dependents = self.core.storage.entries_of_connection(workspace, id, DEPENDENTS_TOLD).await?;
                    if dependents.total > 0 {
                        return Err(BrokerError::ConnectionInUse(dependents));
                    }
                    // They were unbound or deleted meanwhile.
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(BrokerError::Changed(Thing::Connection))
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
