//! Workspaces and their API keys.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{ApiKeyId, Scopes, StorageError, WorkspaceId, WorkspaceKeyRecord};

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRecord {
    /// Its id.
    pub id: WorkspaceId,
    /// Its display name.
    pub name: String,
    /// Its id in the embedding platform; unique.
    pub external_id: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// An API key, without the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// Its id.
    pub id: ApiKeyId,
    /// The workspace it opens.
    pub workspace_id: WorkspaceId,
    /// Its display name.
    pub name: String,
    /// The part by which the key is found; unique, not secret.
    pub lookup: String,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    /// What it allows.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

/// Workspaces and their API keys.
#[async_trait]
pub trait WorkspaceStorage: Send + Sync + 'static {
    /// Adds a workspace with its first key and its first API key. Fails with
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm) unless the key is wrapped by the current
    /// master key, and with [`Constraint::Unique`](crate::Constraint::Unique) when the external id
    /// is in use.
    async fn insert_workspace(
        &self,
        workspace: &WorkspaceRecord,
        key: &WorkspaceKeyRecord,
        api_key: &ApiKeyRecord,
    ) -> Result<(), StorageError>;

    /// A workspace.
    async fn workspace(&self, id: WorkspaceId) -> Result<Option<WorkspaceRecord>, StorageError>;

    /// The workspace with this external id.
    async fn workspace_by_external_id(&self, external_id: &str) -> Result<Option<WorkspaceRecord>, StorageError>;

    /// Renames a workspace and returns it; `None` when there is none.
    async fn rename_workspace(
        &self,
        id: WorkspaceId,
        name: &str,
        at: Timestamp,
    ) -> Result<Option<WorkspaceRecord>, StorageError>;

    /// Deletes a workspace and everything in it. Returns whether there was one. Fails with
    /// [`Constraint::Reference`](crate::Constraint::Reference) while a rotation in it is open.
    async fn delete_workspace(&self, id: WorkspaceId) -> Result<bool, StorageError>;

    /// All workspaces in the order of their creation.
    async fn workspaces(&self) -> Result<Vec<WorkspaceRecord>, StorageError>;

    /// Adds an API key. Fails with [`Constraint::Reference`](crate::Constraint::Reference) when the
    /// workspace does not exist.
    async fn insert_api_key(&self, key: &ApiKeyRecord) -> Result<(), StorageError>;

    /// The API key with this lookup id, revoked or not.
    async fn api_key(&self, lookup: &str) -> Result<Option<ApiKeyRecord>, StorageError>;

    /// A workspace's API keys in the order of their creation.
    async fn api_keys(&self, workspace: WorkspaceId) -> Result<Vec<ApiKeyRecord>, StorageError>;

    /// Revokes an API key and returns it; a key that was already revoked keeps its time. `None`
    /// when there is none.
    async fn revoke_api_key(
        &self,
        workspace: WorkspaceId,
        id: ApiKeyId,
        at: Timestamp,
    ) -> Result<Option<ApiKeyRecord>, StorageError>;
}
