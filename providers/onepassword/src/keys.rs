//! The key chain: master unlock key -> keyset -> RSA key -> vault key.
//!
//! A service account has one or more keysets. One is opened by the master unlock key of the token,
//! the others by the RSA key of another keyset. A vault's key is encrypted to the RSA key of one
//! keyset, so only the keysets on the way to that one are opened, on demand. A keyset that cannot
//! be opened therefore affects only the vaults that need it (the official client fails entirely).
//!
//! Opening an RSA key takes milliseconds, so vault keys are kept in the session (see
//! [`crate::session`]) and this chain is walked once for each vault and login.

use std::collections::{HashMap, HashSet};

use crypto_bigint::BoxedUint;
use rsa::{Oaep, PrivateKey};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    encoding::decode_b64u,
    envelope::{Envelope, OpenError, SymmetricKey},
    token::MASTER_KEY_ID,
};

/// A keyset as the server sends it, reduced to the members needed here.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Keyset {
    uuid: String,
    /// [`MASTER_KEY_ID`] or the id of another keyset; if empty, the envelope names the key.
    #[serde(default)]
    encrypted_by: String,
    /// Incremented when an account's keyset is replaced.
    #[serde(default)]
    sn: i64,
    enc_sym_key: Envelope,
    enc_pri_key: Envelope,
}

/// Opens vault keys. Keeps every RSA key that it opened on the way.
pub(crate) struct KeyChain<'a> {
    keysets: &'a [Keyset],
    master_key: &'a SymmetricKey,
    opened: HashMap<&'a str, RsaKey>,
}

/// An RSA private key and its algorithm. The key is wiped when dropped.
pub(crate) struct RsaKey {
    id: String,
    algorithm: Algorithm,
    key: PrivateKey,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum Algorithm {
    /// The server uses SHA-1 for the label and for MGF1.
    #[serde(rename = "RSA-OAEP")]
    OaepSha1,
    #[serde(rename = "RSA-OAEP-256")]
    OaepSha256,
}

#[derive(Deserialize)]
struct RsaJwk {
    kty: String,
    #[serde(default)]
    kid: String,
    alg: Algorithm,
    n: String,
    e: String,
    d: Zeroizing<String>,
    p: Zeroizing<String>,
    q: Zeroizing<String>,
}

impl<'a> KeyChain<'a> {
    /// A chain that starts at the token's master unlock key.
    pub(crate) fn new(keysets: &'a [Keyset], master_key: &'a SymmetricKey) -> Self {
        Self { keysets, master_key, opened: HashMap::new() }
    }

    /// Opens the key of a vault.
    pub(crate) fn open_vault_key(&mut self, envelope: &Envelope) -> Result<SymmetricKey, OpenError> {
        let jwk = self.rsa_key(&envelope.kid, &mut HashSet::new())?.open(envelope)?;
        SymmetricKey::from_jwk(&jwk)
    }

    /// Tries each keyset once: those in `tried` lead back here or were tried in vain. A server that
    /// sends a cycle, or many keysets of one id, costs no more than their number.
    fn rsa_key(&mut self, keyset_id: &str, tried: &mut HashSet<usize>) -> Result<&RsaKey, OpenError> {
        let all = self.keysets.iter().enumerate();
        let mut candidates: Vec<(usize, &'a Keyset)> = all.filter(|(_, keyset)| keyset.uuid == keyset_id).collect();
        candidates.sort_by_key(|(_, keyset)| std::cmp::Reverse(keyset.sn));
        let mut failure = OpenError::WrongKey;
        for (index, keyset) in candidates {
            if !self.opened.contains_key(keyset.uuid.as_str()) {
                if !tried.insert(index) {
                    continue;
                }
                match self.open_keyset(keyset, tried) {
                    Ok(key) => self.opened.insert(&keyset.uuid, key),
                    Err(error) => {
                        failure = error;
                        continue;
                    }
                };
            }
            return self.opened.get(keyset.uuid.as_str()).ok_or(failure);
        }
        Err(failure)
    }

    fn open_keyset(&mut self, keyset: &Keyset, tried: &mut HashSet<usize>) -> Result<RsaKey, OpenError> {
        let parent = if keyset.encrypted_by.is_empty() { &keyset.enc_sym_key.kid } else { &keyset.encrypted_by };
        let symmetric = if parent == MASTER_KEY_ID {
            self.master_key.open(&keyset.enc_sym_key)?
        } else {
            self.rsa_key(parent, tried)?.open(&keyset.enc_sym_key)?
        };
        RsaKey::from_jwk(&SymmetricKey::from_jwk(&symmetric)?.open(&keyset.enc_pri_key)?)
    }
}

impl RsaKey {
    pub(crate) fn from_jwk(json: &[u8]) -> Result<Self, OpenError> {
        let jwk: RsaJwk = serde_json::from_slice(json).map_err(|_| OpenError::Malformed)?;
        if jwk.kty != "RSA" {
            return Err(OpenError::Algorithm);
        }
        let primes = vec![number(&jwk.p)?, number(&jwk.q)?];
        let key = PrivateKey::from_components(number(&jwk.n)?, number(&jwk.e)?, number(&jwk.d)?, primes)
            .map_err(|_| OpenError::Malformed)?;
        Ok(Self { id: jwk.kid, algorithm: jwk.alg, key })
    }

    fn open(&self, envelope: &Envelope) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if envelope.kid != self.id {
            return Err(OpenError::WrongKey);
        }
        let data = decode_b64u(&envelope.data).map_err(|_| OpenError::Malformed)?;
        // Like the official client, require the envelope's algorithm to be the key's own.
        let plaintext = match (self.algorithm, envelope.enc.as_str()) {
            (Algorithm::OaepSha1, "RSA-OAEP") => self.key.decrypt(Oaep::<Sha1>::new(), &data),
            (Algorithm::OaepSha256, "RSA-OAEP-256") => self.key.decrypt(Oaep::<Sha256>::new(), &data),
            _ => return Err(OpenError::Algorithm),
        };
        plaintext.map(Zeroizing::new).map_err(|_| OpenError::Integrity)
    }
}

/// An unsigned big-endian number in base64.
fn number(text: &str) -> Result<BoxedUint, OpenError> {
    let bytes = decode_b64u(text).map_err(|_| OpenError::Malformed)?;
    let bits = u32::try_from(bytes.len()).ok().and_then(|bytes| bytes.checked_mul(8)).ok_or(OpenError::Malformed)?;
    BoxedUint::from_be_slice(&bytes, bits).map_err(|_| OpenError::Malformed)
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
