//! Tests each limit of the sandbox with one hostile component. After each of them, the next call on
//! the same runtime must work.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use keyway_runtime::contract::Resolved;
use keyway_runtime::{CallError, Fields, Runtime, SandboxError};
use secrecy::ExposeSecret;
use support::{connect, limits, load, runtime};

/// Resolves `<fixture>://item/<argument>`, and then asserts that a well-behaved provider still
/// works on the same runtime.
async fn resolve(runtime: &Runtime, fixture: &str, argument: &str) -> Result<Resolved, CallError> {
    let provider = load(runtime, fixture).await;
    let connection = connect(runtime, &provider);
    let outcome = provider.resolve(&connection, &format!("{fixture}://item/{argument}"), Fields::ALL).await;
    works(runtime).await;
    outcome
}

async fn works(runtime: &Runtime) {
    let echo = load(runtime, "echo").await;
    let resolved = echo.resolve(&connect(runtime, &echo), "echo://item/x", Fields::ALL).await.unwrap();
    assert_eq!(resolved.username.unwrap().expose_secret(), "user-x");
}

async fn sandbox_error(fixture: &str, argument: &str) -> SandboxError {
    match resolve(&runtime(), fixture, argument).await {
        Err(CallError::Sandbox(error)) => error,
        other => panic!("{fixture}://item/{argument}: {other:?}"),
    }
}

#[tokio::test]
async fn a_loop_that_calls_nothing_is_ended_at_the_time_limit() {
    let start = Instant::now();
    let error = sandbox_error("loops", "").await;
    assert_eq!(error, SandboxError::TimedOut { operation: "resolve", limit: Duration::from_secs(2) });
    assert_eq!(error.limit(), Some("time"));
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_loop_does_not_keep_other_calls_from_running() {
    // A single thread for everything: the loop must yield.
    let runtime = runtime();
    let (loops, echo) = (load(&runtime, "loops").await, load(&runtime, "echo").await);
    let (connection, echo_connection) = (connect(&runtime, &loops), connect(&runtime, &echo));
    let looping = tokio::spawn(async move { loops.resolve(&connection, "loops://item", Fields::ALL).await });
    tokio::task::yield_now().await;
    echo.resolve(&echo_connection, "echo://item/x", Fields::ALL).await.unwrap();
    assert!(!looping.is_finished());
    looping.abort();
}

#[tokio::test]
async fn a_call_that_waits_is_ended_at_the_time_limit() {
    assert!(matches!(sandbox_error("slow", "").await, SandboxError::TimedOut { .. }));
}

#[tokio::test]
async fn memory_without_end_is_refused_and_named() {
    let error = sandbox_error("allocates", "").await;
    assert_eq!(error, SandboxError::OutOfMemory { limit_bytes: 64 << 20 });
    assert_eq!(error.to_string(), "the provider needed more than 64 MiB of memory and was stopped");
}

#[tokio::test]
async fn crashes_are_errors_of_that_one_call() {
    for (fixture, reason) in
        [("traps", "unreachable"), ("stack-overflow", "call stack exhausted"), ("exits", "it exited")]
    {
        match sandbox_error(fixture, "").await {
            SandboxError::Trapped { reason: seen } => assert!(seen.contains(reason), "{fixture}: {seen}"),
            other => panic!("{fixture}: {other}"),
        }
    }
}

#[tokio::test]
async fn answers_that_are_too_large_are_thrown_away() {
    let limit_bytes = limits().output_bytes;
    assert_eq!(sandbox_error("huge-string", "20").await, SandboxError::OutputTooLarge { limit_bytes });
    assert_eq!(sandbox_error("huge-string", "50").await, SandboxError::OutOfMemory { limit_bytes: 64 << 20 });
    assert!(resolve(&runtime(), "huge-string", "1").await.is_ok());
}

#[tokio::test]
async fn lists_that_are_too_large_are_thrown_away_also_when_they_are_small_in_the_guest() {
    let runtime = runtime();
    for (fixture, page) in [("lists-100mb", Some("20")), ("aliases", None)] {
        let provider = load(&runtime, fixture).await;
        let error = provider.list_items(&connect(&runtime, &provider), page).await.unwrap_err();
        assert!(matches!(error, CallError::Sandbox(SandboxError::OutputTooLarge { .. })), "{fixture}: {error}");
    }
    let provider = load(&runtime, "lists-100mb").await;
    let error = provider.list_items(&connect(&runtime, &provider), None).await.unwrap_err();
    assert!(matches!(error, CallError::Sandbox(SandboxError::OutOfMemory { .. })), "{error}");
    works(&runtime).await;
}

#[tokio::test]
async fn handles_without_end_are_refused() {
    for argument in ["headers", "pollables"] {
        let error = sandbox_error("leaks-handles", argument).await;
        assert_eq!(error, SandboxError::LimitExceeded("1000 open handles".into()), "{argument}");
    }
}

#[tokio::test]
async fn header_lists_do_not_grow_without_end() {
    assert_eq!(sandbox_error("hoards-headers", "").await, SandboxError::LimitExceeded("32 KiB of headers".into()));
}

#[tokio::test]
async fn bodies_that_are_never_sent_hold_little_of_the_hosts_memory() {
    let resolved = resolve(&runtime(), "hoards-bodies", "").await.unwrap();
    let taken: u64 = resolved.username.unwrap().expose_secret().parse().unwrap();
    assert!((1..=100 * 32 * 1_024).contains(&taken), "{taken} bytes for 100 requests");
}

#[tokio::test]
async fn methods_hosts_and_paths_of_requests_hold_little_of_the_hosts_memory() {
    let resolved = resolve(&runtime(), "hoards-methods", "").await.unwrap();
    let taken: u64 = resolved.username.unwrap().expose_secret().parse().unwrap();
    assert!((1..=100 * (16 * 1_024 + 300 + 32)).contains(&taken), "{taken} bytes for 100 requests");
    assert_eq!(resolved.password.unwrap().expose_secret(), "made", "a request with parts of a usual length");
}

#[tokio::test]
async fn random_bytes_come_a_few_at_a_time() {
    assert!(resolve(&runtime(), "draws-randomness", "65536").await.is_ok());
    let error = sandbox_error("draws-randomness", "65537").await;
    assert_eq!(error, SandboxError::LimitExceeded("64 KiB of random bytes at a time".into()));
}

#[tokio::test]
async fn printing_without_end_costs_only_what_is_printed() {
    resolve(&runtime(), "floods-stderr", "4").await.unwrap();
}

#[tokio::test]
async fn a_session_that_is_too_large_is_refused_and_the_good_one_stays() {
    // A session larger than what a call may pass to the host ends the call.
    assert!(matches!(sandbox_error("hoards-session", "10485760").await, SandboxError::OutputTooLarge { .. }));
    let resolved = resolve(&runtime(), "hoards-session", "1048576").await.unwrap();
    assert_eq!(resolved.username.unwrap().expose_secret(), "refused");
    assert_eq!(resolved.password.unwrap().expose_secret(), "4", "the length of `good`");
}

#[tokio::test]
async fn every_call_is_a_fresh_instance() {
    let runtime = runtime();
    let provider = load(&runtime, "state-keeper").await;
    let connection = connect(&runtime, &provider);
    for _ in 0..3 {
        let resolved = provider.resolve(&connection, "state-keeper://item", Fields::ALL).await.unwrap();
        assert_eq!(resolved.username.unwrap().expose_secret(), "1");
        assert_eq!(resolved.password.unwrap().expose_secret(), "");
    }
}

#[tokio::test]
async fn there_is_nothing_of_the_machine() {
    let runtime = runtime();
    let provider = load(&runtime, "reads-files").await;
    for attribute in provider.verify(&connect(&runtime, &provider)).await.unwrap().attributes {
        assert!(matches!(attribute.value.as_str(), "refused" | "empty"), "{attribute:?}");
    }
    let echo = load(&runtime, "echo").await;
    let resolved = echo.resolve(&connect(&runtime, &echo), "echo://env", Fields::ALL).await.unwrap();
    let seen = resolved.username.unwrap();
    assert_eq!(seen.expose_secret(), "environment=0 arguments=0 input=0 files=refused sockets=refused names=refused");
}

#[tokio::test]
async fn promises_of_the_contract_are_checked() {
    let runtime = runtime();
    let provider = load(&runtime, "breaks-promises").await;
    let connection = connect(&runtime, &provider);
    let invalid = |result: Result<(), CallError>, what: &str| {
        assert!(matches!(&result, Err(CallError::Sandbox(SandboxError::InvalidAnswer(_)))), "{what}: {result:?}");
    };
    invalid(provider.verify(&connection).await.map(drop), "verify");
    for page in ["many", "long-next", "blank"] {
        invalid(provider.list_items(&connection, Some(page)).await.map(drop), page);
    }
    for case in
        ["long-revision", "no-revision", "code-signs", "code-empty", "code-long", "code-period", "expired", "eternal"]
    {
        let reference = format!("breaks-promises://item/{case}");
        invalid(provider.resolve(&connection, &reference, Fields::ALL).await.map(drop), case);
    }
    let unasked = provider.resolve(&connection, "breaks-promises://item/unasked", Fields::default()).await.unwrap();
    assert!(unasked.username.is_none() && unasked.password.is_none() && unasked.one_time_code.is_none());
}

#[tokio::test]
async fn only_so_many_calls_run_at_once_and_the_rest_is_told_to_come_back() {
    let mut limits = limits();
    limits.concurrent_calls = 2;
    let runtime = Runtime::builder().limits(limits).build().unwrap();
    let slow = load(&runtime, "slow").await;
    let connection = connect(&runtime, &slow);
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let (slow, connection) = (slow.clone(), connection.clone());
            tokio::spawn(async move { slow.resolve(&connection, "slow://item/800", Fields::ALL).await.map(drop) })
        })
        .collect();
    let mut busy = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(()) => {}
            Err(CallError::Sandbox(SandboxError::Busy { limit: 2 })) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(busy, 1);
}

#[tokio::test]
async fn a_slow_connection_leaves_turns_to_the_others() {
    let mut limits = limits();
    limits.concurrent_calls = 2;
    limits.calls_per_connection = 1;
    let runtime = Runtime::builder().limits(limits).build().unwrap();
    let slow = load(&runtime, "slow").await;
    let (one, other) = (connect(&runtime, &slow), connect(&runtime, &slow));
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let (slow, one) = (slow.clone(), one.clone());
            tokio::spawn(async move { slow.resolve(&one, "slow://item/800", Fields::ALL).await.map(drop) })
        })
        .collect();
    tokio::task::yield_now().await;
    slow.resolve(&other, "slow://item/1", Fields::ALL).await.unwrap();
    let mut busy = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(()) => {}
            Err(CallError::Sandbox(SandboxError::Busy { limit: 1 })) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(busy, 1);
}

#[tokio::test]
async fn a_caller_who_goes_away_ends_the_call_and_frees_its_turn() {
    let mut limits = limits();
    limits.concurrent_calls = 1;
    let runtime = Runtime::builder().limits(limits).build().unwrap();
    let slow = load(&runtime, "slow").await;
    let connection = connect(&runtime, &slow);
    let call = slow.resolve(&connection, "slow://item", Fields::ALL);
    assert!(tokio::time::timeout(Duration::from_millis(100), call).await.is_err());
    slow.resolve(&connection, "slow://item/1", Fields::ALL).await.unwrap();
}
