//! The age of values: each reader's cache duration, on a clock that may jump.

use super::*;

#[tokio::test]
async fn a_value_is_used_until_its_duration_and_not_after() {
    for ttl in [1, 300, 3_600, 86_400] {
        let harness = Harness::new().ttl(seconds(ttl));
        assert_eq!(harness.password().await, ("first".into(), Source::Live));
        harness.set_password("second");
        harness.clock.advance(seconds(ttl) - Duration::from_millis(1));
        let (password, source) = harness.password().await;
        assert_eq!(
            (password.as_str(), source),
            ("first", Source::Cached { age: seconds(ttl) - Duration::from_millis(1) })
        );
        harness.clock.advance(Duration::from_millis(1));
        assert_eq!(harness.password().await, ("second".into(), Source::Live), "{ttl} s");
        assert_eq!(harness.calls().len(), 2);
    }
}

#[tokio::test]
async fn off_means_live_every_time_and_nothing_written() {
    let harness = Harness::new().ttl(Duration::ZERO);
    for _ in 0..3 {
        assert_eq!(harness.password().await.1, Source::Live);
    }
    harness.fail(Some(not_found()));
    assert!(harness.get(Fields::CREDENTIALS).await.is_err());
    harness.fail(None);
    assert_eq!(harness.password().await.1, Source::Live, "not even that it was missing");
    assert_eq!(harness.calls().len(), 5);
    assert!(harness.cache.values.iter().next().is_none());
    assert!(harness.cache.missing.iter().next().is_none());
}

#[tokio::test]
async fn off_asks_only_for_what_is_wanted() {
    let harness = Harness::new().ttl(Duration::ZERO);
    let password = Fields { password: true, ..Fields::default() };
    harness.get(password).await.unwrap();
    assert_eq!(harness.calls(), [password]);
}

#[tokio::test]
async fn the_age_is_counted_from_before_the_provider_was_asked() {
    let harness = Harness::new();
    *harness.provider.duration.lock().unwrap() = seconds(10);
    harness.password().await;
    assert_eq!(harness.password().await.1, cached(10));
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_prolong_a_value() {
    let harness = Harness::new();
    harness.password().await;
    harness.clock.advance(seconds(300));
    harness.clock.set_wall(Timestamp::from_second(1_600_000_000).unwrap());
    assert_eq!(harness.password().await.1, Source::Live);
}

#[tokio::test]
async fn a_lowered_duration_counts_at_once_and_a_longer_one_is_not_disturbed() {
    let harness = Harness::new().ttl(seconds(3_600));
    harness.password().await;
    harness.clock.advance(seconds(100));
    harness.set_password("second");
    assert_eq!(harness.password().await, ("first".into(), cached(100)));
    let harness = harness.ttl(seconds(60));
    assert_eq!(harness.password().await, ("second".into(), Source::Live));
    let harness = harness.ttl(seconds(3_600));
    assert_eq!(harness.password().await, ("second".into(), cached(0)));
}

#[tokio::test]
async fn a_value_is_kept_for_as_long_as_anybody_who_asked_may_use_it() {
    let harness = Harness::new().ttl(seconds(3_600));
    let kept = |harness: &Harness| harness.cache.values.get(&harness.item("op://vault/item")).unwrap().keep;
    harness.password().await;
    assert_eq!(kept(&harness), seconds(3_600));
    harness.clock.advance(seconds(600));
    let harness = harness.ttl(seconds(300));
    harness.password().await;
    assert_eq!(kept(&harness), seconds(3_000));
    harness.clock.advance(seconds(3_000));
    harness.password().await;
    assert_eq!(kept(&harness), seconds(300));
}

#[tokio::test]
async fn a_value_that_would_be_too_old_when_the_code_has_come_is_fetched_with_it() {
    let harness = Harness::new();
    *harness.provider.has_code.lock().unwrap() = true;
    harness.password().await;
    harness.set_password("second");
    *harness.provider.duration.lock().unwrap() = seconds(30);
    harness.clock.advance(seconds(280));
    let found = harness.get(Fields::ALL).await.unwrap();
    assert_eq!((found.password().as_str(), found.source), ("second", Source::Live));
    assert_eq!(harness.calls(), [Fields::CREDENTIALS, Fields::ALL]);
}

#[tokio::test]
async fn a_value_that_is_over_is_taken_out_of_memory_also_when_nobody_asks() {
    let harness = Harness::new().ttl(seconds(10));
    let values_after = |pause: u64| {
        harness.clock.advance(seconds(pause));
        harness.cache.sweep();
        harness.cache.size().0
    };
    harness.password().await;
    assert_eq!([values_after(9), values_after(1)], [1, 0]);
    assert_eq!(harness.cache.size(), (0, 0));
    // The same holds for a value that has replaced another.
    harness.password().await;
    harness.clock.advance(seconds(10));
    harness.password().await;
    assert_eq!(harness.calls().len(), 3);
    assert_eq!([values_after(9), values_after(1)], [1, 0]);
}

#[tokio::test]
async fn a_value_that_somebody_may_still_use_is_not_swept() {
    let harness = Harness::new().ttl(seconds(60));
    harness.password().await;
    let impatient = Lookup { ttl: Duration::from_millis(1), ..harness.lookup("op://vault/item", Fields::CREDENTIALS) };
    harness.clock.advance(seconds(1));
    harness.look_up(impatient).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    harness.cache.sweep();
    assert_eq!(harness.password().await.1, cached(0));
}
