//! What a platform embeds to use its customers' secret managers: workspaces, connections, vault
//! entries, and resolving them.
//!
//! A *workspace* belongs to one customer and has keys of its own. A *connection* holds the settings
//! with which a provider, a sandboxed WebAssembly component, reaches the customer's secret manager.
//! A *vault entry* says whose credentials for which site they are; it is bound to an item of a
//! connection. To *resolve* an entry is to get the item's user name, password and current one-time
//! code.
//!
//! # Example
//!
//! ```no_run
//! use keyway::keyway_runtime::{ProviderFolder, Runtime, Settings};
//! use keyway::{Access, Audit, Broker, EntryContent, MasterKey, NewConnection, ResolveRequest, Scope, SqliteStorage};
//! use secrecy::ExposeSecret;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Once: the runtime, the providers of a folder, the database, the master key.
//! let runtime = Runtime::builder().build()?;
//! let providers = ProviderFolder::open(&runtime, "providers").await?;
//! let storage = SqliteStorage::open("keyway.db").await?;
//! let master_key = MasterKey::from_file_or_generate("master.key")?;
//! let builder = Broker::builder(runtime, storage, master_key).provider_folder(providers);
//! let broker = builder.audit(Audit::in_folder("audit")).open().await?;
//!
//! // For each customer: a workspace. Your own code acts in it as an operator; the customer's
//! // clients with the API key.
//! let created = broker.workspaces().create("Acme", Scope::Api).await?;
//! let operator = Access::operator(created.workspace.id, "billing job");
//!
//! // The provider logs in with the settings before anything is stored.
//! let connection = broker
//!     .connections()
//!     .create(
//!         &operator,
//!         NewConnection::new(
//!             "Acme 1Password",
//!             "1password",
//!             Settings::new().with("token", std::env::var("OP_SERVICE_ACCOUNT_TOKEN")?),
//!         ),
//!     )
//!     .await?;
//!
//! // Which items are there? Bind an entry to one of them.
//! let items = broker.connections().list_items(&operator, connection.id).await?;
//! let item = items.first().ok_or("the connection sees no items")?;
//! let new = EntryContent::bound("acme-prod", "https://acme.com", connection.id, &item.reference);
//! let entry = broker.entries().create(&operator, new).await?;
//!
//! // At run time.
//! let resolved = broker.resolve(&operator, ResolveRequest::new(entry.id)).await?;
//! if let Some(password) = &resolved.password {
//!     println!("{} characters, {:?}", password.expose_secret().len(), resolved.source);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Requests of a customer's clients carry an API key, which identifies the workspace and grants
//! scopes:
//!
//! ```
//! use keyway::keyway_runtime::Runtime;
//! use keyway::{Audit, Broker, BrokerError, MasterKey, Scope, SqliteStorage};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let storage = SqliteStorage::in_memory().await?;
//! let builder = Broker::builder(Runtime::builder().build()?, storage, MasterKey::generate()?);
//! let broker = builder.audit(Audit::in_memory()).open().await?;
//! let created = broker.workspaces().create("Acme", Scope::Api).await?;
//!
//! let access = broker.authenticate(&created.api_key).await?;
//! assert!(broker.connections().list(&access).await?.is_empty());
//! assert!(matches!(broker.keys().encryption_key(&access).await, Err(BrokerError::Forbidden { needs: Scope::Admin })));
//! assert!(matches!(broker.authenticate(&"sk_guessed".into()).await, Err(BrokerError::Unauthenticated)));
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//!
//! A [`Broker`] is the entry point: it [resolves](Broker::resolve) and
//! [authenticates](Broker::authenticate), and has a handle for each domain. The types of a domain
//! are in the module of its name; what nearly every program needs is here at the root.
//!
//! | handle | module | for |
//! | --- | --- | --- |
//! | [`workspaces()`](Broker::workspaces) | [`workspaces`] | creating and listing workspaces |
//! | [`api_keys()`](Broker::api_keys) | [`workspaces`] | API keys of a workspace, and what they allow |
//! | [`connections()`](Broker::connections) | [`connections`], [`budgets`] | connections, their items and budgets |
//! | [`entries()`](Broker::entries) | [`entries`] | vault entries, their codes, further fields and leases |
//! | [`rotations()`](Broker::rotations) | [`rotations`] | password rotations |
//! | [`keys()`](Broker::keys) | [`keys`] | encryption keys, and rotating them |
//! | [`audit()`](Broker::audit) | [`audit`] | reading and checking the audit log |
//! | [`readiness()`](Broker::readiness) | [`readiness`] | whether the broker can work now |
//! | [`metrics()`](Broker::metrics) | [`metrics`] | numbers for Prometheus |
//!
//! [`storage`] and [`clock`] hold the traits that your own database or test clock implements.
//!
//! # What holds
//!
//! * **Every secret at rest is encrypted.** Settings, credentials and what entries carry along for
//!   a browser are sealed (AES-256-GCM) under a key of their workspace, which is itself wrapped by
//!   the master key. Each ciphertext is bound to its workspace, table, row, column and the row's
//!   version, so moving or restoring one is detected. API keys are stored as hashes.
//! * **API clients cannot open the database.** The key that a workspace's clients encrypt under is
//!   derived from the workspace key, as are those that seal settings and cached secrets; it reveals
//!   nothing about them.
//! * **Cached secrets are ciphertext in memory.** They expire at the age of the entry's (else the
//!   connection's) [`CacheTtl`]. One-time codes are always live; the cache cannot hold their type
//!   ([`OneTimeCode`]). Concurrent misses for one item make one call.
//! * **One-time codes are counted.** Each says how often it was handed out in its period, and a
//!   caller may ask for one that was not ([`WantedCode`]).
//! * **Secret managers are called within [budgets](budgets::Budget).** Requests are counted before
//!   they are made, across restarts, and refused before a limit is reached. Calls pause when a
//!   secret manager fails or asks to wait ([`NotCalled`](budgets::NotCalled)).
//! * **A site's password and the vault's never diverge silently.** A
//!   [rotation](rotations::Rotations::begin) is a journal: the new password is stored before the
//!   site gets it, and written back until the vault has it, across restarts; see
//!   [`RotationState`](rotations::RotationState).
//! * **Every operation takes an [`Access`]** and sees its workspace only. Things of another
//!   workspace are answered as if they did not exist.
//! * **Everything that is released is in the audit log,** which is chained by MACs. A record says
//!   who received what, but holds no secret; [`audit`] says what the log keeps and detects.
//! * **Errors stay apart** by whose fault they are: the request's, the provider's, the sandbox's or
//!   the host's own; see [`BrokerError`].
//!
//! The crate knows nothing of HTTP; the server and the `keyway` command line are built on it.
//!
//! **May import** of Keyway: `keyway-audit`, `keyway-budget`, `keyway-clock`, `keyway-keys`,
//! `keyway-otp`, `keyway-runtime`, `keyway-storage`.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod access;
pub mod audit;
mod audited;
mod background;
mod broker;
pub mod budgets;
mod builder;
mod cache;
mod cache_ttl;
mod call_metrics;
mod codec;
mod codes;
pub mod connections;
mod core;
pub mod database;
mod durable_state;
pub mod entries;
mod error;
mod flight;
mod items;
mod keyring;
pub mod keys;
mod lease;
pub mod metrics;
mod provider_call;
mod providers;
pub mod readiness;
pub mod request;
mod resolve;
pub mod rotations;
mod text;
pub mod workspaces;

pub use access::Access;
pub use broker::Broker;
pub use builder::{BrokerBuilder, NoAudit};
pub use cache::{CacheOptions, Source};
pub use cache_ttl::CacheTtl;
pub use codes::WantedCode;
pub use connections::NewConnection;
pub use entries::EntryContent;
pub use error::{BrokerError, InvalidInput, Thing};
pub use keyway_audit::{Audit, ErrorKind};
pub use keyway_clock as clock;
pub use keyway_keys::MasterKey;
pub use keyway_runtime::contract::OneTimeCode;
pub use keyway_storage as storage;
#[cfg(feature = "sqlite")]
pub use keyway_storage::SqliteStorage;
pub use keyway_storage::{ApiKeyId, ConnectionId, EntryId, EntrySelector, RotationId, Scope, Scopes, WorkspaceId};
pub use resolve::{Resolution, ResolveRequest, Timings};
// What signatures are made of.
pub use {async_trait, getrandom, jiff, keyway_runtime, secrecy, uuid, zeroize};
