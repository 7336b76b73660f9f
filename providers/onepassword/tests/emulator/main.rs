//! Tests the whole provider, run natively, against a server that speaks the protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bad_answers;
mod lab;
mod reading;
mod sign_in;
mod writing;
