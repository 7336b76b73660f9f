//! How operations are audited: what every operation goes through ([`Broker::audited`]), and reading
//! the log.
//!
//! **Invariant:** nothing is given out, and no change is begun, before the record of it is as safe
//! as the operation's kind says ([`Kind`]). When the sink fails, hangs or panics, the operation
//! fails with [`BrokerError::Audit`], and what it would have given out is wiped.

use std::borrow::Cow;

use keyway_audit::{
    AuditActor, AuditEvent, AuditPage, AuditQuery, AuditSource, AuditVerification, Durability, ErrorKind, Kind,
    Operation, Outcome, Receipt, Subject, Trail,
};
use keyway_runtime::{Field, FieldValue, Fields};
use keyway_storage::{ApiKeyId, Scope, WorkspaceId};

use crate::api_key::{Access, Actor};
use crate::broker::Broker;
use crate::cache::Source;
use crate::error::BrokerError;
use crate::resolve::Resolution;

impl From<&Access> for AuditActor {
    fn from(access: &Access) -> Self {
        match access.actor() {
            Actor::ApiKey(id) => Self::ApiKey { id: *id, name: access.key_name().to_owned().into() },
            Actor::Operator(name) => Self::Operator { name: name.clone().into() },
        }
    }
}

impl From<Source> for AuditSource {
    fn from(source: Source) -> Self {
        match source {
            Source::Live => Self::Live,
            Source::Cached { .. } => Self::Cached,
        }
    }
}

/// These values are about to be given out.
pub(crate) fn released(subject: &mut Subject, resolution: &Resolution, source: AuditSource) {
    let fields = Fields {
        username: resolution.username.is_some(),
        password: resolution.password.is_some(),
        one_time_code: resolution.one_time_code.is_some(),
    };
    let further = resolution.further.iter().filter(|field| has_value(field));
    let further = further.map(|field| Cow::Owned(format!("field:{}", field.name)));
    subject.released(field_names(fields).map(Cow::Borrowed).chain(further), source);
    subject.rotation = resolution.rotation;
    subject.lease = resolution.lease.as_ref().map(|lease| lease.id.clone());
}

/// Whether a field is there with its value, and not only with the reason for none.
fn has_value(field: &Field) -> bool {
    !matches!(field.value, FieldValue::OneTimeCode(Err(_)))
}

/// The names of fields.
pub(crate) fn field_names(fields: Fields) -> impl Iterator<Item = &'static str> {
    let all = [(fields.username, "username"), (fields.password, "password"), (fields.one_time_code, "one_time_code")];
    all.into_iter().filter(|(is_in, _)| *is_in).map(|(_, name)| name)
}

/// Who does something, where, and for which request.
struct Who {
    workspace: Option<WorkspaceId>,
    actor: AuditActor,
    request_id: Option<String>,
}

impl Broker {
    /// Runs an operation and records it: checks the scope that the operation needs, records a
    /// change before it begins, and records how the operation ended before its result is given out.
    /// `trail` says what it is about: what is in it when this is called is recorded in any case,
    /// and `body` may fill in more.
    ///
    /// ```text
    /// let trail = Trail::entry(id);
    /// self.audited(access, Operation::DeleteEntry, &trail, async { ... }).await
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
            self.recorder().append(&event, Durability::Written).await?;
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
        let actor = AuditActor::Operator { name: self.operator().to_owned().into() };
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
                Some(self.recorder().append(&event, Durability::Synced).await?)
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
            let recorded = self.recorder().append(&event, Durability::Written).await;
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

    /// Refuses unless `scope` is granted, and records a refusal: for a server that wants to refuse
    /// before it looks at a request. The operations check the scopes that they need by themselves.
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`], [`BrokerError::Audit`].
    pub async fn authorize(&self, access: &Access, scope: Scope) -> Result<(), BrokerError> {
        if access.scopes().contains(scope) {
            return Ok(());
        }
        let trail = Trail::new();
        trail.note(|subject| subject.lacks(scope));
        self.audited(access, Operation::Authorize, &trail, async { access.require(scope) }).await
    }

    /// Records that somebody came without a valid API key. `resembles` is the key that is found by
    /// the part of theirs which is no secret: a revoked one, or one whose secret part they do not
    /// have.
    pub(crate) async fn record_refused_key(
        &self,
        resembles: Option<(WorkspaceId, ApiKeyId)>,
        request_id: Option<&str>,
    ) -> Result<(), BrokerError> {
        let Some(unrecorded) = self.recorder().admit_refused_key() else { return Ok(()) };
        let outcome = Outcome::from(ErrorKind::Unauthenticated);
        let mut event = AuditEvent::new(self.timestamp(), AuditActor::Unknown, Operation::Authenticate, outcome);
        event.workspace = resembles.map(|(workspace, _)| workspace);
        event.subject.api_key = resembles.map(|(_, key)| key);
        event.unrecorded = unrecorded;
        event.request_id = request_id.map(str::to_owned);
        self.recorder().append(&event, Durability::Written).await?;
        Ok(())
    }
}

impl Broker {
    /// A page of the audit log of the caller's workspace. Needs
    /// [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`], [`BrokerError::Audit`].
    pub async fn audit_records(&self, access: &Access, mut query: AuditQuery) -> Result<AuditPage, BrokerError> {
        let trail = Trail::new();
        let read = async {
            query.workspace = Some(access.workspace());
            let page = self.recorder().sink().read(&query).await?;
            trail.note(|subject| subject.count = Some(page.records.len() as u64));
            Ok(page)
        };
        self.audited(access, Operation::AuditRecords, &trail, read).await
    }

    /// A page of the audit log of all workspaces, what belongs to none included. For the code that
    /// embeds the broker; it takes no [`Access`].
    ///
    /// # Errors
    /// [`BrokerError::Audit`].
    pub async fn audit_records_of_all(&self, query: &AuditQuery) -> Result<AuditPage, BrokerError> {
        Ok(self.recorder().sink().read(query).await?)
    }

    /// Checks the whole audit log: that every record is there, unchanged and in order. For the code
    /// that embeds the broker; it takes no [`Access`].
    ///
    /// # Errors
    /// [`BrokerError::Audit`] when the log cannot be read. What is wrong with it is in the result.
    pub async fn verify_audit(&self) -> Result<AuditVerification, BrokerError> {
        Ok(self.recorder().sink().verify().await?)
    }
}
