//! Interfaces for operators and their programs, as those programs see them: the metrics, and the
//! API's document.
//!
//! Needs Python and the packages of `tests/e2e/python`, which `cargo xtask test` installs; without
//! them the tests fail and say so.
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
