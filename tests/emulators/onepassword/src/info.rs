//! Describes the emulator and everything that its accounts can see, for tests and scripts: the
//! first line of the program's output, and `GET /info` of the control endpoint.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plaintext::{Fields, ItemState, fields};
use crate::store::{Account, Stored, Vault, VaultAccess};
use crate::wire::Trashed;
use crate::world::World;

/// The emulator and its content, including secrets, which are made up. `Clone` because it owns
/// nothing real.
#[derive(Clone, Serialize, Deserialize)]
pub struct Info {
    /// The protocol's URL, for example `http://127.0.0.1:40123`. Clients address it as
    /// `sign_in_address`.
    pub url: String,
    /// The control endpoint's URL.
    pub control_url: String,
    /// The accounts, each with its own view.
    pub accounts: Vec<AccountInfo>,
}

/// A service account.
#[derive(Clone, Serialize, Deserialize)]
pub struct AccountInfo {
    /// Its name in the emulator, for example `automation`.
    pub name: String,
    /// Its token.
    pub token: String,
    /// The token's last four characters.
    pub token_last4: String,
    /// The host in the token, for example `my.1password.com`.
    pub sign_in_address: String,
    /// The vaults that it can see, in the server's order.
    pub vaults: Vec<VaultInfo>,
}

/// A vault as one account sees it.
#[derive(Clone, Serialize, Deserialize)]
pub struct VaultInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The account's access.
    pub access: VaultAccess,
    /// Its items by id, including archived and deleted ones.
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
    /// Its category, for example `login` or `secure-note`.
    pub category: String,
    /// Whether it is active, archived or deleted.
    pub state: ItemState,
    /// The built-in user name field; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The built-in password field; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Whether it has a one-time password, valid or not.
    pub has_one_time_code: bool,
    /// The one-time password as stored in the item: an `otpauth://` URL or a bare secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otpauth: Option<String>,
}

impl Info {
    /// The account with that name.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<&AccountInfo> {
        self.accounts.iter().find(|account| account.name == name)
    }
}

impl AccountInfo {
    /// The vault with that name.
    #[must_use]
    pub fn vault(&self, name: &str) -> Option<&VaultInfo> {
        self.vaults.iter().find(|vault| vault.name == name)
    }
}

impl VaultInfo {
    /// The first item with that title.
    #[must_use]
    pub fn item(&self, title: &str) -> Option<&ItemInfo> {
        self.items.iter().find(|item| item.title == title)
    }
}

/// Describes all accounts.
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

/// Describes an item; `None` if its plaintexts are not JSON, which a knob can cause.
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

/// The state as the knobs name it.
pub(crate) fn state(trashed: Trashed) -> ItemState {
    match trashed {
        Trashed::No => ItemState::Active,
        Trashed::Archived => ItemState::Archived,
        Trashed::Deleted => ItemState::Deleted,
    }
}

/// The category for a template id (protocol notes, section 10).
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
