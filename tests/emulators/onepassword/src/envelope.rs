//! Envelopes ("JweB", protocol notes section 7): the JSON objects that carry all encrypted data,
//! under a symmetric key.
//!
//! A key is bound to its id: as in the real clients, an envelope with another key id, content type
//! or algorithm is refused before anything is decrypted.

use aes_gcm::aead::{Aead, AeadInOut, KeyInit, Nonce};
use aes_gcm::{Aes256Gcm, Key};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::encoding::{b64u, from_b64u};
use crate::random;

/// The only content type.
pub(crate) const CONTENT_TYPE: &str = "b5+jwk+json";
/// AES-256-GCM with a 12-byte nonce and the tag after the ciphertext.
pub(crate) const A256GCM: &str = "A256GCM";

/// An envelope as it is sent. `Clone` because it is ciphertext.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) cty: String,
    pub(crate) kid: String,
    pub(crate) enc: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) iv: Option<String>,
    pub(crate) data: String,
    /// How a person's key is derived; unused for a service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) alg: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p2c: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p2s: Option<String>,
}

/// Why an envelope cannot be opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum EnvelopeError {
    #[error("the envelope's content type is not b5+jwk+json")]
    ContentType,
    #[error("the envelope names another key")]
    Key,
    #[error("the envelope's algorithm is not A256GCM")]
    Algorithm,
    #[error("the envelope's iv or data is not what A256GCM makes")]
    Encoding,
    #[error("the envelope was not sealed with this key")]
    Sealed,
}

/// A symmetric key and its id. The cipher wipes its key schedule on drop.
pub(crate) struct SymmetricKey {
    id: String,
    bytes: Zeroizing<[u8; 32]>,
    cipher: Aes256Gcm,
}

impl SymmetricKey {
    pub(crate) fn new(id: impl Into<String>, bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self { id: id.into(), cipher: Aes256Gcm::new(&Key::<Aes256Gcm>::from(*bytes)), bytes }
    }

    /// The `kid` of everything sealed with it.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Seals `plaintext` with a fresh nonce.
    pub(crate) fn seal(&self, plaintext: &[u8]) -> Envelope {
        let nonce = random::bytes::<12>();
        let mut data = Vec::with_capacity(plaintext.len() + 16);
        data.extend_from_slice(plaintext);
        // Fails only for plaintexts of 64 GiB; receivers then refuse the empty envelope.
        if self.cipher.encrypt_in_place(&Nonce::<Aes256Gcm>::from(nonce), b"", &mut data).is_err() {
            data.clear();
        }
        Envelope {
            cty: CONTENT_TYPE.to_owned(),
            kid: self.id.clone(),
            enc: A256GCM.to_owned(),
            iv: Some(b64u(nonce)),
            data: b64u(data),
            alg: None,
            p2c: None,
            p2s: None,
        }
    }

    /// Opens an envelope that was sealed with this key.
    pub(crate) fn open(&self, envelope: &Envelope) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        if envelope.cty != CONTENT_TYPE {
            return Err(EnvelopeError::ContentType);
        }
        if envelope.kid != self.id {
            return Err(EnvelopeError::Key);
        }
        if envelope.enc != A256GCM {
            return Err(EnvelopeError::Algorithm);
        }
        let nonce: [u8; 12] = envelope
            .iv
            .as_deref()
            .and_then(from_b64u)
            .and_then(|iv| iv.try_into().ok())
            .ok_or(EnvelopeError::Encoding)?;
        let data = from_b64u(&envelope.data).ok_or(EnvelopeError::Encoding)?;
        let opened = self.cipher.decrypt(&Nonce::<Aes256Gcm>::from(nonce), data.as_slice());
        opened.map(Zeroizing::new).map_err(|_| EnvelopeError::Sealed)
    }

    /// The key as a JWK, the form in which keys are sent inside other keys' envelopes.
    pub(crate) fn to_jwk(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            r#"{{"alg":"A256GCM","ext":true,"k":"{}","key_ops":["encrypt","decrypt"],"kid":"{}","kty":"oct"}}"#,
            *Zeroizing::new(b64u(*self.bytes)),
            self.id
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{VECTORS, bytes, text};

    fn vector() -> (SymmetricKey, Envelope) {
        let case = &VECTORS["envelope"];
        let key = SymmetricKey::new(text(&case["kid"]), bytes(&case["key"]));
        (key, serde_json::from_value(case["envelope"].clone()).unwrap())
    }

    #[test]
    fn the_vector_opens_and_its_members_travel_in_the_order_of_the_protocol() {
        let (key, envelope) = vector();
        assert_eq!(key.open(&envelope).unwrap().as_slice(), text(&VECTORS["envelope"]["plaintext"]).as_bytes());
        let json = serde_json::to_string(&envelope).unwrap();
        assert!(json.starts_with(r#"{"cty":"b5+jwk+json","kid":"#) && json.contains(r#","enc":"A256GCM","iv":"#));
    }

    #[test]
    fn what_is_sealed_opens_and_no_two_envelopes_are_alike() {
        let (key, _) = vector();
        let (first, second) = (key.seal(b"secret"), key.seal(b"secret"));
        assert_ne!(first, second);
        assert_eq!(key.open(&first).unwrap().as_slice(), b"secret");
    }

    #[test]
    fn an_envelope_that_was_changed_anywhere_is_refused() {
        let (key, envelope) = vector();
        let with = |change: fn(&mut Envelope)| {
            let mut changed = envelope.clone();
            change(&mut changed);
            key.open(&changed).unwrap_err()
        };
        assert_eq!(with(|it| it.cty = "json".into()), EnvelopeError::ContentType);
        assert_eq!(with(|it| it.kid = "mp".into()), EnvelopeError::Key);
        assert_eq!(with(|it| it.enc = "RSA-OAEP".into()), EnvelopeError::Algorithm);
        assert_eq!(with(|it| it.iv = None), EnvelopeError::Encoding);
        assert_eq!(with(|it| it.data.replace_range(..1, "A")), EnvelopeError::Sealed);
    }

    #[test]
    fn the_key_chain_of_the_vectors_opens_from_the_master_key_to_the_item() {
        let keys = &VECTORS["keys"];
        let envelope = |value: &serde_json::Value| serde_json::from_value::<Envelope>(value.clone()).unwrap();
        let master = SymmetricKey::new("mp", bytes(&keys["muk"]));
        let jwk = master.open(&envelope(&keys["keyset"]["encSymKey"])).unwrap();
        let jwk: serde_json::Value = serde_json::from_slice(&jwk).unwrap();
        let keyset = SymmetricKey::new(text(&keys["keyset"]["uuid"]), bytes(&keys["keysetSymKey"]));
        assert_eq!(from_b64u(text(&jwk["k"])).unwrap(), keyset.bytes.to_vec());
        assert!(keyset.open(&envelope(&keys["keyset"]["encPriKey"])).is_ok());
        let vault = SymmetricKey::new(text(&keys["vaultKeyId"]), bytes(&keys["vaultKey"]));
        let attributes = vault.open(&envelope(&keys["vault"]["encAttrs"])).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&attributes).unwrap(), keys["vaultAttributes"]);
        let details = vault.open(&envelope(&keys["item"]["encDetails"])).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&details).unwrap(), keys["itemDetails"]);
    }
}
