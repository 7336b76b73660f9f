//! Helpers of the runtime's tests: the folder of components, and a runtime with small limits.

#![allow(dead_code, reason = "not every test file uses all of it")]

use std::path::PathBuf;
use std::time::Duration;

use keyway_runtime::egress::EgressPolicy;
use keyway_runtime::{Limits, OpenConnection, Provider, Runtime, Settings};

/// The token that every test connection has; no output may show it.
pub(crate) const TOKEN: &str = "token-3f9a-that-must-not-be-seen";

/// A component built by `cargo xtask build-components`.
pub(crate) fn component(name: &str) -> Vec<u8> {
    let folder = std::env::var_os("KEYWAY_COMPONENTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/components"), PathBuf::from);
    let file = folder.join("fixtures").join(format!("{name}.wasm"));
    std::fs::read(&file).unwrap_or_else(|error| {
        panic!("cannot read {}: {error}. Run `cargo xtask build-components` first", file.display())
    })
}

/// Limits that fire quickly enough for a test.
pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.call_time = Duration::from_secs(2);
    limits.queue_time = Duration::from_millis(200);
    limits.connect_time = Duration::from_secs(1);
    limits.answer_time = Duration::from_secs(1);
    limits
}

pub(crate) fn runtime() -> Runtime {
    Runtime::builder().limits(limits()).build().unwrap()
}

/// With time for many requests, for tests unrelated to the time limit.
pub(crate) fn runtime_with(policy: EgressPolicy) -> Runtime {
    let mut limits = limits();
    limits.call_time = Duration::from_secs(20);
    Runtime::builder().limits(limits).egress(policy).build().unwrap()
}

pub(crate) async fn load(runtime: &Runtime, name: &str) -> Provider {
    runtime.load(&component(name)).await.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A connection whose secret settings are all [`TOKEN`], approved for the provider's destinations.
pub(crate) fn connect(runtime: &Runtime, provider: &Provider) -> OpenConnection {
    let mut settings = Settings::new();
    for spec in provider.description().settings.iter().filter(|spec| spec.secret) {
        settings.set(&spec.name, TOKEN);
    }
    connect_with(runtime, provider, settings)
}

pub(crate) fn connect_with(runtime: &Runtime, provider: &Provider, settings: Settings) -> OpenConnection {
    let approved = provider.description().approved_destinations(&settings).unwrap();
    runtime.connection(settings, approved)
}
