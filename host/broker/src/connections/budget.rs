//! The requests that a connection may still make to its secret manager.

use keyway_audit::{Operation, Trail};
use keyway_budget::{Budget, TokenBudget};
use keyway_storage::ConnectionId;

use super::Connections;
use crate::access::Access;
use crate::error::BrokerError;

impl Connections {
    /// The requests that a connection may still make to its secret manager. Makes no request
    /// itself. Needs [`Scope::Api`](crate::Scope::Api), because clients that cause requests may
    /// know how many are left.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::ProviderNotInstalled`].
    pub async fn budget(&self, access: &Access, id: ConnectionId) -> Result<Budget, BrokerError> {
        let read = async {
            let record = self.record(access.workspace(), id).await?;
            Ok(self.open(&record).await?.guard().budget().await?)
        };
        self.core.audited(access, Operation::Budget, &Trail::connection(id), read).await
    }

    /// Reads from the database what other processes have used, at most every 5 seconds. Without
    /// it, [`budgets`](Self::budgets) and the metrics lag behind. What cannot be read stays as it
    /// was.
    pub async fn refresh_budgets(&self) {
        self.guards.refresh_readings().await;
    }

    /// The budgets of all credentials that are in use, from memory, for metrics. If connections
    /// with the same credentials have different tiers, the lower limit is shown.
    pub fn budgets(&self) -> Vec<TokenBudget> {
        self.guards.budgets()
    }
}
