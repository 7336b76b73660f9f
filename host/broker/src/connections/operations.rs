//! Creating, listing, changing and opening connections.

use std::sync::Arc;

use keyway_audit::{Operation, Trail};
use keyway_budget::{Guard, ProviderOperation};
use keyway_keys::{EnvelopeError, Place};
use keyway_runtime::contract::{Description, Verified};
use keyway_runtime::egress::Authorities;
use keyway_runtime::store::{MemoryStore, StoredState};
use keyway_runtime::{CallError, ErrorCode, OpenConnection, Provider, Settings};
use keyway_storage::{
    ConnectionId, ConnectionRecord, ConnectionStateRecord, Constraint, SealedColumn, StorageError, WorkspaceId,
    account_id,
};
use secrecy::ExposeSecret;
use tracing::info;

use super::settings::{HINTED_FROM, SealedPart, hints};
use super::{Connection, ConnectionChanges, Connections, NewConnection};
use crate::access::Access;
use crate::cache_ttl::CacheTtl;
use crate::durable_state::DurableState;
use crate::error::{BrokerError, InvalidInput, Thing};
use crate::keyring::{WorkspaceKeys, place};
use crate::provider_call::{CallFailure, Opened, Turns};
use crate::text::required;

const NAME_LIMIT: usize = 256;

/// The longest provider type, by the contract.
const PROVIDER_TYPE_LIMIT: usize = 64;

/// The longest known, a service account token of 1Password, has about 900 bytes; a private key may
/// have some thousand.
const SETTING_LIMIT: usize = 64 << 10;

impl Connections {
    /// Creates a connection: the provider logs in with the settings first, and nothing is stored if
    /// it cannot. Needs [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// # Errors
    /// [`BrokerError::NotVerified`] with the provider's reason,
    /// [`BrokerError::ProviderNotInstalled`], [`BrokerError::Invalid`].
    pub async fn create(&self, access: &Access, new: NewConnection) -> Result<Connection, BrokerError> {
        let id = ConnectionId::generate();
        let trail = Trail::connection(id);
        self.core.audited(access, Operation::Connect, &trail, self.make_connection(access, id, new, &trail)).await
    }

    async fn make_connection(
        &self,
        access: &Access,
        id: ConnectionId,
        new: NewConnection,
        trail: &Trail,
    ) -> Result<Connection, BrokerError> {
        required("name", &new.name, NAME_LIMIT)?;
        required("provider_type", &new.provider_type, PROVIDER_TYPE_LIMIT)?;
        check_length(new.certificate_authorities.as_deref())?;
        // Before the provider is called.
        self.core.hold_keys(access.workspace()).await?;
        let provider = self.provider(&new.provider_type).await?;
        check_tier(provider.description(), new.rate_limit_tier.as_deref())?;
        let (workspace, tier) = (access.workspace(), new.rate_limit_tier.as_deref());
        let checked = self.check_settings(workspace, &provider, new.settings, new.certificate_authorities, tier, trail);
        let checked = checked.await?;
        trail.begin().await?;
        let now = self.core.timestamp();
        let mut record = ConnectionRecord {
            id,
            workspace_id: access.workspace(),
            name: new.name,
            account_id: account_id(&new.provider_type, None, id),
            provider_type: new.provider_type,
            sealed_settings: Vec::new(),
            hints: String::new(),
            account: String::new(),
            account_key: None,
            rate_limit_tier: new.rate_limit_tier,
            read_only: None,
            cache_ttl_seconds: new.cache_ttl.seconds(),
            cache_generation: 0,
            settings_version: 1,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        checked.describe(&mut record);
        let (part, state) = (&checked.part, checked.state.as_ref());
        let insert = |keys: Arc<WorkspaceKeys>| {
            let record = record.clone();
            async move {
                let (record, state) = self.sealed(&keys, record, part, state).await?;
                match self.core.storage.insert_connection(&record, state.as_ref()).await {
                    Err(StorageError::Conflict(Constraint::Reference)) => Err(BrokerError::NotFound(Thing::Workspace)),
                    inserted => Ok(inserted?),
                }
            }
        };
        self.core.keyring.with_current(access.workspace(), insert).await?;
        // The session that checked the settings serves later calls.
        let (connection, guard) = checked.opened.into_parts();
        let connection = connection.with_state_store(self.state_of(&record));
        self.opened.insert((record.id, record.version), (connection, guard));
        info!(connection = %record.id, provider = record.provider_type, "connected");
        record.try_into()
    }

    /// Changes a connection. New settings are checked with the provider first; if it refuses them,
    /// nothing changes. Needs [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// New settings, or a cache duration of "off", drop the cached values. The provider's durable
    /// state under the old settings is replaced by what it stores while it checks the new ones.
    /// With new settings, rotations whose password could not be written with the old ones are due
    /// again.
    ///
    /// # Errors
    /// As [`create`](Self::create); [`BrokerError::NotFound`]; [`BrokerError::Changed`] when it was
    /// changed concurrently.
    pub async fn update(
        &self,
        access: &Access,
        id: ConnectionId,
        changes: ConnectionChanges,
    ) -> Result<Connection, BrokerError> {
        let trail = Trail::connection(id);
        let change = self.change_connection(access, id, changes, &trail);
        self.core.audited(access, Operation::UpdateConnection, &trail, change).await
    }

    async fn change_connection(
        &self,
        access: &Access,
        id: ConnectionId,
        changes: ConnectionChanges,
        trail: &Trail,
    ) -> Result<Connection, BrokerError> {
        // Before the record is read, so that its settings open.
        self.core.hold_keys(access.workspace()).await?;
        let stored = self.core.storage.connection(access.workspace(), id).await?;
        let mut record = stored.ok_or(BrokerError::NotFound(Thing::Connection))?;
        if let Some(name) = changes.name {
            required("name", &name, NAME_LIMIT)?;
            record.name = name;
        }
        if let Some(ttl) = changes.cache_ttl {
            record.cache_ttl_seconds = ttl.seconds();
        }
        let has_new_tier = changes.rate_limit_tier.is_some();
        if let Some(tier) = changes.rate_limit_tier {
            if tier.is_some() {
                check_tier(self.provider(&record.provider_type).await?.description(), tier.as_deref())?;
            }
            record.rate_limit_tier = tier;
        }
        let has_new_settings = changes.settings.is_some() || changes.certificate_authorities.is_some();
        let clear = has_new_settings || changes.cache_ttl.is_some_and(CacheTtl::is_off);
        let (part, connection, state) = match (changes.settings, changes.certificate_authorities) {
            // Opened again, under the new tier's limits.
            (None, None) if has_new_tier => (self.open_settings(&record).await?, None, None),
            (None, None) => (self.open_settings(&record).await?, self.opened.get(&(id, record.version)), None),
            (settings, authorities) => {
                let (settings, authorities) = match (settings, authorities) {
                    (Some(settings), Some(authorities)) => (settings, authorities),
                    // New settings also replace those that cannot be opened.
                    (Some(settings), None) => {
                        (settings, self.open_settings(&record).await.ok().and_then(|part| part.authorities))
                    }
                    (None, authorities) => (self.open_settings(&record).await?.settings, authorities.flatten()),
                };
                let (provider, tier) = (self.provider(&record.provider_type).await?, record.rate_limit_tier.as_deref());
                let checked =
                    self.check_settings(access.workspace(), &provider, settings, authorities, tier, trail).await?;
                checked.describe(&mut record);
                (checked.part, Some(checked.opened.into_parts()), checked.state)
            }
        };
        trail.begin().await?;
        let before = record.version;
        record.version += 1;
        if has_new_settings {
            record.settings_version = record.version;
        }
        record.updated_at = self.core.timestamp();
        let (part, state) = (&part, state.as_ref());
        let update = |keys: Arc<WorkspaceKeys>| {
            let record = record.clone();
            async move {
                let (record, state) = self.sealed(&keys, record, part, state).await?;
                Ok(self.core.storage.update_connection(&record, before, clear, state.as_ref()).await?)
            }
        };
        if !self.core.keyring.with_current(access.workspace(), update).await? {
            return Err(BrokerError::Changed(Thing::Connection));
        }
        self.records.forget(&(access.workspace(), id));
        self.opened.invalidate(&(id, before));
        if let Some((connection, guard)) = connection {
            let connection = connection.with_state_store(self.state_of(&record));
            self.opened.insert((id, record.version), (connection, guard));
        }
        if clear {
            self.cache.drop_connection(id);
        }
        record.try_into()
    }

    /// A workspace's connections in the order of their creation. Needs
    /// [`Scope::Api`](crate::Scope::Api) or [`Scope::Admin`](crate::Scope::Admin), which manages
    /// them.
    ///
    /// # Errors
    /// Only those of the host itself.
    pub async fn list(&self, access: &Access) -> Result<Vec<Connection>, BrokerError> {
        let list = async {
            self.core.storage.connections(access.workspace()).await?.into_iter().map(Connection::try_from).collect()
        };
        self.core.audited(access, Operation::ListConnections, &Trail::new(), list).await
    }

    /// A connection. Needs [`Scope::Api`](crate::Scope::Api) or
    /// [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// # Errors
    /// [`BrokerError::NotFound`].
    pub async fn get(&self, access: &Access, id: ConnectionId) -> Result<Connection, BrokerError> {
        let get = async {
            let record = self.core.storage.connection(access.workspace(), id).await?;
            record.ok_or(BrokerError::NotFound(Thing::Connection))?.try_into()
        };
        self.core.audited(access, Operation::GetConnection, &Trail::connection(id), get).await
    }

    /// Drops the cached values of this connection: later resolves call the provider again. Needs
    /// [`Scope::Admin`](crate::Scope::Admin).
    ///
    /// Later resolves do not use a fetch that is already running.
    ///
    /// # Errors
    /// [`BrokerError::NotFound`].
    pub async fn clear_cache(&self, access: &Access, id: ConnectionId) -> Result<(), BrokerError> {
        let trail = Trail::connection(id);
        let clear = async {
            let found = self.core.storage.connection(access.workspace(), id).await?;
            found.ok_or(BrokerError::NotFound(Thing::Connection))?;
            trail.begin().await?;
            if !self.core.storage.clear_cached_secrets(access.workspace(), id).await? {
                return Err(BrokerError::NotFound(Thing::Connection));
            }
            self.records.forget(&(access.workspace(), id));
            self.cache.drop_connection(id);
            Ok(())
        };
        self.core.audited(access, Operation::ClearCache, &trail, clear).await
    }

    /// The record of a connection, from memory if it was read recently.
    pub(crate) async fn record(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
    ) -> Result<Arc<ConnectionRecord>, BrokerError> {
        let load = async {
            self.core.hold_keys(workspace).await?;
            Ok::<_, BrokerError>(self.core.storage.connection(workspace, id).await?.map(Arc::new))
        };
        let record = self.records.get_or_load(&(workspace, id), load).await?;
        record.ok_or(BrokerError::NotFound(Thing::Connection))
    }

    /// Opens a connection for calls, or returns the open one: its login session and network
    /// connections are reused for as long as the settings stay the same.
    pub(crate) async fn open(&self, record: &ConnectionRecord) -> Result<Opened, BrokerError> {
        let provider = self.provider(&record.provider_type).await?;
        let key = (record.id, record.version);
        let (connection, guard) = match self.opened.get(&key) {
            Some(opened) => opened,
            None => {
                let part = self.open_settings(record).await?;
                let tier = record.rate_limit_tier.as_deref();
                let guard = self.guards.get(provider.description(), &part.settings, tier).await?;
                self.guards.belongs_to(&guard, record.account_key.as_deref()).await?;
                let connection = self.connection(&part)?.with_state_store(self.state_of(record));
                let open = || (connection, guard);
                // The first to open wins, so that there is only one session.
                self.opened.get_with(key, open)
            }
        };
        if self.cache.is_closed(record.id) {
            self.opened.invalidate(&key);
            return Err(BrokerError::NotFound(Thing::Connection));
        }
        Ok(self.ready(record.workspace_id, provider, connection, guard))
    }

    fn ready(
        &self,
        workspace: WorkspaceId,
        provider: Provider,
        connection: OpenConnection,
        guard: Arc<Guard>,
    ) -> Opened {
        let turns = Turns { of: self.turns.clone(), workspace, patience: self.runtime.limits().queue_time };
        Opened { provider, connection, guard, turns, metrics: self.call_metrics.clone(), change: None }
    }

    /// The provider of this type. A component that is used for the first time since another one
    /// served is recorded first.
    async fn provider(&self, provider_type: &str) -> Result<Provider, BrokerError> {
        let provider = self.installed(provider_type)?;
        self.components.serves(&self.core, &self.providers, &provider).await?;
        Ok(provider)
    }

    /// The provider of this type, for what it says about itself.
    pub(crate) fn installed(&self, provider_type: &str) -> Result<Provider, BrokerError> {
        self.providers.get(provider_type).ok_or_else(|| BrokerError::ProviderNotInstalled {
            provider_type: provider_type.to_owned(),
            installed: self.providers.types(),
        })
    }

    /// Checks that the connection exists, and returns the reference in its normal form, the only
    /// spelling under which anything is kept for the item. Makes no request, so that binding works
    /// while the secret manager is unavailable.
    pub(crate) async fn normalize(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
        reference: &str,
    ) -> Result<String, BrokerError> {
        let connection = match self.record(workspace, id).await {
            Err(BrokerError::NotFound(_)) => return Err(InvalidInput::UnknownConnection.into()),
            connection => connection?,
        };
        let provider = self.provider(&connection.provider_type).await?;
        provider.normalize_reference(reference).await.map_err(|error| match error {
            CallError::Provider(error) if error.code == ErrorCode::InvalidReference => {
                InvalidInput::Reference { message: error.message }.into()
            }
            error => BrokerError::from(error),
        })
    }

    async fn check_settings(
        &self,
        workspace: WorkspaceId,
        provider: &Provider,
        settings: Settings,
        authorities: Option<String>,
        tier: Option<&str>,
        trail: &Trail,
    ) -> Result<Checked, BrokerError> {
        let description = provider.description();
        if settings.iter().any(|(_, value)| value.expose_secret().chars().count() > SETTING_LIMIT) {
            return Err(InvalidInput::TooLong { field: "a setting", limit: SETTING_LIMIT }.into());
        }
        check_length(authorities.as_deref())?;
        provider.check_settings(&settings).map_err(|error| BrokerError::NotVerified { source: error.into() })?;
        let approved = description
            .approved_destinations(&settings)
            .map_err(|error| InvalidInput::Destination(error.to_string()))?;
        let hints = hints(description, &settings).map_err(|error| BrokerError::Host(error.into()))?;
        // The provider's state is stored with the settings, if the check succeeds.
        let store = Arc::new(MemoryStore::default());
        let part = SealedPart { settings, approved, authorities };
        let connection = self.connection(&part)?.with_state_store(store.clone());
        let guard = self.guards.get(description, &part.settings, tier).await?;
        let opened = self.ready(workspace, provider.clone(), connection, guard).changing(trail);
        self.checks.begin(workspace)?;
        let verify = ProviderOperation::Verify;
        let verified = opened.call(verify, (), |provider, connection, ()| Box::pin(provider.verify(connection)));
        let verified = self.checked(workspace, verified.await).map_err(|failure| match failure {
            CallFailure::Call(source) => BrokerError::NotVerified { source },
            failure => failure.into(),
        })?;
        let checked = Checked { part, hints, opened, verified, state: store.take() };
        self.guards.belongs_to(checked.opened.guard(), checked.account_key()).await?;
        Ok(checked)
    }

    /// A connection of the runtime that trusts what the connection trusts.
    fn connection(&self, part: &SealedPart) -> Result<OpenConnection, InvalidInput> {
        let (settings, approved) = (part.settings.clone(), part.approved.clone());
        match &part.authorities {
            None => Ok(self.runtime.connection(settings, approved)),
            Some(pem) => {
                let authorities = Authorities::from_pem(pem.as_bytes())?;
                Ok(self.runtime.connection_trusting(settings, approved, &authorities)?)
            }
        }
    }

    fn state_of(&self, record: &ConnectionRecord) -> Arc<DurableState> {
        Arc::new(DurableState::of(record, self.core.clone()))
    }

    /// Seals the settings into the row, and the provider's durable state.
    async fn sealed(
        &self,
        keys: &WorkspaceKeys,
        mut record: ConnectionRecord,
        part: &SealedPart,
        state: Option<&StoredState>,
    ) -> Result<(ConnectionRecord, Option<ConnectionStateRecord>), BrokerError> {
        let plaintext = part.encode(&record.provider_type).map_err(|_| EnvelopeError::TooLarge)?;
        record.sealed_settings = self.core.keyring.seal(keys, &settings_place(&record), &plaintext).await?;
        let state = match state {
            Some(state) => Some(self.state_of(&record).seal(keys, state).await?),
            None => None,
        };
        Ok((record, state))
    }

    async fn open_settings(&self, record: &ConnectionRecord) -> Result<SealedPart, BrokerError> {
        let read = |plaintext: &[u8]| SealedPart::decode(plaintext, &record.provider_type);
        let opened = self.core.keyring.open_sealed(&settings_place(record), &record.sealed_settings, read).await;
        opened.map_err(|error| error.in_row(SealedColumn::ConnectionSettings, record.id.as_uuid()))
    }
}

/// Settings that the provider has logged in with.
struct Checked {
    part: SealedPart,
    hints: String,
    opened: Opened,
    verified: Verified,
    /// The provider's durable state.
    state: Option<StoredState>,
}

impl Checked {
    /// Fills in what the check found out about the settings.
    fn describe(&self, record: &mut ConnectionRecord) {
        record.hints.clone_from(&self.hints);
        record.account = self.account();
        record.account_key = self.account_key().map(str::to_owned);
        record.account_id = account_id(&record.provider_type, record.account_key.as_deref(), record.id);
        record.read_only = self.verified.writable_vault_count.map(|count| count == 0);
    }

    /// The account that they belong to, for display. Empty if the provider's text contains a
    /// setting.
    fn account(&self) -> String {
        let account = &self.verified.account;
        if self.contains_setting(account, |_| true) { String::new() } else { account.clone() }
    }

    /// The account that they belong to, for counting requests. It may contain a setting such as a
    /// tenant's id; `None` if it contains a secret one.
    fn account_key(&self) -> Option<&str> {
        let is_secret = |name: &str| self.opened.description().is_secret(name);
        self.verified.account_key.as_deref().filter(|key| !self.contains_setting(key, is_secret))
    }

    fn contains_setting(&self, text: &str, matters: impl Fn(&str) -> bool) -> bool {
        self.part.settings.iter().filter(|(name, _)| matters(name)).any(|(_, value)| {
            let value = value.expose_secret();
            value.len() >= HINTED_FROM && text.contains(value)
        })
    }
}

/// Checks that the provider declares the tier.
fn check_length(authorities: Option<&str>) -> Result<(), InvalidInput> {
    match authorities {
        Some(pem) if pem.len() > SETTING_LIMIT => {
            Err(InvalidInput::TooLong { field: "certificate_authorities", limit: SETTING_LIMIT })
        }
        _ => Ok(()),
    }
}

fn check_tier(provider: &Description, tier: Option<&str>) -> Result<(), InvalidInput> {
    let known = || provider.rate_limits.iter().map(|tier| tier.name.clone());
    match tier {
        Some(tier) if known().all(|known| known != tier) => {
            Err(InvalidInput::RateLimitTier { known: known().collect() })
        }
        _ => Ok(()),
    }
}

fn settings_place(record: &ConnectionRecord) -> Place<'_> {
    place(record.workspace_id, SealedColumn::ConnectionSettings, record.id.as_bytes(), record.version)
}
