//! The contents of memory: ciphertext, bound to one item, under one key.

use super::*;

#[tokio::test]
async fn what_is_kept_is_ciphertext_that_opens_for_its_own_item_only() {
    let harness = Harness::new();
    harness.set_password("a password to search for");
    harness.get_item("one", Fields::CREDENTIALS).await.unwrap();
    let (one, other) = (harness.item("one"), harness.item("other"));
    let value = harness.cache.values.get(&one).unwrap();
    let memory = value.ciphertext();
    assert!(!memory.windows(8).any(|window| b"a password to search for".windows(8).any(|part| part == window)));
    assert!(value.open(&one, &harness.keys).is_some());
    assert!(value.open(&other, &harness.keys).is_none());
    // Moved to another item's place, it is a miss and not the wrong password.
    harness.cache.values.insert(other, value);
    harness.set_password("the other's own");
    let found = harness.get_item("other", Fields::CREDENTIALS).await.unwrap();
    assert_eq!((found.password().as_str(), found.source), ("the other's own", Source::Live));
}

#[tokio::test]
async fn a_value_from_before_a_change_of_keys_is_a_miss() {
    let mut harness = Harness::new();
    harness.password().await;
    harness.keys = Harness::new().keys;
    assert_eq!(harness.password().await.1, Source::Live);
}
