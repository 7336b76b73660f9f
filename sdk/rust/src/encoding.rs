//! Base64, base32 and hex: the [`data_encoding`] crate's encodings under one name, and a lenient
//! reader for text from people and other programs.
//!
//! ```
//! use keyway_sdk::encoding::{BASE64URL_NOPAD, HEXLOWER, decode_base64_lenient};
//!
//! assert_eq!(BASE64URL_NOPAD.encode(&[0xfb, 0xff]), "-_8");
//! assert_eq!(HEXLOWER.decode(b"fbff").unwrap(), [0xfb, 0xff]);
//! assert_eq!(decode_base64_lenient("+/8=").unwrap().as_slice(), [0xfb, 0xff]);
//! ```

use zeroize::Zeroizing;

pub use data_encoding::{
    BASE32, BASE32_NOPAD, BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, DecodeError, Encoding, HEXLOWER,
    HEXLOWER_PERMISSIVE, HEXUPPER,
};

/// Reads base64 in either alphabet (RFC 4648, sections 4 and 5), with or without padding. A mix of
/// both alphabets is accepted; white space is not. `None` if the text is not base64.
pub fn decode_base64_lenient(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let urlsafe = Zeroizing::new(text.trim_end_matches('=').replace('+', "-").replace('/', "_"));
    BASE64URL_NOPAD.decode(urlsafe.as_bytes()).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_in_both_alphabets_with_and_without_padding() {
        for text in ["-_8", "-_8=", "+/8", "+/8="] {
            assert_eq!(decode_base64_lenient(text).unwrap().as_slice(), [0xfb, 0xff], "{text}");
        }
        for text in ["a", "-_9", "a b=", "ä"] {
            assert!(decode_base64_lenient(text).is_none(), "{text}");
        }
    }
}
