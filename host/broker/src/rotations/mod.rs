//! Password rotation: a journal, because a site's password and the one in the vault must never part
//! silently.
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
//!   revision. If it cannot, the rotation is `skipped` and the site must not be touched. Else the
//!   new password is stored, sealed, *before* the caller gets it: `prepared`. The caller changes
//!   the password on the site.
//! * `commit` says that the site has the new password: `committing`, durably, before anything is
//!   written. Then the password, and nothing else, is written to the item (`write_back.rs`).
//! * A write-back that fails for now is tried again later, also after a restart (`background.rs`).
//!   One that cannot succeed (permission gone, item gone) is `write_back_failed` and waits for a
//!   person, who retries it or gives the connection a new token; so does one whose item has got
//!   another password meanwhile, which is never overwritten unasked: `conflicted`.
//!
//! **Invariants**
//!
//! * From `prepared` until `done` or `abandoned` the new password can be recovered from the
//!   database with the master key ([`Rotations::reveal`]), at
//!   whatever point the process is killed. With the end of the rotation it is erased in the same
//!   change of the row.
//! * It is written at most once. Every write names the revision that the item is expected at. When
//!   the answer to one was lost, the next attempt is refused by the provider, reads the item, finds
//!   the new password there and is done.
//! * There is one open rotation for an item, whichever entries and connections of the workspace
//!   lead to it, and its entry can neither be deleted nor bound elsewhere. The database's
//!   constraints hold both against races.
//! * After `done`, the next resolve of every entry bound to the item has the new value: the item's
//!   generation, part of what a cached value and a running fetch are found by, grows in the same
//!   transaction. (In another process on the same database it may take a second, as with every
//!   change.)
//! * No step is taken, and no password given out, that is not in the audit log, the broker's own
//!   attempts included; an operation that may write an item runs to its end also when its caller
//!   goes away, so its outcome is there, too. A begin whose outcome could not be recorded leaves a
//!   `prepared` rotation whose password nobody was given.
//!
//! **What an item resolves to between `commit` and `done`:** the new password, from the journal.
//! The site has it already, so the item's would fail there, and failed logins lock accounts. Before
//! `commit` it is the item's, because nobody has said that the site was changed; and when
//! `conflicted`, because whoever changed the item meanwhile knew more than the journal does. User
//! name and code are the item's at all times.
//!
//! **How it can fail:** a caller that changes the site and never commits leaves a `prepared`
//! rotation; nobody can tell whether the site was changed, so it is listed until somebody commits
//! or abandons it. Two connections to different secret managers that use the same reference for
//! different items block each other's rotation while one is open. A database that is damaged where
//! the new password is: then it is lost, the rotation `write_back_failed` with the reason
//! `damaged`, and abandoning it takes no password.

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

/// A rotation as it is shown: without the password.
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
    /// How far it is.
    pub state: RotationState,
    /// Why it was skipped, failed, or has to be tried again, for programs: `read_only`,
    /// `provider_cannot_write`, `no_password`, `passkey`; `password_changed`; `damaged`; else the
    /// code of the provider's error or `host_error`.
    pub reason: Option<String>,
    /// The same for a person.
    pub message: Option<String>,
    /// How often writing was begun.
    pub attempts: u32,
    /// When writing is tried again, while it is committing.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it last changed; of a rotation that is over, when it ended.
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
// Clone: a given password is cloned with it, for callers that try again after a failure of the
// network.
#[non_exhaustive]
pub struct BeginRotation {
    /// Which entry.
    pub entry: EntrySelector,
    /// Where the new password comes from.
    pub password: NewPassword,
    /// The rotation's id, which makes beginning it idempotent.
    pub id: Option<RotationId>,
}

impl BeginRotation {
    /// A generated password by the default policy.
    pub fn new(entry: impl Into<EntrySelector>) -> Self {
        Self { entry: entry.into(), password: NewPassword::Generated(PasswordPolicy::default()), id: None }
    }

    /// With an id of the caller's, new for each rotation ([`RotationId::generate`]). A caller that
    /// was cut off begins again with the same id and gets the same rotation and password.
    #[must_use]
    pub fn id(mut self, id: RotationId) -> Self {
        self.id = Some(id);
        self
    }

    /// A password from here instead.
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
    /// It is this one, encrypted under the workspace's client encryption key as everything that its
    /// clients send.
    Encrypted(String),
}

/// A rotation that was begun.
#[derive(Debug)]
#[non_exhaustive]
pub struct BegunRotation {
    /// The rotation: prepared, or skipped with the reason.
    pub rotation: Rotation,
    /// What to set on the site; `None` when it was skipped.
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

/// The error for a rotation whose state does not allow what was asked.
fn not_in(state: RotationState, hint: &'static str) -> BrokerError {
    BrokerError::RotationState { state, hint }
}

/// A constraint refused a rotation.
fn refused(error: StorageError) -> BrokerError {
    match error {
        StorageError::Conflict(keyway_storage::Constraint::Unique) => BrokerError::RotationOpen,
        error => error.into(),
    }
}
