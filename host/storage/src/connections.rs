//! Connections and the entries bound to them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{ConnectionId, ConnectionStateRecord, EntryId, ItemId, StorageError, WorkspaceId};

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// Its id.
    pub id: ConnectionId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Its display name.
    pub name: String,
    /// The provider's type.
    pub provider_type: String,
    /// Envelope with the settings and the approved destinations.
    pub sealed_settings: Vec<u8>,
    /// JSON object: for each secret setting its last four characters.
    pub hints: String,
    /// The owner of the credentials, as reported by the provider.
    pub account: String,
    /// What the secret manager counts requests by, as reported by the provider; `None` when
    /// unknown.
    pub account_key: Option<String>,
    /// The [id](crate::account_id) of the account that its items are in.
    pub account_id: Arc<str>,
    /// The chosen rate-limit tier; `None` for the default.
    pub rate_limit_tier: Option<String>,
    /// Whether it is read-only everywhere; `None` when the provider does not say.
    pub read_only: Option<bool>,
    /// The default cache duration of its entries, in seconds; 0 is off.
    pub cache_ttl_seconds: u32,
    /// Grows each time the cached secrets are cleared: cached values of an earlier generation are
    /// invalid.
    pub cache_generation: u64,
    /// The row's version when its current settings were stored.
    pub settings_version: u64,
    /// The row's version, part of what the settings are bound to.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl ConnectionRecord {
    /// The item of this reference, which must be in its provider's normal form.
    pub fn item(&self, reference: &Arc<str>) -> ItemId {
        ItemId { account: self.account_id.clone(), reference: reference.clone() }
    }
}

/// A vault entry that is bound to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DependentEntry {
    /// Its id.
    pub id: EntryId,
    /// The user it belongs to.
    pub user: String,
    /// The site.
    pub domain: String,
    /// Its display name.
    pub alias: Option<String>,
}

/// The vault entries bound to a connection, or the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DependentEntries {
    /// In the order of their creation.
    pub entries: Vec<DependentEntry>,
    /// The total number.
    pub total: u64,
}

/// The total number and a few names, for use in a sentence.
impl fmt::Display for DependentEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED: usize = 5;
        write!(f, "{} vault {} ", self.total, if self.total == 1 { "entry" } else { "entries" })?;
        if self.entries.is_empty() {
            return f.write_str(if self.total == 1 { "whose row is damaged" } else { "whose rows are damaged" });
        }
        f.write_str("(")?;
        for (number, entry) in self.entries.iter().take(NAMED).enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            let name = entry.alias.as_ref().unwrap_or(&entry.user);
            write!(f, "{separator}{name} at {}", entry.domain)?;
        }
        match self.total.saturating_sub(self.entries.len().min(NAMED) as u64) {
            0 => f.write_str(")"),
            more => write!(f, " and {more} more)"),
        }
    }
}

/// Connections.
#[async_trait]
pub trait ConnectionStorage: Send + Sync + 'static {
    /// Adds a connection, with the state that its provider stored during verification. Fails with
    /// [`Constraint::KeyTerm`](crate::Constraint::KeyTerm) unless its settings and the state are
    /// sealed under the workspace's current key.
    async fn insert_connection(
        &self,
        connection: &ConnectionRecord,
        state: Option<&ConnectionStateRecord>,
    ) -> Result<(), StorageError>;

    /// Replaces a connection whose version is `expected`, and adds 1 to its cache generation if
    /// `clear_cached_secrets`. Returns whether it did. `created_at` stays, and the record's own
    /// `cache_generation` is ignored.
    ///
    /// When its provider names an account for the first time, the connection's open rotations move
    /// from its own id to that account. A new `settings_version` removes the state of the previous
    /// settings; `state`, if any, replaces it.
    ///
    /// Fails with [`Constraint::KeyTerm`](crate::Constraint::KeyTerm) as
    /// [`insert_connection`](Self::insert_connection) does.
    async fn update_connection(
        &self,
        connection: &ConnectionRecord,
        expected: u64,
        clear_cached_secrets: bool,
        state: Option<&ConnectionStateRecord>,
    ) -> Result<bool, StorageError>;

    /// Adds 1 to a connection's cache generation. Returns whether there is such a connection.
    async fn clear_cached_secrets(&self, workspace: WorkspaceId, id: ConnectionId) -> Result<bool, StorageError>;

    /// A connection.
    async fn connection(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
    ) -> Result<Option<ConnectionRecord>, StorageError>;

    /// A workspace's connections in the order of their creation.
    async fn connections(&self, workspace: WorkspaceId) -> Result<Vec<ConnectionRecord>, StorageError>;

    /// The provider types of all connections, in any workspace.
    async fn provider_types(&self) -> Result<Vec<String>, StorageError>;

    /// Removes a connection with its state. Returns whether there was one. Fails with
    /// [`Constraint::Reference`](crate::Constraint::Reference) while entries are bound to it. The
    /// database decides that, so an entry bound at the same moment never loses its connection.
    async fn delete_connection(&self, workspace: WorkspaceId, id: ConnectionId) -> Result<bool, StorageError>;

    /// The first `limit` entries bound to a connection, in the order of their creation, and the
    /// total number.
    async fn entries_of_connection(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
        limit: u32,
    ) -> Result<DependentEntries, StorageError>;

    /// The connections through which a workspace's entries are bound to an item, each once.
    async fn connections_of_item(
        &self,
        workspace: WorkspaceId,
        item: &ItemId,
    ) -> Result<Vec<ConnectionId>, StorageError>;
}
