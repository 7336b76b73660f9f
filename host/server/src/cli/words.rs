//! Errors in the words of the command line: with the names of its flags.

use keyway::entries::NoTfaCode;
use keyway::{BrokerError, ErrorKind};

/// What the library or the HTTP API calls it, and the command line. Longer texts first: they
/// contain the others.
const WORDS: [(&str, &str); 21] = [
    (
        "to give it credentials of its own, send secret_provider_id and secret_ref as null in the same request",
        "add --unbind to give it credentials of its own",
    ),
    (
        "secret_cache_ttl_seconds requires secret_provider_id and secret_ref",
        "--cache-ttl is about an item; bind the entry to one with --bind",
    ),
    ("secret_provider_id and secret_ref", "--connection and the item's reference"),
    ("permissioned_user_id", "--user"),
    ("secret_provider_id", "--connection"),
    ("secret_ref", "the item's reference"),
    ("secret_cache_ttl_seconds", "--cache-ttl"),
    ("certificate_authorities", "--authorities"),
    ("Send the certificates as text in PEM", "Name a file of certificates in PEM"),
    ("unused and min_seconds_left", "--unused and --min-seconds-left"),
    ("min_seconds_left", "--min-seconds-left"),
    ("user_alias", "--alias"),
    ("user_name", "--user-name-file"),
    ("tfa_secret", "--tfa-secret-file"),
    ("tfa_method", "--tfa-method"),
    ("cannot include password", "cannot include --password-file"),
    ("the rate-limit tier", "--rate-limit-tier"),
    ("the further fields", "--further"),
    ("the second-factor method", "--tfa-method"),
    ("the authenticator method", "--tfa-method AUTHENTICATOR"),
    ("the second factor's secret", "--tfa-secret-file"),
];

/// The message of an error.
pub(super) fn in_flags(error: &BrokerError) -> String {
    let message = error.to_string();
    // No other kind repeats a field's name, and a provider's words stay as they are.
    let names_fields = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotEncrypted)
        || matches!(error, BrokerError::NoTfaCode(NoTfaCode::NoSecondFactor | NoTfaCode::Method(_)));
    match names_fields && error.provider_error().is_none() {
        true => WORDS.iter().fold(message, |message, (name, flag)| message.replace(name, flag)),
        false => message,
    }
}

/// The settings that messages of the server name, and their flags.
const SETTINGS: [(&str, &str); 3] = [
    ("tls_certificate", "--tls-certificate"),
    ("tls_key", "--tls-key"),
    ("insecure_plain_http", "--insecure-plain-http"),
];

/// A message about a server's settings.
pub(super) fn of_settings(message: &str) -> String {
    SETTINGS.iter().fold(message.to_owned(), |message, (name, flag)| message.replace(name, flag))
}

#[cfg(test)]
mod tests {
    use keyway::entries::EntryContent;
    use keyway::{CacheTtl, ConnectionId, InvalidInput};

    use super::*;
    use crate::http::vault::changes::EntryChanges;

    #[test]
    fn no_message_has_a_name_of_the_http_api_that_the_command_line_calls_something_else() {
        let refused =
            |changes: EntryChanges, mut entry: EntryContent| in_flags(&changes.apply(&mut entry).unwrap_err().into());
        let bound = || EntryChanges {
            secret_provider_id: Some(Some(ConnectionId::generate())),
            secret_ref: Some(Some("echo://item".into())),
            ..EntryChanges::default()
        };
        let own = EntryChanges { user_name: Some(Some("x".into())), ..EntryChanges::default() };
        let both = EntryChanges { user_name: own.user_name.clone(), ..bound() };
        let cached =
            EntryChanges { secret_cache_ttl_seconds: Some(Some(CacheTtl::from_seconds(1))), ..EntryChanges::default() };
        let at_once = refused(both, EntryContent::default());
        assert_eq!(at_once, "provider-backed vault entries cannot include --user-name-file");
        let later = refused(own, bound().into_entry().unwrap());
        assert!(later.contains("--user-name-file; add --unbind"), "{later}");
        let unbound = refused(cached, EntryContent::default());
        assert_eq!(unbound, "--cache-ttl is about an item; bind the entry to one with --bind");
        for error in [
            InvalidInput::MinSecondsLeft { period: 30 }.into(),
            InvalidInput::CodeNotAsked.into(),
            InvalidInput::UnknownConnection.into(),
            InvalidInput::BoundWithAuthenticator.into(),
            InvalidInput::Required { field: "user" }.into(),
            BrokerError::EntryExists,
            BrokerError::NotEncrypted { field: "tfa_secret".into() },
        ] {
            let told = in_flags(&error);
            let is_wire_name = |word: &str| word.contains('_') && word.chars().all(|c| c.is_alphanumeric() || c == '_');
            assert!(!told.split(' ').any(is_wire_name), "{told}");
        }
    }
}
