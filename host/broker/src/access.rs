//! The caller of an operation, and its scopes.

use keyway_audit::AuditActor;
use keyway_storage::{ApiKeyRecord, Scope, Scopes, WorkspaceId};

use crate::error::BrokerError;

/// The caller of an operation, its workspace and its scopes. Every operation takes one.
#[derive(Debug, Clone)]
pub struct Access {
    workspace: WorkspaceId,
    actor: AuditActor,
    scopes: Scopes,
    request_id: Option<String>,
}

impl Access {
    /// Full access to a workspace for the code that embeds the broker, which is trusted. `name`
    /// identifies it in the audit log, for example `command line`.
    pub fn operator(workspace: WorkspaceId, name: impl Into<String>) -> Self {
        Self {
            workspace,
            actor: AuditActor::Operator { name: name.into().into() },
            scopes: Scopes::ALL,
            request_id: None,
        }
    }

    pub(crate) fn of_key(key: &ApiKeyRecord, request_id: Option<&str>) -> Self {
        Self {
            workspace: key.workspace_id,
            actor: AuditActor::ApiKey { id: key.id, name: key.name.clone().into() },
            scopes: key.scopes,
            request_id: request_id.map(str::to_owned),
        }
    }

    /// Sets the id of the request that this is for, which the audit log records. It must not be
    /// secret.
    #[must_use]
    pub fn for_request(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    /// The id of the request that this is for.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// The workspace.
    pub fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// The caller, as the audit log records it.
    pub fn actor(&self) -> &AuditActor {
        &self.actor
    }

    /// The scopes of the caller.
    pub fn scopes(&self) -> Scopes {
        self.scopes
    }

    /// Refuses unless `scope` is granted.
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`].
    pub fn require(&self, scope: Scope) -> Result<(), BrokerError> {
        if self.scopes.contains(scope) { Ok(()) } else { Err(BrokerError::Forbidden { needs: scope }) }
    }

    /// Refuses unless one of these scopes is granted; the message names the first. An empty list
    /// requires nothing.
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`].
    pub fn require_one(&self, of: &[Scope]) -> Result<(), BrokerError> {
        match of.first() {
            Some(first) if !of.iter().any(|scope| self.scopes.contains(*scope)) => self.require(*first),
            _ => Ok(()),
        }
    }
}
