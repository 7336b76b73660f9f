//! The key that seals rows of the database.

use hmac::{Hmac, KeyInit, Mac};
use keyway_storage::RowSealer;
use sha2::Sha256;

/// Seals rows by HMAC-SHA256 (RFC 2104). Wiped when dropped; prints as a placeholder.
pub struct RowSealKey(Hmac<Sha256>);

impl std::fmt::Debug for RowSealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RowSealKey([REDACTED])")
    }
}

impl RowSealKey {
    /// Makes a key of these bytes.
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    fn mac(&self, row: &[u8]) -> Hmac<Sha256> {
        self.0.clone().chain_update(row)
    }
}

impl RowSealer for RowSealKey {
    fn seal(&self, row: &[u8]) -> [u8; 32] {
        self.mac(row).finalize().into_bytes().into()
    }

    fn is_seal(&self, row: &[u8], seal: &[u8]) -> bool {
        self.mac(row).verify_slice(seal).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    #[test]
    fn a_seal_is_of_one_key_and_one_row() {
        let (key, other) = (RowSealKey::new(&[7; 32]), RowSealKey::new(&[8; 32]));
        let seal = key.seal(b"row");
        assert!(key.is_seal(b"row", &seal));
        assert!(!key.is_seal(b"Row", &seal) && !other.is_seal(b"row", &seal));
        assert!(!key.is_seal(b"row", &seal[..31]) && !key.is_seal(b"row", &[]));
        assert_eq!(format!("{key:?}"), "RowSealKey([REDACTED])");
    }

    /// Rows must stay readable, so the way seals are made must not change by accident. Computed
    /// with Python's `hmac`.
    #[test]
    fn seals_are_frozen() {
        assert_eq!(HEXLOWER.encode(&RowSealKey::new(&[7; 32]).seal(b"row")), SEAL);
    }

    const SEAL: &str = "c47a84c95e430e8d0a211e6cf3043cebc29952f28e2b8cbc868765ad507addf0";
}
