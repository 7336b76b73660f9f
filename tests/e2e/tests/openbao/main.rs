//! The compiled OpenBao provider in its sandbox, against a real OpenBao server, with `hvac` as the
//! independent client: it writes what the provider reads, and reads what the provider writes.
//!
//! Needs Python and the packages of `tests/e2e/python`, which `cargo xtask test` installs; without
//! them the tests fail and say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod errors;
mod leaks;
mod list;
mod login;
mod rotation;
mod server;
mod values;
