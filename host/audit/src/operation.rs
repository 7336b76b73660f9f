//! The operations, their scopes, and how they are recorded. One table, so that no operation can be
//! unaudited or open to everyone by oversight: only operations in this table can be run.
//!
//! An operation is of one of four kinds:
//!
//! | kind | recorded | flushed to the disk |
//! | --- | --- | --- |
//! | [`Release`](Kind::Release): a secret value is given to the caller | before the value is given out | within [`SYNC_INTERVAL`](crate::SYNC_INTERVAL) |
//! | [`Listing`](Kind::Listing): what a provider's account holds, or this log, is shown | before it is shown | within that, too |
//! | [`Change`](Kind::Change) | twice: as begun, before anything is touched or sent, and with its outcome, before it is acknowledged. One that is refused before it begins is a refusal | the first at once |
//! | [`Read`](Kind::Read) of the broker's own records, credentials as clients have encrypted them included | when it is refused; and as a release, when a record has secrets in plain (of an entry's attributes) | within that, too |

use std::fmt;
use std::str::FromStr;

use keyway_storage::Scope;
use serde::Serialize;

use crate::error::InvalidQuery;

/// How an operation is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Before the value is given out.
    Release,
    /// Before it is shown.
    Listing,
    /// As begun, before anything is touched or sent, and with its outcome.
    Change,
    /// When it is refused, and when it gives out secrets in plain.
    Read,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $kind:ident, $scope:ident $(or $other:ident)*;)*) => {
        /// An operation of the broker, as the audit log names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Operation {
            $($(#[$doc])* $name,)*
        }

        impl Operation {
            /// All operations.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in the log, the same as that of the broker's method.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// How it is recorded.
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)* }
            }

            /// The operation's scopes; any one of them suffices.
            pub fn scopes(self) -> &'static [Scope] {
                match self { $(Self::$name => &[Scope::$scope $(, Scope::$other)*],)* }
            }
        }
    };
}

operations! {
    /// Secret values of an entry were given out.
    Resolve = "resolve", Release, Resolve;
    /// The current code of an entry's second factor was given out.
    TfaCode = "tfa_code", Release, Api;
    /// The key that a workspace's clients encrypt under was given out.
    EncryptionKey = "encryption_key", Release, Admin;
    /// The new password of a rotation that is not over was given out.
    RevealRotation = "reveal_rotation", Release, Admin;
    /// A caller had no valid API key. Only refusals are recorded.
    Authenticate = "authenticate", Read, Api;
    /// An API key without the scope was refused, before its request was looked at. Only refusals
    /// are recorded.
    Authorize = "authorize", Read, Api or Admin or Resolve or Rotate;

    /// The items that a connection can see.
    ListItems = "list_items", Listing, Api;
    /// The further fields of an entry's item, without their values.
    ListFields = "list_fields", Listing, Resolve;
    /// Whether a connection sees an item.
    CheckItem = "check_item", Listing, Api;
    /// This log.
    AuditRecords = "audit_records", Listing, Admin;

    /// A workspace was created, with its first API key.
    CreateWorkspace = "create_workspace", Change, Admin;
    /// A workspace was renamed.
    RenameWorkspace = "rename_workspace", Change, Admin;
    /// A workspace was deleted, with everything in it but the records of this log.
    DeleteWorkspace = "delete_workspace", Change, Admin;
    /// A workspace's key was rotated, or an interrupted rotation was finished.
    RotateWorkspaceKey = "rotate_workspace_key", Change, Admin;
    /// The master key was replaced.
    RotateMasterKey = "rotate_master_key", Change, Admin;
    /// A damaged row of the database was deleted.
    DeleteDamagedRow = "delete_damaged_row", Change, Admin;
    /// An API key was created.
    CreateApiKey = "create_api_key", Change, Admin;
    /// An API key was revoked.
    RevokeApiKey = "revoke_api_key", Change, Admin;
    /// A connection was made.
    Connect = "connect", Change, Admin;
    /// A connection was changed.
    UpdateConnection = "update_connection", Change, Admin;
    /// A connection was deleted.
    DeleteConnection = "delete_connection", Change, Admin;
    /// A connection's cached secrets were dropped.
    ClearCache = "clear_cache", Change, Admin;
    /// The pauses of a connection were ended, and its credentials checked.
    RetryConnection = "retry_connection", Change, Admin;
    /// A vault entry was created.
    CreateEntry = "create_entry", Change, Api;

    /// A vault entry was changed.
    UpdateEntry = "update_entry", Change, Api;
    /// A vault entry was deleted.
    DeleteEntry = "delete_entry", Change, Api;
    /// A vault entry's cookies and browser storage were cleared.
    ClearBrowserState = "clear_browser_state", Change, Api;
    /// A password rotation was begun or skipped. Unless it was skipped, its new password was given
    /// out.
    BeginRotation = "begin_rotation", Change, Rotate;
    /// The site has a rotation's password, and it was to be written to the item.
    CommitRotation = "commit_rotation", Change, Rotate;
    /// A rotation's password was to be written at once.
    RetryRotation = "retry_rotation", Change, Rotate;
    /// A password rotation was aborted, its password erased.
    AbandonRotation = "abandon_rotation", Change, Rotate;
    /// A lease of an entry's values was extended.
    RenewLease = "renew_lease", Change, Resolve;
    /// A lease of an entry's values was ended.
    RevokeLease = "revoke_lease", Change, Resolve;
    /// The provider of a connection was to renew its durable state.
    RefreshConnection = "refresh_connection", Change, Admin;
    /// A committed rotation's password, which could not be written before, was to be written by the
    /// broker's own retry.
    WriteBack = "write_back", Change, Rotate;

    /// A workspace's API keys, without the keys.
    ListApiKeys = "list_api_keys", Read, Admin;
    /// A workspace's connections, without their settings.
    ListConnections = "list_connections", Read, Api or Admin;
    /// A connection, likewise.
    GetConnection = "get_connection", Read, Api or Admin;
    /// The requests that a connection may still send to its secret manager.
    Budget = "budget", Read, Api;
    /// A vault entry, its credentials as its client has encrypted them. Recorded when its session
    /// data or other secret attributes were given out.
    GetEntry = "get_entry", Read, Api;
    /// A page of a workspace's vault entries, likewise.
    ListEntries = "list_entries", Read, Api;
    /// A password rotation, without its password.
    Rotation = "rotation", Read, Rotate;
    /// A workspace's password rotations, likewise.
    ListRotations = "list_rotations", Read, Rotate;

    /// Another component serves a provider type than did before.
    ComponentChanged = "component_changed", Change, Admin;
    /// This log was continued after an unclean end: an unfinished and never acknowledged record was
    /// cut off.
    AuditRecovered = "audit_recovered", Change, Admin;
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Operation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl FromStr for Operation {
    type Err = InvalidQuery;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|operation| operation.name() == text).ok_or(InvalidQuery::Operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_one_operation() {
        for operation in Operation::ALL {
            assert_eq!(operation.name().parse(), Ok(*operation));
        }
        assert_eq!("RESOLVE".parse::<Operation>(), Err(InvalidQuery::Operation));
    }
}
