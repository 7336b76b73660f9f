//! The encodings of the protocol: base64 URL-safe without padding (`b64u`) and hexadecimal.
//!
//! Decoded bytes are wiped when dropped, because most of them are or become a key.

use keyway_sdk::encoding::{BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

/// The text is not in the expected encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not validly encoded")]
pub(crate) struct DecodeError;

/// Base64 URL-safe, no padding.
pub(crate) fn b64u(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

/// The inverse of [`b64u`]; trailing padding is tolerated.
pub(crate) fn decode_b64u(text: &str) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut bytes = Zeroizing::new(vec![0; BASE64URL_NOPAD.decode_len(text.len()).map_err(|_| DecodeError)?]);
    let written = BASE64URL_NOPAD.decode_mut(text, &mut bytes).map_err(|_| DecodeError)?;
    bytes.truncate(written);
    Ok(bytes)
}

/// Exactly `N` bytes from hexadecimal in either case.
pub(crate) fn decode_hex<const N: usize>(text: &str) -> Result<Zeroizing<[u8; N]>, DecodeError> {
    let mut bytes = Zeroizing::new([0; N]);
    if text.len() != N * 2 {
        return Err(DecodeError);
    }
    HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), bytes.as_mut_slice()).map_err(|_| DecodeError)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_and_without_padding_and_in_one_alphabet_only() {
        for text in ["-_-_AQ", "-_-_AQ=="] {
            assert_eq!(decode_b64u(text).unwrap().as_slice(), [0xfb, 0xff, 0xbf, 0x01], "{text}");
        }
        for text in ["a*b", "a", "+/+/AQ"] {
            assert_eq!(decode_b64u(text), Err(DecodeError), "{text}");
        }
    }

    #[test]
    fn hexadecimal_must_have_the_exact_length() {
        assert_eq!(decode_hex::<2>("0aFf").unwrap().as_slice(), [0x0a, 0xff]);
        assert_eq!(decode_hex::<2>("0aF"), Err(DecodeError));
        assert_eq!(decode_hex::<2>("0aFf00"), Err(DecodeError));
        assert_eq!(decode_hex::<2>("0aFg"), Err(DecodeError));
    }
}
