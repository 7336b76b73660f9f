//! The subjects of a budget: a token and an account, each identified by a keyed fingerprint.
//!
//! The secret manager counts by token, not by caller. Connections with the same token therefore
//! share a budget, even across workspaces. The fingerprint is HMAC-SHA256 under a key that only
//! this host has. A reader of the database can neither compute it for a guessed token nor tell
//! which customer's it is.

use hmac::{Hmac, KeyInit, Mac};
use keyway_keys::KeyBytes;
use keyway_runtime::Settings;
use keyway_runtime::contract::Description;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::limits::Counter;

/// The purpose under which the fingerprint key is derived from the host key.
pub const FINGERPRINT_KEY: &str = "keyway.v1.budget-fingerprints";

/// 128 bits of an HMAC: collisions are infeasible, and it is not a key to anything.
pub(crate) type Subject = [u8; 16];

/// The host's key for fingerprints.
pub(crate) struct FingerprintKey(KeyBytes);

impl FingerprintKey {
    pub(crate) fn new(key: KeyBytes) -> Self {
        Self(key)
    }

    /// The token of a connection: all of its secret settings, or all settings if none is secret.
    /// White space around a value makes no difference.
    pub(crate) fn token(&self, description: &Description, settings: &Settings) -> Subject {
        let has_secret = settings.iter().any(|(name, _)| description.is_secret(name));
        let mut identifying: Vec<(&str, &SecretString)> =
            settings.iter().filter(|(name, _)| !has_secret || description.is_secret(name)).collect();
        identifying.sort_unstable_by_key(|(name, _)| *name);
        let values = identifying.iter().flat_map(|(name, value)| [*name, value.expose_secret().trim()]);
        self.subject([b"token".as_slice(), description.provider_type.as_bytes()], values)
    }

    /// An account, by the key that its provider reports.
    pub(crate) fn account(&self, provider_type: &str, account: &str) -> Subject {
        self.subject([b"account".as_slice(), provider_type.as_bytes()], [account])
    }

    /// The account of a token whose account is not known.
    pub(crate) fn account_of_token(&self, token: &Subject) -> Subject {
        self.subject([b"account of token".as_slice(), token], [])
    }

    /// The key under which the database counts for this token or account. Several windows of the
    /// same requests are counted separately.
    pub(crate) fn count(&self, subject: &Subject, of: &Counter) -> Subject {
        if of.is_original() {
            return *subject;
        }
        self.subject([b"window".as_slice(), subject], [of.window.as_secs().to_string().as_str()])
    }

    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    fn subject<'a>(&self, purpose: [&[u8]; 2], values: impl IntoIterator<Item = &'a str>) -> Subject {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("a key of any length");
        let mut part = |bytes: &[u8]| {
            // Preceded by its length, so that no two lists of parts have the same encoding.
            mac.update(&(bytes.len() as u64).to_be_bytes());
            mac.update(bytes);
        };
        purpose.into_iter().for_each(&mut part);
        values.into_iter().for_each(|value| part(value.as_bytes()));
        let digest: [u8; 32] = mac.finalize().into_bytes().into();
        let mut subject = Subject::default();
        subject.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        subject
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keyway_runtime::contract::SettingSpec;
    use keyway_storage::RequestKind;

    use super::*;
    use crate::limits::BudgetScope;

    fn key(byte: u8) -> FingerprintKey {
        FingerprintKey::new(KeyBytes::new([byte; 32]))
    }

    fn description(provider_type: &str) -> Description {
        let setting = |name: &str, secret: bool| {
            let mut setting = SettingSpec::default();
            (setting.name, setting.secret) = (name.into(), secret);
            setting
        };
        let mut description = Description::default();
        description.provider_type = provider_type.into();
        description.settings = vec![setting("token", true), setting("address", false)];
        description
    }

    #[test]
    fn the_same_token_is_the_same_subject_and_another_one_provider_or_key_is_not() {
        let token = |key: &FingerprintKey, provider: &str, token: &str, address: &str| {
            key.token(&description(provider), &Settings::new().with("token", token).with("address", address))
        };
        let subject = token(&key(1), "x", "secret", "here");
        assert_eq!(
            subject,
            token(&key(1), "x", "secret\n", "there"),
            "what is not secret does not make it another one"
        );
        assert_ne!(subject, token(&key(1), "x", "secreT", "here"));
        assert_ne!(subject, token(&key(1), "y", "secret", "here"));
        assert_ne!(subject, token(&key(2), "x", "secret", "here"));
    }

    #[test]
    fn without_a_secret_all_settings_count() {
        let token = |address: &str| key(1).token(&description("x"), &Settings::new().with("address", address));
        assert_ne!(token("here"), token("there"));
    }

    #[test]
    fn an_hour_of_a_token_and_a_day_of_an_account_are_counted_where_databases_have_them() {
        let of = |requests, scope, seconds| {
            let window = Duration::from_secs(seconds);
            key(1).count(&[7; 16], &Counter { requests, scope, window, limit: Some(1) })
        };
        assert_eq!(of(RequestKind::Read, BudgetScope::Credential, 3_600), [7; 16]);
        assert_eq!(of(RequestKind::Write, BudgetScope::Credential, 3_600), [7; 16]);
        assert_eq!(of(RequestKind::Any, BudgetScope::Account, 86_400), [7; 16]);
        let ten_seconds = of(RequestKind::Read, BudgetScope::Credential, 10);
        assert_ne!(ten_seconds, [7; 16]);
        assert_ne!(ten_seconds, of(RequestKind::Read, BudgetScope::Credential, 60));
    }

    #[test]
    fn an_account_is_no_token_and_one_of_another_provider_is_another_one() {
        let key = key(1);
        assert_ne!(key.account("x", "acme"), key.account("y", "acme"));
        let token = key.token(&description("x"), &Settings::new().with("token", "acme"));
        assert_ne!(token, key.account("x", "acme"));
        assert_ne!(token, key.account_of_token(&token));
    }
}
