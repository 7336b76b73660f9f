//! Writing to an item.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// New values for an item (`write`). `None` leaves a field as it is.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Changes {
    /// The user name.
    pub username: Option<SecretString>,
    /// The password.
    pub password: Option<SecretString>,
}

impl Changes {
    /// Changes the user name.
    #[must_use]
    pub fn username(self, username: impl Into<SecretString>) -> Self {
        Self { username: Some(username.into()), ..self }
    }

    /// Changes the password.
    #[must_use]
    pub fn password(self, password: impl Into<SecretString>) -> Self {
        Self { password: Some(password.into()), ..self }
    }
}

/// Whether an item can be written (`check-write-access`). Exhaustive, because there is nothing in
/// between: an answer that this host does not know is a denial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteAccess {
    /// Yes, as far as the server can say.
    Granted,
    /// No, with the reason for a person.
    Denied(String),
}
