//! The two levels of keys: a master key outside the database wraps one key for each workspace;
//! everything else is derived.
//!
//! ```text
//! master key (file, environment; a key service behind KeyWrapper)
//!   ├─ wraps the host key (`HostKey`): what belongs to no workspace is derived from it
//!   └─ wraps the workspace key: 256 random bits, in the database only wrapped
//!        ├─ HKDF "storage"            seals rows of the database
//!        ├─ HKDF "cache" + salt       seals cached secrets; the salt is new whenever the key is loaded, and never stored
//!        └─ HKDF "client encryption"  what people copy from the workspace's settings and clients encrypt under
//! ```
//!
//! **Why the workspace key itself encrypts nothing:** everyone who uses a workspace's API holds its
//! client encryption key. If that were the workspace key, each of them could open the connections'
//! tokens with a copy of the database or a backup. As siblings under HKDF-SHA256 (RFC 5869), the
//! client encryption key reveals nothing about the other two or about the key above them. The
//! counts stay correct as well: how often clients seal is unknown, so the keys whose uses are
//! counted must not be theirs.
//!
//! Keys are wiped when dropped and print as a placeholder. Those that stay open are in [`Locked`]
//! memory.
//!
//! All sealed data has the form of the [`envelope`](SealingKey), and opens only in its [`Place`].
//!
//! This crate knows the database's records of keys (`keyway-storage`) and nothing else of Keyway.
//!
//! **May import** of Keyway: `keyway-storage`.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod client_key;
mod derive;
mod envelope;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod host_key;
mod locked;
mod master_key;
mod master_keys;
mod row_seal_key;
mod workspace_key;

pub use client_key::{ClientKey, ClientValueError};
pub use envelope::{EnvelopeError, KeyBytes, MAX_USES, Place, SealingKey, term_of};
pub use error::KeyError;
pub use host_key::HostKey;
pub use locked::Locked;
pub use master_key::{KeyId, KeyWrapper, MasterKey};
pub use master_keys::{FIRST_TERM, MasterKeys};
pub use row_seal_key::RowSealKey;
pub use workspace_key::WorkspaceKey;
