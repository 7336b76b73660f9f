//! The master key, which is kept apart from the database, and the trait for key services.

use std::fmt;
use std::io::Read;
use std::path::Path;

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use keyway_storage::private_file;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::derive::{derive, parse_hex, random_key};
use crate::{EnvelopeError, KeyBytes, KeyError, Locked, SealingKey};

/// How much of a key file is read, in bytes: its 64 digits and any white space around them.
const FILE_LIMIT: usize = 4 << 10;

/// Identifies a master key without revealing anything about it, so that a wrong one is detected
/// before anything is opened with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId(pub [u8; 16]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// Wraps workspace keys: a [`MasterKey`], or a key service that never releases the master key.
#[async_trait]
pub trait KeyWrapper: Send + Sync + 'static {
    /// The id of the master key.
    fn key_id(&self) -> KeyId;

    /// Encrypts a workspace key. `term` numbers the master keys of a database from 1.
    /// [`unwrap`](Self::unwrap) must fail unless it is given the same `associated` data.
    async fn wrap(&self, term: u32, key: &[u8; 32], associated: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// Decrypts a workspace key.
    async fn unwrap(&self, term: u32, wrapped: &[u8], associated: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError>;
}

/// A master key held in this process: 256 bits.
///
/// Keep it apart from the database and its backups. Without it, nothing in the database opens; with
/// both, everything does.
pub struct MasterKey(Locked<KeyBytes>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey([REDACTED])")
    }
}

impl MasterKey {
    fn of(key: KeyBytes) -> Self {
        Self(Locked::new(key))
    }

    /// A new random key.
    ///
    /// # Errors
    /// [`EnvelopeError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        random_key().map(Self::of)
    }

    /// The key from 64 hexadecimal digits of either case; surrounding white space is ignored.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn from_hex(hex: &str) -> Result<Self, KeyError> {
        parse_hex(hex, || "the given text".into()).map(Self::of)
    }

    /// The key from an environment variable, as 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`KeyError::NotInEnvironment`], [`KeyError::Malformed`].
    pub fn from_env(variable: &str) -> Result<Self, KeyError> {
        let hex = Zeroizing::new(std::env::var(variable).map_err(|_| KeyError::NotInEnvironment(variable.into()))?);
        parse_hex(&hex, || format!("the environment variable {variable}")).map(Self::of)
    }

    /// The key from a file, as 64 hexadecimal digits.
    ///
    /// Others than its owner may read it only where the system has put it into a container, as
    /// Docker and Kubernetes do with secrets: on a file system in memory or on one that cannot be
    /// written. There the file's mode is not the user's to choose.
    ///
    /// # Errors
    /// [`KeyError::File`], [`KeyError::Malformed`], and [`KeyError::FileNotPrivate`] when group or
    /// others may read it elsewhere, or write it anywhere.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let failed = |error| file_error(path, error);
        // Reading a pipe would wait for ever.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(failed(std::io::Error::other("it is not a regular file")));
        }
        if !private_file::is_private(path).map_err(failed)? && !is_mounted_secret(path).map_err(failed)? {
            return Err(KeyError::FileNotPrivate(path.into()));
        }
        // Allocated once, so that growing leaves no copies behind. A longer text is no key.
        let mut hex = Zeroizing::new(String::with_capacity(FILE_LIMIT));
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(FILE_LIMIT as u64).read_to_string(&mut hex).map_err(failed)?;
        parse_hex(&hex, || path.display().to_string()).map(Self::of)
    }

    /// The key from a file. If the file does not exist, it is first created with a new key,
    /// readable only by its owner.
    ///
    /// The file appears complete or not at all. If two processes do this at the same time, both get
    /// the same key. Whether the file outlives a restart of the system is for the caller to know:
    /// see [`private_file::is_in_memory`].
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn from_file_or_generate(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        match std::fs::exists(path) {
            Ok(true) => return Self::from_file(path),
            Ok(false) => {}
            Err(error) => return Err(file_error(path, error)),
        }
        let key = Self::generate()?;
        match private_file::create(path, key.to_hex().expose_secret().as_bytes()) {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Self::from_file(path),
            Err(error) => Err(file_error(path, error)),
        }
    }

    /// The key as 64 hexadecimal digits, to be stored somewhere safe.
    pub fn to_hex(&self) -> SecretString {
        HEXLOWER.encode(self.0.as_slice()).into()
    }
}

#[async_trait]
impl KeyWrapper for MasterKey {
    fn key_id(&self) -> KeyId {
        KeyId(*derive(&self.0, None, b"keyway.v1.master-key-id"))
    }

    async fn wrap(&self, term: u32, key: &[u8; 32], associated: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(SealingKey::new(&self.0, term, 1).seal(associated, key)?)
    }

    async fn unwrap(&self, term: u32, wrapped: &[u8], associated: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        const PLACE: &str = "wrapped_key";
        let opened = SealingKey::new(&self.0, term, 0).open(associated, wrapped, || PLACE.into())?;
        let mut key = KeyBytes::default();
        if opened.len() != key.len() {
            return Err(EnvelopeError::Malformed { place: PLACE.into() }.into());
        }
        key.copy_from_slice(&opened);
        Ok(key)
    }
}

/// Whether the system has put the file there, and no user but its owner can change it.
#[cfg(target_os = "linux")]
fn is_mounted_secret(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{StatVfsMountFlags, statvfs};
    let mode = std::fs::metadata(path)?.permissions().mode();
    let is_read_only = statvfs(path)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    Ok(is_as_mounted(mode, private_file::is_in_memory(path)? || is_read_only))
}

/// Whether a file of this mode is accepted where the system mounts secrets.
#[cfg(target_os = "linux")]
fn is_as_mounted(mode: u32, is_mounted: bool) -> bool {
    let others_may_write = mode & 0o022 != 0;
    is_mounted && !others_may_write
}

#[cfg(not(target_os = "linux"))]
fn is_mounted_secret(_: &Path) -> std::io::Result<bool> {
    Ok(false)
}

fn file_error(path: &Path, source: std::io::Error) -> KeyError {
    KeyError::File { path: path.into(), source }
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

    #[cfg(target_os = "linux")]
    #[test]
    fn a_key_that_was_put_into_a_container_is_read_unless_others_can_change_it() {
        for (mode, is_read) in [(0o444, true), (0o440, true), (0o644, true), (0o664, false), (0o646, false)] {
            assert_eq!(is_as_mounted(mode, true), is_read, "{mode:o}");
            assert!(!is_as_mounted(mode, false), "{mode:o}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_in_place_of_a_key_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let error = MasterKey::from_file(&path).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
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
    fn keys_print_as_placeholders() {
        let key = MasterKey::from_hex(&"ab".repeat(32)).unwrap();
        assert_eq!(format!("{key:?}"), "MasterKey([REDACTED])");
    }
}
