//! Which calls to the provider are made, shared or saved, and what their failures leave behind.

use super::*;

#[tokio::test]
async fn fifty_cold_readers_make_one_call() {
    for fields in [Fields::CREDENTIALS, Fields::ALL] {
        let harness = Harness::new();
        *harness.provider.has_code.lock().unwrap() = true;
        let gate = harness.hold();
        let readers: Vec<_> = (0..50).map(|_| tokio::spawn(harness.get(fields))).collect();
        tokio::task::yield_now().await;
        gate.add_permits(50);
        for reader in readers {
            let found = reader.await.unwrap().unwrap();
            assert_eq!((found.password().as_str(), found.source), ("first", Source::Live));
            assert_eq!(found.code(), fields.one_time_code.then_some("000000"));
        }
        assert_eq!(harness.calls(), [fields]);
    }
}

#[tokio::test]
async fn who_wants_no_code_waits_for_the_call_that_brings_one() {
    let harness = Harness::new();
    *harness.provider.has_code.lock().unwrap() = true;
    let gate = harness.hold();
    let first = tokio::spawn(harness.get(Fields::ALL));
    while harness.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = tokio::spawn(harness.get(Fields::CREDENTIALS));
    tokio::task::yield_now().await;
    gate.add_permits(2);
    assert_eq!(first.await.unwrap().unwrap().code(), Some("000000"));
    let second = second.await.unwrap().unwrap();
    assert_eq!((second.password().as_str(), second.code(), second.source), ("first", None, Source::Live));
    assert_eq!(harness.calls(), [Fields::ALL]);
}

#[tokio::test]
async fn a_reader_that_goes_away_harms_no_other_and_its_fetch_is_kept() {
    let harness = Harness::new();
    let gate = harness.hold();
    let first = tokio::spawn(harness.get(Fields::CREDENTIALS));
    let second = tokio::spawn(harness.get(Fields::CREDENTIALS));
    while harness.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.add_permits(1);
    assert_eq!(second.await.unwrap().unwrap().password(), "first");
    assert_eq!(harness.password().await.1, cached(0));
    assert_eq!(harness.calls().len(), 1);
}

#[tokio::test]
async fn one_time_codes_are_live_every_time_beside_cached_credentials() {
    let harness = Harness::new();
    *harness.provider.has_code.lock().unwrap() = true;
    let first = harness.get(Fields::ALL).await.unwrap();
    assert_eq!((first.code(), first.source), (Some("000000"), Source::Live));
    harness.clock.advance(seconds(7));
    let second = harness.get(Fields::ALL).await.unwrap();
    assert_eq!((second.code(), second.source), (Some("000001"), cached(7)));
    assert!(second.provider_time.is_some());
    let third = harness.get(Fields::ONE_TIME_CODE).await.unwrap();
    assert_eq!(third.code(), Some("000002"));
    assert!(third.fetched.credentials.password.is_none());
    assert_eq!(harness.calls(), [Fields::ALL, Fields::ONE_TIME_CODE, Fields::ONE_TIME_CODE]);
}

#[tokio::test]
async fn that_an_item_has_no_code_is_remembered_with_its_values_and_as_long() {
    let harness = Harness::new();
    let first = harness.get(Fields::ALL).await.unwrap();
    assert_eq!((first.reason(), first.source), (Some(&NoCodeReason::Absent), Source::Live));
    harness.clock.advance(seconds(7));
    let second = harness.get(Fields::ALL).await.unwrap();
    assert_eq!((second.reason(), second.source), (Some(&NoCodeReason::Absent), cached(7)));
    assert_eq!((second.code_revision.as_deref(), second.provider_time), (Some("first"), None));
    let credentials = harness.get(Fields::CREDENTIALS).await.unwrap();
    assert_eq!((credentials.reason(), credentials.code_revision.as_deref()), (None, None), "it was not asked for");
    assert_eq!(harness.calls(), [Fields::ALL]);
    harness.clock.advance(seconds(293));
    assert_eq!(harness.get(Fields::ALL).await.unwrap().source, Source::Live);
    assert_eq!(harness.calls(), [Fields::ALL, Fields::ALL]);
}

#[tokio::test]
async fn that_an_item_has_no_code_is_learned_beside_cached_credentials_by_one_call() {
    let harness = Harness::new();
    harness.get(Fields::CREDENTIALS).await.unwrap();
    for _ in 0..3 {
        let found = harness.get(Fields::ALL).await.unwrap();
        assert_eq!((found.reason(), found.source), (Some(&NoCodeReason::Absent), cached(0)));
    }
    assert_eq!(harness.calls(), [Fields::CREDENTIALS, Fields::ONE_TIME_CODE]);
}

#[tokio::test]
async fn that_a_later_state_of_the_item_has_no_code_says_nothing_about_the_cached_one() {
    let harness = Harness::new();
    harness.get(Fields::CREDENTIALS).await.unwrap();
    harness.set_password("second");
    for _ in 0..2 {
        let found = harness.get(Fields::ALL).await.unwrap();
        assert_eq!((found.password().as_str(), found.code_revision.as_deref()), ("first", Some("second")));
    }
    assert_eq!(harness.calls(), [Fields::CREDENTIALS, Fields::ONE_TIME_CODE, Fields::ONE_TIME_CODE]);
}

#[tokio::test]
async fn asking_for_the_code_alone_is_live_and_corrects_what_was_remembered() {
    let harness = Harness::new();
    harness.get(Fields::ALL).await.unwrap();
    *harness.provider.has_code.lock().unwrap() = true;
    assert_eq!(harness.get(Fields::ALL).await.unwrap().code(), None, "remembered");
    assert_eq!(harness.get(Fields::ONE_TIME_CODE).await.unwrap().code(), Some("000000"));
    let all = harness.get(Fields::ALL).await.unwrap();
    assert_eq!((all.code(), all.source), (Some("000001"), cached(0)));
    assert_eq!(harness.calls(), [Fields::ALL, Fields::ONE_TIME_CODE, Fields::ONE_TIME_CODE]);
    *harness.provider.has_code.lock().unwrap() = false;
    assert_eq!(harness.get(Fields::ONE_TIME_CODE).await.unwrap().reason(), Some(&NoCodeReason::Absent));
    harness.get(Fields::ALL).await.unwrap();
    assert_eq!(harness.calls().len(), 4, "remembered again");
}

#[tokio::test]
async fn a_missing_item_is_remembered_for_a_few_seconds() {
    let harness = Harness::new();
    harness.fail(Some(not_found()));
    for _ in 0..10 {
        let Err(CallFailure::Call(CallError::Provider(error))) = harness.get(Fields::ALL).await else { panic!() };
        assert_eq!(error, not_found());
    }
    assert_eq!(harness.calls().len(), 1);
    harness.fail(None);
    harness.clock.advance(seconds(4));
    assert!(harness.get(Fields::CREDENTIALS).await.is_err());
    harness.clock.advance(seconds(1));
    assert_eq!(harness.password().await.1, Source::Live);
}

#[tokio::test]
async fn a_failure_is_not_remembered_and_does_not_touch_a_value_that_others_may_use() {
    let harness = Harness::new();
    harness.password().await;
    harness.clock.advance(seconds(100));
    for error in [ProviderError::new(ErrorCode::Unavailable, "down"), not_found()] {
        harness.fail(Some(error));
        let impatient = Lookup { ttl: seconds(60), ..harness.lookup("op://vault/item", Fields::CREDENTIALS) };
        assert!(harness.look_up(impatient).await.is_err());
        assert_eq!(harness.password().await, ("first".into(), cached(100)));
    }
}

#[tokio::test]
async fn a_value_that_is_too_old_is_not_used_although_the_provider_is_down() {
    let harness = Harness::new();
    harness.password().await;
    harness.fail(Some(ProviderError::new(ErrorCode::Unavailable, "down")));
    harness.clock.advance(seconds(300));
    assert!(harness.get(Fields::CREDENTIALS).await.is_err());
    assert!(harness.get(Fields::CREDENTIALS).await.is_err());
    assert_eq!(harness.calls().len(), 3, "a failure is not remembered");
}

#[tokio::test]
async fn a_call_that_panics_is_an_error_and_the_next_one_works() {
    let harness = Harness::new();
    let lookup = || harness.lookup("op://vault/item", Fields::CREDENTIALS);
    let lost = harness.cache.get(harness.cache.reader(lookup()), |_| Box::pin(async { panic!("a fault") })).await;
    assert!(matches!(lost, Err(CallFailure::Host(_))));
    assert!(harness.look_up(lookup()).await.is_ok());
}

#[tokio::test]
async fn a_call_that_hangs_is_joined_by_those_who_come_soon_and_not_by_those_who_come_later() {
    let harness = Harness::new();
    let gate = harness.hold();
    let hanging = tokio::spawn(harness.get(Fields::CREDENTIALS));
    while harness.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    harness.clock.advance(seconds(7));
    let soon = tokio::spawn(harness.get(Fields::CREDENTIALS));
    tokio::task::yield_now().await;
    harness.clock.advance(seconds(1));
    // What it hung on is over.
    *harness.provider.gate.lock().unwrap() = None;
    assert_eq!(harness.password().await.1, Source::Live);
    assert_eq!(harness.calls().len(), 2);
    gate.add_permits(2);
    assert!(hanging.await.unwrap().is_ok() && soon.await.unwrap().is_ok());
    assert_eq!(harness.calls().len(), 2);
}

#[tokio::test]
async fn a_refusal_that_is_repeated_ends_the_use_of_what_is_cached_and_an_outage_does_not() {
    let refusals = [ErrorCode::NotFound, ErrorCode::PermissionDenied, ErrorCode::Unauthenticated];
    for code in refusals {
        let harness = Harness::new();
        harness.password().await;
        harness.fail(Some(ProviderError::new(code.clone(), "refused")));
        let refused = async || harness.get(Fields::ALL).await.unwrap_err();
        // Asked together, they are one refusal.
        refused().await;
        refused().await;
        harness.clock.advance(seconds(1));
        assert_eq!(harness.password().await.1, cached(1), "{code:?}");
        harness.clock.advance(seconds(5));
        refused().await;
        harness.get(Fields::CREDENTIALS).await.unwrap_err();
    }

    let harness = Harness::new();
    // The code is asked for each time.
    *harness.provider.has_code.lock().unwrap() = true;
    harness.password().await;
    for failure in [ErrorCode::NotFound, ErrorCode::Unavailable, ErrorCode::RateLimited, ErrorCode::Unavailable] {
        harness.fail(Some(ProviderError::new(failure, "for now")));
        harness.get(Fields::ALL).await.unwrap_err();
        harness.clock.advance(seconds(6));
    }
    assert_eq!(harness.password().await.1, cached(24));
    // A success in between makes the next refusal the first again.
    for _ in 0..3 {
        harness.fail(Some(not_found()));
        harness.get(Fields::ALL).await.unwrap_err();
        harness.clock.advance(seconds(6));
        harness.fail(None);
        harness.get(Fields::ALL).await.unwrap();
    }
    assert_eq!(harness.password().await.1, cached(12), "fetched after the first round, and kept in both others");
}
