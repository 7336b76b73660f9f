//! Ending a connection's pauses by hand.
//!
//! Every pause ends by itself. A person who knows that the cause is gone (a mistaken `Retry-After`,
//! a firewall rule, a token that was restored) need not wait for that.

use keyway_audit::{Operation, Trail};
use keyway_budget::ProviderOperation;
use keyway_runtime::{CallError, ErrorCode};
use keyway_storage::{ConnectionId, ConnectionRecord, WorkspaceId};

use super::{Connection, Connections};
use crate::access::Access;
use crate::error::BrokerError;
use crate::provider_call::CallFailure;

impl Connections {
    /// Ends every pause of a connection's credentials, for all connections that share them, and
    /// checks the credentials with one login. Other processes on the same database follow within a
    /// second. Needs [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// A used-up request limit is no pause: it is not lifted, because more requests would only be
    /// refused.
    ///
    /// # Errors
    /// [`BrokerError::Provider`] with the provider's reason when the check fails, from which
    /// another pause may follow; [`BrokerError::NotCalled`] when the budget is spent or too many
    /// checks have failed or retries were made; [`BrokerError::NotFound`].
    pub async fn retry(&self, access: &Access, id: ConnectionId) -> Result<Connection, BrokerError> {
        let trail = Trail::connection(id);
        let retry = async {
            let record = self.record(access.workspace(), id).await?;
            let opened = self.open(&record).await?;
            opened.note(&trail);
            self.checks.begin(access.workspace())?;
            trail.begin().await?;
            opened.guard().end_pauses().await?;
            let verify = ProviderOperation::Verify;
            let verified = opened.call(verify, (), |provider, connection, ()| Box::pin(provider.verify(connection)));
            // It counts even if it succeeds: each is a login, and one is enough where it does.
            verified.await?;
            ConnectionRecord::clone(&record).try_into()
        };
        self.core.audited(access, Operation::RetryConnection, &trail, retry).await
    }

    /// The result of a check, counted if it was a login.
    pub(super) fn checked<T>(&self, workspace: WorkspaceId, result: Result<T, CallFailure>) -> Result<T, CallFailure> {
        let is_failed_login = match &result {
            Ok(_) | Err(CallFailure::NotCalled(_) | CallFailure::NotRecorded(_) | CallFailure::Host(_)) => false,
            // By the contract, no request was made.
            Err(CallFailure::Call(CallError::Provider(error))) => error.code != ErrorCode::InvalidSettings,
            Err(CallFailure::Call(_)) => true,
        };
        if !is_failed_login {
            self.checks.succeeded(workspace);
        }
        result
    }

    /// Ends the pauses of this connection for a person who wants something else of it, unless
    /// checks fail too often already.
    pub(crate) async fn end_pauses(&self, record: &ConnectionRecord) -> Result<(), BrokerError> {
        let opened = self.open(record).await?;
        if opened.guard().is_paused() && self.checks.begin(record.workspace_id).is_ok() {
            opened.guard().end_pauses().await?;
        }
        Ok(())
    }
}
