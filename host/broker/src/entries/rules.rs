//! The rules that every vault entry follows.
//!
//! Unchanged values are not checked again, even if the rules have changed since they were set.
//! Rules that need the database (the connection exists, the pair of user and domain is new) are
//! checked where the entry is stored.

use std::cell::Cell;

use jiff::Timestamp;
use keyway_keys::ClientKey;
use keyway_otp::Totp;
use keyway_storage::TfaMethod;
use secrecy::ExposeSecret;

use super::{CredentialSource, Credentials, EntryContent, VaultEntry};
use crate::error::{BrokerError, InvalidInput};
use crate::text::{bounded, required};

const TEXT_LIMIT: usize = 512;
const ADDRESS_LIMIT: usize = 2_048;
const CIPHERTEXT_LIMIT: usize = 64 * 1_024;

impl VaultEntry {
    /// Checks a new or changed entry, and completes what follows from its content. `before` is the
    /// content before the change, empty for a new entry.
    pub(super) fn check(&mut self, before: &EntryContent, key: &ClientKey, now: Timestamp) -> Result<(), BrokerError> {
        let entry = &mut self.content;
        if entry.user.is_empty() || entry.user != before.user {
            required("user", &entry.user, TEXT_LIMIT)?;
        }
        if entry.domain.is_empty() || entry.domain != before.domain {
            required("domain", &entry.domain, ADDRESS_LIMIT)?;
            check_domain(&entry.domain)?;
        }
        if let Some(alias) = entry.alias.as_ref().filter(|_| entry.alias != before.alias) {
            bounded("alias", alias, TEXT_LIMIT)?;
        }
        let needs_secret = entry.tfa_method == Some(TfaMethod::Authenticator);
        match (&mut entry.credentials, &before.credentials) {
            (CredentialSource::Bound(binding), before_of) => {
                if before.binding().is_none_or(|before| before.reference != binding.reference) {
                    required("reference", &binding.reference, ADDRESS_LIMIT)?;
                }
                // Binding the entry removes its secret, and with it the method that needs the
                // secret.
                if needs_secret
                    && before.tfa_method == entry.tfa_method
                    && matches!(before_of, CredentialSource::Own(_))
                {
                    entry.tfa_method = None;
                } else if needs_secret {
                    return Err(InvalidInput::BoundWithAuthenticator.into());
                }
                if entry.passkey {
                    return Err(InvalidInput::BoundWithPasskey.into());
                }
            }
            (CredentialSource::Own(own), before) => {
                let none = Credentials::default();
                let before = if let CredentialSource::Own(before) = before { before } else { &none };
                for ((field, value), (_, before)) in own.fields_mut().into_iter().zip(before.fields()) {
                    check_ciphertext(field, value, before, key)?;
                }
                let is_given = own.tfa_secret.is_some() && own.tfa_secret != before.tfa_secret;
                if needs_secret || is_given {
                    check_authenticator(own.tfa_secret.as_deref(), key)?;
                }
            }
        }
        entry.attributes.check(key)?;
        self.session_data_set_at = match self.content.attributes.has_browser_state() {
            true if self.content.attributes.has_new_browser_state(&before.attributes) => Some(now),
            true => self.session_data_set_at,
            false => None,
        };
        self.updated_at = now;
        Ok(())
    }
}

/// A ciphertext from a client must open, or later readers would take it for the value. An encrypted
/// `null` counts as no value.
fn check_ciphertext(
    field: &'static str,
    value: &mut Option<String>,
    before: &Option<String>,
    key: &ClientKey,
) -> Result<(), BrokerError> {
    let Some(ciphertext) = value.as_ref().filter(|_| value != before) else { return Ok(()) };
    bounded(field, ciphertext, CIPHERTEXT_LIMIT)?;
    if key.decrypt(ciphertext).map_err(|error| BrokerError::of_client_value(field, error))?.is_none() {
        *value = None;
    }
    Ok(())
}

/// Checks the secret of an authenticator: one that makes no codes would otherwise be noticed in the
/// middle of a login.
fn check_authenticator(tfa_secret: Option<&str>, key: &ClientKey) -> Result<(), BrokerError> {
    let secret = tfa_secret.ok_or(InvalidInput::AuthenticatorWithoutSecret)?;
    let secret = key.decrypt(secret).map_err(|error| BrokerError::of_client_value("tfa_secret", error))?;
    let secret = secret.ok_or(InvalidInput::AuthenticatorWithoutSecret)?;
    Totp::parse(secret.expose_secret()).map_err(|error| InvalidInput::TfaSecret(error.to_string()))?;
    Ok(())
}

/// Checks that the domain is a URL in its exact form, because it is stored and found as it is
/// written. Input that a browser would correct is refused, or one site would have many names.
fn check_domain(domain: &str) -> Result<(), InvalidInput> {
    let is_mended = Cell::new(false);
    let see = |violation| {
        use url::SyntaxViolation::{Backslash, C0SpaceIgnored, ExpectedDoubleSlash, TabOrNewlineIgnored};
        if matches!(violation, Backslash | C0SpaceIgnored | ExpectedDoubleSlash | TabOrNewlineIgnored) {
            is_mended.set(true);
        }
    };
    let url = url::Url::options().syntax_violation_callback(Some(&see)).parse(domain);
    let url = url.map_err(|_| InvalidInput::Domain)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidInput::DomainWithCredentials);
    }
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_local = host == "localhost" || host.ends_with(".localhost");
    let is_site = matches!(url.scheme(), "http" | "https") && !host.is_empty() && !is_local;
    if is_site && !is_mended.get() && !domain.chars().any(is_invisible) { Ok(()) } else { Err(InvalidInput::Domain) }
}

/// Soft hyphens, zero-width spaces and direction marks: they make a different text that looks the
/// same. The two joiners are allowed, because some scripts need them in names.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}
