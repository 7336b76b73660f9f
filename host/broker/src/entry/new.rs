//! A vault entry to be created, and the rules for it.
//!
//! The published clients check some of these rules themselves, others none; here they are checked whoever calls. A rule
//! that needs the database (the connection exists, the pair of user and domain is new) is checked where the entry is
//! stored.

use std::fmt;

use super::{Binding, CredentialSource, Credentials, TfaMethod};
use crate::cache_ttl::CacheTtl;
use crate::client_key::ClientKey;
use crate::error::{BrokerError, InvalidInput};
use crate::id::ConnectionId;
use crate::text::{bounded, required};

const TEXT_LIMIT: usize = 512;
const ADDRESS_LIMIT: usize = 2_048;
const CIPHERTEXT_LIMIT: usize = 64 * 1_024;

/// A vault entry to be created: what a client sent, not yet checked. The fields are named as in the HTTP API.
#[derive(Clone, Default)]
pub struct NewEntry {
    /// The user it belongs to, as the platform calls them. Not empty.
    pub permissioned_user_id: String,
    /// The site: a URL, kept exactly as it is.
    pub domain: String,
    /// What people call it.
    pub user_alias: Option<String>,
    /// How the second factor arrives.
    pub tfa_method: Option<TfaMethod>,
    /// The connection to bind to, with `secret_ref`.
    pub secret_provider_id: Option<ConnectionId>,
    /// The item to bind to, with `secret_provider_id`.
    pub secret_ref: Option<String>,
    /// The entry's own cache duration; needs a binding. 0 is off. `None` for the connection's.
    pub secret_cache_ttl_seconds: Option<i64>,
    /// The user name, encrypted by the client; not with a binding.
    pub user_name: Option<String>,
    /// The password, encrypted by the client; not with a binding.
    pub password: Option<String>,
    /// The secret of one-time codes, encrypted by the client; not with a binding.
    pub tfa_secret: Option<String>,
}

impl fmt::Debug for NewEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewEntry")
            .field("permissioned_user_id", &self.permissioned_user_id)
            .field("domain", &self.domain)
            .field("secret_provider_id", &self.secret_provider_id)
            .field("secret_ref", &self.secret_ref)
            .finish_non_exhaustive()
    }
}

impl NewEntry {
    /// An entry that is bound to an item.
    pub fn bound(
        permissioned_user_id: impl Into<String>,
        domain: impl Into<String>,
        connection: ConnectionId,
        reference: impl Into<String>,
    ) -> Self {
        Self {
            permissioned_user_id: permissioned_user_id.into(),
            domain: domain.into(),
            secret_provider_id: Some(connection),
            secret_ref: Some(reference.into()),
            ..Self::default()
        }
    }

    /// Checks every rule that needs nothing but the request and the client encryption key.
    pub(super) fn check(self, key: &ClientKey) -> Result<CheckedEntry, BrokerError> {
        required("permissioned_user_id", &self.permissioned_user_id, TEXT_LIMIT)?;
        required("domain", &self.domain, ADDRESS_LIMIT)?;
        check_domain(&self.domain)?;
        if let Some(alias) = &self.user_alias {
            bounded("user_alias", alias, TEXT_LIMIT)?;
        }
        let own = Credentials {
            user_name: checked_ciphertext("user_name", self.user_name, key)?,
            password: checked_ciphertext("password", self.password, key)?,
            tfa_secret: checked_ciphertext("tfa_secret", self.tfa_secret, key)?,
        };
        let cache_ttl = self
            .secret_cache_ttl_seconds
            .map(|seconds| CacheTtl::of_field("secret_cache_ttl_seconds", seconds))
            .transpose()?;
        let credentials = match (self.secret_provider_id, self.secret_ref) {
            (Some(connection_id), Some(reference)) => {
                required("secret_ref", &reference, ADDRESS_LIMIT)?;
                let sent =
                    [("user_name", &own.user_name), ("password", &own.password), ("tfa_secret", &own.tfa_secret)];
                let fields: Vec<_> =
                    sent.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name).collect();
                if !fields.is_empty() {
                    return Err(InvalidInput::BoundWithCredentials { fields }.into());
                }
                if self.tfa_method == Some(TfaMethod::Authenticator) {
                    return Err(InvalidInput::BoundWithAuthenticator.into());
                }
                CredentialSource::Bound(Binding { connection_id, reference, cache_ttl })
            }
            (None, None) if cache_ttl.is_some() => return Err(InvalidInput::CacheDurationWithoutBinding.into()),
            (None, None) if self.tfa_method == Some(TfaMethod::Authenticator) && own.tfa_secret.is_none() => {
                return Err(InvalidInput::AuthenticatorWithoutSecret.into());
            }
            (None, None) => CredentialSource::Own(own),
            _ => return Err(InvalidInput::IncompleteBinding.into()),
        };
        Ok(CheckedEntry {
            permissioned_user_id: self.permissioned_user_id,
            domain: self.domain,
            user_alias: self.user_alias,
            tfa_method: self.tfa_method,
            credentials,
        })
    }
}

/// A new entry that follows the rules.
#[derive(Debug)]
pub(super) struct CheckedEntry {
    pub(super) permissioned_user_id: String,
    pub(super) domain: String,
    pub(super) user_alias: Option<String>,
    pub(super) tfa_method: Option<TfaMethod>,
    pub(super) credentials: CredentialSource,
}

/// What a client encrypted must open, or every later reader would take the ciphertext for the value. An encrypted
/// `null` is no value.
fn checked_ciphertext(
    field: &'static str,
    ciphertext: Option<String>,
    key: &ClientKey,
) -> Result<Option<String>, BrokerError> {
    let Some(ciphertext) = ciphertext else { return Ok(None) };
    bounded(field, &ciphertext, CIPHERTEXT_LIMIT)?;
    let value = key.decrypt(&ciphertext).map_err(|_| BrokerError::NotEncrypted { field })?;
    Ok(value.map(|_| ciphertext))
}

fn check_domain(domain: &str) -> Result<(), InvalidInput> {
    let url = url::Url::parse(domain).map_err(|_| InvalidInput::Domain)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidInput::DomainWithCredentials);
    }
    let host = url.host_str().unwrap_or_default();
    if matches!(url.scheme(), "http" | "https") && !host.is_empty() && host != "localhost" {
        Ok(())
    } else {
        Err(InvalidInput::Domain)
    }
}
