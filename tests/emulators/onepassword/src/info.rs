//! A description of the emulator and all that its accounts can see, for tests and scripts: the
//! first line of the binary's output, and `GET /info` of the control endpoint.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plaintext::{Fields, ItemState, fields};
use crate::store::{Account, Stored, Vault, VaultAccess};
use crate::wire::Trashed;
use crate::world::World;

/// The emulator and what is in it, secrets included; they are made up. `Clone`, because it
/// describes and owns nothing real.
#[derive(Clone, Serialize, Deserialize)]
pub struct Info {
    /// Where the protocol is spoken, for example `http://127.0.0.1:40123`. Clients believe it to be
    /// `sign_in_address`.
    pub url: String,
    /// Where the control endpoint listens.
    pub control_url: String,
    /// The accounts, each with its own view.
    pub accounts: Vec<AccountInfo>,
}

/// A service account.
#[derive(Clone, Serialize, Deserialize)]
pub struct AccountInfo {
    /// What it is called here, for example `automation`.
    pub name: String,
    /// Its token.
    pub token: String,
    /// The token's last four characters.
    pub token_last4: String,
    /// The host in the token, for example `my.1password.com`.
    pub sign_in_address: String,
    /// The vaults that it can see, in the order in which the server lists them.
    pub vaults: Vec<VaultInfo>,
}

/// A vault as one account sees it.
#[derive(Clone, Serialize, Deserialize)]
pub struct VaultInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What the account may do.
    pub access: VaultAccess,
    /// Its items, by id, archived and deleted ones included.
    pub items: Vec<ItemInfo>,
}

/// An item.
#[derive(Clone, Serialize, Deserialize)]
pub struct ItemInfo {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// `op://<vaultId>/<itemId>`.
    pub reference: String,
    /// What kind of item it is, for example `login` or `secure-note`.
    pub category: String,
    /// Where it is.
    pub state: ItemState,
    /// The built-in user name field; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The built-in password field; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Whether it has a one-time password, usable or not.
    pub has_one_time_code: bool,
    /// The one-time password as the item has it: an `otpauth://` URL or a bare secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otpauth: Option<String>,
}

impl Info {
    /// The account of that name.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<&AccountInfo> {
        self.accounts.iter().find(|account| account.name == name)
    }
}

impl AccountInfo {
    /// The vault of that name.
    #[must_use]
    pub fn vault(&self, name: &str) -> Option<&VaultInfo> {
        self.vaults.iter().find(|vault| vault.name == name)
    }
}

impl VaultInfo {
    /// The first item of that title.
    #[must_use]
    pub fn item(&self, title: &str) -> Option<&ItemInfo> {
        self.items.iter().find(|item| item.title == title)
    }
}

/// Describes everything.
pub(crate) fn accounts(world: &World) -> Vec<AccountInfo> {
    let store = world.store();
    let vaults = |account: &Account| {
        let visible = store.vaults.iter().filter_map(|vault| Some((vault, vault.grants.get(&account.name)?)));
        let described = visible.map(|(vault, grant)| VaultInfo {
            id: vault.id.clone(),
            name: vault.name.clone(),
            access: grant.access,
            items: vault.items.values().filter_map(|stored| item(vault, stored)).collect(),
        });
        described.collect()
    };
    let describe = |account: &std::sync::Arc<Account>| AccountInfo {
        name: account.name.clone(),
        token: account.token.expose().to_owned(),
        token_last4: account.token.last4().to_owned(),
        sign_in_address: world.sign_in_address.clone(),
        vaults: vaults(account),
    };
    store.accounts.iter().map(describe).collect()
}

/// Describes an item, unless its plaintexts are not JSON (a knob can make them so).
pub(crate) fn item(vault: &Vault, stored: &Stored) -> Option<ItemInfo> {
    let open = |envelope| serde_json::from_slice::<Value>(&vault.key.open(envelope).ok()?).ok();
    let head = &stored.item.head;
    let overview = open(&head.enc_overview)?;
    let Fields { username, password, otpauth } = fields(&open(&stored.item.enc_details)?);
    Some(ItemInfo {
        id: head.uuid.clone(),
        title: overview.get("title").and_then(Value::as_str).unwrap_or_default().to_owned(),
        reference: format!("op://{}/{}", vault.id, head.uuid),
        category: category(&head.template_uuid).to_owned(),
        state: state(head.trashed),
        username,
        password,
        has_one_time_code: otpauth.is_some(),
        otpauth,
    })
}

/// How the knobs say it.
pub(crate) fn state(trashed: Trashed) -> ItemState {
    match trashed {
        Trashed::No => ItemState::Active,
        Trashed::Archived => ItemState::Archived,
        Trashed::Deleted => ItemState::Deleted,
    }
}

/// The kind of item behind a template (protocol notes, section 10).
fn category(template: &str) -> &'static str {
    match template {
        "001" => "login",
        "002" => "credit-card",
        "003" => "secure-note",
        "004" => "identity",
        "005" => "password",
        "006" => "document",
        "100" => "software-license",
        "101" => "bank-account",
        "102" => "database",
        "103" => "driver-license",
        "104" => "outdoor-license",
        "105" => "membership",
        "106" => "passport",
        "107" => "rewards",
        "108" => "social-security-number",
        "109" => "router",
        "110" => "server",
        "111" => "email",
        "112" => "api-credentials",
        "113" => "medical-record",
        "114" => "ssh-key",
        "115" => "crypto-wallet",
        _ => "unsupported",
    }
}
