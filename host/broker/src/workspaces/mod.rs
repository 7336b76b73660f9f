//! Workspaces and their API keys.

pub(crate) mod api_key;
mod api_keys;

use std::sync::Arc;

use jiff::Timestamp;
use keyway_audit::{Operation, Trail};
use keyway_keys::FIRST_TERM;
use keyway_storage::{Constraint, Scopes, StorageError, WorkspaceId, WorkspaceRecord};
use secrecy::SecretString;
use tracing::info;

pub use api_key::ApiKey;
pub use api_keys::{ApiKeys, CreatedApiKey};

use crate::access::Access;
use crate::core::Core;
use crate::error::{BrokerError, Thing};
use crate::text::required;

/// As long as a name may be, of an API key as well.
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
    /// again, see [`Keys::encryption_key`](crate::keys::Keys::encryption_key).
    pub encryption_key: SecretString,
}

/// The workspaces: see [`Broker::workspaces`](crate::Broker::workspaces).
pub struct Workspaces {
    pub(crate) core: Arc<Core>,
}

impl Workspaces {
    /// Creates a workspace with a new key of its own and a first API key with these scopes.
    ///
    /// # Errors
    /// [`BrokerError::Invalid`] for an empty or overlong name.
    pub async fn create(&self, name: &str, scopes: impl Into<Scopes>) -> Result<CreatedWorkspace, BrokerError> {
        let now = self.core.timestamp();
        let record =
            WorkspaceRecord { id: WorkspaceId::generate(), name: name.into(), created_at: now, updated_at: now };
        let (api_key, api_key_record) = api_key::generate(record.id, "first key", scopes.into(), now)?;
        let access = Access::operator(record.id, &self.core.operator);
        let trail = Trail::api_key(api_key_record.id);
        let create = async {
            required("name", &record.name, NAME_LIMIT)?;
            let client_key = loop {
                let (key, client_key) = self.core.keyring.generate(record.id, FIRST_TERM, now).await?;
                match self.core.storage.insert_workspace(&record, &key, &api_key_record).await {
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
        self.core.audited(&access, Operation::CreateWorkspace, &trail, create).await
    }

    /// All workspaces in the order of their creation. For the code that embeds the broker; it takes
    /// no [`Access`].
    ///
    /// # Errors
    /// Only those of the host itself.
    pub async fn list(&self) -> Result<Vec<Workspace>, BrokerError> {
        Ok(self.core.storage.workspaces().await?.into_iter().map(Workspace::from).collect())
    }

    /// A workspace. For the code that embeds the broker; it takes no [`Access`].
    ///
    /// # Errors
    /// [`BrokerError::NotFound`].
    pub async fn get(&self, id: WorkspaceId) -> Result<Workspace, BrokerError> {
        let record = self.core.storage.workspace(id).await?;
        record.map(Workspace::from).ok_or(BrokerError::NotFound(Thing::Workspace))
    }
}
