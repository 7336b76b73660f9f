//! Listing the items that a connection can see.
//!
//! **Invariant:** a list ends, whatever the provider answers: pages, items, bytes and time have
//! limits. A list that exceeds one is an error, never a shorter list. What all lists that are being
//! collected hold is bounded, too, and workspaces share it.

use std::time::Duration;

use keyway_audit::{Operation, Trail};
use keyway_budget::ProviderOperation;
use keyway_runtime::contract::{Item, ItemPage};
use keyway_storage::ConnectionId;

use super::Connections;
use crate::access::Access;
use crate::error::{BrokerError, ListLimit};
use crate::provider_call::CallFailure;

/// Limits of [`Connections::list_items`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListLimits {
    /// The most items.
    pub items: usize,
    /// The most bytes of text.
    pub bytes: usize,
    /// The most pages of the provider.
    pub pages: usize,
    /// The longest time for all pages.
    pub time: Duration,
}

/// More items than any account of the known secret managers holds, and less time than the 60 s
/// after which the published clients time out.
pub const LIST_LIMITS: ListLimits =
    ListLimits { items: 50_000, bytes: 64 << 20, pages: 500, time: Duration::from_secs(50) };

/// What all lists hold while they are collected, in bytes. One workspace alone gets half, which is
/// two of the largest lists.
pub(crate) const LISTS_BYTES: usize = 4 * LIST_LIMITS.bytes;

impl Connections {
    /// All items that a connection can read, over all pages, within [`LIST_LIMITS`]. Needs
    /// [`Scope::Api`](crate::Scope::Api).
    ///
    /// # Errors
    /// [`BrokerError::NotFound`], [`BrokerError::TooManyItems`], and the errors of the provider.
    pub async fn list_items(&self, access: &Access, id: ConnectionId) -> Result<Vec<Item>, BrokerError> {
        let trail = Trail::connection(id);
        let list = async {
            let record = self.record(access.workspace(), id).await?;
            let opened = self.open(&record).await?;
            opened.note(&trail);
            let room = |bytes| self.lists.take(access.workspace(), bytes);
            // Each page's future owns what it needs: one that borrows would not be `Send`, and this
            // could not be spawned.
            let page = |page: Option<String>| {
                let opened = opened.clone();
                async move {
                    let list = opened.call(ProviderOperation::ListItems, page, |provider, connection, page| {
                        Box::pin(provider.list_items(connection, page.as_deref()))
                    });
                    list.await
                }
            };
            let items = all_items(LIST_LIMITS, room, page).await?;
            trail.note(|subject| subject.count = Some(items.len() as u64));
            Ok(items)
        };
        self.core.audited(access, Operation::ListItems, &trail, list).await
    }
}

/// Fetches page after page until the last, within the limits and while there is room for more
/// bytes.
async fn all_items<F, R>(
    limits: ListLimits,
    room: impl Fn(usize) -> Option<R>,
    list: impl Fn(Option<String>) -> F,
) -> Result<Vec<Item>, BrokerError>
where
    F: Future<Output = Result<ItemPage, CallFailure>>,
{
    let all_pages = async {
        let mut items = Vec::new();
        let mut next: Option<String> = None;
        let (mut bytes, mut held) = (0, Vec::new());
        for _ in 0..limits.pages {
            let page = list(next.take()).await?;
            let more = page.items.iter().map(size_in_memory).sum::<usize>();
            bytes += more;
            if bytes > limits.bytes {
                return Err(BrokerError::TooManyItems(ListLimit::Bytes(limits.bytes)));
            }
            held.push(room(more).ok_or(BrokerError::TooManyItems(ListLimit::Memory))?);
            items.extend(page.items);
            if items.len() > limits.items {
                return Err(BrokerError::TooManyItems(ListLimit::Items(limits.items)));
            }
            next = page.next;
            if next.is_none() {
                return Ok(items);
            }
        }
        Err(BrokerError::TooManyItems(ListLimit::Pages(limits.pages)))
    };
    let too_slow = || BrokerError::TooManyItems(ListLimit::Seconds(limits.time.as_secs()));
    tokio::time::timeout(limits.time, all_pages).await.map_err(|_| too_slow())?
}

/// The approximate size of an item: its texts, and the structures around them, which may be larger.
fn size_in_memory(item: &Item) -> usize {
    let attributes =
        item.attributes.iter().map(|attribute| size_of_val(attribute) + attribute.name.len() + attribute.value.len());
    let vault = [&item.vault_id, &item.vault_name].into_iter().flatten();
    let texts = [&item.id, &item.title, &item.reference, &item.category].into_iter().chain(vault).chain(&item.urls);
    size_of::<Item>() + texts.into_iter().map(String::len).sum::<usize>() + attributes.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use keyway_budget::Shares;
    use keyway_storage::WorkspaceId;

    use super::*;

    const LIMITS: ListLimits = ListLimits { items: 10, bytes: 10_000, pages: 5, time: Duration::from_secs(5) };

    /// There is always room.
    fn room(_: usize) -> Option<()> {
        Some(())
    }

    /// A page of this many items, with a token for the next page.
    fn page(items: usize, next: Option<&str>) -> ItemPage {
        let item = serde_json::json!({
            "id": "i", "title": "t", "vault_id": "v", "vault_name": "V", "reference": "op://v/i", "category": "login", "attributes": [],
        });
        serde_json::from_value(serde_json::json!({ "items": vec![item; items], "next": next })).unwrap()
    }

    #[tokio::test]
    async fn all_pages_are_read_to_the_last() {
        let items = all_items(LIMITS, room, |next| async move {
            Ok(match next.as_deref() {
                None => page(2, Some("second")),
                Some("second") => page(0, Some("third")),
                _ => page(1, None),
            })
        });
        assert_eq!(items.await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn what_holds_the_texts_of_items_counts_like_the_texts() {
        let mut page = page(5, None);
        for item in &mut page.items {
            item.attributes = vec![serde_json::from_value(serde_json::json!({"name": "", "value": ""})).unwrap(); 100];
        }
        let error = all_items(LIMITS, room, |_| std::future::ready(Ok(page.clone()))).await.unwrap_err();
        assert!(matches!(error, BrokerError::TooManyItems(ListLimit::Bytes(10_000))), "{error}");
    }

    #[tokio::test]
    async fn a_list_without_end_ends_at_each_of_the_limits() {
        let too_many = |error: BrokerError, limit: ListLimit| {
            assert!(matches!(error, BrokerError::TooManyItems(l) if l == limit), "{error}")
        };
        too_many(
            all_items(LIMITS, room, |_| async { Ok(page(1, Some("more"))) }).await.unwrap_err(),
            ListLimit::Pages(5),
        );
        too_many(
            all_items(LIMITS, room, |_| async { Ok(page(6, Some("more"))) }).await.unwrap_err(),
            ListLimit::Items(10),
        );
        let little = ListLimits { bytes: 10, ..LIMITS };
        too_many(all_items(little, room, |_| async { Ok(page(5, None)) }).await.unwrap_err(), ListLimit::Bytes(10));
        let limits = ListLimits { time: Duration::from_millis(20), ..LIMITS };
        let slow = all_items(limits, room, |_| async {
            tokio::time::sleep(Duration::from_millis(15)).await;
            Ok(page(1, Some("more")))
        });
        too_many(slow.await.unwrap_err(), ListLimit::Seconds(0));
    }

    #[tokio::test]
    async fn lists_of_one_workspace_leave_room_for_those_of_others_and_give_it_back() {
        let size = size_in_memory(&page(1, None).items[0]);
        let lists = Shares::new(16 * size);
        let (one, other) = (WorkspaceId::generate(), WorkspaceId::generate());
        let list = async |workspace, pages: usize| {
            let room = |bytes| lists.take(workspace, bytes);
            let read = std::cell::Cell::new(0);
            all_items(LIMITS, room, |_| {
                read.set(read.get() + 1);
                std::future::ready(Ok(page(3, (read.get() < pages).then_some("more"))))
            })
            .await
        };
        assert_eq!(list(one, 2).await.unwrap().len(), 6);
        let error = list(one, 3).await.unwrap_err();
        assert!(matches!(error, BrokerError::TooManyItems(ListLimit::Memory)), "{error}");
        assert_eq!(error.kind(), crate::ErrorKind::Busy);
        let held = lists.take(one, 8 * size).unwrap();
        assert_eq!(list(other, 1).await.unwrap().len(), 3);
        drop(held);
        assert_eq!(lists.free(), 16 * size);
    }
}
