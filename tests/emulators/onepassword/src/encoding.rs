//! The protocol's text forms of bytes: URL-safe base64 without padding, lower-case hex, and
//! 26-character ids.
//!
//! Decoders are strict: input that a client of the real service would never send is an error, so
//! that sloppy clients fail in a test and not in production.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::{BASE32_NOPAD, HEXLOWER};

/// `bytes` as URL-safe base64 without padding.
pub(crate) fn b64u(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes URL-safe base64 without padding; `None` if `text` is not valid.
pub(crate) fn from_b64u(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// `bytes` as lower-case hex, two digits per byte.
pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

/// A 128-bit id in its lower-case form (vaults, items, keysets, keys, devices): 26 characters of
/// base32.
pub(crate) fn lower_id(bytes: [u8; 16]) -> String {
    BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
}

/// A 128-bit id in its upper-case form (sessions, accounts, users, throttling keys).
pub(crate) fn upper_id(bytes: [u8; 16]) -> String {
    BASE32_NOPAD.encode(&bytes)
}

/// Whether `text` is a well-formed lower-case id, including its last character, which holds only
/// three bits.
pub(crate) fn is_lower_id(text: &str) -> bool {
    text.len() == 26
        && !text.bytes().any(|byte| byte.is_ascii_uppercase())
        && BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_26_characters_and_recognised() {
        let id = lower_id([0xa5; 16]);
        assert_eq!(id.len(), 26);
        assert!(is_lower_id(&id));
        assert!(is_lower_id("mhlxx5y45opqk7p7prulriztqq"));
    }

    #[test]
    fn an_id_in_upper_case_or_of_another_length_or_alphabet_is_refused() {
        for wrong in ["MHLXX5Y45OPQK7P7PRULRIZTQQ", "mhlxx5y45opqk7p7prulriztq", "mhlxx5y45opqk7p7prulriztq1", ""] {
            assert!(!is_lower_id(wrong), "{wrong}");
        }
    }

    #[test]
    fn base64_with_padding_or_of_the_other_alphabet_is_refused() {
        assert_eq!(from_b64u("_-8"), Some(vec![0xff, 0xef]));
        assert_eq!(from_b64u("_-8="), None);
        assert_eq!(from_b64u("/+8"), None);
    }
}
