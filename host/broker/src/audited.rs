//! Auditing operations: every operation goes through [`Core::audited`].
//!
//! **Invariant:** a value is released, and a change has its first effect ([`Trail::begin`]), only
//! after its record is as safe as the operation's kind demands ([`Kind`]). When the sink fails,
//! hangs or panics, the operation fails with [`BrokerError::Audit`], and what it would have
//! released is wiped. An operation that fails without having changed anything is recorded at a
//! bounded rate ([`keyway_audit::Recorder`]).

use keyway_audit::{
    AuditActor, AuditError, AuditEvent, Durability, ErrorKind, Kind, Operation, Outcome, Receipt, Trail,
};
use keyway_storage::{ApiKeyId, WorkspaceId};

use crate::access::Access;
use crate::core::Core;
use crate::error::BrokerError;

impl Core {
    /// Runs an operation and records it: checks the scope that the operation needs, and records
    /// how the operation ended before its result is released. `trail` says what the operation is
    /// about, and `body` may add to it. The body of a change calls [`Trail::begin`] once everything
    /// is known that could refuse it, before its first effect.
    ///
    /// ```text
    /// let trail = Trail::entry(id);
    /// self.core.audited(access, Operation::DeleteEntry, &trail, async {
    ///     ... // what may refuse it
    ///     trail.begin().await?;
    ///     ... // what it changes
    /// }).await
    /// ```
    pub(crate) async fn audited<T>(
        &self,
        access: &Access,
        operation: Operation,
        trail: &Trail,
        body: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        self.ensure_open()?;
        let mut event = self.event(access.actor().clone(), operation);
        event.workspace = Some(access.workspace());
        event.request_id = access.request_id().map(str::to_owned);
        if let Err(refused) = access.require_one(operation.scopes()) {
            if let BrokerError::Forbidden { needs } = refused {
                trail.note(|subject| subject.lacks(needs));
            }
            self.fill_in(&mut event, refused.kind().into(), trail);
            self.recorder.refuse(&event).await?;
            return Err(refused);
        }
        self.recorded(&mut event, trail, body).await
    }

    /// The same for the broker's background operations, which need no scope.
    pub(crate) async fn audited_of_its_own<T>(
        &self,
        workspace: WorkspaceId,
        operation: Operation,
        trail: &Trail,
        body: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let mut event = self.event(AuditActor::System, operation);
        event.workspace = Some(workspace);
        self.recorded(&mut event, trail, body).await
    }

    /// The same for operations of the code that embeds the broker on all workspaces at once, which
    /// therefore take no [`Access`].
    pub(crate) async fn audited_for_operator<T>(
        &self,
        operation: Operation,
        trail: &Trail,
        body: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let actor = AuditActor::Operator { name: self.operator.clone().into() };
        self.recorded(&mut self.event(actor, operation), trail, body).await
    }

    async fn recorded<T>(
        &self,
        event: &mut AuditEvent,
        trail: &Trail,
        body: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        self.ensure_open()?;
        let kind = event.operation.kind();
        if kind == Kind::Change {
            trail.changes(self.recorder.clone(), event.clone());
        }
        let result = body.await;
        event.begun = trail.begun();
        if let Err(error) = &result {
            self.damage.note(self.now(), error);
        }
        let outcome = match &result {
            Ok(_) => trail.outcome(),
            Err(error) => error.kind().into(),
        };
        let is_recorded = match kind {
            Kind::Read => match &result {
                Ok(_) => trail.releases(),
                Err(error) => matches!(error, BrokerError::Forbidden { .. }),
            },
            Kind::Release | Kind::Listing | Kind::Change => true,
        };
        if kind == Kind::Change && event.begun.is_none() && matches!(result, Err(BrokerError::Audit(_))) {
            // Its beginning could not be recorded.
            return result;
        }
        if event.begun.is_none() && result.is_err() {
            // Nothing was released or changed, so the log bounds how many of these it takes.
            if is_recorded {
                self.fill_in(event, outcome, trail);
                self.recorder.refuse(event).await?;
            }
        } else if is_recorded {
            let recorded = self.record(event, outcome, trail).await;
            let is_changed = event.begun.is_some() && result.is_ok();
            recorded.map_err(|error| if is_changed { error.after_a_change() } else { error })?;
        }
        result
    }

    fn event(&self, actor: AuditActor, operation: Operation) -> AuditEvent {
        AuditEvent::new(self.timestamp(), actor, operation, Outcome::BEGUN)
    }

    /// Records the operation with this outcome and the trail's present subject.
    async fn record(&self, event: &mut AuditEvent, outcome: Outcome, trail: &Trail) -> Result<Receipt, AuditError> {
        self.fill_in(event, outcome, trail);
        self.recorder.append(event, Durability::Written).await
    }

    fn fill_in(&self, event: &mut AuditEvent, outcome: Outcome, trail: &Trail) {
        (event.at, event.outcome, event.subject) = (self.timestamp(), outcome, trail.take_subject());
    }

    /// Records a request without a valid API key. `resembles` is the stored key with the same
    /// lookup id, which is not secret: either it is revoked, or the secret part of the request's
    /// key is wrong.
    pub(crate) async fn record_refused_key(
        &self,
        resembles: Option<(WorkspaceId, ApiKeyId)>,
        request_id: Option<&str>,
    ) -> Result<(), BrokerError> {
        let mut event = self.event(AuditActor::Unknown, Operation::Authenticate);
        event.outcome = ErrorKind::Unauthenticated.into();
        event.workspace = resembles.map(|(workspace, _)| workspace);
        event.subject.api_key = resembles.map(|(_, key)| key);
        event.request_id = request_id.map(str::to_owned);
        Ok(self.recorder.refuse(&event).await?)
    }
}
