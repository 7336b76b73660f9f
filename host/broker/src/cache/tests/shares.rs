//! The share of the cache that a workspace gets.

use super::*;

/// A workspace on the cache of another.
fn beside(harness: &Harness) -> Harness {
    let keys = BTreeMap::from([(1, WorkspaceKey::generate().unwrap())]);
    Harness {
        cache: harness.cache.clone(),
        clock: harness.clock.clone(),
        keys: Arc::new(WorkspaceKeys::derive(WorkspaceId::generate(), keys).unwrap().unwrap()),
        provider: harness.provider.clone(),
        connection: ConnectionId::generate(),
        generation: 0,
        ttl: harness.ttl,
    }
}

async fn source(harness: &Harness, number: usize) -> Source {
    harness.get_item(&format!("op://vault/item {number}"), Fields::CREDENTIALS).await.unwrap().source
}

#[tokio::test]
async fn a_workspace_that_resolves_everything_evicts_nothing_of_another() {
    let options = CacheOptions { capacity_bytes: 64 << 10, ..CacheOptions::default() };
    let (victim, greedy) = (Harness::with(options), 1_000);
    for number in 0..20 {
        assert_eq!(source(&victim, number).await, Source::Live);
    }
    let other = beside(&victim);
    // Twice, so that its values count as used often.
    for number in (0..greedy).chain(0..greedy) {
        source(&other, number).await;
    }
    for number in 0..20 {
        assert_eq!(source(&victim, number).await, cached(0), "{number}");
    }
    let weight = victim.cache.size().1;
    assert!(weight > 20 << 10 && weight <= 64 << 10, "{weight}");

    // What is given back can be used again.
    victim.clock.advance(seconds(301));
    victim.cache.sweep();
    assert_eq!((victim.cache.size().0, victim.cache.shares.free()), (0, 64 << 10));
}

#[tokio::test]
async fn a_value_that_is_replaced_keeps_its_share_and_one_that_has_grown_needs_more() {
    let options = CacheOptions { capacity_bytes: 64 << 10, ..CacheOptions::default() };
    let harness = Harness::with(options);
    source(&harness, 1).await;
    let before = harness.cache.shares.free();
    harness.clock.advance(seconds(301));
    assert_eq!(source(&harness, 1).await, Source::Live);
    assert_eq!(harness.cache.shares.free(), before);
    for (length, kept) in [(10_000, 1), (40_000, 0)] {
        harness.set_password(&"x".repeat(length));
        harness.clock.advance(seconds(301));
        assert_eq!(source(&harness, 1).await, Source::Live);
        assert_eq!(harness.cache.size().0, kept, "{length}");
    }
    assert_eq!(harness.cache.shares.free(), 64 << 10);
}
