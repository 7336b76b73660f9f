//! `resolve`: the current values of one item.
//!
//! One request if the vault's key is known, otherwise two or three more and the sign-in.

use keyway_sdk::{
    Attribute, Error, NoCode, NoCodeReason, OneTimeCode, Resolved, Selection, secrecy::SecretString, totp, totp::Totp,
};
use zeroize::Zeroizing;

use crate::{
    category,
    client::Client,
    errors::{Asked, Failure},
    login_fields::{Builtin, LoginFields},
    model::{Item, ItemAnswer, Place},
    reference::ItemReference,
    vaults, wire,
};

/// Reads the requested fields.
pub(crate) fn resolve(
    client: &mut Client<'_>,
    reference: ItemReference<'_>,
    fields: &Selection,
) -> Result<Resolved, Error> {
    // The vault comes first: an inaccessible vault is a better error than a missing item.
    if !fields.is_empty() && client.session()?.vault(reference.vault).is_none() {
        vaults::fetch(client, reference.vault)?;
    }
    let item = fetch_item(client, reference)?;
    let mut resolved = Resolved { revision: revision(&item), ..Resolved::default() };
    let not_a_login = category::not_a_login(&item.template_uuid);
    // For a host that checks an item before it is used.
    resolved.attributes.extend(not_a_login.as_ref().map(|reason| Attribute::new(NOT_A_LOGIN, reason)));
    if fields.is_empty() {
        return Ok(resolved);
    }
    let details = vaults::open_in(client, reference.vault, &item.enc_details)?;
    let found = LoginFields::find(&details, &item.template_uuid).map_err(|_| not_an_item())?;
    if fields.username {
        resolved.username = found.value(Builtin::Username).map(secret);
    }
    if fields.password {
        resolved.password = found.value(Builtin::Password).map(secret);
    }
    if fields.one_time_code {
        let code = code_of(client, &found.totps());
        resolved.one_time_code = Some(code.map_err(|none| match not_a_login {
            Some(reason) if none.reason == NoCodeReason::Absent => {
                NoCode::new(NoCodeReason::Other(NOT_A_LOGIN.to_owned()), reason)
            }
            _ => none,
        }));
    }
    Ok(resolved)
}

/// Why an item has no login fields: the name of an attribute, and a reason for having no code.
const NOT_A_LOGIN: &str = "not-a-login";

/// The code of the first one-time password that makes one.
fn code_of(client: &Client<'_>, stored: &[Zeroizing<String>]) -> Result<OneTimeCode, NoCode> {
    let good = stored.iter().filter(|text| Totp::parse(text).is_ok()).count();
    if good > 1 {
        client.warn(&format!("the item has {good} one-time passwords; the code is that of the first"));
    }
    totp::code_of(stored.iter().map(|text| text.as_str()), client.now())
}

/// The item, if it exists and is active.
pub(crate) fn fetch_item(client: &mut Client<'_>, reference: ItemReference<'_>) -> Result<Item, Error> {
    let ItemReference { vault, item: id } = reference;
    let name = client.session()?.vault(vault).map(|vault| vault.name.clone());
    let asked = Asked::Item(name.as_deref());
    let body = client.get(&format!("/api/v1/vault/{vault}/item/{id}"));
    let answer: ItemAnswer = body.and_then(|body| wire::read(&body)).map_err(|failure| client.error(failure, asked))?;
    let item = answer.item;
    if item.uuid != id {
        return Err(client.error(Failure::Garbled("with a different item than requested"), asked));
    }
    match item.place() {
        Place::Active => Ok(item),
        Place::Archived => {
            Err(Error::not_found("The item is archived in 1Password. Restore it there, or bind another item."))
        }
        Place::Deleted => {
            Err(Error::not_found("The item was deleted in 1Password. Restore it there, or bind another item."))
        }
    }
}

/// The item's revision: its version, which every change increments.
pub(crate) fn revision(item: &Item) -> String {
    item.item_version.to_string()
}

/// The decrypted text is not the content of an item.
pub(crate) fn not_an_item() -> Error {
    Error::unexpected_answer(
        "The content of the item is not what 1Password stores there. Save the item again in 1Password.",
    )
}

fn secret(mut value: Zeroizing<String>) -> SecretString {
    std::mem::take(&mut *value).into()
}
