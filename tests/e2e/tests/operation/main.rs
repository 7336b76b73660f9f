//! What operators and their programs rely on, as those programs see it: the metrics, and the document of the API.
//!
//! Needs Python, and the packages of `tests/e2e/python`, which `cargo xtask test` installs; a test fails and says so otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod busy;
mod generated_client;
mod http;
mod metrics;
mod openapi;
mod python;
#[path = "../cloudcruise/world.rs"]
#[allow(dead_code, reason = "the tests of the SDKs use more of it")]
mod world;
