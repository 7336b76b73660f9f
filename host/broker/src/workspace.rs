//! Workspaces and their API keys.

use jiff::Timestamp;
use keyway_audit::{Operation, Trail};
use keyway_keys::FIRST_TERM;
use keyway_storage::{ApiKeyId, Constraint, Scopes, StorageError, WorkspaceId, WorkspaceRecord};
use secrecy::SecretString;
use tracing::info;

use crate::api_key::{self, Access, Actor, ApiKey};
use crate::broker::Broker;
use crate::error::{BrokerError, Thing};
use crate::text::required;

const NAME_LIMIT: usize = 256;

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// What people call it.
    pub name: String,
    /// When it was created.
    pub created_at: Timestamp,
}

impl From<WorkspaceRecord> for Workspace {
    fn from(record: WorkspaceRecord) -> Self {
        Self { id: record.id, name: record.name, created_at: record.created_at }
    }
}

/// A workspace that was just created. This is the only time that the API key is shown.
#[derive(Debug)]
#[non_exhaustive]
pub struct CreatedWorkspace {
    /// The workspace.
    pub workspace: Workspace,
    /// Its first API key: `sk_` and 64 characters.
    pub api_key: SecretString,
    /// The key that its clients encrypt credentials under: 64 hexadecimal digits. It can be shown
    /// again, see [`Broker::encryption_key`].
    pub encryption_key: SecretString,
}

/// An API key that was just created. This is the only time that it is shown.
#[derive(Debug)]
#[non_exhaustive]
pub struct CreatedApiKey {
    /// The key without the key.
    pub info: ApiKey,
    /// The key.
    pub api_key: SecretString,
}

impl Broker {
    /// Creates a workspace with a new key of its own and a first API key with these scopes.
    ///
    /// # Errors
    /// [`BrokerError::Invalid`] for an empty or overlong name.
    pub async fn create_workspace(
        &self,
        name: &str,
        scopes: impl Into<Scopes>,
    ) -> Result<CreatedWorkspace, BrokerError> {
        let now = self.timestamp();
        let record =
            WorkspaceRecord { id: WorkspaceId::generate(), name: name.into(), created_at: now, updated_at: now };
        let (api_key, api_key_record) = api_key::generate(record.id, "first key", scopes.into(), now)?;
        let access = Access::operator(record.id, self.operator());
        let trail = Trail::api_key(api_key_record.id);
        let create = async {
            required("name", &record.name, NAME_LIMIT)?;
            let client_key = loop {
                let (key, client_key) = self.keyring().generate(record.id, FIRST_TERM, now).await?;
                match self.storage().insert_workspace(&record, &key, &api_key_record).await {
                    Ok(()) => break client_key,
                    // The master key was replaced at the same time; the next round wraps with the
                    // new one, if it is at hand.
                    Err(StorageError::Conflict(Constraint::KeyTerm)) => {}
                    Err(error) => return Err(error.into()),
                }
            };
            info!(workspace = %record.id, "workspace created");
            Ok(CreatedWorkspace { workspace: record.into(), api_key, encryption_key: client_key.to_hex() })
        };
        self.audited(&access, Operation::CreateWorkspace, &trail, create).await
    }

    /// All workspaces in the order of their creation. For the code that embeds the broker; it takes
    /// no [`Access`].
    ///
    /// # Errors
    /// Only those of the host itself.
    pub async fn list_workspaces(&self) -> Result<Vec<Workspace>, BrokerError> {
        Ok(self.storage().workspaces().await?.into_iter().map(Workspace::from).collect())
    }

    /// A workspace. For the code that embeds the broker; it takes no [`Access`].
    ///
    /// # Errors
    /// [`BrokerError::NotFound`].
    pub async fn get_workspace(&self, id: WorkspaceId) -> Result<Workspace, BrokerError> {
        let record = self.storage().workspace(id).await?;
        record.map(Workspace::from).ok_or(BrokerError::NotFound(Thing::Workspace))
    }

    /// The key that the workspace's clients encrypt credentials under: 64 hexadecimal digits. Needs
    /// [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// It opens what clients have encrypted, and nothing that the broker has: neither connections'
    /// settings nor cached secrets.
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`], [`BrokerError::NotFound`].
    pub async fn encryption_key(&self, access: &Access) -> Result<SecretString, BrokerError> {
        let get = async {
            // Not from memory: another process may have rotated the key a moment ago.
            self.keyring().forget(access.workspace());
            Ok(self.keyring().get(access.workspace()).await?.client().to_hex())
        };
        self.audited(access, Operation::EncryptionKey, &Trail::new(), get).await
    }

    /// Who holds this API key, and what they may do.
    ///
    /// # Errors
    /// [`BrokerError::Unauthenticated`], whatever is wrong with the key.
    pub async fn authenticate(&self, api_key: &SecretString) -> Result<Access, BrokerError> {
        self.authenticate_request(api_key, None).await
    }

    /// As [`authenticate`](Self::authenticate), for a request with this id, which the audit log
    /// records.
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate).
    pub async fn authenticate_request(
        &self,
        api_key: &SecretString,
        request_id: Option<&str>,
    ) -> Result<Access, BrokerError> {
        let found = match api_key::lookup_of(api_key) {
            None => None,
            Some(lookup) => {
                let load = async { Ok::<_, BrokerError>(self.storage().api_key(lookup).await?) };
                self.api_key_records().get_or_load(&lookup.to_owned(), load).await?
            }
        };
        match found {
            Some(record) if api_key::matches(&record, api_key) => {
                let access = Access::of_key(&record);
                Ok(match request_id {
                    Some(id) => access.for_request(id),
                    None => access,
                })
            }
            resembles => {
                let resembles = resembles.map(|record| (record.workspace_id, record.id));
                self.record_refused_key(resembles, request_id).await?;
                Err(BrokerError::Unauthenticated)
            }
        }
    }

    /// Whether who was let in would be let in now: the API key may have been revoked since. For
    /// what goes on for longer than a request should. The code that embeds the broker is always let
    /// in.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn is_still_valid(&self, access: &Access) -> Result<bool, BrokerError> {
        let Actor::ApiKey(id) = access.actor() else { return Ok(true) };
        let keys = self.storage().api_keys(access.workspace()).await?;
        Ok(keys.iter().any(|key| key.id == *id && key.revoked_at.is_none()))
    }

    /// Creates another API key. Needs [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`], [`BrokerError::Invalid`], [`BrokerError::NotFound`].
    pub async fn create_api_key(
        &self,
        access: &Access,
        name: &str,
        scopes: impl Into<Scopes>,
    ) -> Result<CreatedApiKey, BrokerError> {
        let (api_key, record) = api_key::generate(access.workspace(), name, scopes.into(), self.timestamp())?;
        let trail = Trail::api_key(record.id);
        let create = async {
            required("name", &record.name, NAME_LIMIT)?;
            self.storage().insert_api_key(&record).await.map_err(|error| match error {
                StorageError::Conflict(Constraint::Reference) => BrokerError::NotFound(Thing::Workspace),
                error => error.into(),
            })?;
            Ok(CreatedApiKey { info: record.into(), api_key })
        };
        self.audited(access, Operation::CreateApiKey, &trail, create).await
    }

    /// A workspace's API keys in the order of their creation, revoked ones included. Needs
    /// [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`].
    pub async fn list_api_keys(&self, access: &Access) -> Result<Vec<ApiKey>, BrokerError> {
        let list =
            async { Ok(self.storage().api_keys(access.workspace()).await?.into_iter().map(ApiKey::from).collect()) };
        self.audited(access, Operation::ListApiKeys, &Trail::new(), list).await
    }

    /// Revokes an API key: it is refused from now on. Needs [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`], [`BrokerError::NotFound`].
    pub async fn revoke_api_key(&self, access: &Access, id: ApiKeyId) -> Result<ApiKey, BrokerError> {
        let revoke = async {
            let record = self.storage().revoke_api_key(access.workspace(), id, self.timestamp()).await?;
            let record = record.ok_or(BrokerError::NotFound(Thing::ApiKey))?;
            self.api_key_records().forget(&record.lookup);
            Ok(record.into())
        };
        self.audited(access, Operation::RevokeApiKey, &Trail::api_key(id), revoke).await
    }
}
