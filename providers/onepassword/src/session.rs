//! State kept between calls: the login, and the keys that were costly to open. The host keeps it
//! sealed in memory.
//!
//! Invariants: concurrent calls share a session and never sign two requests with the same counter.
//! What the host stores is small, whatever an account holds (see [`Kept`]), while the call itself
//! has everything that it opened. What opens nothing new is kept encrypted, as received, so keysets
//! are stored as ciphertext under the token's master key.
//!
//! **How long**: as long as the throttling token that was signed with it, 55 minutes from the
//! sign-in. The server does not say how long a session lives, and a session that it no longer
//! accepts is replaced at once. So this only limits how long the decrypted vault keys of an unused
//! connection stay in memory, at the price of at most 27 sign-ins a day.

use std::collections::BTreeMap;

use keyway_sdk::{Error, session::SessionStore};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::{
    encoding::{b64u, decode_b64u},
    envelope::SymmetricKey,
    keys::Keyset,
    mac::MacKey,
    random::Random,
    throttle::{REPLACED_AFTER, ThrottleToken},
};

/// How long a session is kept, in seconds from the sign-in.
pub(crate) const LIFETIME: u64 = REPLACED_AFTER;
/// How many vault keys are kept: at most 300 bytes each, of the host's limit of 256 KiB. Each
/// further vault costs an additional request each time.
const MAX_VAULT_KEYS: usize = 500;
/// How much of a vault's name is kept, in characters.
const MAX_NAME_CHARS: usize = 40;
/// The largest keysets that are kept. One takes 4 to 8 KB, and a service account has one.
const MAX_KEYSETS_BYTES: usize = 64 * 1024;

/// A login and the keys opened with it. Serialised as [`Kept`].
#[derive(Debug, Deserialize)]
pub(crate) struct Session {
    /// The server's id for it.
    pub(crate) id: String,
    /// Encrypts every body. Its id is the session's id.
    key: SymmetricKey,
    /// The time of the sign-in in Unix seconds.
    signed_in_at: u64,
    /// The start of this session's counter, see [`Session::sign`].
    mac_start: u64,
    /// The connection's counter at that moment.
    counter_start: u64,
    /// The account's id; set only right after signing in.
    #[serde(skip)]
    pub(crate) account: Option<String>,
    /// The throttling token of this session.
    pub(crate) throttle: Option<ThrottleToken>,
    /// As the server sent them; `None` if not fetched yet.
    keysets: Option<Vec<Keyset>>,
    /// Their size, if they are new.
    #[serde(skip)]
    keysets_bytes: usize,
    /// By vault id.
    vaults: BTreeMap<String, VaultKey>,
}

/// A vault whose key has been opened.
#[derive(Debug, Deserialize)]
pub(crate) struct VaultKey {
    /// The vault's display name, for messages.
    pub(crate) name: String,
    pub(crate) key: SymmetricKey,
}

impl Session {
    /// A newly agreed session. The counter of its signatures starts at a random number below 2^24,
    /// as the official client's does.
    pub(crate) fn new(
        id: String,
        key: &[u8; 32],
        now: u64,
        throttle: Option<ThrottleToken>,
        store: &dyn SessionStore,
        random: &dyn Random,
    ) -> Result<Self, Error> {
        let mut seed = [0; 4];
        random.fill(&mut seed)?;
        Ok(Self {
            key: SymmetricKey::new(id.clone(), key),
            id,
            signed_in_at: now,
            mac_start: u64::from(u32::from_le_bytes(seed) & 0x00ff_ffff),
            counter_start: store.counter(),
            account: None,
            throttle,
            keysets: None,
            keysets_bytes: 0,
            vaults: BTreeMap::new(),
        })
    }

    /// The key that encrypts every body.
    pub(crate) fn key(&self) -> &SymmetricKey {
        &self.key
    }

    /// Signs one request with a counter that is unique within this session: the connection's
    /// counter, offset to the session's start.
    pub(crate) fn sign(&self, store: &dyn SessionStore, method: &str, host: &str, path_and_query: &str) -> String {
        let counter = self.mac_start.wrapping_add(store.counter().wrapping_sub(self.counter_start));
        MacKey::derive(self.key.bytes()).sign(&self.id, method, host, path_and_query, counter)
    }

    /// For how many more seconds it is kept; at least one, because 0 would drop it.
    pub(crate) fn seconds_left(&self, now: u64) -> u32 {
        let left = (self.signed_in_at + LIFETIME).saturating_sub(now).min(LIFETIME);
        u32::try_from(left).unwrap_or(u32::MAX).max(1)
    }

    /// The keysets, if they are known.
    pub(crate) fn keysets(&self) -> Option<&[Keyset]> {
        self.keysets.as_deref()
    }

    /// Keeps the keysets, whose size in the answer was `bytes`.
    pub(crate) fn set_keysets(&mut self, keysets: Vec<Keyset>, bytes: usize) {
        self.keysets = Some(keysets);
        self.keysets_bytes = bytes;
    }

    /// A vault whose key is known.
    pub(crate) fn vault(&self, id: &str) -> Option<&VaultKey> {
        self.vaults.get(id)
    }

    /// Keeps a vault's key.
    pub(crate) fn set_vault(&mut self, id: &str, vault: VaultKey) {
        self.vaults.insert(id.to_owned(), vault);
    }

    /// Takes over the keys that an earlier session had opened and this one lacks: keys outlive the
    /// login that they were fetched with.
    pub(crate) fn inherit(&mut self, earlier: Self) {
        if self.keysets.is_none() {
            self.keysets = earlier.keysets;
            self.keysets_bytes = earlier.keysets_bytes;
        }
        for (id, vault) in earlier.vaults {
            self.vaults.entry(id).or_insert(vault);
        }
    }
}

/// The part of a [`Session`] that later calls get: as much as fits into the slot. The rest is
/// fetched again when needed.
#[derive(Serialize)]
struct Kept<'a> {
    id: &'a str,
    key: &'a SymmetricKey,
    signed_in_at: u64,
    mac_start: u64,
    counter_start: u64,
    throttle: Option<&'a ThrottleToken>,
    keysets: Option<&'a [Keyset]>,
    vaults: BTreeMap<&'a str, KeptVault<'a>>,
}

#[derive(Serialize)]
struct KeptVault<'a> {
    name: &'a str,
    key: &'a SymmetricKey,
}

impl Serialize for Session {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let vaults = self.vaults.iter().take(MAX_VAULT_KEYS).map(|(id, vault)| {
            // No message needs a longer name.
            let end = vault.name.char_indices().nth(MAX_NAME_CHARS).map_or(vault.name.len(), |(end, _)| end);
            (id.as_str(), KeptVault { name: vault.name.get(..end).unwrap_or_default(), key: &vault.key })
        });
        Kept {
            id: &self.id,
            key: &self.key,
            signed_in_at: self.signed_in_at,
            mac_start: self.mac_start,
            counter_start: self.counter_start,
            throttle: self.throttle.as_ref(),
            keysets: self.keysets().filter(|_| self.keysets_bytes <= MAX_KEYSETS_BYTES),
            vaults: vaults.collect(),
        }
        .serialize(serializer)
    }
}

/// A stored key: its id and its bytes in base64.
#[derive(Deserialize, Serialize)]
struct StoredKey {
    id: String,
    k: Zeroizing<String>,
}

impl Serialize for SymmetricKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredKey { id: self.id().to_owned(), k: Zeroizing::new(b64u(self.bytes())) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SymmetricKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = StoredKey::deserialize(deserializer)?;
        let bytes = decode_b64u(&stored.k).map_err(serde::de::Error::custom)?;
        let bytes = bytes.as_slice().try_into().map_err(serde::de::Error::custom)?;
        Ok(Self::new(stored.id, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encoding::decode_hex, random::scripted::ScriptedRandom, vectors::vectors};
    use keyway_sdk::testing::MemorySession;

    const NOW: u64 = 1_735_787_045;

    fn session(store: &MemorySession) -> Session {
        let v = &vectors()["mac"];
        let key = decode_hex(v["sessionKey"].as_str().unwrap()).unwrap();
        // The four bytes that the official client drew.
        let seed =
            keyway_sdk::encoding::HEXLOWER.decode(vectors()["randomness"][2]["hex"].as_str().unwrap().as_bytes());
        let random = ScriptedRandom::new([seed.unwrap()]);
        Session::new(v["sessionId"].as_str().unwrap().to_owned(), &key, NOW, None, store, &random).unwrap()
    }

    #[test]
    fn the_first_request_is_signed_with_the_official_clients_first_counter() {
        let store = MemorySession::default();
        for _ in 0..5 {
            store.counter(); // an earlier session used these
        }
        let header = session(&store).sign(&store, "POST", "my.1password.com", "/api/v2/auth/complete");
        assert_eq!(header, vectors()["mac"]["cases"][0]["header"].as_str().unwrap());
    }

    #[test]
    fn calls_that_share_a_session_never_sign_with_the_same_counter() {
        let store = MemorySession::default();
        let one = session(&store);
        let two: Session = serde_json::from_slice(&serde_json::to_vec(&one).unwrap()).unwrap();
        let mut headers: Vec<String> = Vec::new();
        for _ in 0..50 {
            headers.push(one.sign(&store, "GET", "h", "/p"));
            headers.push(two.sign(&store, "GET", "h", "/p"));
        }
        let counters: std::collections::BTreeSet<u64> =
            headers.iter().map(|header| header.split('|').nth(1).unwrap().parse().unwrap()).collect();
        assert_eq!(counters.len(), 100);
        assert_eq!((counters.first(), counters.last()), (Some(&123_457), Some(&123_556)));
    }

    #[test]
    fn a_session_is_kept_for_55_minutes_from_the_sign_in_however_often_it_is_put() {
        let session = session(&MemorySession::default());
        assert_eq!(session.seconds_left(NOW), 3_300);
        assert_eq!(session.seconds_left(NOW + 1_000), 2_300);
        assert_eq!(session.seconds_left(NOW + 9_000), 1);
        assert_eq!(session.seconds_left(NOW - 9_000), 3_300, "a clock that was set back does not prolong it");
    }

    #[test]
    fn the_state_fits_into_the_slot_whatever_the_account_holds_and_the_call_keeps_all_of_it() {
        let mut session = session(&MemorySession::default());
        let keyset: Keyset = serde_json::from_value(vectors()["keys"]["keyset"].clone()).unwrap();
        session.set_keysets(vec![keyset.clone(); 12], 12 * 5_000);
        for n in 0..3_000 {
            let vault = VaultKey { name: "\u{1f511}".repeat(60), key: SymmetricKey::new("k".repeat(26), &[1; 32]) };
            session.set_vault(&format!("{n:a>26}"), vault);
        }
        let stored = |session: &Session| -> Session {
            let bytes = serde_json::to_vec(session).unwrap();
            assert!(bytes.len() < 256 * 1024, "{}", bytes.len());
            serde_json::from_slice(&bytes).unwrap()
        };
        let kept = stored(&session);
        assert_eq!((kept.keysets().unwrap().len(), kept.vaults.len()), (12, MAX_VAULT_KEYS));
        assert!(kept.vaults.values().all(|vault| vault.name.chars().count() == MAX_NAME_CHARS));
        session.set_keysets(vec![keyset; 100], 100 * 5_000);
        assert!(stored(&session).keysets().is_none());
        assert_eq!((session.keysets().unwrap().len(), session.vaults.len()), (100, 3_000));
    }

    #[test]
    fn a_call_that_goes_on_with_another_session_has_what_it_opened_and_what_that_one_has() {
        let store = MemorySession::default();
        let with = |vaults: &[(&str, &str)]| {
            let mut session = session(&store);
            for (id, key) in vaults {
                session.set_vault(id, VaultKey { name: String::new(), key: SymmetricKey::new(*key, &[1; 32]) });
            }
            session
        };
        let mut newer = with(&[("b", "new"), ("c", "new")]);
        newer.inherit(with(&[("a", "old"), ("b", "old")]));
        let keys: Vec<_> = newer.vaults.iter().map(|(id, vault)| (id.as_str(), vault.key.id())).collect();
        assert_eq!(keys, [("a", "old"), ("b", "new"), ("c", "new")]);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let mut session = session(&MemorySession::default());
        session.set_vault("v", VaultKey { name: "Vault".into(), key: SymmetricKey::new("k", &[0xab; 32]) });
        let printed = format!("{session:?}");
        let key = vectors()["mac"]["sessionKey"].as_str().unwrap();
        assert!(!printed.contains("171") && !printed.contains(&key[..8]) && !printed.contains("102, 179"), "{printed}");
    }
}
