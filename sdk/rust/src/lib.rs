//! The SDK for authors of Keyway secret providers.
//!
//! A provider is a type that implements [`SecretProvider`]; [`export!`] turns it into a WebAssembly
//! component. The host runs every call in a fresh sandbox and passes it a [`Host`]: HTTP to the
//! approved destinations ([`http`]), a slot for a login session ([`session`]) and a clock. All
//! three are traits, so the same provider runs natively in unit tests ([`testing`]).
//!
//! This is a complete provider:
//!
//! ```
//! use keyway_sdk::http::Client;
//! use keyway_sdk::reference::Reference;
//! use keyway_sdk::secrecy::SecretString;
//! use keyway_sdk::{
//!     Description, Host, Resolved, Result, SecretProvider, Selection, SettingSpec, Settings, Verified,
//! };
//! use serde::Deserialize;
//!
//! /// Acme Vault: one item for each id, protected by a token.
//! pub struct Acme;
//!
//! const FORMAT: &str = "acme://<itemId>";
//!
//! #[derive(Deserialize)]
//! struct Me {
//!     email: String,
//!     vaults: u32,
//! }
//!
//! #[derive(Deserialize)]
//! struct Item {
//!     version: u64,
//!     username: Option<SecretString>,
//!     password: Option<SecretString>,
//! }
//!
//! fn client<'a>(host: &Host<'a>, settings: &Settings) -> Result<Client<'a>> {
//!     let address = settings.require_url("address")?;
//!     let token = settings.require("token")?;
//!     Ok(host.client(address).default_header("authorization", format!("Bearer {token}")))
//! }
//!
//! impl SecretProvider for Acme {
//!     fn describe() -> Description {
//!         Description::new("acme", "Acme Vault", env!("CARGO_PKG_VERSION"))
//!             .reference("acme", FORMAT)
//!             .setting(SettingSpec::url("address", "Address").help("For example https://vault.example.com."))
//!             .setting(SettingSpec::secret("token", "Token").help("Created in Acme Vault under Account, Tokens."))
//!             .destination_from_setting("address")
//!     }
//!
//!     fn normalize_reference(reference: &str) -> Result<String> {
//!         let [id] = Reference::parse(reference, "acme", FORMAT)?.segments()?;
//!         Ok(format!("acme://{id}"))
//!     }
//!
//!     fn verify(host: &Host<'_>, settings: &Settings) -> Result<Verified> {
//!         let me: Me = client(host, settings)?.get("api/me").send()?.success()?.json()?;
//!         Ok(Verified { account: me.email, vault_count: Some(me.vaults), ..Verified::default() })
//!     }
//!
//!     fn resolve(host: &Host<'_>, settings: &Settings, reference: &str, selection: &Selection) -> Result<Resolved> {
//!         let [id] = Reference::parse(reference, "acme", FORMAT)?.segments()?;
//!         let answer = client(host, settings)?.get("api/items").segment(id).send()?.success()?;
//!         let item: Item = answer.json()?;
//!         Ok(Resolved {
//!             username: item.username.filter(|_| selection.username),
//!             password: item.password.filter(|_| selection.password),
//!             revision: item.version.to_string(),
//!             ..Resolved::default()
//!         })
//!     }
//! }
//!
//! keyway_sdk::export!(Acme);
//!
//! // And a native test of it.
//! use keyway_sdk::testing::{TestHost, json_response};
//!
//! let sandbox = TestHost::new(|request| match request.headers.get("authorization") {
//!     Some("Bearer t0ken") => Ok(json_response(200, r#"{"version":7,"username":"ada","password":"hunter2"}"#)),
//!     _ => Ok(json_response(401, "{}")),
//! });
//! let settings = Settings::new().with("address", "vault.example.com").with("token", "t0ken");
//! let selection = Selection { username: true, ..Selection::NONE };
//! let resolved = Acme::resolve(&sandbox.host(), &settings, "acme://42", &selection)?;
//! assert_eq!(resolved.revision, "7");
//! assert!(resolved.username.is_some() && resolved.password.is_none());
//! assert_eq!(sandbox.http.requests()[0].url.as_str(), "https://vault.example.com/api/items/42");
//! # Ok::<(), keyway_sdk::Error>(())
//! ```
//!
//! # Secrets
//!
//! Types that hold secrets are wiped when dropped and print a placeholder: [`Settings`],
//! [`Resolved`], [`Changes`], bodies and header values. The host also discards the whole memory of
//! a call. The provider's own duty: **no secret in an error message**, and none in what it prints.
//!
//! # Panics
//!
//! A panic ends the call, and only that call, as a trap. The host reports it as a fault of the
//! provider.
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

#[doc(hidden)]
pub mod component;
mod description;
pub mod encoding;
mod error;
pub mod http;
mod provider;
pub mod reference;
pub mod session;
pub mod store;
pub mod testing;
pub mod totp;
mod values;
mod wiped;

pub use secrecy;
pub use url;
pub use zeroize;

pub use description::{
    Alternative, Attribute, Capabilities, ChoiceOption, Description, LimitScope, RateLimit, RateLimitTier, RequestKind,
    SettingGroup, SettingKind, SettingSpec,
};
pub use error::{Error, ErrorCode, Result};
pub use provider::{Clock, Host, ItemFields, Leases, Level, Log, Refresh, SecretProvider};
pub use values::{
    Changes, Field, FieldKind, FieldSpec, FieldValue, Item, ItemPage, Lease, NoCode, NoCodeReason, OneTimeCode,
    Resolved, Selection, Settings, Verified, WriteAccess,
};

/// Turns a [`SecretProvider`] into a component: generates the exports that the contract requires.
/// Use it once in a crate whose `crate-type` includes `cdylib`.
///
/// Optional interfaces are named after it: `export!(MyProvider, item_fields, leases, refresh)`
/// requires implementations of [`ItemFields`], [`Leases`] and [`Refresh`].
///
/// On targets other than WebAssembly it exports nothing, so that the crate can be tested natively;
/// it only checks that the type is a provider.
#[macro_export]
macro_rules! export {
    ($provider:ty $(, $interface:ident)* $(,)?) => {
        const _: () = {
            const fn is_provider<P: $crate::SecretProvider>() {}
            is_provider::<$provider>();
        };
        #[cfg(target_family = "wasm")]
        const _: () = {
            type KeywayExportedProvider = $crate::component::Exported<$provider>;
            $crate::component::bindings::export_component!(
                KeywayExportedProvider with_types_in $crate::component::bindings
            );
        };
        $($crate::export_interface!($interface, $provider);)*
    };
}

/// One optional interface of [`export!`].
#[doc(hidden)]
#[macro_export]
macro_rules! export_interface {
    (item_fields, $provider:ty) => {
        $crate::export_interface!(@ $provider, ItemFields, item_fields, export_item_fields);
    };
    (leases, $provider:ty) => {
        $crate::export_interface!(@ $provider, Leases, leases, export_leases);
    };
    (refresh, $provider:ty) => {
        $crate::export_interface!(@ $provider, Refresh, refresh, export_refresh);
    };
    (@ $provider:ty, $trait:ident, $module:ident, $export:ident) => {
        const _: () = {
            const fn implements<P: $crate::$trait>() {}
            implements::<$provider>();
        };
        #[cfg(target_family = "wasm")]
        const _: () = {
            type KeywayExportedProvider = $crate::component::Exported<$provider>;
            $crate::component::$module::$export!(
                KeywayExportedProvider with_types_in $crate::component::$module
            );
        };
    };
}

/// The code of the README is compiled and run like the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
