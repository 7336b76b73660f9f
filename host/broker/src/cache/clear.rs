//! Dropping values: those that are over, and before their time those of an item that was written,
//! and of a connection that was cleared or deleted.
//!
//! What is dropped here is wiped. That what was on its way is not used again is the doing of the
//! generations and, for a connection that was deleted, of the list of closed ones.

use keyway_storage::ConnectionId;

use super::{ItemKey, SecretCache};

impl SecretCache {
    /// Drops what is held of an item: the next reader asks the provider.
    pub(crate) fn drop_item(&self, item: &ItemKey) {
        self.values.remove(item);
        self.missing.invalidate(item);
    }

    /// Drops what is held for a connection. That it is not used again is the generation's doing;
    /// this wipes it.
    pub(crate) fn drop_connection(&self, connection: ConnectionId) {
        self.values.retain(|key, _| key.connection != connection);
        for (key, _) in &self.missing {
            if key.connection == connection {
                self.missing.invalidate(&*key);
            }
        }
    }

    /// Drops what is held for a connection that was deleted, and stores nothing for it any more.
    pub(crate) fn close_connection(&self, connection: ConnectionId) {
        self.closed.insert(connection, ());
        self.drop_connection(connection);
    }

    /// Takes out of memory what nobody may use any more. Readers do so as well; this is for when
    /// there are none.
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
