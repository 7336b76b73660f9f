//! Identifiers as separate types, so that an entry's id cannot be passed for a connection's.
//!
//! They are UUIDs of version 7: unique without coordination, and ordered by creation, which lists
//! and paging rely on. An identifier is not a secret and grants no rights.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not an id: an id is a UUID such as `00000000-0000-0000-0000-000000000000`; lists show the existing ids"
)]
pub struct InvalidId;

macro_rules! identifiers {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new identifier, greater than all earlier ones of this process.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The identifier as a UUID.
            pub fn as_uuid(&self) -> Uuid {
                self.0
            }

            /// Its 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

identifiers! {
    /// Identifies a workspace.
    WorkspaceId
    /// Identifies an API key. Not the key itself.
    ApiKeyId
    /// Identifies a connection; `secret_provider_id` in the HTTP API.
    ConnectionId
    /// Identifies a vault entry.
    EntryId
    /// Identifies a password rotation.
    RotationId
}
