//! Password rotation: a journal, because a site's password and the one in the vault must never
//! diverge silently.
//!
//! ```text
//!            begin                    commit                        written
//!  (refused) ────► prepared ────────────────► committing ─────────────────────────► done
//!      │              │                        │  ▲   ▲
//!      ▼              │ abandon                │  │   └── retry ──┐
//!   skipped           ▼                        │  └─ try later    │
//!                 abandoned ◄── abandon ─── write_back_failed, conflicted
//! ```
//!
//! * `begin` asks the provider whether this very item can be written, and reads its password and
//!   revision. If it cannot, the rotation is `skipped` and the site must not be changed. Else the
//!   new password is stored, sealed, *before* the caller gets it: `prepared`. The caller changes
//!   the password on the site.
//! * `commit` says that the site has the new password: `committing`, durably, before anything is
//!   written. Then the password, and nothing else, is written to the item (`write_back.rs`).
//! * A write-back that fails temporarily is retried later, even after a restart (`background.rs`).
//!   One that cannot succeed (permission revoked, item deleted) is `write_back_failed` and waits
//!   for a person, who retries it or gives the connection a new token. If the item's password was
//!   changed meanwhile, the rotation is `conflicted` and waits for a person, too: that password is
//!   overwritten only on request.
//!
//! **Invariants**
//!
//! * From `prepared` until `done` or `abandoned` the new password can be recovered from the
//!   database with the master key ([`Rotations::reveal`]), at whatever point the process is killed.
//!   The change of the row that ends the rotation also erases it.
//! * It is written at most once. Every write names the revision that the item is expected at. When
//!   the answer to a write was lost, the provider refuses the next attempt, which reads the item,
//!   finds the new password there and is done.
//! * An item has at most one open rotation, whichever entries and connections of the workspace lead
//!   to it, and its entry can neither be deleted nor bound elsewhere. The database's constraints
//!   enforce both against races.
//! * After `done`, the next resolve of every entry bound to the item has the new value: the same
//!   transaction increments the item's generation, by which cached values and running fetches are
//!   found. (In another process on the same database it may take a second, as with every change.)
//! * Every step and every released password is in the audit log, the broker's own attempts
//!   included. An operation that may write an item runs to its end even if its caller is cancelled,
//!   so its outcome is there, too. A begin whose outcome could not be recorded leaves a `prepared`
//!   rotation whose password was not released.
//!
//! **What an item resolves to between `commit` and `done`:** the new password, from the journal.
//! The site has it already, so the item's would fail there, and failed logins lock accounts. Before
//! `commit` it is the item's, because the site is not known to be changed. When `conflicted` it is
//! the item's as well, because the item was changed after the journal was written. User name and
//! code are always the item's.
//!
//! **How it can fail:** a caller that changes the site and never commits leaves a `prepared`
//! rotation. The broker cannot tell whether the site was changed, so the rotation is listed until
//! it is committed or abandoned. Two connections to different secret managers that use the same
//! reference for different items block each other's rotation while one is open. If the database is
//! damaged where the new password is, the password is lost: the rotation is `write_back_failed`
//! with the reason `damaged`, and can be abandoned although its password does not open.

mod background;
mod begin;
mod item;
mod journal;
mod operations;
mod own;
mod password;
mod write_back;

use std::sync::Arc;

use jiff::Timestamp;
use keyway_storage::{ConnectionId, EntryId, EntrySelector, RotationId, RotationRecord, StorageError, WorkspaceId};
use parking_lot::Mutex;
use secrecy::SecretString;

use background::Told;
pub(crate) use background::start as start_write_backs;
pub(crate) use journal::Journal;
pub use keyway_storage::{RotationFilter, RotationState};
pub use operations::ROTATIONS_PER_PAGE;
pub use password::PasswordPolicy;

use crate::connections::Connections;
use crate::core::Core;
use crate::entries::EntryStore;
use crate::error::BrokerError;

/// The password rotations of all workspaces: see [`Broker::rotations`](crate::Broker::rotations).
#[derive(Clone)]
pub struct Rotations {
    pub(crate) core: Arc<Core>,
    pub(crate) entries: Arc<EntryStore>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) told: Arc<Mutex<Told>>,
}

/// A rotation without its password, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rotation {
    /// Its id.
    pub id: RotationId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The vault entry whose password it is.
    pub entry_id: EntryId,
    /// The connection through which it is written; `None` for an entry with credentials of its own.
    pub connection_id: Option<ConnectionId>,
    /// The item it is written to.
    pub reference: Option<String>,
    /// Its state.
    pub state: RotationState,
    /// Why it was skipped, failed, or is retried, for programs: `read_only`,
    /// `provider_cannot_write`, `no_password`, `passkey`; `password_changed`; `damaged`; else the
    /// code of the provider's error or `host_error`.
    pub reason: Option<String>,
    /// The same for a person.
    pub message: Option<String>,
    /// The number of attempts to write it.
    pub attempts: u32,
    /// When the next attempt is due, while it is committing.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it last changed; for a rotation that has ended, when it ended.
    pub updated_at: Timestamp,
}

impl From<RotationRecord> for Rotation {
    fn from(record: RotationRecord) -> Self {
        Self {
            id: record.id,
            workspace_id: record.workspace_id,
            entry_id: record.entry_id,
            connection_id: record.connection_id,
            reference: record.secret_ref,
            state: record.state,
            reason: record.reason,
            message: record.message,
            attempts: record.attempts,
            next_attempt_at: record.next_attempt_at,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

/// Which password to rotate, and to what.
#[derive(Debug, Clone)]
// Clone: callers keep a given password to retry after a network failure.
#[non_exhaustive]
pub struct BeginRotation {
    /// Which entry.
    pub entry: EntrySelector,
    /// Where the new password comes from.
    pub password: NewPassword,
    /// The rotation's id, which makes beginning idempotent.
    pub id: Option<RotationId>,
}

impl BeginRotation {
    /// Begins with a password that is generated by the default policy.
    pub fn new(entry: impl Into<EntrySelector>) -> Self {
        Self { entry: entry.into(), password: NewPassword::Generated(PasswordPolicy::default()), id: None }
    }

    /// Sets the id, which must be new for each rotation ([`RotationId::generate`]). A caller that
    /// was interrupted begins again with the same id and gets the same rotation and password.
    #[must_use]
    pub fn id(mut self, id: RotationId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets where the password comes from.
    #[must_use]
    pub fn password(mut self, password: NewPassword) -> Self {
        self.password = password;
        self
    }
}

/// Where a new password comes from.
#[derive(Debug, Clone)]
// Clone: as `BeginRotation`.
#[non_exhaustive]
pub enum NewPassword {
    /// It is generated.
    Generated(PasswordPolicy),
    /// It is this one.
    Given(SecretString),
    /// It is this one, encrypted under the workspace's client encryption key, as clients send
    /// credentials.
    Encrypted(String),
}

/// A rotation that was begun.
#[derive(Debug)]
#[non_exhaustive]
pub struct BegunRotation {
    /// The rotation: prepared, or skipped with the reason.
    pub rotation: Rotation,
    /// The password to set on the site; `None` when the rotation was skipped.
    pub password: Option<SecretString>,
}

/// A page of rotations.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RotationPage {
    /// The rotations in the order in which they were begun.
    pub rotations: Vec<Rotation>,
    /// What to pass for the next page; `None` on the last.
    pub next: Option<RotationId>,
}

/// The error for a rotation whose state does not allow the operation.
fn not_in(state: RotationState, hint: &'static str) -> BrokerError {
    BrokerError::RotationState { state, hint }
}

/// The error for a rotation that a constraint refused.
fn refused(error: StorageError) -> BrokerError {
    match error {
        StorageError::Conflict(keyway_storage::Constraint::Unique) => BrokerError::RotationOpen,
        error => error.into(),
    }
}
