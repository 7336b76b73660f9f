//! The sandbox, proven with one hostile component for each limit.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use keyway_runtime::{CallError, Fields, SandboxError};
use support::{connect, load, runtime};

#[tokio::test]
async fn a_trap_is_an_error_of_that_one_call() {
    let t = std::time::Instant::now();
    let runtime = runtime();
    println!("build {:?}", t.elapsed());
    let provider = load(&runtime, "traps").await;
    let connection = connect(&runtime, &provider);
    println!("load {:?}", t.elapsed());
    for _ in 0..3 {
        let error = provider.resolve(&connection, "traps://x", Fields::ALL).await.unwrap_err();
        assert!(matches!(error, CallError::Sandbox(SandboxError::Trapped { .. })), "{error}");
        provider.verify(&connection).await.unwrap();
    }
}
