//! The records: what is kept of workspaces, keys, connections, vault entries, rotations and the audit log. No field is a
//! secret: what is secret is sealed, and its envelope bound to the row's version.

use jiff::Timestamp;

use crate::api_key::Scopes;
use crate::entry::TfaMethod;
use crate::id::{ApiKeyId, ConnectionId, EntryId, RotationId, WorkspaceId};
use crate::rotation::RotationState;

/// A master key that wrapped keys of this database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeyRecord {
    /// Counts the master keys from 1.
    pub term: u32,
    /// Recognises the key.
    pub key_id: [u8; 16],
    /// When it was first used.
    pub created_at: Timestamp,
}

/// A key of the host itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKeyRecord {
    /// Its name.
    pub name: String,
    /// The wrapped key.
    pub wrapped_key: Vec<u8>,
    /// The term of the master key that wrapped it.
    pub master_term: u32,
    /// The row's version, part of what the wrapped key is bound to.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRecord {
    /// Its id.
    pub id: WorkspaceId,
    /// What people call it.
    pub name: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A workspace key. The one with the highest term is in use; older ones only open what has not been sealed anew yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceKeyRecord {
    /// Whose key.
    pub workspace_id: WorkspaceId,
    /// Counts the workspace's keys from 1.
    pub term: u32,
    /// The wrapped key.
    pub wrapped_key: Vec<u8>,
    /// The term of the master key that wrapped it.
    pub master_term: u32,
    /// The row's version, part of what the wrapped key is bound to.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An API key, without the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// Its id.
    pub id: ApiKeyId,
    /// The workspace it opens.
    pub workspace_id: WorkspaceId,
    /// What people call it.
    pub name: String,
    /// By which it is found; not secret, unique.
    pub lookup: String,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    /// What it allows.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// Its id.
    pub id: ConnectionId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// What people call it.
    pub name: String,
    /// The provider's type.
    pub provider_type: String,
    /// Envelope with the settings and the approved destinations.
    pub sealed_settings: Vec<u8>,
    /// JSON object: for each secret setting its last four characters.
    pub hints: String,
    /// Who the credentials belong to, as the provider said.
    pub account: String,
    /// Whether it cannot write anywhere; `None` when the provider does not say.
    pub read_only: Option<bool>,
    /// Cache duration of entries without one of their own, in seconds; 0 is off.
    pub cache_ttl_seconds: u32,
    /// Greater after each time the cached secrets were cleared: values of an earlier generation are not used any more.
    pub cache_generation: u64,
    /// The row's version when it got the settings that it has.
    pub settings_version: u64,
    /// The row's version, part of what the settings are bound to.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A vault entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRecord {
    /// Its id.
    pub id: EntryId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The user it belongs to, as the platform calls them.
    pub permissioned_user_id: String,
    /// The site, exactly as it was given.
    pub domain: String,
    /// What people call it.
    pub user_alias: Option<String>,
    /// How the second factor arrives.
    pub tfa_method: Option<TfaMethod>,
    /// Whether it uses a passkey; not while it is bound.
    pub passkey: bool,
    /// The connection it is bound to. Present if and only if `secret_ref` is.
    pub connection_id: Option<ConnectionId>,
    /// The item it is bound to.
    pub secret_ref: Option<String>,
    /// Its own cache duration in seconds, in place of the connection's.
    pub cache_ttl_seconds: Option<u32>,
    /// Envelope with the credentials of an entry that is not bound.
    pub sealed_credentials: Option<Vec<u8>>,
    /// Envelope with the attributes, if there are any.
    pub sealed_attributes: Option<Vec<u8>>,
    /// When cookies or browser storages were last set.
    pub session_data_set_at: Option<Timestamp>,
    /// The row's version, part of what the envelopes are bound to.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Some of a workspace's vault entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRecords {
    /// The entries in the order of their creation.
    pub entries: Vec<EntryRecord>,
    /// After which entry there are more; `None` when there are none.
    pub next: Option<EntryId>,
}

/// How far a series of the audit log had certainly come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditAnchorRecord {
    /// Which series.
    pub series: u32,
    /// The number of its last record then.
    pub number: u64,
    /// The MAC of that record.
    pub head: [u8; 32],
    /// A MAC over all of this but the time, under the audit key.
    pub mac: [u8; 32],
    /// When.
    pub at: Timestamp,
}

/// A password rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRecord {
    /// Its id.
    pub id: RotationId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The entry whose password it is. It need not exist any more when the rotation is over.
    pub entry_id: EntryId,
    /// The connection through which the item is written. Present if and only if `secret_ref` is.
    pub connection_id: Option<ConnectionId>,
    /// The item that is written; `None` for an entry that is not bound.
    pub secret_ref: Option<String>,
    /// How far it is.
    pub state: RotationState,
    /// Why it was skipped, failed or has to be tried again, for programs.
    pub reason: Option<String>,
    /// The same for a person.
    pub message: Option<String>,
    /// Envelope with the new password. Present if and only if the rotation is open.
    pub sealed_password: Option<Vec<u8>>,
    /// The revision at which the item may be written.
    pub expected_revision: Option<String>,
    /// How often writing was begun.
    pub attempts: u32,
    /// Until when the attempt that is under way may take.
    pub attempt_until: Option<Timestamp>,
    /// When the next attempt is due. Present if and only if the rotation is committing.
    pub next_attempt_at: Option<Timestamp>,
    /// The [version](ConnectionRecord::settings_version) of the settings that it could not be written with. Not unless writing it has
    /// failed, and not when it is hopeless with any.
    pub failed_settings: Option<u64>,
    /// The row's version, part of what the password is bound to.
    pub version: u64,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
