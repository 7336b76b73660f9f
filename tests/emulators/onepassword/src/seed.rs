//! Builds the initial accounts, vaults and items from the checked-in catalogue.
//!
//! Ids and keys are derived from a number (see [`Seed`]), so they are the same at each start; only
//! nonces and RSA padding are fresh.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::StartError;
use crate::envelope::SymmetricKey;
use crate::keys::{CREATED_AT, Keyring, RsaKeys};
use crate::plaintext::{Fields, ItemState, login};
use crate::random::Seed;
use crate::srp::{Verifier, identity};
use crate::store::{Account, AccountState, DeviceState, Grant, Store, Vault, VaultAccess};
use crate::throttle::ThrottlingKey;
use crate::token::TokenParts;
use crate::wire::{Item, ItemHead, Trashed};

/// The inputs of the seeded store.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) seed: Seed,
    pub(crate) sign_in_address: &'a str,
    pub(crate) bulk: Bulk,
}

/// Bulk content besides the catalogue, for load tests; see [`Options`](crate::Options).
#[derive(Clone, Copy, Default)]
pub(crate) struct Bulk {
    /// The number of logins in the vault "Bulk"; 0 for no such vault.
    pub(crate) items: usize,
    /// The number of vaults with one login each.
    pub(crate) vaults: usize,
}

/// The vault of many items, for load tests.
const BULK_VAULT: &str = "Bulk";
const LOGIN: &str = "001";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    #[serde(rename = "about")]
    _about: String,
    accounts: Vec<AccountSpec>,
    vaults: Vec<VaultSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountSpec {
    name: String,
    rsa_keys: Vec<String>,
    throttled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VaultSpec {
    name: String,
    description: String,
    access: BTreeMap<String, VaultAccess>,
    /// The index of the account's keyset that wraps the vault's key.
    keyset: usize,
    logins: Vec<LoginSpec>,
    items: Vec<ItemSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginSpec {
    title: String,
    url: String,
    username: String,
    password: String,
    #[serde(default)]
    otpauth: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default = "active")]
    state: ItemState,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemSpec {
    template: String,
    overview: Box<RawValue>,
    details: Box<RawValue>,
}

fn active() -> ItemState {
    ItemState::Active
}

/// Builds the store.
pub(crate) fn store(plan: Plan<'_>, rsa: &Arc<RsaKeys>) -> Result<Store, StartError> {
    let catalogue: Catalogue = serde_json::from_str(include_str!("../data/catalogue.json"))?;
    let accounts = catalogue.accounts.iter().map(|spec| account(plan, spec, rsa).map(Arc::new));
    let accounts = accounts.collect::<Result<Vec<_>, _>>()?;
    let states = accounts
        .iter()
        .map(|account| (account.name.clone(), AccountState { device: DeviceState::Registered, refused: None }))
        .collect();
    let mut store = Store { accounts, states, vaults: Vec::new(), rsa: Arc::clone(rsa) };
    for spec in &catalogue.vaults {
        let vault = vault(plan.seed, spec, &store)?;
        store.vaults.push(vault);
    }
    if plan.bulk.items > 0 {
        let vault = vault(plan.seed, &bulk(BULK_VAULT.to_owned(), plan.bulk.items), &store)?;
        store.vaults.push(vault);
    }
    for number in 1..=plan.bulk.vaults {
        let vault = vault(plan.seed, &bulk(format!("{BULK_VAULT} {number:04}"), 1), &store)?;
        store.vaults.push(vault);
    }
    Ok(store)
}

fn account(plan: Plan<'_>, spec: &AccountSpec, rsa: &RsaKeys) -> Result<Account, StartError> {
    let seed = plan.seed;
    let parts = TokenParts::made_up(seed, &spec.name, plan.sign_in_address, spec.throttled);
    let names: Vec<_> = spec.rsa_keys.iter().map(String::as_str).collect();
    Ok(Account {
        name: spec.name.clone(),
        account_uuid: seed.upper_id("account"),
        user_uuid: seed.upper_id(&format!("account/{}/user", spec.name)),
        token: parts.token(),
        verifier: Verifier::from_private(&parts.srp_x),
        identity: identity(parts.secret_key_id(), &parts.email),
        throttling: parts.throttle.as_ref().map(|(secret, uuid)| ThrottlingKey::from_secret(secret, uuid)),
        keyring: Keyring::made_up(seed, &spec.name, &parts.muk, rsa, &names)?,
        parts,
    })
}

fn vault(seed: Seed, spec: &VaultSpec, store: &Store) -> Result<Vault, StartError> {
    let label = |what: &str| format!("vault/{}/{what}", spec.name);
    let id = seed.lower_id(&label("id"));
    let key = SymmetricKey::new(seed.lower_id(&label("key-id")), seed.bytes(&label("key")));
    let attributes =
        json!({ "uuid": id, "type": "U", "name": spec.name, "desc": spec.description, "avatar": "" }).to_string();
    let mut grants = BTreeMap::new();
    for (name, access) in &spec.access {
        let account = store.account(name).ok_or_else(|| StartError::UnknownAccount(name.clone()))?;
        let (keyset, enc_vault_key) = account.keyring.wrap_vault_key(spec.keyset, &key, &store.rsa)?;
        grants.insert(name.clone(), Grant { access: *access, keyset, enc_vault_key });
    }
    let mut vault = Vault {
        id,
        name: spec.name.clone(),
        enc_attrs: key.seal(attributes.as_bytes()),
        key: Arc::new(key),
        content_version: 0,
        updated_at: CREATED_AT.to_owned(),
        items: BTreeMap::new(),
        grants,
    };
    let changer = seed.upper_id("person");
    for (position, spec) in spec.logins.iter().enumerate() {
        let fields = Fields {
            username: Some(spec.username.clone()),
            password: Some(spec.password.clone()),
            otpauth: spec.otpauth.clone(),
        };
        let (overview, details) = login(&spec.title, &spec.url, &fields, &spec.tags);
        let id = seed.lower_id(&label(&format!("login/{position}")));
        let item = sealed(&vault.key, id, LOGIN, spec.state, &changer, overview.to_string(), details.to_string());
        vault.put([item], CREATED_AT);
    }
    for (position, spec) in spec.items.iter().enumerate() {
        let id = seed.lower_id(&label(&format!("item/{position}")));
        let (overview, details) = (spec.overview.get(), spec.details.get());
        let item = sealed(&vault.key, id, &spec.template, ItemState::Active, &changer, overview, details);
        vault.put([item], CREATED_AT);
    }
    Ok(vault)
}

fn bulk(name: String, count: usize) -> VaultSpec {
    let login = |number: usize| LoginSpec {
        title: format!("Bulk login {number:05}"),
        url: format!("https://bulk-{number:05}.example"),
        username: format!("user-{number:05}@acme.example"),
        password: format!("bulk-password-{number:05}"),
        otpauth: number
            .is_multiple_of(2)
            .then(|| "otpauth://totp/Bulk?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ".to_owned()),
        tags: Vec::new(),
        state: ItemState::Active,
    };
    VaultSpec {
        name,
        description: "Many items, for load.".to_owned(),
        access: BTreeMap::from([("automation".to_owned(), VaultAccess::ReadWrite)]),
        keyset: 0,
        logins: (1..=count).map(login).collect(),
        items: Vec::new(),
    }
}

/// A new item with these plaintexts.
pub(crate) fn sealed(
    key: &SymmetricKey,
    id: String,
    template: &str,
    state: ItemState,
    changer: &str,
    overview: impl AsRef<[u8]>,
    details: impl AsRef<[u8]>,
) -> Item {
    Item {
        head: ItemHead {
            uuid: id,
            template_uuid: template.to_owned(),
            trashed: trashed(state),
            fave_index: 0,
            created_at: CREATED_AT.to_owned(),
            updated_at: CREATED_AT.to_owned(),
            changer_uuid: changer.to_owned(),
            package_uuid: String::new(),
            item_version: 1,
            encrypted_by: key.id().to_owned(),
            enc_overview: key.seal(overview.as_ref()),
            file_references: None,
        },
        enc_details: key.seal(details.as_ref()),
    }
}

/// The state as the protocol names it.
pub(crate) fn trashed(state: ItemState) -> Trashed {
    match state {
        ItemState::Active => Trashed::No,
        ItemState::Archived => Trashed::Archived,
        ItemState::Deleted => Trashed::Deleted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(seed: u64, bulk: Bulk) -> Store {
        let rsa = Arc::new(RsaKeys::load().unwrap());
        store(Plan { seed: Seed(seed), sign_in_address: "my.1password.com", bulk }, &rsa).unwrap()
    }

    #[test]
    fn ids_and_tokens_are_the_same_at_each_start_and_others_with_another_seed() {
        let facts = |store: &Store| {
            let tokens: Vec<_> = store.accounts.iter().map(|account| account.token.expose().to_owned()).collect();
            let items: Vec<_> = store.vaults.iter().flat_map(|vault| vault.items.keys().cloned()).collect();
            (tokens, items)
        };
        assert_eq!(facts(&built(1, Bulk::default())), facts(&built(1, Bulk::default())));
        assert_ne!(facts(&built(1, Bulk::default())), facts(&built(2, Bulk::default())));
    }

    #[test]
    fn the_bulk_vaults_are_there_on_demand() {
        assert_eq!(built(1, Bulk::default()).vaults.len(), 3);
        let store = built(1, Bulk { items: 50, vaults: 2 });
        let bulk: Vec<_> = store.vaults[3..].iter().map(|vault| (vault.name.as_str(), vault.items.len())).collect();
        assert_eq!(bulk, [("Bulk", 50), ("Bulk 0001", 1), ("Bulk 0002", 1)]);
    }

    #[test]
    fn items_are_sealed_byte_for_byte_as_the_catalogue_has_them() {
        let store = built(1, Bulk::default());
        let vault = &store.vaults[0];
        let details = vault.items.values().map(|stored| vault.key.open(&stored.item.enc_details).unwrap());
        let odd =
            details.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).find(|text| text.contains("htmlForm"));
        let odd = odd.unwrap();
        assert!(
            odd.contains("\n            \"fields\" : [")
                && odd.contains("\"x-float\" : 1.10")
                && odd.contains(r"\u2713")
        );
    }
}
