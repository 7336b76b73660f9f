//! The key under which a workspace's clients encrypt, in the clients' own format.
//!
//! ```text
//! hex( nonce (12 bytes) || ciphertext || tag (16 bytes) )
//! AES-256-GCM without associated data; the key as 64 hexadecimal digits
//! plaintext: the value in JSON, in UTF-8
//! ```
//!
//! The format is fixed by the published clients. It has no associated data, so nothing in it says
//! where a value belongs; the broker therefore seals client values again in its own envelope, which
//! does. A client does not notice a value that fails to open: it takes the ciphertext for the
//! value. Such a value must be refused when it is written.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::derive::parse_hex;
use crate::{EnvelopeError, KeyBytes, KeyError};

const NONCE: usize = 12;
const TAG: usize = 16;

/// Why a client's value cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClientValueError {
    /// The value is not a ciphertext under this key.
    #[error("the value is not encrypted with this key")]
    NotEncrypted,
    /// The value opens, but is not a string, such as `42`.
    #[error("the encrypted value is neither a string nor null")]
    NotText,
}

/// A workspace's client encryption key.
pub struct ClientKey(KeyBytes);

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientKey([REDACTED])")
    }
}

impl ClientKey {
    pub(crate) fn new(key: KeyBytes) -> Self {
        Self(key)
    }

    /// The key from its 64 hexadecimal digits, as [`to_hex`](Self::to_hex) writes it.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn from_hex(hex: &SecretString) -> Result<Self, KeyError> {
        parse_hex(hex.expose_secret(), || "the given text".into()).map(Self)
    }

    /// The key in the form that people copy into their clients: 64 hexadecimal digits.
    pub fn to_hex(&self) -> SecretString {
        HEXLOWER.encode(self.0.as_slice()).into()
    }

    /// Encrypts a string as a client does.
    ///
    /// # Errors
    /// [`EnvelopeError::NoRandomness`].
    pub fn encrypt(&self, value: &SecretString) -> Result<String, EnvelopeError> {
        // Sized for the longest JSON form of every character (`\u001f`), so that the buffer does
        // not grow and leave copies behind.
        let mut json = Zeroizing::new(Vec::with_capacity(2 + 6 * value.expose_secret().len()));
        serde_json::to_writer(&mut *json, value.expose_secret()).map_err(|_| EnvelopeError::TooLarge)?;
        self.encrypt_json(json)
    }

    pub(crate) fn encrypt_json(&self, mut json: Zeroizing<Vec<u8>>) -> Result<String, EnvelopeError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce)?;
        let tag = self
            .cipher()
            .encrypt_inout_detached(&Nonce::from(nonce), b"", InOutBuf::from(json.as_mut_slice()))
            .map_err(|_| EnvelopeError::TooLarge)?;
        Ok(HEXLOWER.encode(&[nonce.as_slice(), &json, &tag].concat()))
    }

    /// Decrypts what a client encrypted. JSON `null`, which one of the published clients encrypts
    /// for an unset value, is `None`.
    ///
    /// # Errors
    /// [`ClientValueError`].
    pub fn decrypt(&self, hex: &str) -> Result<Option<SecretString>, ClientValueError> {
        let json = self.decrypt_json(hex)?;
        match serde_json::from_slice::<Option<String>>(&json) {
            Ok(value) => Ok(value.map(SecretString::from)),
            Err(error) if error.is_data() => Err(ClientValueError::NotText),
            Err(_) => Err(ClientValueError::NotEncrypted),
        }
    }

    /// Decrypts a client's value under this key and encrypts it under another.
    pub fn reencrypt(&self, hex: &str, other: &Self) -> Result<String, ClientValueError> {
        other.encrypt_json(self.decrypt_json(hex)?).map_err(|_| ClientValueError::NotEncrypted)
    }

    fn decrypt_json(&self, hex: &str) -> Result<Zeroizing<Vec<u8>>, ClientValueError> {
        let bytes = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|_| ClientValueError::NotEncrypted)?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE>().ok_or(ClientValueError::NotEncrypted)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or(ClientValueError::NotEncrypted)?;
        let mut json = Zeroizing::new(ciphertext.to_vec());
        self.cipher()
            .decrypt_inout_detached(&Nonce::from(*nonce), b"", InOutBuf::from(json.as_mut_slice()), &Tag::from(*tag))
            .map_err(|_| ClientValueError::NotEncrypted)?;
        Ok(json)
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&Key::<Aes256Gcm>::from(*self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ClientKey {
        ClientKey::new(KeyBytes::new([0x42; 32]))
    }

    fn decrypt(hex: &str) -> Result<Option<String>, ClientValueError> {
        Ok(key().decrypt(hex)?.map(|value| value.expose_secret().to_owned()))
    }

    fn encrypt_raw(plaintext: &[u8]) -> String {
        let mut body = plaintext.to_vec();
        let tag = key()
            .cipher()
            .encrypt_inout_detached(&Nonce::from([1; 12]), b"", InOutBuf::from(body.as_mut_slice()))
            .unwrap();
        HEXLOWER.encode(&[[1; 12].as_slice(), &body, &tag].concat())
    }

    #[test]
    fn what_is_encrypted_is_decrypted() {
        for value in ["s3cret", "", "é \u{1f511} \"quoted\" \u{1}"] {
            let hex = key().encrypt(&value.into()).unwrap();
            assert_eq!(decrypt(&hex), Ok(Some(value.to_owned())));
            assert_eq!(decrypt(&hex.to_uppercase()), Ok(Some(value.to_owned())), "either case is accepted");
        }
        assert_eq!(key().encrypt(&"".into()).unwrap().len(), 60, "the length that the clients produce");
    }

    #[test]
    fn both_spellings_of_a_character_beyond_ascii_are_read() {
        assert_eq!(decrypt(&encrypt_raw(r#""\u00e9\ud83d\udd11""#.as_bytes())), Ok(Some("é\u{1f511}".to_owned())));
        assert_eq!(decrypt(&encrypt_raw("\"é\u{1f511}\"".as_bytes())), Ok(Some("é\u{1f511}".to_owned())));
    }

    #[test]
    fn an_encrypted_null_is_no_value() {
        assert_eq!(decrypt(&encrypt_raw(b"null")), Ok(None));
    }

    #[test]
    fn anything_else_is_refused() {
        let good = key().encrypt(&"s3cret".into()).unwrap();
        let other_key = ClientKey::new(KeyBytes::new([0x43; 32])).encrypt(&"s3cret".into()).unwrap();
        let mut altered = good.clone().into_bytes();
        altered[30] = if altered[30] == b'0' { b'1' } else { b'0' };
        let altered = String::from_utf8(altered).unwrap();
        for bad in ["", "s3cret", "zz", &good[2..], &good[..55], &good[..good.len() - 1], &other_key, &altered] {
            assert_eq!(decrypt(bad), Err(ClientValueError::NotEncrypted), "{bad}");
        }
        for plaintext in [&b""[..], b"s3cret"] {
            assert_eq!(decrypt(&encrypt_raw(plaintext)), Err(ClientValueError::NotEncrypted));
        }
        for json in [&b"{}"[..], b"1", b"true", b"[\"a\"]"] {
            assert_eq!(decrypt(&encrypt_raw(json)), Err(ClientValueError::NotText));
        }
    }
}
