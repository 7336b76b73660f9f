//! Whether a connection sees an item: for a person who binds an entry, and would otherwise learn at
//! the first resolve that the reference is mistyped. Binding itself never asks, so that it works
//! while the secret manager is out of order.

use keyway_audit::{Operation, Trail};
use keyway_budget::ProviderOperation;
use keyway_runtime::Fields;
use keyway_storage::ConnectionId;

use super::Connections;
use crate::access::Access;
use crate::error::BrokerError;

impl Connections {
    /// Looks whether a connection sees an item, with one call of the provider that takes no value
    /// from it: none is read, and none is made where values are made for each call, under a lease.
    /// Needs [`Scope::Api`](crate::Scope::Api).
    ///
    /// # Errors
    /// [`BrokerError::Provider`] with the provider's reason, for example that there is no such
    /// item, or that this is no reference of its own; [`BrokerError::Invalid`] when it does not
    /// look like one; [`BrokerError::NotFound`] when there is no such connection; and whatever
    /// keeps a provider from being asked.
    pub async fn check_item(&self, access: &Access, id: ConnectionId, reference: &str) -> Result<(), BrokerError> {
        let trail = Trail::connection(id);
        let check = async {
            let record = self.record(access.workspace(), id).await?;
            let reference = self.normalize(access.workspace(), id, reference).await?;
            // What is no reference may be anything, and is not recorded.
            trail.note(|subject| subject.bound_to(id, &reference));
            let opened = self.open(&record).await?;
            // Asking for nothing makes no new values, says the contract.
            let look = opened.call(ProviderOperation::Resolve, reference, |provider, connection, reference| {
                Box::pin(provider.resolve(connection, reference, Fields::default()))
            });
            Ok(look.await.map(drop)?)
        };
        self.core.audited(access, Operation::CheckItem, &trail, check).await
    }
}
