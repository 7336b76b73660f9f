//! Creating, reading, changing and deleting vault entries.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::Arc;

use keyway_audit::{Operation, Subject, Trail};
use keyway_storage::{
    ConnectionId, Constraint, EntryId, EntrySelector, RotationFilter, RotationState, Scope, StorageError, WorkspaceId,
};

use super::store::{EntryStore, pair_of};
use super::{Binding, EntryContent, EntryPage, VaultEntry};
use crate::access::Access;
use crate::cache::ItemKey;
use crate::connections::Connections;
use crate::core::Core;
use crate::error::{BrokerError, InvalidInput, Thing};
use crate::items::Items;
use crate::keyring::WorkspaceKeys;
use crate::resolve::Resolver;

/// The most entries on a page of [`Entries::list`]. Pages of large entries have fewer.
pub const ENTRIES_PER_PAGE: u32 = 100;

/// The most bytes of sealed values on a page, not counting its first entry, which alone may have
/// 2 MiB of attributes. 100 entries with 10 KiB of cookies each fit.
const PAGE_BYTES: u64 = 1 << 20;

/// How often a change is attempted against concurrent changes before it fails.
const ATTEMPTS: u32 = 16;

/// The vault entries of all workspaces: see [`Broker::entries`](crate::Broker::entries).
pub struct Entries {
    pub(crate) core: Arc<Core>,
    pub(crate) store: Arc<EntryStore>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) items: Arc<Items>,
    pub(crate) resolver: Arc<Resolver>,
}

impl Entries {
    /// Creates a vault entry. Needs [`Scope::Api`](crate::Scope::Api).
    ///
    /// The provider is not asked whether the bound item exists, so that entries can be created in
    /// bulk, and while the provider cannot be reached.
    ///
    /// # Errors
    /// [`BrokerError::Invalid`] with the rule that is broken, [`BrokerError::NotEncrypted`],
    /// [`BrokerError::EntryExists`].
    pub async fn create(&self, access: &Access, new: EntryContent) -> Result<VaultEntry, BrokerError> {
        let id = EntryId::generate();
        let trail = Trail::entry(id);
        let make = |keys| self.make(access, keys, id, new.clone(), &trail);
        let create = self.core.keyring.with_current(access.workspace(), make);
        self.core.audited(access, Operation::CreateEntry, &trail, create).await
    }

    async fn make(
        &self,
        access: &Access,
        keys: Arc<WorkspaceKeys>,
        id: EntryId,
        content: EntryContent,
        trail: &Trail,
    ) -> Result<VaultEntry, BrokerError> {
        let now = self.core.timestamp();
        let workspace_id = access.workspace();
        let mut entry =
            VaultEntry { id, workspace_id, content, session_data_set_at: None, created_at: now, updated_at: now };
        entry.check(&EntryContent::default(), keys.client(), now)?;
        if let Some(binding) = entry.content.binding_mut() {
            self.normalize(access, binding).await?;
            trail.note(|subject| subject.bound_to(binding.connection_id, &binding.reference));
        }
        self.require_unused(workspace_id, &entry).await?;
        trail.begin().await?;
        let record = self.store.seal(&keys, &entry, 1).await?;
        self.core.storage.insert_entry(&record).await.map_err(refused)?;
        Ok(entry)
    }

    /// A vault entry. Needs [`Scope::Api`](crate::Scope::Api). Reading an entry with session data
    /// or other secret attributes
    /// ([`AttributeKind::is_secret`](crate::entries::AttributeKind::is_secret)) releases them, and
    /// is recorded as a release.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`]; [`BrokerError::Audit`] for one with secret attributes.
    pub async fn get(&self, access: &Access, entry: &EntrySelector) -> Result<VaultEntry, BrokerError> {
        let trail = Trail::new();
        let get = async {
            self.core.hold_keys(access.workspace()).await?;
            let record = self.core.storage.entry(access.workspace(), entry).await?;
            let entry = self.store.open(record.ok_or(BrokerError::NotFound(Thing::Entry))?).await?;
            trail.note(|subject| {
                subject.entry = Some(entry.id);
                subject.released_attributes(entry.attributes.secret_names());
            });
            Ok(entry)
        };
        self.core.audited(access, Operation::GetEntry, &trail, get).await
    }

    /// The approximate size of an entry in bytes, for a server that reserves memory for it; 0 when
    /// there is no such entry. Needs [`Scope::Api`](crate::Scope::Api).
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`]; those of the database.
    pub async fn size(&self, access: &Access, entry: &EntrySelector) -> Result<u64, BrokerError> {
        access.require(Scope::Api)?;
        Ok(self.core.storage.entry_size(access.workspace(), entry).await?.unwrap_or_default())
    }

    /// Whether a ciphertext holds `null`, which some clients encrypt where they have no value. One
    /// that does not open counts as a value; it is refused when it is stored. Needs
    /// [`Scope::Api`](crate::Scope::Api).
    ///
    /// # Errors
    /// [`BrokerError::Forbidden`]; those of the host itself.
    pub async fn is_encrypted_null(&self, access: &Access, ciphertext: &str) -> Result<bool, BrokerError> {
        access.require(Scope::Api)?;
        let decrypt = |keys: Arc<WorkspaceKeys>| {
            ready(keys.client().decrypt(ciphertext).map_err(|error| BrokerError::of_client_value("", error)))
        };
        match self.core.keyring.with_current(access.workspace(), decrypt).await {
            Ok(value) => Ok(value.is_none()),
            Err(BrokerError::NotEncrypted { .. } | BrokerError::Invalid(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A page of a workspace's entries: those after `after`, at most [`ENTRIES_PER_PAGE`] and about
    /// 1 MiB. Needs [`Scope::Api`](crate::Scope::Api).
    ///
    /// All clients' values on a page are under one encryption key. When the key is rotated between
    /// two pages, those on the second page are under the new key, and its [`EntryPage::key_term`]
    /// says so. A page with secret attributes releases them, as in [`get`](Self::get).
    ///
    /// # Errors
    /// Those of the host itself; [`BrokerError::Audit`] for a page with secret attributes.
    pub async fn list(&self, access: &Access, after: Option<EntryId>) -> Result<EntryPage, BrokerError> {
        let trail = Trail::new();
        let list = async {
            self.core.hold_keys(access.workspace()).await?;
            let page = self.core.storage.entries(access.workspace(), after, ENTRIES_PER_PAGE, PAGE_BYTES).await?;
            let (entries, key_term) = self.store.open_all(access.workspace(), page.entries).await?;
            trail.note(|subject| releases_of(&entries, subject));
            Ok(EntryPage { entries, next: page.next, key_term })
        };
        self.core.audited(access, Operation::ListEntries, &trail, list).await
    }

    /// Changes a vault entry. Needs [`Scope::Api`](crate::Scope::Api).
    ///
    /// `change` is called with the content of the entry, and may refuse the change
    /// ([`InvalidInput::Refused`](crate::InvalidInput::Refused)). No concurrent change is lost:
    /// each is applied to the result of the one before, so `change` may be called several times.
    /// Cached values of the entry are dropped when its binding changes.
    ///
    /// ```
    /// # use keyway::{Access, Broker, BrokerError, EntryId};
    /// # async fn example(broker: &Broker, access: &Access, id: EntryId) -> Result<(), BrokerError> {
    /// let id = id.into();
    /// let renamed = broker.entries().update(access, &id, |entry| {
    ///     entry.alias = Some("Production".into());
    ///     Ok(())
    /// });
    /// renamed.await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`create`](Self::create); [`BrokerError::NotFound`]; [`BrokerError::Changed`] when
    /// concurrent changes came first at every attempt; [`BrokerError::RotationOpen`] when it would
    /// be bound to something else while its password is being rotated.
    pub async fn update(
        &self,
        access: &Access,
        entry: &EntrySelector,
        change: impl Fn(&mut EntryContent) -> Result<(), InvalidInput> + Send + Sync,
    ) -> Result<VaultEntry, BrokerError> {
        let trail = Trail::selected(entry);
        let change = async {
            let changed = self.change_entry(access, entry, &change, &trail).await?;
            // Includes unchanged attributes, which the caller may see for the first time.
            trail.note(|subject| subject.released_attributes(changed.attributes.secret_names()));
            Ok(changed)
        };
        self.core.audited(access, Operation::UpdateEntry, &trail, change).await
    }

    async fn change_entry(
        &self,
        access: &Access,
        entry: &EntrySelector,
        change: &(dyn Fn(&mut EntryContent) -> Result<(), InvalidInput> + Send + Sync),
        trail: &Trail,
    ) -> Result<VaultEntry, BrokerError> {
        for _ in 0..ATTEMPTS {
            let change = |keys| self.try_to_change(access, keys, entry, change, trail);
            if let Some(changed) = self.core.keyring.with_current(access.workspace(), change).await? {
                return Ok(changed);
            }
        }
        Err(BrokerError::Changed(Thing::Entry))
    }

    /// Attempts the change once; `None` when a concurrent change came first.
    async fn try_to_change(
        &self,
        access: &Access,
        keys: Arc<WorkspaceKeys>,
        entry: &EntrySelector,
        change: &(dyn Fn(&mut EntryContent) -> Result<(), InvalidInput> + Send + Sync),
        trail: &Trail,
    ) -> Result<Option<VaultEntry>, BrokerError> {
        let before = self.core.storage.entry(access.workspace(), entry).await?;
        let before = before.ok_or(BrokerError::NotFound(Thing::Entry))?;
        let version = before.version;
        trail.note(|subject| subject.entry = Some(before.id));
        let (old_binding, old_pair) = (Binding::of(&before), pair_of(&before));
        let mut entry = self.store.open(before).await?;
        let content = entry.content.clone();
        change(&mut entry.content)?;
        entry.check(&content, keys.client(), self.core.timestamp())?;
        if item_of(entry.binding()) != item_of(old_binding.as_ref())
            && let Some(binding) = entry.content.binding_mut()
        {
            self.normalize(access, binding).await?;
        }
        let rebound = entry.binding() != old_binding.as_ref();
        // This check only costs a read; the condition of the update decides.
        if rebound && item_of(entry.binding()) != item_of(old_binding.as_ref()) {
            self.require_no_open_rotation(access.workspace(), entry.id).await?;
        }
        if let Some(binding) = entry.binding() {
            trail.note(|subject| subject.bound_to(binding.connection_id, &binding.reference));
        }
        if selector_of(&entry) != old_pair {
            self.require_unused(access.workspace(), &entry).await?;
        }
        trail.begin().await?;
        let record = self.store.seal(&keys, &entry, version + 1).await?;
        if !self.core.storage.update_entry(&record, version).await.map_err(refused)? {
            return Ok(None);
        }
        self.store.forget(&record);
        self.store.forget_selector(record.workspace_id, old_pair);
        if rebound {
            for binding in old_binding.iter().chain(entry.binding()) {
                self.drop_cached(access.workspace(), binding).await;
            }
        }
        Ok(Some(entry))
    }

    /// Deletes a vault entry and its cached values. Its connection and its item stay as they are.
    /// Needs [`Scope::Api`](crate::Scope::Api).
    ///
    /// # Errors
    /// [`BrokerError::NotFound`]; [`BrokerError::RotationOpen`] while its password is being
    /// rotated.
    pub async fn delete(&self, access: &Access, entry: &EntrySelector) -> Result<(), BrokerError> {
        let trail = Trail::selected(entry);
        let delete = async {
            let id = match self.core.storage.entry(access.workspace(), entry).await {
                Ok(found) => found.ok_or(BrokerError::NotFound(Thing::Entry))?.id,
                // A damaged one can be deleted, too.
                Err(StorageError::Damaged { id, .. }) => id.into(),
                Err(error) => return Err(error.into()),
            };
            trail.note(|subject| subject.entry = Some(id));
            // The constraint of the database decides.
            self.require_no_open_rotation(access.workspace(), id).await?;
            trail.begin().await?;
            let deleted =
                self.core.storage.delete_entry(access.workspace(), entry).await.map_err(|error| match error {
                    StorageError::Conflict(Constraint::Reference) => BrokerError::RotationOpen,
                    error => error.into(),
                })?;
            let deleted = deleted.ok_or(BrokerError::NotFound(Thing::Entry))?;
            trail.note(|subject| subject.entry = Some(deleted.id));
            self.store.forget(&deleted);
            if let Some(binding) = Binding::of(&deleted) {
                trail.note(|subject| subject.bound_to(binding.connection_id, &binding.reference));
                self.drop_cached(access.workspace(), &binding).await;
            }
            Ok(())
        };
        self.core.audited(access, Operation::DeleteEntry, &trail, delete).await
    }

    /// Clears the browser state among an entry's attributes
    /// ([`AttributeKind::BrowserState`](super::AttributeKind::BrowserState)), so that the next run
    /// logs in again. Needs [`Scope::Api`](crate::Scope::Api).
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::Changed`].
    pub async fn clear_browser_state(&self, access: &Access, entry: &EntrySelector) -> Result<VaultEntry, BrokerError> {
        let trail = Trail::selected(entry);
        let clear = |entry: &mut EntryContent| {
            entry.attributes.clear_browser_state();
            Ok(())
        };
        let cleared = self.change_entry(access, entry, &clear, &trail);
        self.core.audited(access, Operation::ClearBrowserState, &trail, cleared).await
    }

    /// Brings the reference of a new binding into its normal form.
    async fn normalize(&self, access: &Access, binding: &mut Binding) -> Result<(), BrokerError> {
        let (workspace, connection) = (access.workspace(), binding.connection_id);
        binding.reference = self.connections.normalize(workspace, connection, &binding.reference).await?;
        Ok(())
    }

    /// Refuses a pair of user and domain that another entry has. The constraint of the database
    /// decides.
    async fn require_unused(&self, workspace: WorkspaceId, entry: &VaultEntry) -> Result<(), BrokerError> {
        let found = self.core.storage.entry(workspace, &selector_of(entry)).await?;
        if found.is_some() { Err(BrokerError::EntryExists) } else { Ok(()) }
    }

    /// Refuses to bind an entry elsewhere while its password is being rotated.
    async fn require_no_open_rotation(&self, workspace: WorkspaceId, entry: EntryId) -> Result<(), BrokerError> {
        let open = RotationFilter { states: RotationState::OPEN.to_vec(), entry: Some(entry) };
        let found = self.core.storage.rotations(workspace, &open, None, 1).await?;
        if found.is_empty() { Ok(()) } else { Err(BrokerError::RotationOpen) }
    }

    async fn drop_cached(&self, workspace: WorkspaceId, binding: &Binding) {
        let reference: Arc<str> = binding.reference.as_str().into();
        // Its generation has changed. A deleted connection resolves nothing, so there is nothing
        // to forget.
        if let Ok(connection) = self.connections.record(workspace, binding.connection_id).await {
            self.items.forget(workspace, &connection.item(&reference));
        }
        self.items.cache.drop_item(&ItemKey { connection: binding.connection_id, reference });
    }
}

/// Notes what a page of entries releases: from how many entries, and which attributes.
fn releases_of(entries: &[VaultEntry], subject: &mut Subject) {
    let with_secrets = entries.iter().filter(|entry| entry.attributes.secret_names().next().is_some());
    subject.count = Some(with_secrets.count() as u64);
    let names: BTreeSet<_> = entries.iter().flat_map(|entry| entry.attributes.secret_names()).collect();
    subject.released_attributes(names);
}

/// The pair of user and domain of an entry.
fn selector_of(entry: &VaultEntry) -> EntrySelector {
    EntrySelector::Pair { user: entry.user.clone(), domain: entry.domain.clone() }
}

/// What an entry is bound to, whatever its cache duration is.
fn item_of(binding: Option<&Binding>) -> Option<(ConnectionId, &str)> {
    binding.map(|binding| (binding.connection_id, binding.reference.as_str()))
}

/// The error for a violated constraint of the database.
fn refused(error: StorageError) -> BrokerError {
    match error {
        StorageError::Conflict(Constraint::Unique) => BrokerError::EntryExists,
        StorageError::Conflict(Constraint::Reference) => InvalidInput::UnknownConnection.into(),
        error => error.into(),
    }
}
