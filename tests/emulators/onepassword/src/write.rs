//! `PATCH .../items`: creating, changing, archiving and deleting items (protocol notes, sections 11
//! and 15).
//!
//! Ciphertext from a client is stored as received. It is decrypted and checked first, which a real
//! server cannot do, so that a client that sends nonsense fails at once instead of at the next
//! read.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::Value;

use crate::encoding::is_lower_id;
use crate::envelope::SymmetricKey;
use crate::faults::Fault;
use crate::read::hidden;
use crate::refusal::Refusal;
use crate::rules::DeniedWrite;
use crate::session::Caller;
use crate::store::{Vault, acl};
use crate::wire::{Item, ItemHead, ItemPatch, PatchAnswer, Trashed};
use crate::world::World;

/// Why an item failed, in `failedItems`.
mod code {
    /// The item is malformed.
    pub(super) const BAD_ITEM: i32 = 100;
    /// The account may not do this.
    pub(super) const NO_PERMISSION: i32 = 101;
    /// The item has another version.
    pub(super) const VERSION: i32 = 104;
    /// The item is too big.
    pub(super) const TOO_BIG: i32 = 106;
}

/// The most characters of ciphertext in an item. The real limit is not public.
const LONGEST_DETAILS: usize = 1024 * 1024;

/// `PATCH /api/v3/vault/{vault}/{contentVersion}/items`
pub(crate) async fn patch(
    State(world): State<Arc<World>>,
    caller: Caller,
    Path((vault, content_version)): Path<(String, u64)>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let patches: Vec<ItemPatch> = caller.open(&body)?;
    if patches.is_empty() {
        return Err(Refusal::BadRequest("no_items"));
    }
    let hidden = hidden(&world);
    let key = {
        let store = world.store();
        let (vault, _) = store.visible(caller.account(), &vault).ok_or(hidden)?;
        Arc::clone(&vault.key)
    };
    let checked: Vec<_> = patches.into_iter().map(|patch| (check(&patch, &key), patch)).collect();
    if let Some(Fault::FailedItems { code }) = caller.fault() {
        let failed_items = checked.iter().map(|(_, patch)| (patch.uuid.clone(), *code)).collect();
        return caller.answer(&PatchAnswer { content_version, updated_items: BTreeMap::new(), failed_items });
    }
    let answer = apply(&world, &caller, &vault, content_version, checked)?;
    caller.answer(&answer)
}

fn apply(
    world: &World,
    caller: &Caller,
    vault: &str,
    content_version: u64,
    patches: Vec<(Result<(), i32>, ItemPatch)>,
) -> Result<PatchAnswer, Refusal> {
    let denied = world.rules().read_only_write;
    let hidden = hidden(world);
    let account = caller.account();
    let now = whole_seconds(Timestamp::now());
    let mut store = world.store_mut();
    let (_, grant) = store.visible(account, vault).ok_or(hidden)?;
    let granted = grant.access.acl();
    if granted & acl::WRITE == 0 && denied == DeniedWrite::Forbidden {
        return Err(Refusal::Forbidden);
    }
    let vault = store.vault_mut(vault).ok_or(hidden)?;
    if vault.content_version != content_version {
        return Err(Refusal::Conflict);
    }
    let mut updated = Vec::new();
    let mut failed_items = BTreeMap::new();
    for (checked, patch) in patches {
        let uuid = patch.uuid.clone();
        match checked.and_then(|()| next(vault, granted, &account.user_uuid, patch)) {
            Ok(item) => updated.push(item),
            Err(code) => {
                failed_items.insert(uuid, code);
            }
        }
    }
    let updated_items = updated.iter().map(|item| (item.head.uuid.clone(), item.head.item_version)).collect();
    if !updated.is_empty() {
        vault.put(updated, &now);
    }
    Ok(PatchAnswer { content_version: vault.content_version, updated_items, failed_items })
}

/// Whether the item is well-formed and was encrypted for this vault.
fn check(patch: &ItemPatch, key: &SymmetricKey) -> Result<(), i32> {
    if patch.enc_details.data.len() > LONGEST_DETAILS {
        return Err(code::TOO_BIG);
    }
    let is_template = patch.template_uuid.len() == 3 && patch.template_uuid.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = |text: &String| text.parse::<Timestamp>().is_ok_and(|time| whole_seconds(time) == *text);
    let is_object = |plaintext: &[u8]| serde_json::from_slice::<Value>(plaintext).is_ok_and(|value| value.is_object());
    let opens = |envelope| key.open(envelope).is_ok_and(|plaintext| is_object(&plaintext));
    let good = is_lower_id(&patch.uuid)
        && is_template
        && is_time(&patch.created_at)
        && is_time(&patch.updated_at)
        && patch.encrypted_by == key.id()
        && opens(&patch.enc_overview)
        && opens(&patch.enc_details);
    if good { Ok(()) } else { Err(code::BAD_ITEM) }
}

/// What to store for the patch, or the code with which it fails.
fn next(vault: &Vault, granted: u32, changer: &str, patch: ItemPatch) -> Result<Item, i32> {
    let before = vault.items.get(&patch.uuid).map(|stored| &stored.item.head);
    let needed = match (before, patch.trashed) {
        (None, _) => acl::CREATE_ITEMS,
        (Some(before), Trashed::Archived) if before.trashed != Trashed::Archived => acl::ARCHIVE_ITEMS,
        (Some(before), Trashed::Deleted) if before.trashed != Trashed::Deleted => acl::DELETE_ITEMS,
        (Some(_), _) => acl::UPDATE_ITEMS,
    };
    if granted & needed == 0 {
        return Err(code::NO_PERMISSION);
    }
    match before {
        None if patch.item_version != 0 => return Err(code::BAD_ITEM),
        Some(before) if before.item_version != patch.item_version => return Err(code::VERSION),
        _ => {}
    }
    Ok(Item {
        head: ItemHead {
            fave_index: before.map_or(0, |before| before.fave_index),
            created_at: before.map_or(patch.created_at, |before| before.created_at.clone()),
            package_uuid: before.map_or_else(String::new, |before| before.package_uuid.clone()),
            file_references: patch.file_references.or_else(|| before.and_then(|before| before.file_references.clone())),
            uuid: patch.uuid,
            template_uuid: patch.template_uuid,
            trashed: patch.trashed,
            updated_at: patch.updated_at,
            changer_uuid: changer.to_owned(),
            item_version: patch.item_version + 1,
            encrypted_by: patch.encrypted_by,
            enc_overview: patch.enc_overview,
        },
        enc_details: patch.enc_details,
    })
}

/// The protocol's format of times.
pub(crate) fn whole_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
