//! Dropping values: those that have expired, those of an item that was written, and those of a
//! connection that was cleared or deleted.
//!
//! Dropped values are wiped. The results of running fetches are excluded by the generations and,
//! for a deleted connection, by the list of closed ones.

use keyway_storage::ConnectionId;

use super::{ItemKey, SecretCache};

impl SecretCache {
    /// Drops the value of an item: the next read calls the provider.
    pub(crate) fn drop_item(&self, item: &ItemKey) {
        self.values.remove(item);
        self.missing.invalidate(item);
    }

    /// Drops the values of a connection. The generation already prevents their use; this wipes
    /// them.
    pub(crate) fn drop_connection(&self, connection: ConnectionId) {
        self.values.retain(|key, _| key.connection != connection);
        for (key, _) in &self.missing {
            if key.connection == connection {
                self.missing.invalidate(&*key);
            }
        }
    }

    /// Drops the values of a deleted connection, and stores no more for it.
    pub(crate) fn close_connection(&self, connection: ConnectionId) {
        self.closed.insert(connection, ());
        self.drop_connection(connection);
    }

    /// Removes expired values from memory. Reads do so as well; this is for when there are none.
    pub(crate) fn sweep(&self) {
        let now = self.clock.now();
        self.values.retain(|_, value| !value.is_over(now));
        self.missing.run_pending_tasks();
    }

    /// Whether a connection was deleted.
    pub(crate) fn is_closed(&self, connection: ConnectionId) -> bool {
        self.closed.contains_key(&connection)
    }
}
