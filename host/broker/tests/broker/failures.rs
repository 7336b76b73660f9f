//! The error that the caller receives when a provider refuses, breaks its contract or crashes.

use std::time::Duration;

use keyway::connections::{Connection, ListLimit};
use keyway::keyway_runtime::{CallError, SandboxError};
use keyway::{Broker, BrokerError, EntryContent, ResolveRequest};

use crate::support::fixture;

struct Fixture {
    broker: Broker,
    access: keyway::Access,
    connection: Connection,
}

impl Fixture {
    async fn new(name: &str) -> Self {
        let (broker, access, connection) = fixture(name).await;
        Self { broker, access, connection: connection.unwrap() }
    }

    async fn resolve(&self, reference: &str) -> Result<keyway::Resolution, BrokerError> {
        let new = EntryContent::bound(reference, "https://acme.com", self.connection.id, reference);
        let entry = self.broker.entries().create(&self.access, new).await.unwrap();
        self.broker.resolve(&self.access, ResolveRequest::new(entry.id)).await
    }
}

#[tokio::test]
async fn each_error_of_the_contract_reaches_the_caller_as_it_is() {
    let echo = Fixture::new("echo").await;
    let cases = [
        ("invalid-settings", "invalid-settings"),
        ("unauthenticated", "unauthenticated"),
        ("permission-denied", "permission-denied"),
        ("action-required", "action-required"),
        ("invalid-reference", "invalid-reference"),
        ("not-found", "not-found"),
        ("conflict", "conflict"),
        ("rate-limited", "rate-limited"),
        ("unavailable", "unavailable"),
        ("unavailable-for", "unavailable"),
        ("unsupported", "unsupported"),
        ("unexpected-answer", "unexpected-answer"),
        ("other", "some-code"),
    ];
    for (case, code) in cases {
        let error = echo.resolve(&format!("echo://error/{case}")).await.unwrap_err();
        assert_eq!(error.provider_error().unwrap().code(), code);
        assert_eq!(error.to_string(), format!("This is the error {case}."));
        let wait = match case {
            "rate-limited" => Some(Duration::from_secs(17)),
            "unavailable-for" => Some(Duration::from_secs(9)),
            _ => None,
        };
        assert_eq!(error.retry_after(), wait);
        assert!(!error.is_internal());
    }
}

#[tokio::test]
async fn a_field_that_the_item_lacks_is_absent_and_an_empty_one_is_empty() {
    let echo = Fixture::new("echo").await;
    for (item, expected) in [("bare", None), ("empty", Some(""))] {
        for _ in 0..2 {
            let new = EntryContent::bound(
                uuid::Uuid::new_v4().to_string(),
                "https://acme.com",
                echo.connection.id,
                format!("echo://item/{item}"),
            );
            let entry = echo.broker.entries().create(&echo.access, new).await.unwrap();
            let resolved = echo.broker.resolve(&echo.access, ResolveRequest::new(entry.id)).await.unwrap();
            assert_eq!(crate::support::text(resolved.username.as_ref()), expected, "{:?}", resolved.source);
            assert_eq!(crate::support::text(resolved.password.as_ref()), expected);
            assert!(resolved.one_time_code.is_none());
        }
    }
}

#[tokio::test]
async fn a_crash_is_the_sandboxs_error_and_of_that_one_call() {
    let traps = Fixture::new("traps").await;
    for attempt in 0..3 {
        let error = traps.resolve(&format!("traps://item/{attempt}")).await.unwrap_err();
        assert!(matches!(error, BrokerError::Sandbox(SandboxError::Trapped { .. })), "{error}");
        assert!(!error.is_internal());
    }
    assert!(traps.broker.connections().list_items(&traps.access, traps.connection.id).await.is_ok());
}

#[tokio::test]
async fn a_provider_that_breaks_the_contract_connects_nothing() {
    let (broker, access, refused) = fixture("breaks-promises").await;
    let error = refused.unwrap_err();
    let source =
        matches!(&error, BrokerError::NotVerified { source: CallError::Sandbox(SandboxError::InvalidAnswer(_)) });
    assert!(source, "{error}");
    assert!(broker.connections().list(&access).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_list_of_100_mb_is_the_sandboxs_error() {
    let lists = Fixture::new("lists-100mb").await;
    let error = lists.broker.connections().list_items(&lists.access, lists.connection.id).await.unwrap_err();
    assert!(matches!(error, BrokerError::Sandbox(_)), "{error}");
    assert!(!matches!(error, BrokerError::TooManyItems(ListLimit::Items(_))));
}
