//! The sources of keys: randomness, another key, text.

use data_encoding::HEXLOWER_PERMISSIVE;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{EnvelopeError, KeyBytes, KeyError};

#[expect(clippy::expect_used, reason = "HKDF-SHA256 fails only beyond 8,160 bytes; every caller asks for 16 or 32")]
pub(crate) fn derive<const N: usize>(key: &KeyBytes, salt: Option<&[u8]>, purpose: &[u8]) -> Zeroizing<[u8; N]> {
    let mut derived = Zeroizing::new([0; N]);
    Hkdf::<Sha256>::new(salt, key.as_slice())
        .expand(purpose, derived.as_mut_slice())
        .expect("a length that HKDF allows");
    derived
}

pub(crate) fn random_key() -> Result<KeyBytes, KeyError> {
    let mut key = KeyBytes::default();
    getrandom::fill(key.as_mut_slice()).map_err(EnvelopeError::NoRandomness)?;
    Ok(key)
}

/// A key from its 64 hexadecimal digits. `place` says where they came from.
pub(crate) fn parse_hex(hex: &str, place: impl FnOnce() -> String) -> Result<KeyBytes, KeyError> {
    let hex = hex.trim();
    let mut key = KeyBytes::default();
    if hex.len() == 2 * key.len() && HEXLOWER_PERMISSIVE.decode_mut(hex.as_bytes(), key.as_mut_slice()).is_ok() {
        Ok(key)
    } else {
        Err(KeyError::Malformed { place: place() })
    }
}
