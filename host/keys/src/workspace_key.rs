//! The key of a workspace, and the keys derived from it.

use crate::derive::{derive, random_key};
use crate::{ClientKey, KeyBytes, KeyError, SealingKey};

/// A workspace's key. It encrypts nothing itself; see the crate documentation.
pub struct WorkspaceKey(KeyBytes);

impl WorkspaceKey {
    /// A new random key.
    pub fn generate() -> Result<Self, KeyError> {
        random_key().map(Self)
    }

    /// The workspace key from its unwrapped bytes.
    pub fn from_bytes(key: KeyBytes) -> Self {
        Self(key)
    }

    /// The key's bytes, to be wrapped.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key that seals rows of the database. It cannot seal before it has an allowance.
    pub fn storage_key(&self, term: u32) -> SealingKey {
        SealingKey::new(&self.subkey(None, b"keyway.v1.storage"), term, 0)
    }

    /// The key that seals cached secrets.
    pub fn cache_key(&self, term: u32, salt: &[u8; 32], allowance: u64) -> SealingKey {
        SealingKey::new(&self.subkey(Some(salt), b"keyway.v1.cache"), term, allowance)
    }

    /// The key under which clients encrypt.
    pub fn client_key(&self) -> ClientKey {
        ClientKey::new(self.subkey(None, b"keyway.v1.client-encryption"))
    }

    fn subkey(&self, salt: Option<&[u8]>, purpose: &[u8]) -> KeyBytes {
        derive(&self.0, salt, purpose)
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::{KeyWrapper, MasterKey};

    #[test]
    fn the_keys_under_a_workspace_key_have_nothing_in_common() {
        let key = WorkspaceKey::generate().unwrap();
        let (storage, client) =
            (key.subkey(None, b"keyway.v1.storage"), key.subkey(None, b"keyway.v1.client-encryption"));
        assert_ne!(storage, client);
        assert_ne!(*storage, *key.bytes());
        assert_ne!(*client, *key.bytes());
        let sealed = key.cache_key(1, &[0; 32], 1).seal(b"", b"value").unwrap();
        assert!(key.cache_key(1, &[1; 32], 1).open(b"", &sealed, String::new).is_err(), "the salt makes another key");
        assert!(key.storage_key(1).open(b"", &sealed, String::new).is_err());
    }

    /// Sealed data must open for ever, so the derivation must not change by accident. The values
    /// were computed with Python's `hmac`.
    #[test]
    fn derivation_is_frozen() {
        let key = WorkspaceKey::from_bytes(KeyBytes::new([7; 32]));
        assert_eq!(
            HEXLOWER.encode(key.subkey(None, b"keyway.v1.storage").as_slice()),
            "a7ac59515bf28b37a955bf6034e32e58021b51e3c47b70e54846723e7c07a4fa"
        );
        assert_eq!(
            key.client_key().to_hex().expose_secret(),
            "8ff9d7e18e83fc6684c0f6322dbb8198ef7551821c63f4752ec47c192737744e"
        );
        assert_eq!(
            MasterKey::from_hex(&"07".repeat(32)).unwrap().key_id().to_string(),
            "95836079fb94be63a7d3f0c479d4d33c"
        );
    }
}
