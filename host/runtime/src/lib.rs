//! Loads secret provider components and runs each call in a fresh sandbox.
//!
//! A provider is a WebAssembly component that implements `keyway:provider` (see `wit/`) for one
//! secret manager. It has no files, no environment and no sockets, and its network ends at the
//! destinations approved for the connection in use. This crate loads, describes and calls
//! providers. It knows nothing of workspaces or databases.
//!
//! # Example
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use keyway_runtime::{Fields, Runtime, Settings};
//!
//! let runtime = Runtime::builder().build()?;
//! let provider = runtime.load(&std::fs::read("onepassword.wasm")?).await?;
//! println!("{} {}", provider.description().display_name, provider.description().version);
//!
//! let settings = Settings::new().with("token", std::env::var("OP_SERVICE_ACCOUNT_TOKEN")?);
//! let approved = provider.description().approved_destinations(&settings)?;
//! let connection = runtime.connection(settings, approved);
//!
//! let page = provider.list_items(&connection, None).await?;
//! for item in &page.items {
//!     let resolved = provider.resolve(&connection, &item.reference, Fields::ALL).await?;
//!     println!("{}: password {}", item.title, if resolved.password.is_some() { "present" } else { "absent" });
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! * **One call, one instance.** No state leaks between calls or connections, or after a trap. A
//!   provider keeps what it must remember in the connection's session slot.
//! * **One way out.** Requests pass a guard that knows the approved destinations ([`egress`]);
//!   sockets are refused.
//! * **Limits that fire.** [`Limits`] bounds time, memory, tables, handles, output, bodies and
//!   concurrency; each has its own error, and [`RuntimeBuilder::build`] refuses to start when one
//!   of them has no effect.
//! * **Three kinds of errors.** The provider's answer ([`ProviderError`]), a call that the sandbox
//!   ended ([`SandboxError`]), a refused component ([`LoadError`]).
//!
//! The records of the contract are in [`contract`], the network in [`egress`], and durable state in
//! [`store`]; what loads and calls a provider is here at the root.
//!
//! **May import** of Keyway: `keyway-clock`.

#![deny(missing_docs)]

mod adapter;
mod call;
mod code_cache;
mod compiler;
mod connection;
pub mod contract;
pub mod egress;
mod engine;
mod error;
mod folder;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod imports;
mod limits;
#[cfg(feature = "testing")]
mod native;
mod output;
mod provider;
mod redact;
mod request_parts;
mod runtime;
mod self_test;
mod session;
mod settings;
mod state;
pub mod store;
#[cfg(unix)]
mod trusted_path;
mod validate;
mod wiping_io;

pub use code_cache::CodeCacheKey;
pub use compiler::{Compiler, compile_stdin};
pub use connection::OpenConnection;
pub use contract::{Fields, Settings};
pub use error::{CallError, ErrorCode, LoadError, ProviderError, SandboxError};
pub use folder::{FileStatus, FolderError, ProviderFolder};
pub use limits::Limits;
#[cfg(feature = "testing")]
pub use native::NativeProvider;
pub use provider::Provider;
pub use runtime::{MORE_ADDRESS_SPACE, PreparedRuntime, Runtime, RuntimeBuilder, SetupError};
pub use wiping_io::WipingIo;
// What signatures are made of.
pub use keyway_clock as clock;
pub use {async_trait, bytes, futures, http, http_body_util, secrecy, zeroize};
