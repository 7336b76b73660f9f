//! Vaults: their names, access rights and keys.
//!
//! Invariant: what cannot be opened with this token (a keyset or a vault with a foreign key) is
//! left out and logged, and the rest stays usable. Known keys come from the session. Keysets are
//! fetched only if a key is missing, and once more if the session's keysets do not have it.

use keyway_sdk::Error;
use zeroize::Zeroizing;

use crate::{
    client::Client,
    envelope::{Envelope, OpenError, SymmetricKey},
    errors::{Asked, Failure},
    keys::KeyChain,
    model::{Keysets, READ_ITEMS, UPDATE_ITEMS, Vault, VaultAttributes, cut, is_id},
    session::VaultKey,
    wire,
};

/// A vault whose key is in the session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OpenVault {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The vault's version; needed for writing.
    pub(crate) content_version: u64,
    acl: u32,
}

impl OpenVault {
    pub(crate) fn new(vault: Vault, name: String) -> Self {
        Self { id: vault.uuid, name, content_version: vault.content_version, acl: vault.combined_access.acl }
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.acl & UPDATE_ITEMS != 0
    }
}

/// The vaults of the account.
pub(crate) struct Vaults {
    /// Readable vaults that could be opened, by id.
    pub(crate) readable: Vec<OpenVault>,
    /// How many more readable vaults could not be opened.
    pub(crate) unopened: usize,
}

/// Fetches all vaults of the account. One request, and one for the keysets if a key is missing.
pub(crate) fn fetch_all(client: &mut Client<'_>) -> Result<Vaults, Error> {
    let body = client.get("/api/v1/vaults?attrs=combined-access");
    let body = body.map_err(|failure| client.error(failure, Asked::Account))?;
    let listed: Vec<&serde_json::value::RawValue> =
        wire::read(&body).map_err(|failure| client.error(failure, Asked::Account))?;
    let mut vaults: Vec<Vault> = Vec::with_capacity(listed.len());
    let mut unopened = 0;
    for vault in listed {
        match serde_json::from_str::<Vault>(vault.get()) {
            Ok(vault) if is_id(&vault.uuid) => vaults.push(vault),
            _ => unopened += 1,
        }
    }
    vaults.retain(|vault| vault.combined_access.acl & READ_ITEMS != 0);
    let Opened { vaults: mut readable, failed } = open(client, vaults)?;
    for (id, error) in &failed {
        eprintln!("skipped the vault {id}: its key cannot be opened ({error})");
    }
    readable.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(Vaults { readable, unopened: unopened + failed.len() })
}

/// Fetches one vault by its id. One request, and one for the keysets if its key is missing.
pub(crate) fn fetch(client: &mut Client<'_>, id: &str) -> Result<OpenVault, Error> {
    let name = client.session()?.vault(id).map(|vault| vault.name.clone());
    let asked = Asked::Vault(name.as_deref());
    let body = client.get(&format!("/api/v3/vault/{id}?attrs=combined-access"));
    let vault: Vault = body.and_then(|body| wire::read(&body)).map_err(|failure| client.error(failure, asked))?;
    if vault.uuid != id {
        return Err(client.error(Failure::Garbled("with a different vault than requested"), asked));
    }
    open(client, vec![vault])?.vaults.pop().ok_or_else(cannot_open)
}

/// Decrypts a part of an item. If the vault has a new key, fetches it.
pub(crate) fn open_in(
    client: &mut Client<'_>,
    vault_id: &str,
    envelope: &Envelope,
) -> Result<Zeroizing<String>, Error> {
    let known = |client: &mut Client<'_>| -> Result<bool, Error> {
        Ok(client.session()?.vault(vault_id).is_some_and(|vault| vault.key.id() == envelope.kid))
    };
    if !known(client)? {
        fetch(client, vault_id)?;
    }
    let Some(vault) = client.session()?.vault(vault_id) else { return Err(cannot_open()) };
    let plaintext = vault.key.open(envelope).map_err(|error| {
        Error::unexpected_answer(format!(
            "The item cannot be decrypted: {error}. Save the item again in 1Password; if that does not help, create a \
             new service account and reconnect."
        ))
    })?;
    text(plaintext)
}

/// Converts without copying, so that nothing is left behind unwiped.
fn text(mut bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, Error> {
    String::from_utf8(std::mem::take(&mut *bytes)).map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        Error::unexpected_answer("The item is not text. Save the item again in 1Password.")
    })
}

/// The vaults that were opened, and those that were not.
#[derive(Default)]
struct Opened {
    vaults: Vec<OpenVault>,
    /// By id.
    failed: Vec<(String, OpenError)>,
}

/// Opens the keys and names of these vaults and stores them in the session.
fn open(client: &mut Client<'_>, vaults: Vec<Vault>) -> Result<Opened, Error> {
    let mut opened = Opened::default();
    let mut locked = Vec::new();
    for vault in vaults {
        let key = client.session()?.vault(&vault.uuid).map(|vault| &vault.key);
        match key.map(|key| name_of(&vault, key)) {
            Some(Ok(name)) => opened.vaults.push(OpenVault::new(vault, name)),
            _ => locked.push(vault),
        }
    }
    if locked.is_empty() {
        return Ok(opened);
    }
    let fresh = client.session()?.keysets().is_none();
    if fresh {
        fetch_keysets(client)?;
    }
    let mut keys = open_keys(client, &locked)?;
    if !fresh && keys.iter().any(Result::is_err) {
        fetch_keysets(client)?;
        keys = open_keys(client, &locked)?;
    }
    for (vault, key) in locked.into_iter().zip(keys) {
        match key.and_then(|key| Ok((name_of(&vault, &key)?, key))) {
            Ok((name, key)) => {
                client.session()?.set_vault(&vault.uuid, VaultKey { name: name.clone(), key });
                opened.vaults.push(OpenVault::new(vault, name));
            }
            Err(error) => opened.failed.push((vault.uuid, error)),
        }
    }
    client.remember()?;
    Ok(opened)
}

fn open_keys(client: &mut Client<'_>, vaults: &[Vault]) -> Result<Vec<Result<SymmetricKey, OpenError>>, Error> {
    let master_key = &client.token().master_key;
    let session = client.session()?;
    let mut chain = KeyChain::new(session.keysets().unwrap_or_default(), master_key);
    Ok(vaults.iter().map(|vault| chain.open_vault_key(&vault.combined_access.enc_vault_key)).collect())
}

fn fetch_keysets(client: &mut Client<'_>) -> Result<(), Error> {
    let body = client.get("/api/v2/account/keysets").map_err(|failure| client.error(failure, Asked::Account))?;
    let answer: Keysets = wire::read(&body).map_err(|failure| client.error(failure, Asked::Account))?;
    client.session()?.set_keysets(answer.keysets, body.len());
    Ok(())
}

fn name_of(vault: &Vault, key: &SymmetricKey) -> Result<String, OpenError> {
    let attributes = key.open(&vault.enc_attrs)?;
    let attributes: VaultAttributes = serde_json::from_slice(&attributes).map_err(|_| OpenError::Malformed)?;
    Ok(cut(attributes.name.unwrap_or_default()))
}

/// The account's keys do not open its vault: the token's own key is wrong, or the vault belongs to
/// another account.
pub(crate) fn cannot_open() -> Error {
    Error::unexpected_answer(
        "The vault cannot be decrypted with this service account token. Create a new service account and reconnect.",
    )
}
