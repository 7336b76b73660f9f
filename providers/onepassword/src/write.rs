//! `write`: changes the built-in fields of one item.
//!
//! Invariants: the new state is computed from the very state that the server replaces, otherwise
//! nothing is written; only the requested values change ([`crate::edit`]).
//!
//! How: the vault's `contentVersion`, which counts every change in the vault, is read *before* the
//! item and sent with the write. So the server refuses if there was any write in between, even to
//! the item itself. Then everything is read and applied again, a few times with growing random
//! pauses, because two writers in one vault collide even on different items. With an expected
//! revision, retries end once the item has another revision.
//!
//! Three requests: vault, item, change. Six with one collision.

use std::time::Duration;

use keyway_sdk::{Changes, Error, http::Method};

use crate::{
    client::Client,
    edit::edit,
    errors::{Asked, Failure, Refusal, read_only},
    model::{Item, ItemPatch, PatchAnswer},
    reference::ItemReference,
    resolve::{fetch_item, revision},
    time::rfc3339,
    vaults::{self, OpenVault},
    wire,
};

/// How many attempts are made while other clients write to the same vault.
const ATTEMPTS: u32 = 5;
/// The longest pause before the second attempt, in milliseconds; it doubles with each attempt. All
/// pauses together take at most 3 of a call's 30 seconds.
const FIRST_PAUSE_MS: u64 = 200;

/// Applies the changes and returns the new revision.
pub(crate) fn write(
    client: &mut Client<'_>,
    reference: ItemReference<'_>,
    changes: &Changes,
    expected: Option<&str>,
) -> Result<String, Error> {
    if changes.is_empty() {
        let item = fetch_item(client, reference)?;
        return at_expected(&item, expected);
    }
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            pause(client, attempt)?;
        }
        let vault = vaults::fetch(client, reference.vault)?;
        let item = fetch_item(client, reference)?;
        let revision = at_expected(&item, expected)?;
        let Some(patch) = prepare(client, &vault, &item, changes)? else { return Ok(revision) };
        match send(client, &vault, &item, &patch)? {
            Outcome::Written(version) => return Ok(version.to_string()),
            Outcome::Collision => {}
        }
    }
    Err(Error::conflict("Other clients keep changing this vault, so nothing was written. Try again later."))
}

/// The result of an attempt.
enum Outcome {
    /// The item now has this version.
    Written(u64),
    /// Nothing was written, and a retry makes sense.
    Collision,
}

fn at_expected(item: &Item, expected: Option<&str>) -> Result<String, Error> {
    let revision = revision(item);
    if expected.is_none_or(|expected| expected == revision) {
        return Ok(revision);
    }
    Err(Error::conflict("The item was changed in 1Password in the meantime, so nothing was written. Read it again."))
}

/// The body of the request; `None` if the item already has the requested values.
fn prepare(
    client: &mut Client<'_>,
    vault: &OpenVault,
    item: &Item,
    changes: &Changes,
) -> Result<Option<Vec<u8>>, Error> {
    let now = client.now();
    let details = vaults::open_in(client, &vault.id, &item.enc_details)?;
    let overview = vaults::open_in(client, &vault.id, &item.enc_overview)?;
    let Some(edited) = edit(&details, &overview, &item.template_uuid, changes, now)? else { return Ok(None) };
    let random = client.machine().random;
    let Some(known) = client.session()?.vault(&vault.id) else { return Err(vaults::cannot_open()) };
    let patch = ItemPatch {
        uuid: &item.uuid,
        item_version: item.item_version,
        // Like the official client, seal both with fresh IVs, even if one is unchanged.
        enc_overview: known.key.seal(edited.overview.as_ref().unwrap_or(&overview).as_bytes(), random)?,
        enc_details: known.key.seal(edited.details.as_bytes(), random)?,
        trashed: "N",
        template_uuid: &item.template_uuid,
        created_at: &item.created_at,
        updated_at: rfc3339(now),
        encrypted_by: known.key.id(),
        file_references: item.file_references.as_deref(),
    };
    // Serialising ciphertext and numbers cannot fail.
    Ok(Some(serde_json::to_vec(&[patch]).unwrap_or_default()))
}

fn send(client: &mut Client<'_>, vault: &OpenVault, item: &Item, patch: &[u8]) -> Result<Outcome, Error> {
    let asked = Asked::Change(Some(&vault.name));
    let path = format!("/api/v3/vault/{}/{}/items", vault.id, vault.content_version);
    let body = match client.call(Method::Patch, &path, Some(patch)) {
        Ok(body) => body,
        Err(Failure::Refused(Refusal::Conflict)) => return Ok(Outcome::Collision),
        Err(failure) => return Err(client.error(failure, asked)),
    };
    let answer: PatchAnswer = wire::read(&body).map_err(|failure| client.error(failure, asked))?;
    if let Some(version) = answer.updated_items.as_ref().and_then(|items| items.get(&item.uuid)) {
        return Ok(Outcome::Written(*version));
    }
    match answer.failed_items.as_ref().and_then(|items| items.get(&item.uuid)) {
        // The session expired between the check of the request and that of the item.
        Some(1) => client.after_refusal().map(|()| Outcome::Collision),
        Some(101) => Err(read_only(Some(&vault.name))),
        Some(103) => Err(client.error(Failure::Refused(Refusal::OutOfOrder(500)), asked)),
        Some(104) => Ok(Outcome::Collision),
        Some(106) => Err(Error::unsupported("The item would become larger than 1Password allows.")),
        Some(code) => Err(client.error(Failure::Refused(Refusal::Code(*code)), asked)),
        None => Err(client.error(Failure::Garbled("without saying what became of the change"), asked)),
    }
}

/// Sleeps for a random time below a limit that doubles with each attempt, so that two writers do
/// not collide again.
fn pause(client: &Client<'_>, attempt: u32) -> Result<(), Error> {
    let mut bytes = [0; 2];
    client.machine().random.fill(&mut bytes)?;
    let longest = FIRST_PAUSE_MS << (attempt - 1);
    (client.machine().pause)(Duration::from_millis(
        longest * u64::from(u16::from_le_bytes(bytes)) / u64::from(u16::MAX),
    ));
    Ok(())
}
