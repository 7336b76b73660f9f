//! 1Password service accounts as a Keyway provider
#![allow(dead_code)]

mod encoding;
mod envelope;
mod mac;
mod random;
mod srp;
mod throttle;
mod time;
mod token;
#[cfg(test)]
mod vectors;
