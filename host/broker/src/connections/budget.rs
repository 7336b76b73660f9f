//! What a connection may still ask of its secret manager.

use keyway_audit::{Operation, Trail};
use keyway_budget::{Budget, TokenBudget};
use keyway_storage::ConnectionId;

use super::Connections;
use crate::access::Access;
use crate::error::BrokerError;

impl Connections {
    /// What a connection may still ask of its secret manager. Costs the secret manager nothing.
    /// Needs [`Scope::Api`](crate::Scope::Api): whoever makes requests may know how many are left.
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

    /// Asks the database what other processes have used, which [`budgets`](Self::budgets), and the
    /// metrics, are else behind with; at most every 5 seconds. What cannot be read stays as it was.
    pub async fn refresh_budgets(&self) {
        self.guards.refresh_readings().await;
    }

    /// The budgets of all credentials that are in use, from memory, for metrics. Where connections
    /// with the same credentials have chosen different tiers, the lower limit is shown.
    pub fn budgets(&self) -> Vec<TokenBudget> {
        self.guards.budgets()
    }
}
