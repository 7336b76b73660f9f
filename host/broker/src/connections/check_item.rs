//! Checking that a connection sees an item, so that a mistyped reference is found when an entry is
//! bound and not at its first resolve. Binding itself makes no call, so that it works while the
//! secret manager is unavailable.

use keyway_audit::{Operation, Trail};
use keyway_budget::ProviderOperation;
use keyway_runtime::Fields;
use keyway_storage::ConnectionId;

use super::Connections;
use crate::access::Access;
use crate::error::BrokerError;

/// The attribute with which a provider says that an item has no login fields, and why.
const NOT_A_LOGIN: &str = "not-a-login";

impl Connections {
    /// Checks that a connection sees an item, with one call of the provider that asks for no
    /// values: none is read, and no leased values are made. Returns why the item would resolve to
    /// nothing, if the provider says so: it is no login. Needs [`Scope::Api`](crate::Scope::Api).
    ///
    /// # Errors
    /// [`BrokerError::Provider`] with the provider's reason, for example that there is no such
    /// item, or that the reference is not one of its own; [`BrokerError::Invalid`] when it does not
    /// look like a reference; [`BrokerError::NotFound`] when there is no such connection; and the
    /// errors that prevent a call.
    pub async fn check_item(
        &self,
        access: &Access,
        id: ConnectionId,
        reference: &str,
    ) -> Result<Option<String>, BrokerError> {
        let trail = Trail::connection(id);
        let check = async {
            let record = self.record(access.workspace(), id).await?;
            let reference = self.normalize(access.workspace(), id, reference).await?;
            // Recorded only once it is known to be a reference: other text may be anything.
            trail.note(|subject| subject.bound_to(id, &reference));
            let opened = self.open(&record).await?;
            opened.note(&trail);
            // By the contract, a resolve without fields makes no new values.
            let look = opened.call(ProviderOperation::Resolve, reference, |provider, connection, reference| {
                Box::pin(provider.resolve(connection, reference, Fields::default()))
            });
            let attributes = look.await?.attributes.into_iter();
            Ok(attributes.filter(|attribute| attribute.name == NOT_A_LOGIN).map(|attribute| attribute.value).next())
        };
        self.core.audited(access, Operation::CheckItem, &trail, check).await
    }
}
