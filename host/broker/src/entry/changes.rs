//! Changes of a vault entry, and the rules that an entry follows after them.
//!
//! Creating an entry is changing an empty one, so there is one set of rules. The published clients check some of them
//! themselves, others none; here they are checked whoever calls. A rule that needs the database (the connection exists,
//! the pair of user and domain is new) is checked where the entry is stored.
//!
//! What is not mentioned stays as it is. What follows from a change of where credentials come from:
//!
//! | from | to | |
//! | --- | --- | --- |
//! | own credentials | bound | they are erased, and with them the method AUTHENTICATOR, which needs them |
//! | bound | own credentials | both fields of the binding are cleared in the same request; credentials alone are refused, because unbinding by accident would be the worse error |
//! | bound | bound, the binding sent again | a cache duration that is not sent along is the connection's again |

use std::cell::Cell;
use std::fmt;

use jiff::Timestamp;
use keyway_keys::ClientKey;
use keyway_storage::{ConnectionId, TfaMethod};
use secrecy::ExposeSecret;

use super::{AttributeChanges, Binding, CredentialSource, Credentials, NewEntry, VaultEntry};
use crate::cache_ttl::CacheTtl;
use crate::error::{BrokerError, InvalidInput};
use crate::text::{bounded, required};
use crate::totp::Totp;

const TEXT_LIMIT: usize = 512;
const ADDRESS_LIMIT: usize = 2_048;
const CIPHERTEXT_LIMIT: usize = 64 * 1_024;

/// What happens to a value that may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is absent afterwards.
    Clear,
    /// It is this afterwards.
    Set(T),
}

impl<T> Change<T> {
    /// The same change of another type.
    pub fn try_map<U, E>(self, f: impl FnOnce(T) -> Result<U, E>) -> Result<Change<U>, E> {
        Ok(match self {
            Self::Keep => Change::Keep,
            Self::Clear => Change::Clear,
            Self::Set(value) => Change::Set(f(value)?),
        })
    }

    fn apply(self, place: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *place = None,
            Self::Set(value) => *place = Some(value),
        }
    }

    fn is_set(&self) -> bool {
        matches!(self, Self::Set(_))
    }
}

/// `Some` sets, `None` keeps: what a request that creates something has to say about a field.
impl<T> From<Option<T>> for Change<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Keep, Self::Set)
    }
}

/// Changes of a vault entry: what a client sent, not yet checked. The fields are named as in the HTTP API.
///
/// It can be cloned because a change is made anew when another one came first; credentials in it are ciphertext.
#[derive(Clone, Default)]
pub struct EntryChanges {
    /// Another user.
    pub permissioned_user_id: Option<String>,
    /// Another site.
    pub domain: Option<String>,
    /// What people call it.
    pub user_alias: Change<String>,
    /// How the second factor arrives.
    pub tfa_method: Change<TfaMethod>,
    /// Whether it uses a passkey; not with a binding.
    pub passkey: Option<bool>,
    /// The connection to bind to, together with `secret_ref`.
    pub secret_provider_id: Change<ConnectionId>,
    /// The item to bind to, together with `secret_provider_id`.
    pub secret_ref: Change<String>,
    /// The entry's own cache duration; needs a binding. 0 is off.
    pub secret_cache_ttl_seconds: Change<i64>,
    /// The user name, encrypted by the client; not with a binding.
    pub user_name: Change<String>,
    /// The password, encrypted by the client; not with a binding.
    pub password: Change<String>,
    /// The secret of one-time codes, encrypted by the client; not with a binding.
    pub tfa_secret: Change<String>,
    /// What the entry carries along.
    pub attributes: AttributeChanges,
}

impl fmt::Debug for EntryChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntryChanges")
            .field("permissioned_user_id", &self.permissioned_user_id)
            .field("domain", &self.domain)
            .field("secret_provider_id", &self.secret_provider_id)
            .field("secret_ref", &self.secret_ref)
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}

impl From<NewEntry> for EntryChanges {
    fn from(new: NewEntry) -> Self {
        Self {
            permissioned_user_id: Some(new.permissioned_user_id),
            domain: Some(new.domain),
            user_alias: new.user_alias.into(),
            tfa_method: new.tfa_method.into(),
            passkey: Some(new.passkey),
            secret_provider_id: new.secret_provider_id.into(),
            secret_ref: new.secret_ref.into(),
            secret_cache_ttl_seconds: new.secret_cache_ttl_seconds.into(),
            user_name: new.user_name.into(),
            password: new.password.into(),
            tfa_secret: new.tfa_secret.into(),
            attributes: new.attributes,
        }
    }
}

impl EntryChanges {
    /// Changes the entry, which must not be used when this fails.
    pub(super) fn apply(self, entry: &mut VaultEntry, key: &ClientKey, now: Timestamp) -> Result<(), BrokerError> {
        if let Some(user) = self.permissioned_user_id {
            required("permissioned_user_id", &user, TEXT_LIMIT)?;
            entry.permissioned_user_id = user;
        }
        // One that it has already may be sent back, whatever the rules were when it was given.
        if let Some(domain) = self.domain.filter(|domain| entry.domain.is_empty() || *domain != entry.domain) {
            required("domain", &domain, ADDRESS_LIMIT)?;
            check_domain(&domain)?;
            entry.domain = domain;
        }
        if let Change::Set(alias) = &self.user_alias {
            bounded("user_alias", alias, TEXT_LIMIT)?;
        }
        self.user_alias.apply(&mut entry.user_alias);
        if let Some(passkey) = self.passkey {
            entry.passkey = passkey;
        }
        let sent = Sent {
            user_name: checked_ciphertext("user_name", self.user_name, key)?,
            password: checked_ciphertext("password", self.password, key)?,
            tfa_secret: checked_ciphertext("tfa_secret", self.tfa_secret, key)?,
        };
        let ttl =
            self.secret_cache_ttl_seconds.try_map(|seconds| CacheTtl::of_field("secret_cache_ttl_seconds", seconds))?;
        let rebinding = rebinding(self.secret_provider_id, self.secret_ref, entry.binding().is_some())?;
        let authenticator_sent = self.tfa_method == Change::Set(TfaMethod::Authenticator);
        self.tfa_method.apply(&mut entry.tfa_method);
        match rebinding.result(entry.binding(), ttl)? {
            Some(binding) => {
                sent.refuse(&rebinding)?;
                if authenticator_sent {
                    return Err(InvalidInput::BoundWithAuthenticator.into());
                }
                if entry.passkey {
                    return Err(InvalidInput::BoundWithPasskey.into());
                }
                entry.tfa_method = entry.tfa_method.filter(|method| *method != TfaMethod::Authenticator);
                entry.credentials = CredentialSource::Bound(binding);
            }
            None => {
                let mut own = match std::mem::take(&mut entry.credentials) {
                    CredentialSource::Own(own) => own,
                    CredentialSource::Bound(_) => Credentials::default(),
                };
                sent.apply(&mut own);
                if entry.tfa_method == Some(TfaMethod::Authenticator) {
                    check_authenticator(own.tfa_secret.as_deref(), key)?;
                }
                entry.credentials = CredentialSource::Own(own);
            }
        }
        let has_new_session_data = self.attributes.bring_session_data(&entry.attributes);
        entry.attributes.apply(&self.attributes)?;
        entry.attributes.check(key)?;
        entry.session_data_set_at = match entry.attributes.has_session_data() {
            true if has_new_session_data => Some(now),
            true => entry.session_data_set_at,
            false => None,
        };
        entry.updated_at = now;
        Ok(())
    }
}

/// What a request does to the binding.
enum Rebinding {
    Keep,
    Bind(ConnectionId, String),
    Unbind,
}

/// Connection and item come together, and go together.
fn rebinding(
    connection: Change<ConnectionId>,
    reference: Change<String>,
    is_bound: bool,
) -> Result<Rebinding, InvalidInput> {
    match (connection, reference) {
        (Change::Keep, Change::Keep) => Ok(Rebinding::Keep),
        (Change::Clear, Change::Clear) => Ok(Rebinding::Unbind),
        // Half of nothing is nothing.
        (Change::Keep | Change::Clear, Change::Keep | Change::Clear) if !is_bound => Ok(Rebinding::Keep),
        (Change::Set(connection), Change::Set(reference)) => {
            required("secret_ref", &reference, ADDRESS_LIMIT)?;
            Ok(Rebinding::Bind(connection, reference))
        }
        _ => Err(InvalidInput::IncompleteBinding),
    }
}

impl Rebinding {
    /// The binding afterwards.
    fn result(&self, before: Option<&Binding>, ttl: Change<CacheTtl>) -> Result<Option<Binding>, InvalidInput> {
        let mut binding = match self {
            Self::Keep => before.cloned(),
            Self::Bind(connection_id, reference) => {
                Some(Binding { connection_id: *connection_id, reference: reference.clone(), cache_ttl: None })
            }
            Self::Unbind => None,
        };
        match &mut binding {
            Some(binding) => ttl.apply(&mut binding.cache_ttl),
            None if ttl.is_set() => return Err(InvalidInput::CacheDurationWithoutBinding),
            None => {}
        }
        Ok(binding)
    }
}

/// Credentials of a request, which open under the workspace's client key.
struct Sent {
    user_name: Change<String>,
    password: Change<String>,
    tfa_secret: Change<String>,
}

impl Sent {
    fn apply(self, own: &mut Credentials) {
        self.user_name.apply(&mut own.user_name);
        self.password.apply(&mut own.password);
        self.tfa_secret.apply(&mut own.tfa_secret);
    }

    /// Not on a bound entry. When the request does not mention the binding, the error has to.
    fn refuse(&self, rebinding: &Rebinding) -> Result<(), InvalidInput> {
        let all = [("user_name", &self.user_name), ("password", &self.password), ("tfa_secret", &self.tfa_secret)];
        let fields: Vec<_> = all.into_iter().filter(|(_, change)| change.is_set()).map(|(name, _)| name).collect();
        match rebinding {
            _ if fields.is_empty() => Ok(()),
            Rebinding::Keep => Err(InvalidInput::CredentialsForBound { fields }),
            _ => Err(InvalidInput::BoundWithCredentials { fields }),
        }
    }
}

/// What a client encrypted must open, or every later reader would take the ciphertext for the value. An encrypted
/// `null` is no value.
fn checked_ciphertext(
    field: &'static str,
    ciphertext: Change<String>,
    key: &ClientKey,
) -> Result<Change<String>, BrokerError> {
    let Change::Set(ciphertext) = ciphertext else { return Ok(ciphertext) };
    bounded(field, &ciphertext, CIPHERTEXT_LIMIT)?;
    let value = key.decrypt(&ciphertext).map_err(|error| BrokerError::of_client_value(field, error))?;
    Ok(value.map_or(Change::Clear, |_| Change::Set(ciphertext)))
}

/// An authenticator whose secret makes no codes would only be noticed in the middle of a login.
fn check_authenticator(tfa_secret: Option<&str>, key: &ClientKey) -> Result<(), BrokerError> {
    let secret = tfa_secret.ok_or(InvalidInput::AuthenticatorWithoutSecret)?;
    let secret = key.decrypt(secret).map_err(|error| BrokerError::of_client_value("tfa_secret", error))?;
    let secret = secret.ok_or(InvalidInput::AuthenticatorWithoutSecret)?;
    Totp::parse(secret.expose_secret()).map_err(|_| InvalidInput::TfaSecret)?;
    Ok(())
}

/// A URL as it is written, because it is kept and found as it was given. What a browser would mend is refused, or one site had many names.
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

/// Soft hyphens, spaces of no width and marks of direction: they make another text that looks the same. Not the two joiners, which some
/// scripts write names with.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}
