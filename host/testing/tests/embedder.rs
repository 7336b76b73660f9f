//! An example of an embedder's own unit tests: no network, no files, no component.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use keyway::budgets::{BudgetOptions, BudgetScope, NotCalled, RateLimits, RequestKind};
use keyway::clock::Clock;
use keyway::keyway_runtime::{ErrorCode, ProviderError};
use keyway::rotations::{BeginRotation, RotationState};
use keyway::{BrokerError, ErrorKind, ResolveRequest, Source};
use keyway_testing::{Call, Item, TestBroker};
use secrecy::ExposeSecret;

const PORTAL: &str = "scripted://vault/portal";

async fn with_an_entry() -> (TestBroker, keyway::entries::VaultEntry) {
    let keyway = TestBroker::start().await;
    keyway.provider().put(PORTAL, Item::new("Portal").username("ada").password("old").one_time_code("123456"));
    let entry = keyway.bind("ada", "https://portal.example", PORTAL).await;
    (keyway, entry)
}

#[tokio::test]
async fn an_entry_resolves_from_the_scripted_item_and_then_from_the_cache() {
    let (keyway, entry) = with_an_entry().await;
    let request = || ResolveRequest::new(entry.id).fields(keyway::keyway_runtime::Fields::CREDENTIALS);
    let first = keyway.broker().resolve(keyway.access(), request()).await.unwrap();
    assert_eq!((first.username.unwrap().expose_secret(), first.source), ("ada", Source::Live));
    let second = keyway.broker().resolve(keyway.access(), request()).await.unwrap();
    assert!(matches!(second.source, Source::Cached { .. }));
    assert_eq!(keyway.provider().calls(), [Call::Resolve(PORTAL.into())]);
    keyway.clock().advance(Duration::from_secs(86_400));
    assert_eq!(keyway.broker().resolve(keyway.access(), request()).await.unwrap().source, Source::Live);
}

#[tokio::test]
async fn a_code_is_good_for_as_long_as_the_clock_says() {
    let (keyway, entry) = with_an_entry().await;
    let end = async || {
        let resolved = keyway.broker().resolve(keyway.access(), ResolveRequest::new(entry.id)).await.unwrap();
        let code = resolved.one_time_code.unwrap();
        assert_eq!((code.code.expose_secret(), code.period_seconds), ("123456", 30));
        code.expires_at
    };
    let first = end().await;
    let now = || u64::try_from(keyway.clock().now().timestamp().as_second()).unwrap();
    assert!(first > now() && first <= now() + 30, "{first} {}", now());
    keyway.clock().advance(Duration::from_secs(30));
    assert_eq!(end().await, first + 30);
}

#[tokio::test]
async fn a_secret_manager_that_is_out_of_order_is_an_error_of_its_kind_and_then_recovers() {
    let (keyway, entry) = with_an_entry().await;
    keyway.provider().fail(ProviderError::new(ErrorCode::PermissionDenied, "Not yours."));
    let error = keyway.broker().resolve(keyway.access(), ResolveRequest::new(entry.id)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ProviderRefused, "{error}");
    keyway.provider().recover();
    keyway.broker().resolve(keyway.access(), ResolveRequest::new(entry.id)).await.unwrap();
    keyway.provider().remove(PORTAL);
    keyway.clock().advance(Duration::from_secs(86_400));
    let error = keyway.broker().resolve(keyway.access(), ResolveRequest::new(entry.id)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn a_rotation_writes_the_item_and_one_of_a_read_only_item_is_skipped() {
    let (keyway, entry) = with_an_entry().await;
    let begun = keyway.broker().rotations().begin(keyway.access(), BeginRotation::new(entry.id)).await.unwrap();
    let done = keyway.broker().rotations().commit(keyway.access(), begun.rotation.id).await.unwrap();
    assert_eq!(done.state, RotationState::Done);
    let item = keyway.provider().item(PORTAL).unwrap();
    assert_eq!(item.current_password(), begun.password.as_ref().map(ExposeSecret::expose_secret));

    keyway.provider().put(PORTAL, item.read_only());
    let skipped = keyway.broker().rotations().begin(keyway.access(), BeginRotation::new(entry.id)).await.unwrap();
    assert_eq!((skipped.rotation.state, skipped.password.is_none()), (RotationState::Skipped, true));
}

#[tokio::test]
async fn calls_count_against_a_budget() {
    let limits = RateLimits::UNLIMITED.limit(3, Duration::from_secs(3_600), RequestKind::Read, BudgetScope::Credential);
    let budgets = BudgetOptions::default().limits("scripted", limits);
    let keyway = TestBroker::start_with(|builder| builder.budgets(budgets)).await;
    keyway.provider().put(PORTAL, Item::new("Portal").password("pw"));
    let entry = keyway.bind("ada", "https://portal.example", PORTAL).await;
    let error = loop {
        keyway.clock().advance(Duration::from_secs(600));
        match keyway.broker().resolve(keyway.access(), ResolveRequest::new(entry.id)).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BrokerError::NotCalled(NotCalled::BudgetSpent { .. })), "{error}");
}
