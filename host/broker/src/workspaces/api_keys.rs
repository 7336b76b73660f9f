//! The API keys of workspaces, and authenticating with them.

use std::sync::Arc;

use keyway_audit::{AuditActor, Operation, Trail};
use keyway_storage::{ApiKeyId, ApiKeyRecord, Constraint, RecordCache, Scope, Scopes, StorageError};
use secrecy::SecretString;
use tracing::error;

use super::NAME_LIMIT;
use super::api_key::{self, ApiKey};
use crate::access::Access;
use crate::core::Core;
use crate::error::{BrokerError, Thing};
use crate::text::required;

/// An API key that was just created. This is the only time that it is shown.
#[derive(Debug)]
#[non_exhaustive]
pub struct CreatedApiKey {
    /// Its description, without the key itself.
    pub info: ApiKey,
    /// The key.
    pub api_key: SecretString,
}

/// API keys: see [`Broker::api_keys`](crate::Broker::api_keys).
pub struct ApiKeys {
    pub(crate) core: Arc<Core>,
    pub(crate) records: RecordCache<String, Arc<ApiKeyRecord>>,
}

impl ApiKeys {
    /// Authenticates the holder of an API key, for a request with this id, which the audit log
    /// records.
    ///
    /// # Errors
    /// [`BrokerError::Unauthenticated`], whatever is wrong with the key.
    pub async fn authenticate(&self, api_key: &SecretString, request_id: Option<&str>) -> Result<Access, BrokerError> {
        self.core.ensure_open()?;
        let found = match api_key::lookup_of(api_key) {
            None => None,
            Some(lookup) => {
                let load = async {
                    match self.core.storage.api_key(lookup).await {
                        // It opens nothing, like a key that does not exist.
                        Err(damaged @ StorageError::Damaged { .. }) => {
                            error!("{damaged}");
                            Ok(None)
                        }
                        found => Ok::<_, BrokerError>(found?.map(Arc::new)),
                    }
                };
                let loaded = self.records.get_or_load(&lookup.to_owned(), load).await;
                loaded.inspect_err(|error| self.core.damage.note(self.core.now(), error))?
            }
        };
        match found {
            Some(record) if api_key::matches(&record, api_key) => Ok(Access::of_key(&record, request_id)),
            resembles => {
                let resembles = resembles.map(|record| (record.workspace_id, record.id));
                self.core.record_refused_key(resembles, request_id).await?;
                Err(BrokerError::Unauthenticated)
            }
        }
    }

    /// Whether an access is still valid: its API key may have been revoked since. For operations
    /// that outlast a request. The access of the code that embeds the broker is always valid.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn is_still_valid(&self, access: &Access) -> Result<bool, BrokerError> {
        self.core.ensure_open()?;
        let AuditActor::ApiKey { id, .. } = access.actor() else { return Ok(true) };
        let keys = self.core.storage.api_keys(access.workspace()).await?;
        Ok(keys.iter().any(|key| key.id == *id && key.revoked_at.is_none()))
    }

    /// Refuses unless `scope` is granted, and records a refusal, for a server that refuses before
    /// it parses a request. The operations check their scopes themselves.
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`], [`BrokerError::Audit`].
    pub async fn authorize(&self, access: &Access, scope: Scope) -> Result<(), BrokerError> {
        if access.scopes().contains(scope) {
            return Ok(());
        }
        let trail = Trail::new();
        trail.note(|subject| subject.lacks(scope));
        self.core.audited(access, Operation::Authorize, &trail, async { access.require(scope) }).await
    }

    /// Creates another API key. Needs [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`], [`BrokerError::Invalid`], [`BrokerError::NotFound`].
    pub async fn create(
        &self,
        access: &Access,
        name: &str,
        scopes: impl Into<Scopes>,
    ) -> Result<CreatedApiKey, BrokerError> {
        let (api_key, record) = api_key::generate(access.workspace(), name, scopes.into(), self.core.timestamp())?;
        let trail = Trail::api_key(record.id);
        let create = async {
            required("name", &record.name, NAME_LIMIT)?;
            trail.begin().await?;
            self.core.storage.insert_api_key(&record).await.map_err(|error| match error {
                StorageError::Conflict(Constraint::Reference) => BrokerError::NotFound(Thing::Workspace),
                error => error.into(),
            })?;
            Ok(CreatedApiKey { info: record.into(), api_key })
        };
        self.core.audited(access, Operation::CreateApiKey, &trail, create).await
    }

    /// A workspace's API keys in the order of their creation, revoked ones included. Needs
    /// [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`].
    pub async fn list(&self, access: &Access) -> Result<Vec<ApiKey>, BrokerError> {
        let list =
            async { Ok(self.core.storage.api_keys(access.workspace()).await?.into_iter().map(ApiKey::from).collect()) };
        self.core.audited(access, Operation::ListApiKeys, &Trail::new(), list).await
    }

    /// Revokes an API key: it is refused from then on. Needs [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`], [`BrokerError::NotFound`].
    pub async fn revoke(&self, access: &Access, id: ApiKeyId) -> Result<ApiKey, BrokerError> {
        let trail = Trail::api_key(id);
        let revoke = async {
            if !self.core.storage.api_keys(access.workspace()).await?.iter().any(|key| key.id == id) {
                return Err(BrokerError::NotFound(Thing::ApiKey));
            }
            trail.begin().await?;
            let record = self.core.storage.revoke_api_key(access.workspace(), id, self.core.timestamp()).await?;
            let record = record.ok_or(BrokerError::NotFound(Thing::ApiKey))?;
            self.records.forget(&record.lookup);
            Ok(record.into())
        };
        self.core.audited(access, Operation::RevokeApiKey, &trail, revoke).await
    }
}
