//! Errors in the words of the HTTP API, which has other names than the library for some things.

use keyway::{BrokerError, InvalidInput};

/// The library's name, and this API's.
const NAMES: [(&str, &str); 3] =
    [("user", "permissioned_user_id"), ("alias", "user_alias"), ("reference", "secret_ref")];

/// The message of an error.
pub(crate) fn message(error: &BrokerError) -> String {
    match error {
        BrokerError::EntryExists => {
            "a vault entry for this permissioned_user_id and domain already exists; update that one instead".to_owned()
        }
        BrokerError::Invalid(InvalidInput::UnknownConnection) => {
            "secret_provider_id is not a connection of this workspace".to_owned()
        }
        BrokerError::Invalid(InvalidInput::Reference { message }) => format!("secret_ref: {message}"),
        BrokerError::Invalid(
            error @ (InvalidInput::Required { field }
            | InvalidInput::TooLong { field, .. }
            | InvalidInput::ControlCharacter { field }),
        ) => {
            let (_, renamed) = NAMES.into_iter().find(|(name, _)| name == field).unwrap_or((*field, *field));
            // The field's name is the first word.
            error.to_string().replacen(field, renamed, 1)
        }
        error => error.to_string(),
    }
}
