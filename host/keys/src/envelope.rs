//! The envelope: the one form of everything that the broker encrypts.
//!
//! ```text
//! version (1 byte, 1) | key term (4 bytes, network order) | nonce (12 bytes, random) |
//! AES-256-GCM ciphertext and tag (16 bytes)
//! ```
//!
//! **Invariant:** an envelope opens only in the place it was sealed for. The associated data
//! consists of the envelope's version and key term, then the workspace, table, row, column and row
//! version. Each is preceded by its length, so that no two places have the same encoding. A
//! ciphertext fails to open if it was moved to another row, column or workspace, restored after the
//! row changed, truncated or altered by one bit; it never opens as something else. One change is
//! invisible from inside the database: a whole row restored together with its version. That is a
//! restored backup, and the audit trail's concern.
//!
//! **Nonces** are random, so a key may seal only a limited number of times before two nonces could
//! be equal. [`SealingKey`] therefore spends an allowance and refuses to seal without one.
//! Allowances are counted durably, per key term, where they are granted.

use std::sync::atomic::{AtomicU64, Ordering};

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use keyway_storage::WorkspaceId;
use thiserror::Error;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const HEADER: usize = 1 + 4;
const NONCE: usize = 12;
const TAG: usize = 16;

/// How often one key may seal: 2^31, half of what NIST SP 800-38D (section 8.3) allows for random
/// 96-bit nonces.
pub const MAX_USES: u64 = 1 << 31;

/// A key of 256 bits, wiped when dropped.
pub type KeyBytes = Zeroizing<[u8; 32]>;

/// Why data could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// There are fewer bytes than the shortest envelope has.
    #[error("sealed data is truncated: {length} bytes are too few for an envelope")]
    TooShort {
        /// The number of bytes.
        length: usize,
    },
    /// The format version is unknown to this version of the software.
    #[error(
        "sealed data has the unknown format version {0}; it was written by a newer version of Keyway, or is damaged"
    )]
    UnknownVersion(u8),
    /// The key term does not exist.
    #[error("sealed data names key term {0}, which does not exist; the database is damaged or incomplete")]
    UnknownTerm(u32),
    /// The authentication tag does not match.
    #[error(
        "sealed data in `{place}` was altered, moved from another place or restored from an earlier time. Restore the database from a backup"
    )]
    NotAuthentic {
        /// Table and column.
        place: String,
    },
    /// The contents do not have the expected form.
    #[error("sealed data in `{place}` was opened, but is not of the expected form")]
    Malformed {
        /// Table and column.
        place: String,
    },
    /// The key has sealed as often as it may.
    #[error("the key of term {term} has reached its limit of uses; rotate it")]
    Exhausted {
        /// Its term.
        term: u32,
    },
    /// The data is larger than can be sealed at once.
    #[error("the data is too large to be sealed")]
    TooLarge,
    /// The operating system returned no random numbers.
    #[error("the operating system returned no random numbers: {0}")]
    NoRandomness(#[from] getrandom::Error),
}

impl EnvelopeError {
    /// Whether sealed data is permanently damaged: neither another key nor another version of the
    /// software opens it.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::TooShort { .. } | Self::NotAuthentic { .. } | Self::Malformed { .. })
    }
}

/// The place an envelope belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The table, or what stands in for one.
    pub table: &'a str,
    /// The row's key.
    pub row: &'a [u8],
    /// The column.
    pub column: &'a str,
    /// The row's version, which increases with each change of the row.
    pub version: u64,
}

impl Place<'_> {
    /// The place as associated data.
    pub fn encode(&self) -> Vec<u8> {
        let workspace = self.workspace.as_uuid();
        let version = self.version.to_be_bytes();
        let fields: [&[u8]; 6] =
            [b"keyway", workspace.as_bytes(), self.table.as_bytes(), self.row, self.column.as_bytes(), &version];
        let mut data = Vec::with_capacity(fields.iter().map(|field| 8 + field.len()).sum());
        for field in fields {
            data.extend_from_slice(&(field.len() as u64).to_be_bytes());
            data.extend_from_slice(field);
        }
        data
    }

    /// `table.column`, for messages.
    pub fn name(&self) -> String {
        format!("{}.{}", self.table, self.column)
    }
}

/// The key term that an envelope names. It is not authenticated before the envelope is opened.
pub fn term_of(envelope: &[u8]) -> Result<u32, EnvelopeError> {
    parse(envelope).map(|parts| parts.term)
}

struct Parts<'a> {
    header: &'a [u8; HEADER],
    term: u32,
    nonce: &'a [u8; NONCE],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG],
}

fn parse(envelope: &[u8]) -> Result<Parts<'_>, EnvelopeError> {
    let too_short = || EnvelopeError::TooShort { length: envelope.len() };
    let (header, rest) = envelope.split_first_chunk::<HEADER>().ok_or_else(too_short)?;
    let [version, term @ ..] = header;
    if *version != VERSION {
        return Err(EnvelopeError::UnknownVersion(*version));
    }
    let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or_else(too_short)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or_else(too_short)?;
    Ok(Parts { header, term: u32::from_be_bytes(*term), nonce, ciphertext, tag })
}

/// A key that opens envelopes of one key term, and seals for as long as its allowance lasts.
pub struct SealingKey {
    cipher: Aes256Gcm,
    term: u32,
    allowance: AtomicU64,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealingKey").field("term", &self.term).finish_non_exhaustive()
    }
}

impl SealingKey {
    /// The key of `term`. It may seal `allowance` times.
    pub fn new(key: &KeyBytes, term: u32, allowance: u64) -> Self {
        Self { cipher: Aes256Gcm::new(&Key::<Aes256Gcm>::from(**key)), term, allowance: AtomicU64::new(allowance) }
    }

    /// Adds `uses` to the key's allowance.
    pub fn allow(&self, uses: u64) {
        self.allowance.fetch_add(uses, Ordering::Relaxed);
    }

    /// Seals `plaintext` for the place that `associated` names.
    pub fn seal(&self, associated: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        self.allowance
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .map_err(|_| EnvelopeError::Exhausted { term: self.term })?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce)?;
        let mut envelope = Vec::with_capacity(HEADER + NONCE + plaintext.len() + TAG);
        envelope.push(VERSION);
        envelope.extend_from_slice(&self.term.to_be_bytes());
        envelope.extend_from_slice(&nonce);
        let body = envelope.len();
        envelope.extend_from_slice(plaintext);
        let (head, ciphertext) = envelope.split_at_mut(body);
        let header = head.first_chunk::<HEADER>().ok_or(EnvelopeError::TooLarge)?;
        let tag = self
            .cipher
            .encrypt_inout_detached(&Nonce::from(nonce), &with_header(header, associated), InOutBuf::from(ciphertext))
            .map_err(|_| EnvelopeError::TooLarge)?;
        envelope.extend_from_slice(&tag);
        Ok(envelope)
    }

    /// Opens an envelope that was sealed with the same `associated` data. `place` is for the
    /// message.
    pub fn open(
        &self,
        associated: &[u8],
        envelope: &[u8],
        place: impl FnOnce() -> String,
    ) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let parts = parse(envelope)?;
        if parts.term != self.term {
            return Err(EnvelopeError::UnknownTerm(parts.term));
        }
        let mut plaintext = Zeroizing::new(parts.ciphertext.to_vec());
        self.cipher
            .decrypt_inout_detached(
                &Nonce::from(*parts.nonce),
                &with_header(parts.header, associated),
                InOutBuf::from(plaintext.as_mut_slice()),
                &Tag::from(*parts.tag),
            )
            .map_err(|_| EnvelopeError::NotAuthentic { place: place() })?;
        Ok(plaintext)
    }
}

fn with_header(header: &[u8; HEADER], associated: &[u8]) -> Vec<u8> {
    [header.as_slice(), associated].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8, term: u32) -> SealingKey {
        SealingKey::new(&KeyBytes::new([byte; 32]), term, 100)
    }

    fn open(key: &SealingKey, place: &Place<'_>, envelope: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        key.open(&place.encode(), envelope, || place.name()).map(|plaintext| plaintext.to_vec())
    }

    fn not_authentic() -> Result<Vec<u8>, EnvelopeError> {
        Err(EnvelopeError::NotAuthentic { place: "connections.settings".into() })
    }

    const PLAINTEXT: &[u8] = b"ops_token";

    fn sealed() -> (SealingKey, Place<'static>, Vec<u8>) {
        let workspace = WorkspaceId::from(uuid::Uuid::from_u128(1));
        let place = Place { workspace, table: "connections", row: &[7; 16], column: "settings", version: 3 };
        let key = key(1, 5);
        let envelope = key.seal(&place.encode(), PLAINTEXT).unwrap();
        (key, place, envelope)
    }

    #[test]
    fn an_envelope_opens_in_its_place() {
        let (key, place, envelope) = sealed();
        assert_eq!(envelope.len(), 5 + 12 + PLAINTEXT.len() + 16);
        assert_eq!(term_of(&envelope), Ok(5));
        assert_eq!(open(&key, &place, &envelope).unwrap(), PLAINTEXT);
    }

    #[test]
    fn an_envelope_opens_nowhere_else() {
        let (key, place, envelope) = sealed();
        let elsewhere = [
            Place { workspace: WorkspaceId::from(uuid::Uuid::from_u128(2)), ..place },
            Place { table: "vault_entries", ..place },
            Place { row: &[8; 16], ..place },
            Place { column: "name", ..place },
            Place { version: 2, ..place },
            Place { version: 4, ..place },
            // The same bytes with the boundary between two fields shifted.
            Place { table: "connection", row: &[b's', 7, 7, 7], ..place },
        ];
        for other in elsewhere {
            let result = key.open(&other.encode(), &envelope, || place.name()).map(|plaintext| plaintext.to_vec());
            assert_eq!(result, not_authentic(), "{other:?}");
        }
    }

    #[test]
    fn no_two_places_have_the_same_encoding() {
        let (_, place, _) = sealed();
        let shifted = Place { table: "connection", row: b"s", column: "", ..place };
        let other = Place { table: "connections", row: b"", column: "", ..place };
        assert_ne!(shifted.encode(), other.encode());
    }

    #[test]
    fn each_altered_byte_is_noticed() {
        let (key, place, envelope) = sealed();
        for index in 0..envelope.len() {
            for bit in 0..8 {
                let mut altered = envelope.clone();
                altered[index] ^= 1 << bit;
                let expected = match index {
                    0 => Err(EnvelopeError::UnknownVersion(altered[0])),
                    1..5 => Err(EnvelopeError::UnknownTerm(term_of(&altered).unwrap())),
                    _ => not_authentic(),
                };
                assert_eq!(open(&key, &place, &altered), expected, "byte {index}, bit {bit}");
            }
        }
    }

    #[test]
    fn the_term_is_authenticated_and_not_only_compared() {
        // The same key bytes under another term: only the associated data differs.
        let (_, place, mut envelope) = sealed();
        envelope[4] = 6;
        assert_eq!(open(&key(1, 6), &place, &envelope), not_authentic());
    }

    #[test]
    fn an_envelope_cut_off_anywhere_is_refused_without_slicing_beyond_its_end() {
        let (key, place, envelope) = sealed();
        for length in 0..envelope.len() {
            let cut = &envelope[..length];
            let expected = if length < 5 + 12 + 16 { Err(EnvelopeError::TooShort { length }) } else { not_authentic() };
            assert_eq!(open(&key, &place, cut), expected, "{length} bytes");
        }
        let longer = [envelope.as_slice(), &[0]].concat();
        assert_eq!(open(&key, &place, &longer), not_authentic());
    }

    #[test]
    fn another_key_does_not_open_it() {
        let (_, place, envelope) = sealed();
        assert_eq!(open(&key(2, 5), &place, &envelope), not_authentic());
    }

    #[test]
    fn two_envelopes_of_the_same_data_differ() {
        let (key, place, envelope) = sealed();
        assert_ne!(key.seal(&place.encode(), PLAINTEXT).unwrap(), envelope);
    }

    #[test]
    fn a_key_seals_no_more_often_than_it_may() {
        let (_, place, _) = sealed();
        let key = SealingKey::new(&KeyBytes::new([1; 32]), 9, 2);
        let seal = || key.seal(&place.encode(), PLAINTEXT);
        assert!(seal().is_ok() && seal().is_ok());
        assert_eq!(seal(), Err(EnvelopeError::Exhausted { term: 9 }));
        key.allow(1);
        assert!(seal().is_ok());
        assert_eq!(seal(), Err(EnvelopeError::Exhausted { term: 9 }));
    }
}
