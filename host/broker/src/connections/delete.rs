//! Deleting a connection.
//!
//! **Invariant:** an entry that is bound has its connection. The database decides, by the foreign
//! key of the entries: of a deletion and a binding that race, one is refused. What a deletion
//! leaves in memory it takes back at once: the open connection with its settings, its login
//! session, and the cached secrets. A call that is running keeps what it has until it ends; what it
//! brings is not kept any more ([`SecretCache::close_connection`]).
//!
//! Another process (the command line beside a server) does not hear of it. It finds no such
//! connection within a second, and what it holds of it ends with its own time.
//!
//! [`SecretCache::close_connection`]: crate::cache::SecretCache::close_connection

use keyway_audit::{Operation, Trail};
use keyway_storage::{ConnectionId, Constraint, StorageError};
use tracing::info;

use super::Connections;
use crate::access::Access;
use crate::error::{BrokerError, Thing};

/// How many of the entries that stand in the way are told: enough to go through them, and an answer
/// of bounded size.
const DEPENDENTS_TOLD: u32 = 100;

/// How often a deletion is tried when the entries in its way are gone the next moment.
const ATTEMPTS: usize = 3;

impl Connections {
    /// Deletes a connection that no entry is bound to, and what is held of it in memory. Needs
    /// [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// Nothing changes in the secret manager: to make the credentials useless, revoke them there.
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
        // First, so that who is just opening it sees it, or is seen below.
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
