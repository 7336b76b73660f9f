//! The server's state: accounts, vaults and items, and the versions that order their changes.
//!
//! Everything sent over the protocol is ciphertext here. Unlike in the real service, the vault keys
//! are kept beside it, so that tests can read and change items.
//!
//! Versions (protocol notes, sections 11 and 15): every change of an item increments its
//! `itemVersion` and its vault's `contentVersion`; several items changed by one request increment
//! the latter once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::envelope::{Envelope, SymmetricKey};
use crate::keys::{CREATED_AT, Keyring, RsaKeys};
use crate::srp::Verifier;
use crate::throttle::ThrottlingKey;
use crate::token::{Token, TokenParts};
use crate::wire::{Access, CombinedAccess, Item, Trashed, VaultMeta};

/// What an account may do with a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VaultAccess {
    /// Read items.
    ReadOnly,
    /// Read, create, change, archive and delete items.
    ReadWrite,
}

/// The server's record of the device that a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// Signing in works at once.
    Registered,
    /// The client has to register it first.
    NotRegistered,
    /// The client has to reauthorize it first.
    Deleted,
}

/// The rights of each [`VaultAccess`], as bits of `acl`.
pub(crate) mod acl {
    pub(crate) const REVEAL_ITEM_PASSWORD: u32 = 16;
    pub(crate) const READ_ITEMS: u32 = 32;
    pub(crate) const UPDATE_ITEMS: u32 = 64;
    pub(crate) const CREATE_ITEMS: u32 = 128;
    pub(crate) const ARCHIVE_ITEMS: u32 = 256;
    pub(crate) const DELETE_ITEMS: u32 = 512;
    pub(crate) const UPDATE_ITEM_HISTORY: u32 = 1024;
    pub(crate) const READ: u32 = REVEAL_ITEM_PASSWORD | READ_ITEMS;
    pub(crate) const WRITE: u32 = UPDATE_ITEMS | CREATE_ITEMS | ARCHIVE_ITEMS | DELETE_ITEMS | UPDATE_ITEM_HISTORY;
}

impl VaultAccess {
    pub(crate) fn acl(self) -> u32 {
        match self {
            Self::ReadOnly => acl::READ,
            Self::ReadWrite => acl::READ | acl::WRITE,
        }
    }
}

/// A service account: the part that never changes. The rest is in [`AccountState`].
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) account_uuid: String,
    pub(crate) user_uuid: String,
    pub(crate) parts: TokenParts,
    pub(crate) token: Token,
    pub(crate) verifier: Verifier,
    /// The user in the client's proof.
    pub(crate) identity: String,
    pub(crate) throttling: Option<ThrottlingKey>,
    pub(crate) keyring: Keyring,
}

/// The part of an account that knobs change.
#[derive(Clone, Copy)]
pub(crate) struct AccountState {
    pub(crate) device: DeviceState,
    /// The status that refuses sign-ins, once the token is revoked.
    pub(crate) refused: Option<u16>,
}

/// One account's access to one vault.
pub(crate) struct Grant {
    pub(crate) access: VaultAccess,
    pub(crate) keyset: String,
    pub(crate) enc_vault_key: Envelope,
}

/// An item, and the vault's `contentVersion` of its last change.
pub(crate) struct Stored {
    pub(crate) item: Item,
    pub(crate) changed_at: u64,
    /// As it was before its last change.
    pub(crate) before: Option<Item>,
}

/// A vault with its items, by id.
pub(crate) struct Vault {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) key: Arc<SymmetricKey>,
    pub(crate) enc_attrs: Envelope,
    pub(crate) content_version: u64,
    pub(crate) updated_at: String,
    pub(crate) items: BTreeMap<String, Arc<Stored>>,
    /// By account name.
    pub(crate) grants: BTreeMap<String, Grant>,
}

/// The whole state.
pub(crate) struct Store {
    pub(crate) accounts: Vec<Arc<Account>>,
    /// By account name.
    pub(crate) states: BTreeMap<String, AccountState>,
    /// In listing order.
    pub(crate) vaults: Vec<Vault>,
    pub(crate) rsa: Arc<RsaKeys>,
}

impl Store {
    pub(crate) fn account(&self, name: &str) -> Option<&Arc<Account>> {
        self.accounts.iter().find(|account| account.name == name)
    }

    pub(crate) fn account_by_email(&self, email: &str) -> Option<&Arc<Account>> {
        self.accounts.iter().find(|account| account.parts.email == email)
    }

    pub(crate) fn vault(&self, id: &str) -> Option<&Vault> {
        self.vaults.iter().find(|vault| vault.id == id)
    }

    pub(crate) fn vault_mut(&mut self, id: &str) -> Option<&mut Vault> {
        self.vaults.iter_mut().find(|vault| vault.id == id)
    }

    /// The vault and the account's access to it, if it has access.
    pub(crate) fn visible(&self, account: &Account, vault: &str) -> Option<(&Vault, &Grant)> {
        let vault = self.vault(vault)?;
        Some((vault, vault.grants.get(&account.name)?))
    }
}

impl Vault {
    /// The vault as that account sees it.
    pub(crate) fn meta(&self, account: &Account, grant: &Grant, with_accessors: bool) -> VaultMeta {
        let access = Access {
            vault_uuid: self.id.clone(),
            accessor_type: "user",
            accessor_uuid: account.user_uuid.clone(),
            acl: grant.access.acl(),
            lease_timeout: 0,
            vault_key_sn: 1,
            encrypted_by: grant.keyset.clone(),
            enc_vault_key: grant.enc_vault_key.clone(),
        };
        VaultMeta {
            uuid: self.id.clone(),
            r#type: "U",
            created_at: CREATED_AT,
            updated_at: self.updated_at.clone(),
            attr_version: 1,
            content_version: self.content_version,
            enc_attrs: self.enc_attrs.clone(),
            active_item_count: self.items.values().filter(|stored| stored.item.head.trashed == Trashed::No).count(),
            client_access: access.acl,
            accessors_version: 1,
            access: with_accessors.then(|| [access.clone()]),
            combined_access: CombinedAccess { access, access_version: 1 },
        }
    }

    /// Stores `items` as one change of the vault, replacing items with the same ids.
    pub(crate) fn put(&mut self, items: impl IntoIterator<Item = Item>, now: &str) {
        self.content_version += 1;
        now.clone_into(&mut self.updated_at);
        for item in items {
            let before = self.items.get(&item.head.uuid).map(|stored| stored.item.clone());
            let stored = Stored { changed_at: self.content_version, item, before };
            self.items.insert(stored.item.head.uuid.clone(), Arc::new(stored));
        }
    }
}
