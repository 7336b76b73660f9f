//! Refreshing in the background, before a value expires.

use super::*;

#[tokio::test]
async fn values_that_came_together_are_refreshed_apart_while_they_are_used() {
    let harness = Harness::with(CacheOptions::default());
    let references: Vec<_> = (0..100).map(|number| format!("op://vault/{number}")).collect();
    for reference in &references {
        harness.get_item(reference, Fields::CREDENTIALS).await.unwrap();
    }
    harness.clock.advance(seconds(284));
    for reference in &references {
        harness.get_item(reference, Fields::CREDENTIALS).await.unwrap();
    }
    tokio::task::yield_now().await;
    assert_eq!(harness.calls().len(), 100, "not before the last 5 %");
    // Half-way through the window of 15 s.
    harness.clock.advance(Duration::from_millis(8_500));
    harness.set_password("second");
    for reference in &references {
        let found = harness.get_item(reference, Fields::CREDENTIALS).await.unwrap();
        assert_eq!(found.password(), "first", "no caller waits for the refresh");
    }
    while !harness.cache.flights_are_over() {
        tokio::task::yield_now().await;
    }
    let refreshed = harness.calls().len() - 100;
    assert!((10..90).contains(&refreshed), "{refreshed} of 100");
    let mut fresh = 0;
    for reference in &references {
        fresh += usize::from(harness.get_item(reference, Fields::CREDENTIALS).await.unwrap().password() == "second");
    }
    assert_eq!(fresh, refreshed);
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_value_until_its_duration_is_over_and_is_not_tried_at_each_read() {
    let harness = Harness::with(CacheOptions { refresh_within: 1.0, ..CacheOptions::default() });
    harness.password().await;
    harness.fail(Some(ProviderError::new(ErrorCode::Unavailable, "down")));
    harness.clock.advance(Duration::from_millis(299_999));
    for _ in 0..10 {
        assert!(matches!(harness.password().await.1, Source::Cached { .. }));
        while !harness.cache.flights_are_over() {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(harness.calls().len(), 2, "it was tried once");
    harness.fail(None);
    harness.clock.advance(Duration::from_millis(1));
    assert_eq!(harness.password().await.1, Source::Live);
}

#[tokio::test]
async fn a_refresh_that_is_due_goes_with_the_call_for_the_code() {
    let harness = Harness::with(CacheOptions { refresh_within: 1.0, ..CacheOptions::default() });
    *harness.provider.has_code.lock().unwrap() = true;
    harness.get(Fields::ALL).await.unwrap();
    harness.set_password("second");
    harness.clock.advance(Duration::from_millis(299_999));
    let found = harness.get(Fields::ALL).await.unwrap();
    assert_eq!((found.password().as_str(), found.source), ("second", Source::Live));
    assert_eq!(harness.calls(), [Fields::ALL, Fields::ALL]);
}

#[tokio::test]
async fn a_refresh_for_a_reader_that_wants_all_learns_again_whether_there_is_a_code() {
    let harness = Harness::with(CacheOptions { refresh_within: 1.0, ..CacheOptions::default() });
    harness.get(Fields::ALL).await.unwrap();
    harness.set_password("second");
    harness.clock.advance(Duration::from_millis(299_999));
    assert_eq!(harness.get(Fields::ALL).await.unwrap().password(), "first");
    while !harness.cache.flights_are_over() {
        tokio::task::yield_now().await;
    }
    let found = harness.get(Fields::ALL).await.unwrap();
    assert_eq!((found.password().as_str(), found.reason()), ("second", Some(&NoCodeReason::Absent)));
    assert_eq!(harness.calls(), [Fields::ALL, Fields::ALL]);
}
