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
//! let broker =
//!     Broker::builder(runtime, storage, master_key).provider_folder(providers).audit(Audit::in_folder("audit")).open().await?;
//!
//! // For each customer: a workspace. Your own code acts in it as an operator; the customer's clients with the API key.
//! let created = broker.workspaces().create("Acme", Scope::Api).await?;
//! let operator = Access::operator(created.workspace.id, "billing job");
//!
//! // The provider logs in with the settings before anything is stored.
//! let connection = broker
//!     .connect(
//!         &operator,
//!         NewConnection {
//!             name: "Acme 1Password".into(),
//!             provider_type: "1password".into(),
//!             settings: Settings::new().with("token", std::env::var("OP_SERVICE_ACCOUNT_TOKEN")?),
//!             ..NewConnection::default()
//!         },
//!     )
//!     .await?;
//!
//! // Which items are there? Bind an entry to one of them.
//! let items = broker.list_items(&operator, connection.id).await?;
//! let item = items.first().ok_or("the connection sees no items")?;
//! let new = EntryContent::bound("acme-prod", "https://acme.com", connection.id, &item.reference);
//! let entry = broker.create_entry(&operator, new).await?;
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
//! Requests of a customer's clients come with an API key, which says who is asking and what they
//! may do:
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
//! assert!(broker.list_connections(&access).await?.is_empty());
//! assert!(matches!(broker.keys().encryption_key(&access).await, Err(BrokerError::Forbidden { needs: Scope::Admin })));
//! assert!(matches!(broker.authenticate(&"sk_guessed".into()).await, Err(BrokerError::Unauthenticated)));
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! * **Nothing secret is at rest in plain.** Settings, credentials and what entries carry along for
//!   a browser are sealed (AES-256-GCM) under a key of their workspace, which is itself wrapped by
//!   the master key. Each ciphertext is bound to its workspace, table, row, column and the row's
//!   version, so that none can be moved or put back unnoticed. API keys are stored as hashes.
//! * **Who uses the API cannot open the database.** The key that a workspace's clients encrypt
//!   under is derived from the workspace key beside those that seal settings and cached secrets; it
//!   says nothing about them.
//! * **Cached secrets are ciphertext in memory,** used until they are as old as the entry's (else
//!   the connection's) [`CacheTtl`], not after. One-time codes are live every time; their type
//!   ([`OneTimeCode`]) fits nowhere into the cache. Concurrent misses for one item make one call.
//! * **Secret managers are asked within [budgets](Budget).** Requests are counted before they are
//!   made, over restarts, and refused before a limit is reached; a secret manager that fails, or
//!   asks to wait, is given a rest ([`NotCalled`]).
//! * **A site's password and the vault's never part silently.** A
//!   [rotation](Broker::begin_rotation) is a journal: the new password is stored before the site
//!   gets it, and written back until the vault has it, over restarts; see [`RotationState`].
//! * **Every operation takes an [`Access`]** and sees its workspace only; what is another's is
//!   answered like what does not exist.
//! * **Nothing is released that is not in the audit log,** which is chained by MACs and says who
//!   had what, and never a value; what it keeps and what it notices is said in [`audit`].
//! * **Errors stay apart** by whose fault they are: the request's, the provider's, the sandbox's or
//!   the host's own; see [`BrokerError`].
//!
//! The crate knows nothing of HTTP; the server and the `keyway` command line are built on it.
//!
//! **May import** of Keyway: `keyway-audit`, `keyway-budget`, `keyway-clock`, `keyway-keys`,
//! `keyway-runtime`, `keyway-storage`.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod access;
pub mod audit;
mod audited;
mod background;
mod broker;
mod builder;
mod cache;
mod cache_ttl;
mod call_metrics;
mod codec;
mod connection;
mod core;
mod durable_state;
mod entry;
mod error;
mod flight;
mod further;
mod keyring;
pub mod keys;
mod lease;
mod metrics;
mod provider_call;
mod providers;
mod readiness;
pub mod request;
mod resolve;
mod rotation;
mod text;
mod totp;
pub mod workspaces;

pub use access::{Access, Actor};
pub use broker::Broker;
pub use builder::{BrokerBuilder, NoAudit};
pub use cache::{CacheOptions, OneTimeCode, Source};
pub use cache_ttl::CacheTtl;
pub use connection::{Connection, ConnectionChanges, LIST_LIMITS, ListLimits, NewConnection};
pub use entry::{
    AttributeKind, Attributes, Binding, CredentialSource, Credentials, ENTRIES_PER_PAGE, EntryContent, EntryPage,
    TfaCode, VaultEntry,
};
pub use error::{BrokerError, InvalidInput, ListLimit, NoTfaCode, Thing};
pub use keys::{RotatedMasterKey, RotatedWorkspaceKey};
pub use keyway_audit::{
    AUDIT_RECORDS_PER_PAGE, Audit, AuditActor, AuditError, AuditEvent, AuditFinding, AuditPage, AuditProblem,
    AuditQuery, AuditRecord, AuditSink, AuditSource, AuditVerification, Cursor, DEADLINE, Durability, ErrorKind,
    InMemoryAudit, InvalidQuery, Operation, Order, Outcome, OutcomeFilter, Receipt, SEGMENT_BYTES, SYNC_INTERVAL,
    SegmentOptions, SeriesHead, Subject,
};
pub use keyway_budget::{
    Allowance, BreakerOptions, Budget, BudgetOptions, BudgetScope, NotCalled, Pause, RateLimits, TokenBudget,
};
pub use keyway_clock::{Clock, ManualClock, Moment, SystemClock};
pub use keyway_keys::{
    ClientKey, ClientValueError, EnvelopeError, HostKey, KeyError, KeyId, KeyWrapper, MasterKey, MasterKeys,
};
pub use keyway_runtime;
pub use keyway_storage as storage;
pub use keyway_storage::{
    ApiKeyId, ConnectionId, DependentEntries, DependentEntry, EntryId, EntrySelector, InvalidId, PauseReason,
    RequestKind, RotationFilter, RotationId, RotationState, Scope, Scopes, SqliteStorage, Storage, StorageError,
    TfaMethod, UnknownName, WorkspaceId,
};
pub use prometheus_client;
pub use providers::Providers;
pub use readiness::NotReady;
pub use resolve::{Resolution, ResolveRequest, Timings};
pub use rotation::{
    BeginRotation, BegunRotation, NewPassword, PasswordPolicy, ROTATIONS_PER_PAGE, Rotation, RotationPage,
};
pub use workspaces::{ApiKey, CreatedApiKey, CreatedWorkspace, NewWorkspace, Workspace};
