//! CloudCruise's published SDKs, Python and JavaScript, unchanged, against `keyway serve` with
//! 1Password (the emulator) behind it.
//!
//! Needs what `cargo xtask test` installs: the npm packages of `tests/e2e/node` and the virtual
//! environment of `tests/e2e/python`; and the program `keyway`, built by `cargo build --workspace`.
//! Without them the tests fail and say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod both;
mod javascript;
mod python;
mod sdk;
#[allow(dead_code, reason = "the tests of operation use more of it")]
mod world;
