//! The host's database: the records, the operations on them, and SQLite.
//!
//! **Invariant:** every method of [`Storage`] happens as a whole or not at all, and when it
//! returns, its effect is durable. No caller needs a transaction over two calls. Where two requests
//! could race, the database's own constraints decide (a unique pair of user and domain; an entry's
//! connection exists in the same workspace), and the loser gets [`StorageError::Conflict`].
//!
//! No record contains a secret: secrets arrive here sealed. Implementations know nothing about
//! keys, except where in an envelope the term of its key is ([`KEY_TERM`]). **A sealed value is
//! accepted only under the workspace's current key.** The transaction that writes it checks that,
//! so no value is written under a key that is being replaced ([`Constraint::KeyTerm`]).
//!
//! This crate knows no policy.
//!
//! **May import** of Keyway: nothing.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod audit_roots;
mod budgets;
mod components;
mod connection_states;
mod connections;
mod damage;
mod entries;
mod error;
#[cfg(all(test, unix, feature = "sqlite"))]
mod full_disk_tests;
mod id;
mod item;
mod key_rotation;
mod keys;
#[cfg(all(test, feature = "sqlite"))]
mod migration_tests;
mod names;
pub mod private_file;
mod record_cache;
mod rotations;
mod row_seal;
mod scope;
#[cfg(all(test, feature = "sqlite"))]
mod seal_tests;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(all(test, feature = "sqlite"))]
mod tests;
mod workspaces;

use async_trait::async_trait;

pub use audit_roots::{AuditAnchorRecord, AuditRootStorage};
pub use budgets::{
    BreakerRecord, BudgetStorage, PauseReason, PauseRecord, RequestCount, RequestKind, RequestReservation,
    ReservedRequests,
};
pub use components::ComponentStorage;
pub use connection_states::{ConnectionStateRecord, ConnectionStateStorage};
pub use connections::{ConnectionRecord, ConnectionStorage, DependentEntries, DependentEntry};
pub use damage::{DamageStorage, DamagedRow, INDEX, WorkspaceKeyRows};
pub use entries::{EntryRecord, EntryRecords, EntrySelector, EntryStorage, TfaMethod};
pub use error::{Cause, Constraint, StorageError, UnknownName};
pub use id::{ApiKeyId, ConnectionId, EntryId, InvalidId, RotationId, WorkspaceId};
pub use item::{ItemId, account_id};
pub use key_rotation::{KeyRotationStorage, SealedColumn, SealedValue};
pub use keys::{HostKeyRecord, KeyStorage, MasterKeyRecord, WorkspaceKeyRecord};
pub use record_cache::{Changes, MAX_AGE, RecordCache};
pub use rotations::{RotationFilter, RotationRecord, RotationState, RotationStorage};
pub use row_seal::RowSealer;
pub use scope::{Scope, Scopes};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStorage;
pub use workspaces::{ApiKeyRecord, WorkspaceRecord, WorkspaceStorage};
// What signatures are made of.
#[cfg(feature = "sqlite")]
pub use sqlx;

/// The bytes of an envelope that are its key's term, in network order.
pub const KEY_TERM: std::ops::Range<usize> = 1..5;

/// A database.
#[async_trait]
pub trait Storage:
    KeyStorage
    + KeyRotationStorage
    + WorkspaceStorage
    + ConnectionStorage
    + ConnectionStateStorage
    + EntryStorage
    + RotationStorage
    + BudgetStorage
    + ComponentStorage
    + AuditRootStorage
    + DamageStorage
{
    /// A number that differs after each change of an API key, a connection, an entry, a rotation,
    /// an item's state or a workspace's set of keys. Adding an API key, a connection or an entry
    /// need not change it.
    async fn record_changes(&self) -> Result<u64, StorageError>;
}
