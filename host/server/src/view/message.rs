//! Errors in the words of the HTTP API, which has other names than the library for some things.

use keyway::entries::NoTfaCode;
use keyway::{BrokerError, InvalidInput};

/// The library's name, and this API's.
const NAMES: [(&str, &str); 3] =
    [("user", "permissioned_user_id"), ("alias", "user_alias"), ("reference", "secret_ref")];

/// What the library calls a field in a message, and this API's name.
const FIELDS: [(&str, &str); 5] = [
    ("the rate-limit tier", "rate_limit_tier"),
    ("the further fields", "further"),
    ("the second-factor method", "tfa_method"),
    ("the authenticator method", "tfa_method AUTHENTICATOR"),
    ("the second factor's secret", "tfa_secret"),
];

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
        BrokerError::Invalid(
            InvalidInput::RateLimitTier { .. }
            | InvalidInput::FurtherFields
            | InvalidInput::TfaSecret(_)
            | InvalidInput::BoundWithAuthenticator
            | InvalidInput::AuthenticatorWithoutSecret,
        )
        | BrokerError::NoTfaCode(NoTfaCode::NoSecondFactor | NoTfaCode::Method(_)) => {
            FIELDS.iter().fold(error.to_string(), |message, (field, name)| message.replace(field, name))
        }
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use keyway::entries::TfaMethod;

    use super::*;

    #[test]
    fn a_message_names_the_field_as_it_was_sent() {
        let tier = InvalidInput::RateLimitTier { known: vec!["free".into(), "paid".into()] };
        for (error, begins) in [
            (tier.into(), "rate_limit_tier must be one of free, paid"),
            (InvalidInput::FurtherFields.into(), "further must have at most 100 distinct field names"),
            (
                InvalidInput::TfaSecret("It is empty.".into()).into(),
                "tfa_secret must be the secret of an authenticator",
            ),
            (InvalidInput::BoundWithAuthenticator.into(), "tfa_method AUTHENTICATOR is not available"),
            (InvalidInput::AuthenticatorWithoutSecret.into(), "tfa_method AUTHENTICATOR requires tfa_secret"),
            (NoTfaCode::Method(TfaMethod::Sms).into(), "codes of tfa_method SMS cannot be read here"),
        ] {
            let error: BrokerError = error;
            assert!(message(&error).starts_with(begins), "{}", message(&error));
        }
        let none = message(&NoTfaCode::NoSecondFactor.into());
        assert!(none.contains("set tfa_secret and tfa_method AUTHENTICATOR, or bind"), "{none}");
    }
}
