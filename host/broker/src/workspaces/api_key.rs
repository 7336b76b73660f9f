//! API keys: how one is made, recognised and limited.
//!
//! ```text
//! sk_ | lookup id (16 characters) | secret (48 characters)
//! lower-case base32, so that a double click selects all of it
//! ```
//!
//! The database holds the lookup id and the SHA-256 hash of the whole key; a key of 240 random bits
//! needs no slow hash. A key is found by its lookup id, which is no secret, and then compared by
//! hash in constant time, so no lookup depends on secret bytes. The key itself is shown once, when
//! it is made.

use data_encoding::{Encoding, Specification};
use jiff::Timestamp;
use keyway_keys::EnvelopeError;
use keyway_storage::{ApiKeyId, ApiKeyRecord, Scopes, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::BrokerError;

const PREFIX: &str = "sk_";
const LOOKUP_BYTES: usize = 10;
const SECRET_BYTES: usize = 30;
const LOOKUP_CHARS: usize = LOOKUP_BYTES * 8 / 5;
const KEY_CHARS: usize = PREFIX.len() + (LOOKUP_BYTES + SECRET_BYTES) * 8 / 5;

/// An API key as it is listed: without the key itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Its name for people.
    pub name: String,
    /// The beginning of the key, by which people recognise it.
    pub begins_with: String,
    /// The scopes that it grants.
    pub scopes: Scopes,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl From<ApiKeyRecord> for ApiKey {
    fn from(record: ApiKeyRecord) -> Self {
        Self {
            id: record.id,
            begins_with: format!("{PREFIX}{}", record.lookup),
            name: record.name,
            scopes: record.scopes,
            created_at: record.created_at,
            revoked_at: record.revoked_at,
        }
    }
}

/// Generates a key and its record for the database.
pub(crate) fn generate(
    workspace: WorkspaceId,
    name: &str,
    scopes: Scopes,
    created_at: Timestamp,
) -> Result<(SecretString, ApiKeyRecord), BrokerError> {
    let mut random = Zeroizing::new([0; LOOKUP_BYTES + SECRET_BYTES]);
    getrandom::fill(random.as_mut_slice()).map_err(EnvelopeError::NoRandomness)?;
    let mut key = Zeroizing::new(String::with_capacity(KEY_CHARS));
    key.push_str(PREFIX);
    base32()?.encode_append(random.as_slice(), &mut key);
    let key = SecretString::from(key.as_str());
    let lookup = lookup_of(&key).ok_or_else(|| BrokerError::Host("a new API key is malformed".into()))?.to_owned();
    let record = ApiKeyRecord {
        id: ApiKeyId::generate(),
        workspace_id: workspace,
        name: name.into(),
        lookup,
        hash: hash(&key),
        scopes,
        created_at,
        revoked_at: None,
    };
    Ok((key, record))
}

/// The lookup id of a key; `None` for a text that cannot be a key.
pub(crate) fn lookup_of(key: &SecretString) -> Option<&str> {
    let key = key.expose_secret();
    let well_formed =
        key.len() == KEY_CHARS && key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7' | b'_'));
    let rest = key.strip_prefix(PREFIX).filter(|_| well_formed)?;
    rest.get(..LOOKUP_CHARS)
}

/// Whether `record` is that of `key`, and not revoked. Compares in constant time.
pub(crate) fn matches(record: &ApiKeyRecord, key: &SecretString) -> bool {
    bool::from(record.hash.ct_eq(&hash(key))) && record.revoked_at.is_none()
}

fn hash(key: &SecretString) -> [u8; 32] {
    Sha256::digest(key.expose_secret().as_bytes()).into()
}

fn base32() -> Result<Encoding, BrokerError> {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.encoding().map_err(|error| BrokerError::Host(error.into()))
}

#[cfg(test)]
mod tests {
    use keyway_storage::Scope;

    use super::*;
    use crate::access::Access;

    fn new_key() -> (SecretString, ApiKeyRecord) {
        generate(WorkspaceId::generate(), "test", Scope::Api.into(), Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_key_is_recognised_and_another_is_not() {
        let (key, record) = new_key();
        assert!(key.expose_secret().starts_with("sk_"));
        assert_eq!(key.expose_secret().len(), 67);
        assert_eq!(lookup_of(&key), Some(record.lookup.as_str()));
        assert!(matches(&record, &key));
        let (other, _) = new_key();
        assert!(!matches(&record, &other));
    }

    #[test]
    fn the_lookup_id_alone_opens_nothing() {
        let (_, record) = new_key();
        let guess = SecretString::from(format!("sk_{}{}", record.lookup, "a".repeat(48)));
        assert_eq!(lookup_of(&guess), Some(record.lookup.as_str()));
        assert!(!matches(&record, &guess));
    }

    #[test]
    fn a_revoked_key_is_not_accepted() {
        let (key, mut record) = new_key();
        record.revoked_at = Some(Timestamp::UNIX_EPOCH);
        assert!(!matches(&record, &key));
    }

    #[test]
    fn what_cannot_be_a_key_is_not_looked_up() {
        let (key, _) = new_key();
        let key = key.expose_secret();
        for text in [
            "",
            "sk_",
            &key[..66],
            &format!("{key}a"),
            &key.to_uppercase(),
            &key.replace("sk_", "pk_"),
            &"é".repeat(33),
        ] {
            assert_eq!(lookup_of(&SecretString::from(text)), None, "{text}");
        }
    }

    #[test]
    fn a_missing_scope_is_named() {
        let (_, record) = new_key();
        let access = Access::of_key(&record, None);
        assert!(access.require(Scope::Api).is_ok());
        assert_eq!(
            access.require(Scope::Admin).unwrap_err().to_string(),
            "this needs an API key with the scope `admin`"
        );
    }
}
