//! What the author of a Keyway secret provider writes against.
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod description;
pub mod encoding;
mod error;
pub mod http;
mod provider;
pub mod reference;
pub mod session;
pub mod testing;
pub mod totp;
mod values;

pub use secrecy;
pub use url;
pub use zeroize;

pub use description::{Attribute, Capabilities, Description, Destination, SettingSpec};
pub use error::{Error, Result};
pub use provider::{Clock, Host, SecretProvider};
pub use values::{Changes, Fields, Item, ItemPage, OneTimeCode, Resolved, Settings, Verified, WriteAccess};

/// Makes a component of a [`SecretProvider`]: generates the exports that the contract asks for. Once in a crate.
///
/// On targets other than WebAssembly it generates nothing, so that the crate can be tested natively.
#[macro_export]
macro_rules! export {
    ($provider:ty) => {};
}
