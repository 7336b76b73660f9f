//! The keys of one workspace: the current one, which seals, and older ones, which open values that
//! have not been sealed again yet. Whatever key sealed a value, what clients encrypted in it is
//! read as encrypted under the current client key.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyway_clock::{Clock, Moment};
use keyway_keys::{ClientKey, EnvelopeError, Locked, MAX_USES, Place, SealingKey, WorkspaceKey, term_of};
use keyway_storage::{SealedColumn, WorkspaceId};
use zeroize::Zeroizing;

use super::RETIRED_FOR;
use crate::codec::CodecError;
use crate::keys::under_new_client_key;

/// The keys that are derived from those of one workspace.
pub(crate) struct WorkspaceKeys {
    workspace: WorkspaceId,
    /// All keys that open values, recently deleted ones included.
    pub(super) terms: BTreeMap<u32, Arc<Locked<TermKeys>>>,
    pub(super) in_database: Vec<u32>,
    pub(super) current: Arc<Locked<TermKeys>>,
    /// When each deleted key was noticed to be deleted.
    retired: BTreeMap<u32, Moment>,
}

/// The keys that are derived from one workspace key.
pub(super) struct TermKeys {
    term: u32,
    pub(super) storage: SealingKey,
    cache: SealingKey,
    client: ClientKey,
}

impl TermKeys {
    pub(super) fn derive(term: u32, key: WorkspaceKey) -> Result<Self, EnvelopeError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(EnvelopeError::NoRandomness)?;
        Ok(Self {
            term,
            storage: key.storage_key(term),
            cache: key.cache_key(term, &salt, MAX_USES),
            client: key.client_key(),
        })
    }
}

impl WorkspaceKeys {
    /// Derives from a workspace's keys by term; `None` when there is no key.
    #[cfg(test)]
    pub(crate) fn derive(
        workspace: WorkspaceId,
        keys: BTreeMap<u32, WorkspaceKey>,
    ) -> Result<Option<Self>, EnvelopeError> {
        let terms = keys.into_iter().map(|(term, key)| Ok((term, Arc::new(Locked::new(TermKeys::derive(term, key)?)))));
        Ok(Self::of(workspace, terms.collect::<Result<_, EnvelopeError>>()?))
    }

    pub(super) fn of(workspace: WorkspaceId, terms: BTreeMap<u32, Arc<Locked<TermKeys>>>) -> Option<Self> {
        let current = Arc::clone(terms.last_key_value()?.1);
        Some(Self { workspace, in_database: terms.keys().copied().collect(), terms, current, retired: BTreeMap::new() })
    }

    /// Keeps the keys of `before` that are deleted now, for a while.
    pub(super) fn following(mut self, before: Option<&Self>, now: Moment) -> Self {
        for (&term, key) in before.iter().flat_map(|before| &before.terms) {
            let since = before.and_then(|before| before.retired.get(&term)).copied().unwrap_or(now);
            if !self.terms.contains_key(&term) && now.since(since) < RETIRED_FOR {
                self.terms.insert(term, Arc::clone(key));
                self.retired.insert(term, since);
            }
        }
        self
    }

    /// Whether these are the keys of the database, with no deleted one kept too long.
    pub(super) fn are_up_to_date(&self, terms: &[u32], clock: &dyn Clock) -> bool {
        // Nearly always no key is retired, and the clock is not read.
        self.in_database == terms && (self.retired.is_empty() || !self.hold_expired(clock.now()))
    }

    /// Whether a deleted key has been kept for long enough.
    pub(super) fn hold_expired(&self, now: Moment) -> bool {
        self.retired.values().any(|since| now.since(*since) >= RETIRED_FOR)
    }

    /// Whether these keys were read from the database after `other` was.
    pub(super) fn is_after(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.current.term, other.current.term);
        // Terms are only added at the end, and only deleted from the beginning.
        mine > theirs || mine == theirs && self.in_database.first() > other.in_database.first()
    }

    /// The workspace that these keys belong to.
    pub(crate) fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// The term of the key that seals.
    pub(crate) fn current_term(&self) -> u32 {
        self.current.term
    }

    /// Whether older keys are in the database: a rotation is not finished.
    pub(crate) fn is_being_rotated(&self) -> bool {
        self.in_database.len() > 1
    }

    /// The key that seals cached secrets.
    pub(crate) fn cache(&self) -> &SealingKey {
        &self.current.cache
    }

    /// The key that clients encrypt under.
    pub(crate) fn client(&self) -> &ClientKey {
        &self.current.client
    }

    /// Opens a row's data, and reads it with `read`. Values that clients encrypted are returned as
    /// encrypted under [`client`](Self::client), whatever key sealed the row.
    pub(crate) fn open<T>(
        &self,
        place: &Place<'_>,
        envelope: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, CodecError>,
    ) -> Result<T, EnvelopeError> {
        let plaintext = self.open_plaintext(place, envelope)?;
        read(&plaintext).map_err(|_| EnvelopeError::Malformed { place: place.name() })
    }

    /// As [`open`](Self::open), without reading.
    pub(crate) fn open_plaintext(
        &self,
        place: &Place<'_>,
        envelope: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let term = term_of(envelope)?;
        let key = self.terms.get(&term).ok_or(EnvelopeError::UnknownTerm(term))?;
        let plaintext = key.storage.open(&place.encode(), envelope, || place.name())?;
        if term == self.current.term {
            return Ok(plaintext);
        }
        Self::translate(place, plaintext, &key.client, &self.current.client)
    }

    /// Checks that a row's data opens, and could be sealed under another key.
    pub(crate) fn check(&self, place: &Place<'_>, envelope: &[u8]) -> Result<(), EnvelopeError> {
        let plaintext = self.open_plaintext(place, envelope)?;
        Self::translate(place, plaintext, &self.current.client, &self.current.client).map(drop)
    }

    fn translate(
        place: &Place<'_>,
        plaintext: Zeroizing<Vec<u8>>,
        old: &ClientKey,
        new: &ClientKey,
    ) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let column =
            SealedColumn::ALL.into_iter().find(|column| (column.table(), column.name()) == (place.table, place.column));
        match column {
            Some(column) => under_new_client_key(column, plaintext, old, new)
                .map_err(|_| EnvelopeError::Malformed { place: place.name() }),
            None => Ok(plaintext),
        }
    }
}
