//! Keysets, vaults and items, as the account may see them (protocol notes, sections 8 to 10).

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;

use crate::faults::Fault;
use crate::refusal::Refusal;
use crate::session::Caller;
use crate::store::{Account, Stored, Vault};
use crate::wire::{BatchAnswer, BatchRequest, Item, ItemAnswer, ItemHead, ItemsAnswer, Keysets, Trashed};
use crate::world::World;

type Answer = Result<Response, Refusal>;
type Attributes = Query<HashMap<String, String>>;

/// The most items that a client may request at once.
const BATCH_LIMIT: usize = 50;

/// `GET /api/v2/account/keysets`
pub(crate) async fn keysets(State(world): State<Arc<World>>, caller: Caller) -> Answer {
    let with_foreign = world.rules().foreign_keyset;
    caller.answer(&Keysets { version: 1, keysets: caller.account().keyring.wire(with_foreign) })
}

/// `GET /api/v1/vaults`
pub(crate) async fn vaults(State(world): State<Arc<World>>, caller: Caller, Query(query): Attributes) -> Answer {
    let with_accessors = wants_accessors(&query);
    let account = caller.account();
    let vaults: Vec<_> = world
        .store()
        .vaults
        .iter()
        .filter_map(|vault| Some(vault.meta(account, vault.grants.get(&account.name)?, with_accessors)))
        .collect();
    caller.answer(&vaults)
}

/// `GET /api/v3/vault/{vault}`
pub(crate) async fn vault(
    State(world): State<Arc<World>>,
    caller: Caller,
    Path(vault): Path<String>,
    Query(query): Attributes,
) -> Answer {
    let with_accessors = wants_accessors(&query);
    let account = caller.account();
    let missing = hidden(&world);
    let meta = {
        let store = world.store();
        let (vault, grant) = store.visible(account, &vault).ok_or(missing)?;
        vault.meta(account, grant, with_accessors)
    };
    caller.answer(&meta)
}

/// `GET /api/v1/vault/{vault}/items/overviews`
pub(crate) async fn overviews(State(world): State<Arc<World>>, caller: Caller, Path(vault): Path<String>) -> Answer {
    let batch_size = world.rules().batch_size;
    let (content_version, items) = items(&world, caller.account(), &vault)?;
    let (deleted, mut items): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|stored| stored.item.head.trashed == Trashed::Deleted);
    let deleted: Vec<_> = deleted.iter().map(|stored| stored.item.head.uuid.clone()).collect();
    let cut = cut(&mut items, batch_size);
    let heads: Vec<&ItemHead> = items.iter().map(|stored| &stored.item.head).collect();
    caller.answer(&ItemsAnswer {
        content_version: cut.unwrap_or(content_version),
        batch_complete: cut.is_none(),
        items: heads,
        deleted_item_uuids: (!deleted.is_empty()).then_some(deleted),
    })
}

/// `GET /api/v1/vault/{vault}/{contentVersion}/items`: complete items changed since that version.
pub(crate) async fn items_since(
    State(world): State<Arc<World>>,
    caller: Caller,
    Path((vault, since)): Path<(String, u64)>,
) -> Answer {
    let batch_size = world.rules().batch_size;
    let (content_version, mut items) = items(&world, caller.account(), &vault)?;
    items.retain(|stored| stored.changed_at > since);
    let cut = cut(&mut items, batch_size);
    let items: Vec<&Item> = items.iter().map(|stored| &stored.item).collect();
    caller.answer(&ItemsAnswer {
        content_version: cut.unwrap_or(content_version),
        batch_complete: cut.is_none(),
        items,
        deleted_item_uuids: None,
    })
}

/// `GET /api/v1/vault/{vault}/item/{item}`
pub(crate) async fn item(
    State(world): State<Arc<World>>,
    caller: Caller,
    Path((vault, item)): Path<(String, String)>,
) -> Answer {
    let missing = Refusal::Missing(world.rules().missing_item_status);
    let hidden = hidden(&world);
    let (content_version, stored) = {
        let store = world.store();
        let (vault, _) = store.visible(caller.account(), &vault).ok_or(hidden)?;
        (vault.content_version, Arc::clone(vault.items.get(&item).ok_or(missing)?))
    };
    let item = match caller.fault() {
        Some(Fault::Outdated) => stored.before.as_ref().unwrap_or(&stored.item),
        _ => &stored.item,
    };
    caller.answer(&ItemAnswer { content_version, item })
}

/// `POST /api/v3/vault/{vault}/items/batch`
pub(crate) async fn batch(
    State(world): State<Arc<World>>,
    caller: Caller,
    Path(vault): Path<String>,
    body: Bytes,
) -> Answer {
    let request: BatchRequest = caller.open(&body)?;
    if request.item_uuids.len() > BATCH_LIMIT {
        return Err(Refusal::BadRequest("too_many_items"));
    }
    let hidden = hidden(&world);
    let (content_version, stored): (_, Vec<_>) = {
        let store = world.store();
        let (vault, _) = store.visible(caller.account(), &vault).ok_or(hidden)?;
        let found = request.item_uuids.iter().filter_map(|id| vault.items.get(id)).map(Arc::clone);
        (vault.content_version, found.collect())
    };
    let items = stored.iter().map(|stored| &stored.item).collect();
    caller.answer(&BatchAnswer { content_version, items })
}

/// The refusal for a vault that the account cannot see.
pub(crate) fn hidden(world: &World) -> Refusal {
    Refusal::Missing(world.rules().hidden_vault_status)
}

fn wants_accessors(query: &HashMap<String, String>) -> bool {
    query.get("attrs").is_some_and(|attributes| attributes.split(',').any(|attribute| attribute == "accessors"))
}

fn items(world: &World, account: &Account, vault: &str) -> Result<(u64, Vec<Arc<Stored>>), Refusal> {
    let hidden = hidden(world);
    let store = world.store();
    let (vault, _): (&Vault, _) = store.visible(account, vault).ok_or(hidden)?;
    Ok((vault.content_version, vault.items.values().map(Arc::clone).collect()))
}

/// Cuts the list to one batch, oldest changes first, and returns the version to continue from;
/// `None` if everything fits. Items of one change stay together, because continuing from a version
/// skips all of them.
fn cut(items: &mut Vec<Arc<Stored>>, batch_size: Option<usize>) -> Option<u64> {
    let size = batch_size.filter(|size| *size > 0 && *size < items.len())?;
    items.sort_by_key(|stored| stored.changed_at);
    let last = items.get(size - 1)?.changed_at;
    let before = items.len();
    items.retain(|stored| stored.changed_at <= last);
    (items.len() < before).then_some(last)
}
