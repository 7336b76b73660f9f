//! Secret values in documents for callers that may see them.

use secrecy::{ExposeSecret, SecretString};
use serde::Serializer;

/// The secret itself.
pub(crate) fn exposed<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

/// The secret itself; `null` when there is none to show.
pub(crate) fn shown<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => exposed(secret, serializer),
        None => serializer.serialize_none(),
    }
}
