//! Changes that tests and the demo can make to an emulator behind its clients' backs. The
//! in-process handle and the control endpoint use the same functions.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::StartError;
use crate::calls::{Calls, SeenRequest};
use crate::encoding::lower_id;
use crate::faults::FaultRule;
use crate::info::{self, AccountInfo, Info, ItemInfo};
use crate::plaintext::{Fields, ItemChange, ItemState, apply, login};
use crate::random;
use crate::rules::Rules;
use crate::seed::{sealed, trashed};
use crate::store::{Account, DeviceState, Grant, Vault, VaultAccess};
use crate::token::{Token, WrongToken};
use crate::wire::Item;
use crate::world::World;
use crate::write::whole_seconds;

/// Why a knob failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KnobError {
    /// No account has this name.
    #[error("there is no account '{0}'; there are 'automation', 'auditor' and 'newcomer'")]
    UnknownAccount(String),
    /// No vault has this id or name.
    #[error("there is no vault '{0}'")]
    UnknownVault(String),
    /// The vault has no item of this id or title.
    #[error("the vault has no item '{0}'")]
    UnknownItem(String),
    /// The item's plaintext is not JSON, which only a knob can cause.
    #[error("the item cannot be changed field by field because its plaintext is not JSON; replace it instead")]
    NotJson,
    /// A key could not be wrapped, or the content could not be rebuilt.
    #[error(transparent)]
    Build(#[from] StartError),
}

/// A new login item. Has no `Debug`; is `Clone` because a test's values are made up.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLogin {
    /// Its title.
    pub title: String,
    /// Its address; empty for none.
    #[serde(default)]
    pub url: String,
    /// The built-in user name field.
    #[serde(default)]
    pub username: Option<String>,
    /// The built-in password field.
    #[serde(default)]
    pub password: Option<String>,
    /// The one-time password, an `otpauth://` URL or a bare secret.
    #[serde(default)]
    pub otpauth: Option<String>,
}

/// A stored item, decrypted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemText {
    /// Its version.
    pub item_version: u64,
    /// Its vault's content version.
    pub content_version: u64,
    /// Whether it is active, archived or deleted.
    pub state: ItemState,
    /// The plaintext of its overview, byte for byte as it was encrypted (with UTF-8 replacement
    /// characters where it is not text).
    pub overview: String,
    /// The plaintext of its details, likewise.
    pub details: String,
}

/// The versions after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The item's.
    pub item_version: u64,
    /// Its vault's content version.
    pub content_version: u64,
}

/// The knobs of one emulator. Vaults and items are given by id, or by name and title.
#[derive(Clone)]
pub struct Knobs {
    pub(crate) world: Arc<World>,
    pub(crate) url: String,
    pub(crate) control_url: String,
}

impl Knobs {
    /// The emulator's current content.
    #[must_use]
    pub fn info(&self) -> Info {
        Info { url: self.url.clone(), control_url: self.control_url.clone(), accounts: info::accounts(&self.world) }
    }

    /// The current view of one account.
    pub fn account(&self, name: &str) -> Result<AccountInfo, KnobError> {
        let found = info::accounts(&self.world).into_iter().find(|account| account.name == name);
        found.ok_or_else(|| KnobError::UnknownAccount(name.to_owned()))
    }

    /// An account's token.
    pub fn token(&self, account: &str) -> Result<Token, KnobError> {
        Ok(self.find_account(account)?.parts.token())
    }

    /// An account's token with one fault.
    pub fn wrong_token(&self, account: &str, wrong: WrongToken) -> Result<Token, KnobError> {
        Ok(self.find_account(account)?.parts.wrong_token(wrong))
    }

    /// An item, decrypted.
    pub fn item(&self, vault: &str, item: &str) -> Result<ItemText, KnobError> {
        let store = self.world.store();
        let vault = find_vault(&store.vaults, vault)?;
        let item = find_item(vault, item)?;
        let text = |envelope| vault.key.open(envelope).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(ItemText {
            item_version: item.head.item_version,
            content_version: vault.content_version,
            state: info::state(item.head.trashed),
            overview: text(&item.head.enc_overview).unwrap_or_default(),
            details: text(&item.enc_details).unwrap_or_default(),
        })
    }

    /// Changes an item as another client would.
    pub fn change_item(&self, vault: &str, item: &str, change: &ItemChange) -> Result<Versions, KnobError> {
        let text = self.item(vault, item)?;
        let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|_| KnobError::NotJson);
        let (mut overview, mut details) = (parse(&text.overview)?, parse(&text.details)?);
        apply(change, &mut overview, &mut details);
        self.store_item(vault, item, Some(&overview.to_string()), Some(&details.to_string()), change.state)
    }

    /// Replaces an item's plaintexts with exactly these, which clients need not be able to read.
    /// What is absent stays unchanged.
    pub fn replace_item_text(
        &self,
        vault: &str,
        item: &str,
        overview: Option<&str>,
        details: Option<&str>,
    ) -> Result<Versions, KnobError> {
        self.store_item(vault, item, overview, details, None)
    }

    /// Adds a login to a vault, as another client would.
    pub fn add_login(&self, vault: &str, new: &NewLogin) -> Result<ItemInfo, KnobError> {
        let fields =
            Fields { username: new.username.clone(), password: new.password.clone(), otpauth: new.otpauth.clone() };
        let (overview, details) = login(&new.title, &new.url, &fields, &[]);
        let id = lower_id(random::bytes());
        let now = whole_seconds(Timestamp::now());
        let mut store = self.world.store_mut();
        let vault = find_vault_mut(&mut store.vaults, vault)?;
        let (overview, details) = (overview.to_string(), details.to_string());
        let mut item = sealed(&vault.key, id.clone(), "001", ItemState::Active, "", overview, details);
        item.head.created_at.clone_from(&now);
        item.head.updated_at.clone_from(&now);
        vault.put([item], &now);
        let stored = vault.items.get(&id).ok_or(KnobError::UnknownItem(id))?;
        info::item(vault, stored).ok_or(KnobError::NotJson)
    }

    /// Revokes an account's token: its sessions end, and signing in is refused with `status` (401
    /// or 400; which one the real service uses is not public).
    pub fn revoke_token(&self, account: &str, status: u16) -> Result<(), KnobError> {
        self.with_state(account, |state| state.refused = Some(status))?;
        self.world.sessions.end_of_account(account);
        Ok(())
    }

    /// Restores a revoked token.
    pub fn restore_token(&self, account: &str) -> Result<(), KnobError> {
        self.with_state(account, |state| state.refused = None)
    }

    /// Changes the server's record of an account's device.
    pub fn set_device(&self, account: &str, device: DeviceState) -> Result<(), KnobError> {
        self.with_state(account, |state| state.device = device)
    }

    /// Changes an account's access to a vault; `None` revokes it.
    pub fn set_access(&self, account: &str, vault: &str, access: Option<VaultAccess>) -> Result<(), KnobError> {
        let account = self.find_account(account)?;
        let rsa = Arc::clone(&self.world.store().rsa);
        let mut store = self.world.store_mut();
        let vault = find_vault_mut(&mut store.vaults, vault)?;
        match (access, vault.grants.get_mut(&account.name)) {
            (None, _) => {
                vault.grants.remove(&account.name);
            }
            (Some(access), Some(grant)) => grant.access = access,
            (Some(access), None) => {
                let (keyset, enc_vault_key) = account.keyring.wrap_vault_key(0, &vault.key, &rsa)?;
                vault.grants.insert(account.name.clone(), Grant { access, keyset, enc_vault_key });
            }
        }
        Ok(())
    }

    /// Ends all sessions: the next request of each is refused with 401.
    pub fn expire_sessions(&self) {
        self.world.sessions.clear();
    }

    /// Queues a fault.
    pub fn fault(&self, rule: FaultRule) {
        self.world.faults.add(rule);
    }

    /// The queued faults.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultRule> {
        self.world.faults.waiting()
    }

    /// Removes all queued faults.
    pub fn clear_faults(&self) {
        self.world.faults.clear();
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.world.rules().clone()
    }

    /// Replaces the rules.
    pub fn set_rules(&self, rules: Rules) {
        *self.world.rules_mut() = rules;
    }

    /// Counts of the requests since the start or the last reset.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.world.calls.calls()
    }

    /// The last 10,000 requests, in the order in which they were answered.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.world.calls.requests()
    }

    /// Resets the counts and the recorded requests.
    pub fn reset_calls(&self) {
        self.world.calls.reset();
    }

    /// Restores the initial content, tokens and rules, and removes all sessions, faults and calls.
    pub fn reset(&self) -> Result<(), KnobError> {
        Ok(self.world.reset()?)
    }

    fn find_account(&self, name: &str) -> Result<Arc<Account>, KnobError> {
        self.world.store().account(name).map(Arc::clone).ok_or_else(|| KnobError::UnknownAccount(name.to_owned()))
    }

    fn with_state(&self, account: &str, change: impl FnOnce(&mut crate::store::AccountState)) -> Result<(), KnobError> {
        let mut store = self.world.store_mut();
        let state = store.states.get_mut(account).ok_or_else(|| KnobError::UnknownAccount(account.to_owned()))?;
        change(state);
        Ok(())
    }

    fn store_item(
        &self,
        vault: &str,
        item: &str,
        overview: Option<&str>,
        details: Option<&str>,
        state: Option<ItemState>,
    ) -> Result<Versions, KnobError> {
        let now = whole_seconds(Timestamp::now());
        let mut store = self.world.store_mut();
        let vault = find_vault_mut(&mut store.vaults, vault)?;
        let mut item = find_item(vault, item)?.clone();
        if let Some(overview) = overview {
            item.head.enc_overview = vault.key.seal(overview.as_bytes());
        }
        if let Some(details) = details {
            item.enc_details = vault.key.seal(details.as_bytes());
        }
        if let Some(state) = state {
            item.head.trashed = trashed(state);
        }
        item.head.item_version += 1;
        item.head.updated_at.clone_from(&now);
        let item_version = item.head.item_version;
        vault.put([item], &now);
        Ok(Versions { item_version, content_version: vault.content_version })
    }
}

fn find_vault<'a>(vaults: &'a [Vault], vault: &str) -> Result<&'a Vault, KnobError> {
    let found = vaults.iter().find(|it| it.id == vault || it.name == vault);
    found.ok_or_else(|| KnobError::UnknownVault(vault.to_owned()))
}

fn find_vault_mut<'a>(vaults: &'a mut [Vault], vault: &str) -> Result<&'a mut Vault, KnobError> {
    let found = vaults.iter_mut().find(|it| it.id == vault || it.name == vault);
    found.ok_or_else(|| KnobError::UnknownVault(vault.to_owned()))
}

fn find_item<'a>(vault: &'a Vault, item: &str) -> Result<&'a Item, KnobError> {
    let by_title =
        || vault.items.values().find(|stored| info::item(vault, stored).is_some_and(|info| info.title == item));
    let found = vault.items.get(item).or_else(by_title).map(|stored| &stored.item);
    found.ok_or_else(|| KnobError::UnknownItem(item.to_owned()))
}
