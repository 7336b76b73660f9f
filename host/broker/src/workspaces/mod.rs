//! Workspaces and their API keys.

pub(crate) mod api_key;
mod api_keys;

use std::sync::Arc;

use keyway_audit::{Operation, Trail};
use keyway_keys::FIRST_TERM;
use keyway_storage::{Constraint, RotationFilter, RotationState, Scopes, StorageError, WorkspaceId};
use secrecy::SecretString;
use tracing::info;

pub use api_key::ApiKey;
pub use api_keys::{ApiKeys, CreatedApiKey};
pub use keyway_storage::WorkspaceRecord as Workspace;

use crate::access::Access;
use crate::core::Core;
use crate::error::{BrokerError, Thing};
use crate::text::required;

/// The longest name of a workspace or an API key, in characters.
const NAME_LIMIT: usize = 256;

/// A workspace to be created. A name is enough: `"Acme".into()`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct NewWorkspace {
    /// Its name for people. Names need not be unique.
    pub name: String,
    /// Your platform's id for it, unique among all workspaces. It finds the workspace
    /// ([`Workspaces::find`]), and makes creating it twice an error.
    pub external_id: Option<String>,
}

impl NewWorkspace {
    /// Sets the platform's own id.
    #[must_use]
    pub fn external_id(self, id: impl Into<String>) -> Self {
        Self { external_id: Some(id.into()), ..self }
    }
}

impl<T: Into<String>> From<T> for NewWorkspace {
    fn from(name: T) -> Self {
        Self { name: name.into(), external_id: None }
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
    /// again, see [`Keys::encryption_key`](crate::keys::Keys::encryption_key).
    pub encryption_key: SecretString,
}

/// The workspaces: see [`Broker::workspaces`](crate::Broker::workspaces).
pub struct Workspaces {
    pub(crate) core: Arc<Core>,
}

impl Workspaces {
    /// Creates a workspace with a new key of its own and a first API key with these scopes. Code
    /// that acts only as an operator needs no API key: one with [`Scopes::NONE`] grants nothing.
    ///
    /// # Errors
    /// [`BrokerError::Invalid`] for an empty or overlong name or external id;
    /// [`BrokerError::WorkspaceExists`] when the external id is in use.
    pub async fn create(
        &self,
        new: impl Into<NewWorkspace>,
        scopes: impl Into<Scopes>,
    ) -> Result<CreatedWorkspace, BrokerError> {
        let NewWorkspace { name, external_id } = new.into();
        let now = self.core.timestamp();
        let workspace = Workspace { id: WorkspaceId::generate(), name, external_id, created_at: now, updated_at: now };
        let (api_key, api_key_record) = api_key::generate(workspace.id, "first key", scopes.into(), now)?;
        let access = Access::operator(workspace.id, &self.core.operator);
        let trail = Trail::api_key(api_key_record.id);
        let create = async {
            required("name", &workspace.name, NAME_LIMIT)?;
            if let Some(external_id) = &workspace.external_id {
                required("external_id", external_id, NAME_LIMIT)?;
                if self.core.storage.workspace_by_external_id(external_id).await?.is_some() {
                    return Err(BrokerError::WorkspaceExists);
                }
            }
            trail.begin().await?;
            let client_key = loop {
                let (key, client_key) = self.core.keyring.generate(workspace.id, FIRST_TERM, now).await?;
                match self.core.storage.insert_workspace(&workspace, &key, &api_key_record).await {
                    Ok(()) => break client_key,
                    // The master key was replaced concurrently; the next attempt wraps with the new
                    // one, if this host has it.
                    Err(StorageError::Conflict(Constraint::KeyTerm)) => {}
                    Err(StorageError::Conflict(Constraint::Unique)) if workspace.external_id.is_some() => {
                        return Err(BrokerError::WorkspaceExists);
                    }
                    Err(error) => return Err(error.into()),
                }
            };
            info!(workspace = %workspace.id, "workspace created");
            Ok(CreatedWorkspace { workspace, api_key, encryption_key: client_key.to_hex() })
        };
        self.core.audited(&access, Operation::CreateWorkspace, &trail, create).await
    }

    /// All workspaces in the order of their creation. For the code that embeds the broker; it takes
    /// no [`Access`].
    ///
    /// # Errors
    /// Only those of the host itself.
    pub async fn list(&self) -> Result<Vec<Workspace>, BrokerError> {
        self.core.ensure_open()?;
        Ok(self.core.storage.workspaces().await?)
    }

    /// A workspace. For the code that embeds the broker; it takes no [`Access`].
    ///
    /// # Errors
    /// [`BrokerError::NotFound`].
    pub async fn get(&self, id: WorkspaceId) -> Result<Workspace, BrokerError> {
        self.core.ensure_open()?;
        self.core.storage.workspace(id).await?.ok_or(BrokerError::NotFound(Thing::Workspace))
    }

    /// The workspace with this external id. For the code that embeds the broker; it takes no
    /// [`Access`].
    ///
    /// # Errors
    /// [`BrokerError::NotFound`].
    pub async fn find(&self, external_id: &str) -> Result<Workspace, BrokerError> {
        self.core.ensure_open()?;
        let found = self.core.storage.workspace_by_external_id(external_id).await?;
        found.ok_or(BrokerError::NotFound(Thing::Workspace))
    }

    /// Renames a workspace. Needs [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// # Errors
    /// [`BrokerError::Invalid`], [`BrokerError::NotFound`].
    pub async fn rename(&self, access: &Access, name: &str) -> Result<Workspace, BrokerError> {
        let trail = Trail::new();
        let rename = async {
            required("name", name, NAME_LIMIT)?;
            self.get(access.workspace()).await?;
            trail.begin().await?;
            let renamed = self.core.storage.rename_workspace(access.workspace(), name, self.core.timestamp());
            renamed.await?.ok_or(BrokerError::NotFound(Thing::Workspace))
        };
        self.core.audited(access, Operation::RenameWorkspace, &trail, rename).await
    }

    /// Deletes a workspace with its connections, entries, API keys and the key that everything in
    /// it is sealed under. Its audit records stay. Needs [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// Other processes on the same database notice within [`MAX_AGE`](keyway_storage::MAX_AGE).
    ///
    /// # Errors
    /// [`BrokerError::NotFound`]; [`BrokerError::RotationOpen`] while a rotation is open, because
    /// its password may be the one that the site has.
    pub async fn delete(&self, access: &Access) -> Result<(), BrokerError> {
        let id = access.workspace();
        let trail = Trail::new();
        let delete = async {
            match self.core.storage.workspace(id).await {
                // A damaged one can be deleted, too.
                Ok(Some(_)) | Err(StorageError::Damaged { .. }) => {}
                Ok(None) => return Err(BrokerError::NotFound(Thing::Workspace)),
                Err(error) => return Err(error.into()),
            }
            // The constraint of the database decides.
            let open = RotationFilter { states: RotationState::OPEN.to_vec(), entry: None };
            if !self.core.storage.rotations(id, &open, None, 1).await?.is_empty() {
                return Err(BrokerError::RotationOpen);
            }
            trail.begin().await?;
            let deleted = self.core.storage.delete_workspace(id).await.map_err(|error| match error {
                StorageError::Conflict(Constraint::Reference) => BrokerError::RotationOpen,
                error => error.into(),
            })?;
            if !deleted {
                return Err(BrokerError::NotFound(Thing::Workspace));
            }
            self.core.keyring.remove(id).await;
            info!(workspace = %id, "workspace deleted");
            Ok(())
        };
        self.core.audited(access, Operation::DeleteWorkspace, &trail, delete).await
    }
}
