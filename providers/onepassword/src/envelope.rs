//! The envelope of the protocol (`b5+jwk+json`, "JweB"), which holds every secret that is stored or
//! sent.
//!
//! Invariant: a plaintext leaves this module only if the envelope names the key that opened it and
//! the authentication tag matches. Plaintexts are wiped when dropped. An envelope has no associated
//! data, so it does not say *where* it belongs: callers check that they got the item they asked
//! for.

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{AeadInOut, KeyInit, consts::U12},
};
use serde::{Deserialize, Serialize};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::{
    encoding::{b64u, decode_b64u},
    random::Random,
};

/// The content type of all envelopes.
pub(crate) const CONTENT_TYPE: &str = "b5+jwk+json";
const A256GCM: &str = "A256GCM";
const IV_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// An encrypted value as it is stored and sent. Other members (`alg`, `p2c`, `p2s`) describe how a
/// person's own key is derived and are ignored. The order is that of the official client.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Envelope {
    /// [`CONTENT_TYPE`].
    pub(crate) cty: String,
    /// The id of the key that opens it.
    pub(crate) kid: String,
    /// The algorithm: `A256GCM`, `RSA-OAEP` or `RSA-OAEP-256`.
    pub(crate) enc: String,
    /// Base64, 12 bytes; absent for RSA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) iv: Option<String>,
    /// Base64 of the ciphertext; with AES the 16-byte tag is at its end.
    pub(crate) data: String,
}

impl Envelope {
    /// The envelope as it is sent.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Serialising five strings cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Why an envelope could not be opened. Contains nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum OpenError {
    /// It names another key.
    #[error("it was made for another key")]
    WrongKey,
    /// Its algorithm differs from the key's.
    #[error("it uses an algorithm that does not fit the key")]
    Algorithm,
    /// Part of it is not properly encoded.
    #[error("it is malformed")]
    Malformed,
    /// The key is wrong, or the ciphertext was changed.
    #[error("its integrity check failed")]
    Integrity,
}

/// A 256-bit AES key and the id by which envelopes name it.
#[derive(ZeroizeOnDrop)]
pub(crate) struct SymmetricKey {
    #[zeroize(skip)]
    id: String,
    bytes: [u8; 32],
}

/// A key as it is stored in an envelope: a JSON Web Key.
#[derive(Deserialize)]
pub(crate) struct SymmetricJwk {
    kty: String,
    alg: String,
    #[serde(default)]
    kid: String,
    k: Zeroizing<String>,
}

impl SymmetricJwk {
    /// Converts it into a key. `id` overrides the id in the JSON Web Key.
    pub(crate) fn into_key(self, id: Option<&str>) -> Result<SymmetricKey, OpenError> {
        if self.kty != "oct" || self.alg != A256GCM {
            return Err(OpenError::Algorithm);
        }
        let bytes = decode_b64u(&self.k).map_err(|_| OpenError::Malformed)?;
        let bytes = bytes.as_slice().try_into().map_err(|_| OpenError::Malformed)?;
        Ok(SymmetricKey::new(id.unwrap_or(&self.kid), bytes))
    }
}

impl SymmetricKey {
    pub(crate) fn new(id: impl Into<String>, bytes: &[u8; 32]) -> Self {
        Self { id: id.into(), bytes: *bytes }
    }

    /// Reads a JSON Web Key.
    pub(crate) fn from_jwk(json: &[u8]) -> Result<Self, OpenError> {
        serde_json::from_slice::<SymmetricJwk>(json).map_err(|_| OpenError::Malformed)?.into_key(None)
    }

    /// The id by which envelopes name it.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The raw key. Callers that copy it must wipe the copy.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Opens an envelope made with this key.
    pub(crate) fn open(&self, envelope: &Envelope) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if envelope.kid != self.id {
            return Err(OpenError::WrongKey);
        }
        if envelope.enc != A256GCM {
            return Err(OpenError::Algorithm);
        }
        let iv = decode_b64u(envelope.iv.as_deref().ok_or(OpenError::Malformed)?).map_err(|_| OpenError::Malformed)?;
        let iv: &[u8; IV_BYTES] = iv.as_slice().try_into().map_err(|_| OpenError::Malformed)?;
        let mut data = decode_b64u(&envelope.data).map_err(|_| OpenError::Malformed)?;
        if data.len() < TAG_BYTES {
            return Err(OpenError::Malformed);
        }
        self.cipher().decrypt_in_place(nonce(iv), b"", &mut *data).map_err(|_| OpenError::Integrity)?;
        Ok(data)
    }

    /// Seals a plaintext under this key with a fresh IV.
    pub(crate) fn seal(&self, plaintext: &[u8], random: &dyn Random) -> Result<Envelope, keyway_sdk::Error> {
        let mut iv = [0; IV_BYTES];
        random.fill(&mut iv)?;
        let mut data = Zeroizing::new(Vec::with_capacity(plaintext.len() + TAG_BYTES));
        data.extend_from_slice(plaintext);
        self.cipher()
            .encrypt_in_place(nonce(&iv), b"", &mut *data)
            .map_err(|_| keyway_sdk::Error::unsupported("The item is too large to be encrypted."))?;
        Ok(Envelope {
            cty: CONTENT_TYPE.to_owned(),
            kid: self.id.clone(),
            enc: A256GCM.to_owned(),
            iv: Some(b64u(&iv)),
            data: b64u(&data),
        })
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&self.bytes.into())
    }
}

fn nonce(iv: &[u8; IV_BYTES]) -> &Nonce<U12> {
    iv.into()
}

impl std::fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SymmetricKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        encoding::decode_hex,
        random::scripted::ScriptedRandom,
        vectors::{InOrder, vectors},
    };
    use keyway_sdk::encoding::HEXLOWER;

    fn vector() -> (SymmetricKey, Envelope, String, Vec<u8>) {
        let v = &vectors()["envelope"];
        let key = decode_hex::<32>(v["key"].as_str().unwrap()).unwrap();
        (
            SymmetricKey::new(v["kid"].as_str().unwrap(), &key),
            serde_json::from_value(v["envelope"].clone()).unwrap(),
            v["plaintext"].as_str().unwrap().to_owned(),
            HEXLOWER.decode(v["iv"].as_str().unwrap().as_bytes()).unwrap(),
        )
    }

    #[test]
    fn the_vector_is_opened_and_sealed_byte_for_byte() {
        let (key, envelope, plaintext, iv) = vector();
        assert_eq!(*key.open(&envelope).unwrap(), plaintext.as_bytes());
        let sealed = key.seal(plaintext.as_bytes(), &ScriptedRandom::new([iv])).unwrap();
        assert_eq!(
            serde_json::to_string(&sealed).unwrap(),
            vectors()["envelope"]["envelope"].to_string_in_order(&["cty", "kid", "enc", "iv", "data"])
        );
    }

    #[test]
    fn an_envelope_for_another_key_is_not_even_tried() {
        let (key, mut envelope, ..) = vector();
        envelope.kid = "AAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned();
        assert_eq!(key.open(&envelope), Err(OpenError::WrongKey));
    }

    #[test]
    fn a_changed_bit_a_wrong_key_a_short_text_and_a_foreign_algorithm_are_told_apart() {
        let (key, envelope, ..) = vector();
        let mut changed = envelope.clone();
        changed.data.replace_range(0..1, "8");
        assert_eq!(key.open(&changed), Err(OpenError::Integrity));
        assert_eq!(SymmetricKey::new(key.id(), &[7; 32]).open(&envelope), Err(OpenError::Integrity));
        for (iv, data) in
            [(Some("uMOf"), "AAAA"), (None, "AAAA"), (envelope.iv.as_deref(), "AAAA"), (envelope.iv.as_deref(), "*")]
        {
            let broken = Envelope { iv: iv.map(str::to_owned), data: data.to_owned(), ..envelope.clone() };
            assert_eq!(key.open(&broken), Err(OpenError::Malformed));
        }
        let foreign = Envelope { enc: "A128GCM".to_owned(), ..envelope };
        assert_eq!(key.open(&foreign), Err(OpenError::Algorithm));
    }

    #[test]
    fn a_key_does_not_print_itself() {
        let key = SymmetricKey::new("k", &[0xab; 32]);
        let printed = format!("{key:?}");
        assert!(!printed.contains("171") && !printed.contains("ab") && printed.contains("\"k\""), "{printed}");
    }

    #[test]
    fn a_key_of_another_kind_or_length_is_refused() {
        let jwk = |kty: &str, alg: &str, k: &str| format!(r#"{{"kty":"{kty}","alg":"{alg}","kid":"x","k":"{k}"}}"#);
        let k = b64u(&[1; 32]);
        assert!(SymmetricKey::from_jwk(jwk("oct", "A256GCM", &k).as_bytes()).is_ok());
        assert!(matches!(SymmetricKey::from_jwk(jwk("RSA", "A256GCM", &k).as_bytes()), Err(OpenError::Algorithm)));
        assert!(matches!(SymmetricKey::from_jwk(jwk("oct", "HS256", &k).as_bytes()), Err(OpenError::Algorithm)));
        assert!(matches!(
            SymmetricKey::from_jwk(jwk("oct", "A256GCM", &b64u(&[1; 16])).as_bytes()),
            Err(OpenError::Malformed)
        ));
    }
}
