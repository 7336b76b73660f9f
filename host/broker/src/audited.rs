//! How operations are audited: what every operation goes through ([`Core::audited`]).
//!
//! **Invariant:** nothing is given out, and no change is begun, before the record of it is as safe
//! as the operation's kind says ([`Kind`]). When the sink fails, hangs or panics, the operation
//! fails with [`BrokerError::Audit`], and what it would have given out is wiped.

use keyway_audit::{AuditActor, AuditEvent, Durability, ErrorKind, Kind, Operation, Outcome, Receipt, Trail};
use keyway_storage::{ApiKeyId, WorkspaceId};

use crate::access::{Access, Actor};
use crate::core::Core;
use crate::error::BrokerError;

impl From<&Access> for AuditActor {
    fn from(access: &Access) -> Self {
        match access.actor() {
            Actor::ApiKey(id) => Self::ApiKey { id: *id, name: access.key_name().to_owned().into() },
            Actor::Operator(name) => Self::Operator { name: name.clone().into() },
        }
    }
}

/// Who does something, where, and for which request.
struct Who {
    workspace: Option<WorkspaceId>,
    actor: AuditActor,
    request_id: Option<String>,
}

impl Core {
    /// Runs an operation and records it: checks the scope that the operation needs, records a
    /// change before it begins, and records how the operation ended before its result is given out.
    /// `trail` says what it is about: what is in it when this is called is recorded in any case,
    /// and `body` may fill in more.
    ///
    /// ```text
    /// let trail = Trail::entry(id);
    /// self.core.audited(access, Operation::DeleteEntry, &trail, async { ... }).await
    /// ```
    pub(crate) async fn audited<T>(
        &self,
        access: &Access,
        operation: Operation,
        trail: &Trail,
        body: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let who = Who {
            workspace: Some(access.workspace()),
            actor: AuditActor::from(access),
            request_id: access.request_id().map(str::to_owned),
        };
        if let Err(refused) = access.require_one(operation.scopes()) {
            if let BrokerError::Forbidden { needs } = refused {
                trail.note(|subject| subject.lacks(needs));
            }
            let event = self.event(&who, operation, refused.kind().into(), None, trail);
            self.recorder.append(&event, Durability::Written).await?;
            return Err(refused);
        }
        self.recorded(&who, operation, trail, body).await
    }

    /// The same for what the broker does by itself, which needs nobody's scope.
    pub(crate) async fn audited_of_its_own<T>(
        &self,
        workspace: WorkspaceId,
        operation: Operation,
        trail: &Trail,
        body: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let who = Who { workspace: Some(workspace), actor: AuditActor::System, request_id: None };
        self.recorded(&who, operation, trail, body).await
    }

    /// The same for what the code that embeds the broker does to all workspaces at once, and what
    /// therefore takes no [`Access`].
    pub(crate) async fn audited_for_operator<T>(
        &self,
        operation: Operation,
        trail: &Trail,
        body: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let actor = AuditActor::Operator { name: self.operator.clone().into() };
        self.recorded(&Who { workspace: None, actor, request_id: None }, operation, trail, body).await
    }

    async fn recorded<T>(
        &self,
        who: &Who,
        operation: Operation,
        trail: &Trail,
        body: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let begun = match operation.kind() {
            Kind::Change => {
                let event = self.event(who, operation, Outcome::BEGUN, None, trail);
                Some(self.recorder.append(&event, Durability::Synced).await?)
            }
            Kind::Release | Kind::Listing | Kind::Read => None,
        };
        let result = body.await;
        let outcome = match &result {
            Ok(_) => trail.outcome(),
            Err(error) => error.kind().into(),
        };
        let is_recorded = match operation.kind() {
            Kind::Read => match &result {
                Ok(_) => trail.releases(),
                Err(error) => matches!(error, BrokerError::Forbidden { .. }),
            },
            Kind::Release | Kind::Listing | Kind::Change => true,
        };
        if is_recorded {
            let event = self.event(who, operation, outcome, begun, trail);
            let recorded = self.recorder.append(&event, Durability::Written).await;
            recorded.map_err(|error| if begun.is_some() && result.is_ok() { error.after_a_change() } else { error })?;
        }
        result
    }

    fn event(
        &self,
        who: &Who,
        operation: Operation,
        outcome: Outcome,
        begun: Option<Receipt>,
        trail: &Trail,
    ) -> AuditEvent {
        let mut event = AuditEvent::new(self.timestamp(), who.actor.clone(), operation, outcome);
        event.workspace = who.workspace;
        event.begun = begun.map(|receipt| receipt.number);
        event.subject = trail.subject();
        event.request_id.clone_from(&who.request_id);
        event
    }

    /// Records that somebody came without a valid API key. `resembles` is the key that is found by
    /// the part of theirs which is no secret: a revoked one, or one whose secret part they do not
    /// have.
    pub(crate) async fn record_refused_key(
        &self,
        resembles: Option<(WorkspaceId, ApiKeyId)>,
        request_id: Option<&str>,
    ) -> Result<(), BrokerError> {
        let Some(unrecorded) = self.recorder.admit_refused_key() else { return Ok(()) };
        let outcome = Outcome::from(ErrorKind::Unauthenticated);
        let mut event = AuditEvent::new(self.timestamp(), AuditActor::Unknown, Operation::Authenticate, outcome);
        event.workspace = resembles.map(|(workspace, _)| workspace);
        event.subject.api_key = resembles.map(|(_, key)| key);
        event.unrecorded = unrecorded;
        event.request_id = request_id.map(str::to_owned);
        self.recorder.append(&event, Durability::Written).await?;
        Ok(())
    }
}
