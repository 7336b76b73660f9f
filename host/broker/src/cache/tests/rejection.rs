//! "This password did not work", with the clock and the provider of the other tests.

use super::*;

impl Harness {
    fn rejecting(&self, revision: &str) -> Lookup {
        let rejected = Rejected { revision: revision.into(), connections: vec![self.connection] };
        Lookup { rejected: Some(rejected), ..self.lookup("op://vault/item", Fields::CREDENTIALS) }
    }

    /// Resolves with this revision rejected; returns the password and where it came from.
    async fn reject(&self, revision: &str) -> (String, Source) {
        let found = self.look_up(self.rejecting(revision)).await.unwrap();
        (found.password(), found.source)
    }
}

#[tokio::test]
async fn a_rejected_revision_is_fetched_anew_for_everybody() {
    let harness = Harness::new();
    harness.password().await;
    harness.set_password("second");
    assert_eq!(harness.password().await, ("first".into(), cached(0)));
    assert_eq!(harness.reject("first").await, ("second".into(), Source::Live));
    assert_eq!(harness.password().await, ("second".into(), cached(0)));
    assert_eq!(harness.calls().len(), 2);
}

#[tokio::test]
async fn who_rejects_late_gets_what_was_fetched_since() {
    let harness = Harness::new();
    harness.password().await;
    harness.set_password("second");
    harness.reject("first").await;
    for _ in 0..100 {
        assert_eq!(harness.reject("first").await, ("second".into(), cached(0)));
    }
    assert_eq!(harness.calls().len(), 2);
}

#[tokio::test]
async fn a_revision_that_is_still_current_is_fetched_once_and_not_for_each_rejection() {
    let harness = Harness::new();
    harness.password().await;
    assert_eq!(harness.reject("first").await, ("first".into(), Source::Live));
    for _ in 0..100 {
        assert_eq!(harness.reject("first").await, ("first".into(), cached(0)));
    }
    assert_eq!(harness.calls().len(), 2);
    harness.clock.advance(seconds(299));
    assert_eq!(harness.reject("first").await.1, cached(299));
    harness.clock.advance(seconds(1));
    harness.set_password("mended");
    assert_eq!(harness.reject("first").await, ("mended".into(), Source::Live));
    assert_eq!(harness.calls().len(), 3);
}

#[tokio::test]
async fn a_rejection_that_finds_nothing_cached_makes_the_one_call_of_any_miss() {
    let harness = Harness::new();
    assert_eq!(harness.reject("first").await, ("first".into(), Source::Live));
    assert_eq!(harness.reject("first").await, ("first".into(), cached(0)));
    assert_eq!(harness.calls().len(), 1);
}

#[tokio::test]
async fn a_made_up_revision_drops_nothing() {
    let harness = Harness::new();
    harness.password().await;
    for number in 0..100 {
        assert_eq!(harness.reject(&number.to_string()).await, ("first".into(), cached(0)));
    }
    harness.reject("first").await;
    for number in 0..100 {
        harness.reject(&number.to_string()).await;
        assert_eq!(harness.reject("first").await.1, cached(0), "it does not make room for rejecting again");
    }
    assert_eq!(harness.calls().len(), 2);
}

#[tokio::test]
async fn fifty_who_reject_at_the_same_time_make_one_call() {
    for cold in [true, false] {
        let harness = Harness::new();
        if !cold {
            harness.password().await;
        }
        let gate = harness.hold();
        let before = harness.calls().len();
        let rejecting: Vec<_> = (0..50).map(|_| tokio::spawn(harness.look_up(harness.rejecting("first")))).collect();
        while harness.calls().len() == before {
            tokio::task::yield_now().await;
        }
        gate.add_permits(50);
        for found in rejecting {
            assert_eq!(found.await.unwrap().unwrap().password(), "first");
        }
        assert_eq!(harness.calls().len(), before + 1);
    }
}

#[tokio::test]
async fn what_was_on_its_way_before_a_rejection_is_not_used_after_it() {
    let harness = Harness::new();
    harness.password().await;
    let gate = harness.hold();
    // A reader with a short cache duration is fetching at the same time.
    let impatient = Lookup { ttl: Duration::from_nanos(1), ..harness.lookup("op://vault/item", Fields::CREDENTIALS) };
    harness.clock.advance(seconds(1));
    let before = tokio::spawn(harness.look_up(impatient));
    while harness.calls().len() < 2 {
        tokio::task::yield_now().await;
    }
    let after = tokio::spawn(harness.look_up(harness.rejecting("first")));
    while harness.calls().len() < 3 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    assert_eq!(before.await.unwrap().unwrap().password(), "first");
    harness.set_password("second");
    gate.add_permits(1);
    assert_eq!(after.await.unwrap().unwrap().password(), "second");
    assert_eq!(harness.password().await, ("second".into(), cached(0)));
}

#[tokio::test]
async fn other_connections_of_the_workspace_share_the_rejection_and_other_workspaces_do_not() {
    let harness = Harness::new();
    let mut lookup = harness.lookup("op://vault/item", Fields::CREDENTIALS);
    lookup.item.connection = ConnectionId::generate();
    let over_another = || Lookup { item: lookup.item.clone(), ..harness.lookup("", Fields::CREDENTIALS) };
    let elsewhere = || {
        let item = ItemKey { connection: lookup.keys.workspace().as_uuid().into(), ..harness.item("op://vault/item") };
        Lookup { item, keys: Harness::new().keys, ..harness.lookup("", Fields::CREDENTIALS) }
    };
    let elsewhere = elsewhere();
    let again = Lookup { item: elsewhere.item.clone(), keys: elsewhere.keys.clone(), ..over_another() };
    harness.look_up(over_another()).await.unwrap();
    harness.look_up(elsewhere).await.unwrap();
    harness.set_password("second");
    // Nothing is cached over the caller's own connection.
    let rejected = Rejected { revision: "first".into(), connections: vec![lookup.item.connection, harness.connection] };
    let rejecting = Lookup { rejected: Some(rejected), ..harness.lookup("op://vault/item", Fields::CREDENTIALS) };
    assert_eq!(harness.look_up(rejecting).await.unwrap().password(), "second");
    assert_eq!(harness.look_up(over_another()).await.unwrap().password(), "second");
    assert_eq!(harness.look_up(again).await.unwrap().source, cached(0));
}

#[tokio::test]
async fn who_is_always_live_drops_for_the_others_and_leaves_nothing() {
    let harness = Harness::new();
    harness.password().await;
    harness.set_password("second");
    let off = Lookup { ttl: Duration::ZERO, ..harness.rejecting("first") };
    assert_eq!(harness.look_up(off).await.unwrap().password(), "second");
    assert!(harness.cache.values.get(&harness.item("op://vault/item")).is_none());
    assert_eq!(harness.password().await, ("second".into(), Source::Live));
}

#[tokio::test]
async fn a_rejected_value_is_not_used_although_the_provider_is_down() {
    let harness = Harness::new();
    harness.password().await;
    harness.fail(Some(ProviderError::new(ErrorCode::Unavailable, "down")));
    assert!(harness.look_up(harness.rejecting("first")).await.is_err());
    assert!(harness.get(Fields::CREDENTIALS).await.is_err());
    harness.fail(None);
    assert_eq!(harness.password().await.1, Source::Live);
}

#[tokio::test]
async fn a_code_comes_with_the_one_call_of_a_rejection() {
    let harness = Harness::new();
    *harness.provider.has_code.lock().unwrap() = true;
    harness.password().await;
    let found = harness.look_up(Lookup { fields: Fields::ALL, ..harness.rejecting("first") }).await.unwrap();
    assert_eq!((found.source, found.code()), (Source::Live, Some("000000")));
    assert_eq!(harness.calls(), [Fields::CREDENTIALS, Fields::ALL]);
}
