//! The two levels of keys: a master key outside the database wraps one key for each workspace; everything else is
//! derived.
//!
//! ```text
//! master key (file, environment; a key service behind KeyWrapper)
//!   ├─ wraps the host key (host_key.rs): what belongs to no workspace is derived from it
//!   └─ wraps the workspace key: 256 random bits, in the database only wrapped
//!        ├─ HKDF "storage"            seals rows of the database
//!        ├─ HKDF "cache" + salt       seals cached secrets; the salt is made anew whenever the key is loaded and never stored
//!        └─ HKDF "client encryption"  what people copy from the workspace's settings and clients encrypt under
//! ```
//!
//! **Why the workspace key itself encrypts nothing:** everyone who uses the API of a workspace holds its client
//! encryption key. Were that the workspace key, each of them could open the connections' tokens as soon as they got
//! hold of the database or of a backup. As siblings under HKDF-SHA256 (RFC 5869), the client encryption key says
//! nothing about the other two, nor about the key above them. It also keeps the counts right: how often clients seal is
//! unknown, so the keys whose uses are counted must not be theirs.
//!
//! Keys are wiped when dropped and print as a placeholder.

use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use hkdf::Hkdf;
use jiff::Timestamp;
use keyway_storage::private_file;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::client_key::ClientKey;
use crate::envelope::{EnvelopeError, KeyBytes, SealingKey};

/// Why a key could not be had or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key file could not be read or written.
    #[error("cannot use the master key file {}: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// Others than the owner can read the key file.
    #[error("the master key file {} can be read by others than its owner; run `chmod 600` on it", .0.display())]
    FileNotPrivate(PathBuf),
    /// The environment variable is not set.
    #[error("the environment variable {0} with the master key is not set")]
    NotInEnvironment(String),
    /// Not a key.
    #[error("the key in {place} must be 64 hexadecimal digits (32 bytes)")]
    Malformed {
        /// Where it came from.
        place: String,
    },
    /// The database was made with another master key.
    #[error(
        "this database was made with another master key (its key is {expected}, this one is {given}). Start with the key it was made with"
    )]
    WrongMasterKey {
        /// The id of the database's key.
        expected: KeyId,
        /// The id of the key that was given.
        given: KeyId,
    },
    /// The database's master key was replaced, and the one given is the one before.
    #[error(
        "this master key was replaced on {} (the database's key is now {expected}, this one is {given}). Start with the key that took its place",
        replaced_at.strftime("%Y-%m-%d %H:%M UTC")
    )]
    ReplacedMasterKey {
        /// The id of the database's key.
        expected: KeyId,
        /// The id of the key that was given.
        given: KeyId,
        /// When it was replaced.
        replaced_at: Timestamp,
    },
    /// A key that is or was the database's master key is offered as a new one.
    #[error("the new master key is not new: this database is or was under it before. Make a new one")]
    NotANewKey,
    /// A key service failed.
    #[error("the key service failed: {0}")]
    Service(String),
    /// The wrapped key did not open, or sealing failed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// Names a master key without saying anything about it, so that a wrong one is recognised before anything is opened
/// with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId(pub [u8; 16]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// What wraps workspace keys: a [`MasterKey`], or a key service that keeps the master key to itself.
#[async_trait]
pub trait KeyWrapper: Send + Sync + 'static {
    /// The id of the master key.
    fn key_id(&self) -> KeyId;

    /// Encrypts a workspace key. `term` counts the master keys of a database from 1; `associated` is data that must be
    /// given again to [`unwrap`](Self::unwrap), and without which nothing must open.
    async fn wrap(&self, term: u32, key: &[u8; 32], associated: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// Decrypts a workspace key.
    async fn unwrap(&self, term: u32, wrapped: &[u8], associated: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError>;
}

/// A master key that this process holds: 256 bits.
///
/// It is the one thing that must be kept apart from the database and its backups. Without it nothing in the database
/// opens; with both, everything does.
pub struct MasterKey(KeyBytes);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey([REDACTED])")
    }
}

impl MasterKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`EnvelopeError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        random_key().map(Self)
    }

    /// The key written as 64 hexadecimal digits of either case; white space around them is ignored.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn from_hex(hex: &str) -> Result<Self, KeyError> {
        parse_hex(hex, || "the given text".into()).map(Self)
    }

    /// The key in an environment variable, as 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`KeyError::NotInEnvironment`], [`KeyError::Malformed`].
    pub fn from_env(variable: &str) -> Result<Self, KeyError> {
        let hex = Zeroizing::new(std::env::var(variable).map_err(|_| KeyError::NotInEnvironment(variable.into()))?);
        parse_hex(&hex, || format!("the environment variable {variable}")).map(Self)
    }

    /// The key in a file, as 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`KeyError::File`], [`KeyError::Malformed`], and [`KeyError::FileNotPrivate`] when group or others may read it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        if !private_file::is_private(path).map_err(|error| file_error(path, &error))? {
            return Err(KeyError::FileNotPrivate(path.into()));
        }
        let hex = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| file_error(path, &error))?);
        parse_hex(&hex, || path.display().to_string()).map(Self)
    }

    /// The key in a file; when there is no such file, a new key that is written to it first, readable by its owner
    /// only.
    ///
    /// The file appears complete or not at all. When two processes do this at the same time, both get the same key.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn from_file_or_generate(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        match std::fs::exists(path) {
            Ok(true) => return Self::from_file(path),
            Ok(false) => {}
            Err(error) => return Err(file_error(path, &error)),
        }
        let key = Self::generate()?;
        match private_file::create(path, key.to_hex().expose_secret().as_bytes()) {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Self::from_file(path),
            Err(error) => Err(file_error(path, &error)),
        }
    }

    /// The key as 64 hexadecimal digits, to be kept somewhere safe.
    pub fn to_hex(&self) -> SecretString {
        HEXLOWER.encode(self.0.as_slice()).into()
    }
}

#[async_trait]
impl KeyWrapper for MasterKey {
    fn key_id(&self) -> KeyId {
        let mut id = [0; 16];
        derive(&self.0, None, b"keyway.v1.master-key-id", &mut id);
        KeyId(id)
    }

    async fn wrap(&self, term: u32, key: &[u8; 32], associated: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(SealingKey::new(&self.0, term, 1).seal(associated, key)?)
    }

    async fn unwrap(&self, term: u32, wrapped: &[u8], associated: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        const PLACE: &str = "workspace_keys.wrapped_key";
        let opened = SealingKey::new(&self.0, term, 0).open(associated, wrapped, || PLACE.into())?;
        let mut key = KeyBytes::default();
        if opened.len() != key.len() {
            return Err(EnvelopeError::Malformed { place: PLACE.into() }.into());
        }
        key.copy_from_slice(&opened);
        Ok(key)
    }
}

/// A workspace's key. It encrypts nothing itself, see the head of this module.
pub(crate) struct WorkspaceKey(KeyBytes);

impl WorkspaceKey {
    /// A new random key.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        random_key().map(Self)
    }

    /// The key that was unwrapped.
    pub(crate) fn from_bytes(key: KeyBytes) -> Self {
        Self(key)
    }

    /// The key's bytes, to be wrapped.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key that seals rows of the database. It cannot seal before it is given an allowance.
    pub(crate) fn storage_key(&self, term: u32) -> SealingKey {
        SealingKey::new(&self.subkey(None, b"keyway.v1.storage"), term, 0)
    }

    /// The key that seals cached secrets.
    pub(crate) fn cache_key(&self, term: u32, salt: &[u8; 32], allowance: u64) -> SealingKey {
        SealingKey::new(&self.subkey(Some(salt), b"keyway.v1.cache"), term, allowance)
    }

    /// The key that clients encrypt under.
    pub(crate) fn client_key(&self) -> ClientKey {
        ClientKey::new(self.subkey(None, b"keyway.v1.client-encryption"))
    }

    fn subkey(&self, salt: Option<&[u8]>, purpose: &[u8]) -> KeyBytes {
        let mut key = KeyBytes::default();
        derive(&self.0, salt, purpose, key.as_mut_slice());
        key
    }
}

#[expect(clippy::expect_used, reason = "HKDF-SHA256 fails only beyond 8,160 bytes; every caller asks for 16 or 32")]
pub(crate) fn derive(key: &KeyBytes, salt: Option<&[u8]>, purpose: &[u8], out: &mut [u8]) {
    Hkdf::<Sha256>::new(salt, key.as_slice()).expand(purpose, out).expect("a length that HKDF allows");
}

pub(crate) fn random_key() -> Result<KeyBytes, KeyError> {
    let mut key = KeyBytes::default();
    getrandom::fill(key.as_mut_slice()).map_err(|error| EnvelopeError::NoRandomness(error.to_string()))?;
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

fn file_error(path: &Path, error: &std::io::Error) -> KeyError {
    KeyError::File { path: path.into(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex_of(key: &MasterKey) -> String {
        key.to_hex().expose_secret().to_owned()
    }

    #[test]
    fn a_generated_key_file_is_private_and_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let made = MasterKey::from_file_or_generate(&path).unwrap();
        let read = MasterKey::from_file_or_generate(&path).unwrap();
        assert_eq!(hex_of(&made), hex_of(&read));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn processes_that_generate_at_the_same_time_get_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || hex_of(&MasterKey::from_file_or_generate(path).unwrap()))
            })
            .collect();
        let keys: std::collections::HashSet<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(keys.len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        MasterKey::from_file_or_generate(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = MasterKey::from_file(&path).unwrap_err();
        assert!(matches!(error, KeyError::FileNotPrivate(_)));
        assert!(error.to_string().contains("chmod 600"));
    }

    #[test]
    fn what_is_not_a_key_is_refused_without_being_repeated() {
        for text in ["", "zz", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64)] {
            let error = MasterKey::from_hex(text).unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
        }
        assert!(MasterKey::from_hex(&format!(" {}\n", "Ab".repeat(32))).is_ok());
    }

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

    /// Data that was sealed once must open for ever, so the derivation may not change by accident. The values were
    /// computed with Python's `hmac`.
    #[test]
    fn derivation_is_frozen() {
        let bytes = KeyBytes::new([7; 32]);
        let key = WorkspaceKey::from_bytes(bytes.clone());
        assert_eq!(
            HEXLOWER.encode(key.subkey(None, b"keyway.v1.storage").as_slice()),
            "a7ac59515bf28b37a955bf6034e32e58021b51e3c47b70e54846723e7c07a4fa"
        );
        assert_eq!(
            key.client_key().to_hex().expose_secret(),
            "8ff9d7e18e83fc6684c0f6322dbb8198ef7551821c63f4752ec47c192737744e"
        );
        assert_eq!(MasterKey(bytes).key_id().to_string(), "95836079fb94be63a7d3f0c479d4d33c");
    }

    #[test]
    fn keys_print_as_placeholders() {
        let key = MasterKey::from_hex(&"ab".repeat(32)).unwrap();
        assert_eq!(format!("{key:?}"), "MasterKey([REDACTED])");
    }
}
