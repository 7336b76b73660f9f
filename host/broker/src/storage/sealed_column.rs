//! Which columns hold envelopes: what has to be sealed anew when a workspace's key is rotated.

use uuid::Uuid;

/// A column of values that are sealed under a workspace's key. Its table has the columns `workspace_id`, `id` and
/// `version`, to which its envelopes are bound.
///
/// A test compares this list with all columns of bytes in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealedColumn {
    /// The settings of connections.
    ConnectionSettings,
    /// The credentials of vault entries, which clients have encrypted before.
    EntryCredentials,
    /// The attributes of vault entries, of which clients have encrypted one.
    EntryAttributes,
    /// The new passwords of rotations that are not over.
    RotationPassword,
}

impl SealedColumn {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::ConnectionSettings, Self::EntryCredentials, Self::EntryAttributes, Self::RotationPassword];

    /// Its table.
    pub fn table(self) -> &'static str {
        match self {
            Self::ConnectionSettings => "connections",
            Self::EntryCredentials | Self::EntryAttributes => "vault_entries",
            Self::RotationPassword => "rotations",
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectionSettings => "sealed_settings",
            Self::EntryCredentials => "sealed_credentials",
            Self::EntryAttributes => "sealed_attributes",
            Self::RotationPassword => "sealed_password",
        }
    }
}

/// A sealed value, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedValue {
    /// Its row.
    pub id: Uuid,
    /// The version of the row.
    pub version: u64,
    /// The envelope.
    pub envelope: Vec<u8>,
}
