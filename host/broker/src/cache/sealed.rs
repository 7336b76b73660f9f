//! A cached value: ciphertext, and the data for deciding on its use without opening it.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicBool};
use std::time::Duration;

use keyway_budget::Share;
use keyway_clock::Moment;
use keyway_keys::Place;
use keyway_runtime::contract::{Lease, NoCode};
use keyway_storage::{ConnectionId, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};

use super::{Credentials, Fetched, Lifetime, Lookup};
use crate::codec::{self, CodecError};
use crate::keyring::WorkspaceKeys;

/// Identifies an item: a connection, and a reference within it. Ids of connections are unique
/// across all workspaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ItemKey {
    pub(crate) connection: ConnectionId,
    pub(crate) reference: Arc<str>,
}

/// The credentials of an item as they are kept, and the reason for having no one-time code. A code
/// has no place in it.
pub(super) struct SealedCredentials {
    sealed: Box<[u8]>,
    /// The state of the item; not secret.
    pub(super) revision: Box<str>,
    /// When the provider's call began.
    pub(super) fetched_at: Moment,
    /// The generation of connection and item at that time.
    pub(super) generation: u64,
    /// How long to keep it.
    pub(super) keep: Duration,
    pub(super) lifetime: Lifetime,
    /// Why this state of the item has no one-time code; `None` if it has one or none was asked for.
    pub(super) no_code: Option<NoCode>,
    /// From 0 to 1: its random place in the window for refreshing.
    pub(super) draw: f32,
    /// The number of the item's last rejection at that time.
    pub(super) rejection: u64,
    /// Whether a refresh in the background was begun.
    refreshed: AtomicBool,
    /// What it takes of its workspace's share of the cache, while it is there.
    pub(super) share: Option<Arc<Share<WorkspaceId>>>,
}

impl SealedCredentials {
    /// Seals credentials; `None` when that fails, which only costs the next reader a call.
    pub(super) fn seal(lookup: &Lookup, fetched: &Fetched, fetched_at: Moment, rejection: u64) -> Option<Self> {
        let (credentials, lifetime) = (&fetched.credentials, fetched.lifetime.clone());
        let Lookup { item, keys, generation, .. } = lookup;
        let [username, password] = [&credentials.username, &credentials.password]
            .map(|value| value.as_ref().map(|value| value.expose_secret().as_bytes()));
        let plaintext = codec::encode(&[username, password, Some(credentials.revision.as_bytes())]);
        let sealed = keys.cache().seal(&associated(item, keys, *generation), &plaintext.ok()?);
        let sealed =
            sealed.inspect_err(|error| tracing::warn!(%error, "a resolved secret could not be cached")).ok()?;
        let draw = getrandom::u32().unwrap_or(0) as f32 / u32::MAX as f32;
        let revision = credentials.revision.as_str().into();
        Some(Self {
            sealed: sealed.into(),
            revision,
            fetched_at,
            generation: *generation,
            keep: lifetime.cap(lookup.ttl),
            lifetime,
            no_code: fetched.one_time_code.as_ref().and_then(|code| code.as_ref().err().cloned()),
            draw,
            rejection,
            refreshed: AtomicBool::new(false),
            share: None,
        })
    }

    /// The same value with what is now known about the code of this state of the item.
    pub(super) fn with_no_code(&self, no_code: Option<NoCode>) -> Self {
        Self {
            sealed: self.sealed.clone(),
            revision: self.revision.clone(),
            fetched_at: self.fetched_at,
            generation: self.generation,
            keep: self.keep,
            lifetime: self.lifetime.clone(),
            no_code,
            draw: self.draw,
            rejection: self.rejection,
            refreshed: AtomicBool::new(self.refreshed.load(atomic::Ordering::Relaxed)),
            share: self.share.clone(),
        }
    }

    /// Whether this is the same state of the item as another value's.
    pub(super) fn is_of_the_state_of(&self, other: &Self) -> bool {
        (self.generation, &self.revision) == (other.generation, &other.revision)
    }

    /// Opens the credentials; `None` when they were sealed under a key that is no longer in use.
    pub(super) fn open(&self, item: &ItemKey, keys: &WorkspaceKeys) -> Option<Credentials> {
        let place = || "cache.credentials".to_owned();
        let plaintext = keys.cache().open(&associated(item, keys, self.generation), &self.sealed, place).ok()?;
        read(&plaintext).ok()
    }

    /// Whether to keep this value in place of `other`.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        match (self.generation, self.rejection).cmp(&(other.generation, other.rejection)) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => !self.fetched_at.since(other.fetched_at).is_zero(),
        }
    }

    /// Whether a refresh was begun.
    pub(super) fn is_refreshed(&self) -> bool {
        self.refreshed.load(atomic::Ordering::Relaxed)
    }

    /// Claims the refresh; `true` for the first caller only.
    pub(super) fn begins_refresh(&self) -> bool {
        !self.refreshed.swap(true, atomic::Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn ciphertext(&self) -> &[u8] {
        &self.sealed
    }

    /// How long after `moment` this value would have been kept.
    pub(super) fn kept_after(&self, moment: Moment) -> Duration {
        self.keep.saturating_sub(moment.since(self.fetched_at))
    }

    /// Whether it has expired for every reader.
    pub(super) fn is_over(&self, now: Moment) -> bool {
        now.since(self.fetched_at) >= self.keep
    }

    /// Its share of the cache's capacity: approximately its size in memory.
    pub(super) fn weight(&self, key: &ItemKey) -> u64 {
        // The cache's share: a hash, two links and a slot in its table, and the overhead of the
        // allocator.
        const PLACE: usize = 96;
        let lease = self.lifetime.lease.as_ref().map_or(0, |lease| size_of::<Lease>() + lease.id.len());
        let no_code = self.no_code.as_ref().map_or(0, |none| none.reason.name().len() + none.message.len());
        let texts = self.sealed.len() + self.revision.len() + key.reference.len() + lease + no_code;
        (texts + size_of::<Self>() + size_of::<ItemKey>() + PLACE) as u64
    }
}

/// The associated data of a value: it opens for its own item and generation only.
fn associated(item: &ItemKey, keys: &WorkspaceKeys, generation: u64) -> Vec<u8> {
    let row = [item.connection.as_bytes(), item.reference.as_bytes()].concat();
    Place { workspace: keys.workspace(), table: "cache", row: &row, column: "credentials", version: generation }
        .encode()
}

fn read(plaintext: &[u8]) -> Result<Credentials, CodecError> {
    let [username, password, Some(revision)] = codec::decode_texts(plaintext)?[..] else { return Err(CodecError) };
    let [username, password] = [username, password].map(|text| text.map(SecretString::from));
    Ok(Credentials { username, password, revision: revision.to_owned() })
}
