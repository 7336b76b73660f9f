//! Architecture rules, checked against the sources.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod imports;
mod names;
mod public_api;
mod sources;
mod width;
