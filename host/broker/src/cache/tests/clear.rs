//! Clearing, deleting a connection, and the fetches that run at that time.

use super::*;

#[tokio::test]
async fn after_clearing_nothing_from_before_is_used_not_even_what_was_on_its_way() {
    let mut harness = Harness::new();
    let gate = harness.hold();
    let before = tokio::spawn(harness.get(Fields::CREDENTIALS));
    while harness.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    harness.generation += 1;
    harness.cache.drop_connection(harness.connection);
    let after = tokio::spawn(harness.get(Fields::CREDENTIALS));
    while harness.calls().len() < 2 {
        tokio::task::yield_now().await;
    }
    harness.set_password("old");
    gate.add_permits(1);
    assert_eq!(before.await.unwrap().unwrap().password(), "old");
    harness.set_password("new");
    gate.add_permits(1);
    assert_eq!(after.await.unwrap().unwrap().password(), "new");
    assert_eq!(harness.password().await, ("new".into(), cached(0)));
}

#[tokio::test]
async fn an_older_fetch_does_not_replace_a_newer_value() {
    let mut harness = Harness::new();
    let gate = harness.hold();
    let slow = tokio::spawn(harness.get(Fields::CREDENTIALS));
    while harness.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    harness.generation += 1;
    *harness.provider.gate.lock().unwrap() = None;
    harness.set_password("new");
    assert_eq!(harness.password().await.0, "new");
    harness.set_password("old");
    gate.add_permits(1);
    slow.await.unwrap().unwrap();
    assert_eq!(harness.password().await, ("new".into(), cached(0)));
}

#[tokio::test]
async fn clearing_one_connection_leaves_the_others() {
    let harness = Harness::new();
    harness.password().await;
    harness.cache.drop_connection(ConnectionId::generate());
    assert_eq!(harness.password().await.1, cached(0));
    harness.cache.drop_connection(harness.connection);
    assert!(harness.cache.values.get(&harness.item("op://vault/item")).is_none());
}

#[tokio::test]
async fn of_a_connection_that_was_deleted_nothing_is_kept_not_even_what_was_on_its_way() {
    let harness = Harness::new();
    harness.password().await;
    let gate = harness.hold();
    let on_its_way = tokio::spawn(harness.get_item("op://vault/other", Fields::CREDENTIALS));
    while harness.calls().len() < 2 {
        tokio::task::yield_now().await;
    }
    harness.cache.close_connection(harness.connection);
    gate.add_permits(1);
    assert_eq!(on_its_way.await.unwrap().unwrap().password(), "first", "earlier callers receive their answer");
    assert!(harness.cache.is_closed(harness.connection));
    assert!(harness.cache.values.iter().next().is_none());
}
