//! Sessions as a component sees them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use keyway_runtime::{CallError, ErrorCode, Fields, OpenConnection, Provider, SandboxError};
use secrecy::ExposeSecret;
use support::{connect, load, runtime};

async fn resolve(provider: &Provider, connection: &OpenConnection, what: &str) -> Result<(String, String), CallError> {
    let scheme = &provider.description().reference_scheme;
    let resolved = provider.resolve(connection, &format!("{scheme}://{what}"), Fields::ALL).await?;
    let text = |secret: Option<secrecy::SecretString>| secret.map(|s| s.expose_secret().to_owned()).unwrap_or_default();
    Ok((text(resolved.username), text(resolved.password)))
}

/// Runs the same call many times concurrently.
async fn burst(
    provider: &Provider,
    connection: &OpenConnection,
    what: &'static str,
) -> Vec<Result<(String, String), CallError>> {
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (provider, connection) = (provider.clone(), connection.clone());
            tokio::spawn(async move { resolve(&provider, &connection, what).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap());
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_outlives_the_call_and_belongs_to_its_connection_alone() {
    let runtime = runtime();
    let echo = load(&runtime, "echo").await;
    let (ours, theirs) = (connect(&runtime, &echo), connect(&runtime, &echo));
    resolve(&echo, &ours, "session/login/abc").await.unwrap();
    // The fixture stores its state as JSON.
    assert_eq!(resolve(&echo, &ours, "session/get").await.unwrap().0, "\"abc\"");
    assert_eq!(resolve(&echo, &theirs, "session/get").await.unwrap().0, "");
    ours.clear_session();
    assert_eq!(resolve(&echo, &ours, "session/get").await.unwrap().0, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_cold_calls_make_one_login_and_so_do_fifty_with_an_expired_session() {
    let runtime = runtime();
    let echo = load(&runtime, "echo").await;
    let connection = connect(&runtime, &echo);
    // The second burst is refused with the session of the first.
    for what in ["session/login/first?50", "session/login/second?50"] {
        let outcomes = burst(&echo, &connection, what).await;
        let logins = outcomes.iter().filter(|outcome| outcome.as_ref().unwrap().0 == "logged-in").count();
        assert_eq!(logins, 1, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_tried_once_for_all_who_wait() {
    let runtime = runtime();
    let echo = load(&runtime, "echo").await;
    let connection = connect(&runtime, &echo);
    let start = std::time::Instant::now();
    let outcomes = burst(&echo, &connection, "session/fail/300").await;
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(matches!(&error, CallError::Provider(error) if error.code == ErrorCode::Unauthenticated), "{error}");
    }
    // Sequentially, they would have needed 15 s.
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

/// Waits until a call that was started earlier has the right to renew.
async fn until_granted(provider: &Provider, connection: &OpenConnection) {
    for own in 1_u64.. {
        if resolve(provider, connection, "item/count").await.unwrap().0 != own.to_string() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_ends_without_a_word_passes_the_right_on() {
    let runtime = runtime();
    let provider = load(&runtime, "hangs-on-renew").await;
    for what in ["item/trap", "item/return", "item/loop", "item/wait"] {
        let connection = connect(&runtime, &provider);
        let first = {
            let (provider, connection) = (provider.clone(), connection.clone());
            tokio::spawn(async move { resolve(&provider, &connection, what).await })
        };
        until_granted(&provider, &connection).await;
        // The second waits for a first that loops or waits itself, and its own time limit ends well
        // after that of the first.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let leaves = async {
            if what == "item/wait" {
                tokio::time::sleep(Duration::from_millis(200)).await;
                first.abort();
            }
        };
        let (second, ()) = tokio::join!(resolve(&provider, &connection, "item/login"), leaves);
        assert_eq!(second.unwrap().0, "granted", "{what}");
        match what {
            "item/trap" => {
                let outcome = first.await.unwrap();
                assert!(matches!(outcome, Err(CallError::Sandbox(SandboxError::Trapped { .. }))), "{outcome:?}");
            }
            "item/loop" => {
                let outcome = first.await.unwrap();
                assert!(matches!(outcome, Err(CallError::Sandbox(SandboxError::TimedOut { .. }))), "{outcome:?}");
            }
            "item/return" => assert_eq!(first.await.unwrap().unwrap().0, "granted"),
            _ => assert!(first.await.unwrap_err().is_cancelled()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counter_never_gives_a_number_twice() {
    let runtime = runtime();
    let echo = load(&runtime, "echo").await;
    let connection = connect(&runtime, &echo);
    let outcomes = burst(&echo, &connection, "session/counter").await;
    let mut numbers: Vec<u64> = outcomes.into_iter().map(|outcome| outcome.unwrap().0.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
}
