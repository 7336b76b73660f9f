//! CloudCruise's published SDKs, Python and JavaScript, unchanged, against `keyway serve` with 1Password (the emulator) behind it.
//!
//! Needs what `cargo xtask test` installs: the npm packages of `tests/e2e/node` and the virtual environment of `tests/e2e/python`; and the program
//! `keyway`, which `cargo build --workspace` makes. A test fails and says so otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod both;
mod javascript;
mod python;
mod sdk;
mod world;
