//! Keysets, and vault keys wrapped for an account (protocol notes section 8).
//!
//! An account's first keyset is sealed under its master unlock key, the others under the first
//! one's RSA key. Each vault key is RSA-encrypted under one of the keysets. Both RSA-OAEP and
//! RSA-OAEP-256 are used, so that a client must check `enc`.

use std::collections::BTreeMap;

use rsa::{BoxedUint, PublicKey};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::StartError;
use crate::encoding::{b64u, from_b64u};
use crate::envelope::{CONTENT_TYPE, Envelope, SymmetricKey};
use crate::random::Seed;
use crate::token::ITERATIONS;
use crate::wire::{Keyset, PublicJwk};

/// The id under which the master unlock key is always used.
const MASTER_KEY: &str = "mp";
/// The checked-in key that belongs to no account.
const FOREIGN: &str = "foreign";

/// The checked-in RSA keys, by name.
pub(crate) struct RsaKeys(BTreeMap<String, RsaKey>);

#[derive(Deserialize)]
struct KeyFile {
    keys: BTreeMap<String, PrivateJwk>,
}

#[derive(Deserialize)]
struct PrivateJwk {
    alg: String,
    n: String,
    e: String,
    d: Zeroizing<String>,
    p: Zeroizing<String>,
    q: Zeroizing<String>,
    dp: Zeroizing<String>,
    dq: Zeroizing<String>,
    qi: Zeroizing<String>,
}

struct RsaKey {
    jwk: PrivateJwk,
    public: PublicKey,
}

impl RsaKeys {
    /// Reads the checked-in keys.
    pub(crate) fn load() -> Result<Self, StartError> {
        let file: KeyFile = serde_json::from_str(include_str!("../data/rsa-test-keys.json"))?;
        let keys = file.keys.into_iter().map(|(name, jwk)| {
            let public = PublicKey::new(number(&jwk.n)?, number(&jwk.e)?)?;
            Ok((name, RsaKey { jwk, public }))
        });
        Ok(Self(keys.collect::<Result<_, rsa::Error>>()?))
    }

    fn get(&self, name: &str) -> Result<&RsaKey, StartError> {
        self.0.get(name).ok_or_else(|| StartError::UnknownRsaKey(name.to_owned()))
    }
}

fn number(text: &str) -> Result<BoxedUint, rsa::Error> {
    let bytes = from_b64u(text).ok_or(rsa::Error::InvalidArguments)?;
    Ok(BoxedUint::from_be_slice_vartime(&bytes))
}

impl RsaKey {
    /// Encrypts `plaintext` with this key's algorithm, as the key of that keyset.
    fn wrap(&self, keyset: &str, plaintext: &[u8]) -> Result<Envelope, StartError> {
        let data = match self.jwk.alg.as_str() {
            "RSA-OAEP-256" => self.public.oaep_encrypt::<sha2::Sha256>(plaintext)?,
            _ => self.public.oaep_encrypt::<sha1::Sha1>(plaintext)?,
        };
        Ok(Envelope {
            cty: CONTENT_TYPE.to_owned(),
            kid: keyset.to_owned(),
            enc: self.jwk.alg.clone(),
            iv: None,
            data: b64u(data),
            alg: None,
            p2c: None,
            p2s: None,
        })
    }

    fn private_jwk(&self, keyset: &str) -> Zeroizing<String> {
        let PrivateJwk { alg, n, e, d, p, q, dp, dq, qi } = &self.jwk;
        let jwk = json!({
            "alg": alg, "kty": "RSA", "kid": keyset, "n": n, "e": e, "ext": true, "key_ops": ["decrypt"],
            "d": **d, "p": **p, "q": **q, "dp": **dp, "dq": **dq, "qi": **qi,
        });
        Zeroizing::new(jwk.to_string())
    }

    fn public_jwk(&self, keyset: &str) -> PublicJwk {
        PublicJwk {
            alg: self.jwk.alg.clone(),
            e: self.jwk.e.clone(),
            ext: true,
            key_ops: vec!["encrypt".to_owned()],
            kid: keyset.to_owned(),
            kty: "RSA".to_owned(),
            n: self.jwk.n.clone(),
        }
    }
}

/// One account's keysets as the server sends them, and what is needed to wrap vault keys for it.
pub(crate) struct Keyring {
    /// In reverse order: clients must not depend on the order.
    wire: Vec<Keyset>,
    /// Sent only if the rules ask for it.
    foreign: Keyset,
    /// The keysets' ids and the names of their RSA keys, in the order of creation.
    wrapping: Vec<(String, String)>,
}

impl Keyring {
    /// Makes up a keyset for each of the named RSA keys; the first one is the parent of the others.
    pub(crate) fn made_up(
        seed: Seed,
        account: &str,
        master: &[u8; 32],
        rsa: &RsaKeys,
        names: &[&str],
    ) -> Result<Self, StartError> {
        let id = |name: &str| seed.lower_id(&format!("account/{account}/keyset/{name}"));
        let first = names.first().copied().unwrap_or(FOREIGN);
        let make = |serial: u32, name: &str, parent: &RsaKey| {
            let symmetric = SymmetricKey::new(id(name), seed.bytes(&format!("account/{account}/keyset-key/{name}")));
            let key = rsa.get(name)?;
            let (encrypted_by, enc_sym_key) = if name == first {
                (MASTER_KEY.to_owned(), under_master_key(seed, account, master, &symmetric))
            } else {
                (id(first), parent.wrap(&id(first), symmetric.to_jwk().as_bytes())?)
            };
            Ok::<_, StartError>(Keyset {
                uuid: id(name),
                encrypted_by,
                sn: serial,
                enc_sym_key,
                enc_pri_key: symmetric.seal(key.private_jwk(&id(name)).as_bytes()),
                pub_key: key.public_jwk(&id(name)),
                enc_s_pri_key: None,
                spub_key: None,
                created_at: CREATED_AT.to_owned(),
                updated_at: CREATED_AT.to_owned(),
            })
        };
        let mut wire = Vec::new();
        for (serial, name) in (1..).zip(names) {
            wire.insert(0, make(serial, name, rsa.get(first)?)?);
        }
        Ok(Self {
            wire,
            foreign: make(9, FOREIGN, rsa.get(FOREIGN)?)?,
            wrapping: names.iter().map(|name| (id(name), (*name).to_owned())).collect(),
        })
    }

    /// As `GET /api/v2/account/keysets` lists them.
    pub(crate) fn wire(&self, with_foreign: bool) -> Vec<&Keyset> {
        self.wire.iter().chain(with_foreign.then_some(&self.foreign)).collect()
    }

    /// Wraps a vault key for this account under the keyset at `position`, or under the first one if
    /// there are fewer. Also returns the keyset's id.
    pub(crate) fn wrap_vault_key(
        &self,
        position: usize,
        key: &SymmetricKey,
        rsa: &RsaKeys,
    ) -> Result<(String, Envelope), StartError> {
        let (uuid, name) = self
            .wrapping
            .get(position)
            .or(self.wrapping.first())
            .ok_or_else(|| StartError::UnknownRsaKey(format!("keyset {position}")))?;
        Ok((uuid.clone(), rsa.get(name)?.wrap(uuid, key.to_jwk().as_bytes())?))
    }
}

/// The creation time of every account.
pub(crate) const CREATED_AT: &str = "2025-01-02T03:04:05Z";

fn under_master_key(seed: Seed, account: &str, master: &[u8; 32], symmetric: &SymmetricKey) -> Envelope {
    let mut envelope = SymmetricKey::new(MASTER_KEY, *master).seal(symmetric.to_jwk().as_bytes());
    envelope.alg = Some("PBES2g-HS256".to_owned());
    envelope.p2c = Some(ITERATIONS);
    envelope.p2s = Some(b64u(seed.bytes::<16>(&format!("account/{account}/master-salt"))));
    envelope
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{VECTORS, text};
    use rsa::PrivateKey;
    use serde_json::Value;

    /// The private key of a JWK, constructed as in a client.
    fn private(jwk: &Value) -> PrivateKey {
        let part = |name: &str| number(text(&jwk[name])).unwrap();
        PrivateKey::from_p_q(part("p"), part("q"), part("e")).unwrap()
    }

    fn decrypt(key: &PrivateKey, envelope: &Envelope) -> Value {
        let data = from_b64u(&envelope.data).unwrap();
        let plaintext = match envelope.enc.as_str() {
            "RSA-OAEP" => key.oaep_decrypt::<sha1::Sha1>(&data),
            "RSA-OAEP-256" => key.oaep_decrypt::<sha2::Sha256>(&data),
            other => panic!("{other}"),
        };
        serde_json::from_slice(&plaintext.unwrap()).unwrap()
    }

    fn symmetric(jwk: &Value) -> SymmetricKey {
        SymmetricKey::new(text(&jwk["kid"]), from_b64u(text(&jwk["k"])).unwrap().try_into().unwrap())
    }

    fn opened(key: &SymmetricKey, envelope: &Envelope) -> Value {
        serde_json::from_slice(&key.open(envelope).unwrap()).unwrap()
    }

    #[test]
    fn the_envelopes_of_the_vectors_have_the_shape_that_wrap_makes() {
        for (name, algorithm) in [("sha1", "RSA-OAEP"), ("sha256", "RSA-OAEP-256")] {
            let vectors = &VECTORS["rsaOaep"];
            let envelope: Envelope = serde_json::from_value(vectors[name].clone()).unwrap();
            assert_eq!(envelope.enc, algorithm);
            let plaintext: Value = serde_json::from_str(text(&vectors["plaintext"])).unwrap();
            let key = private(&vectors["privateJwk"]);
            assert_eq!(decrypt(&key, &envelope), plaintext);
            let mut jwk: serde_json::Map<String, Value> = vectors["privateJwk"].as_object().unwrap().clone();
            jwk.insert("alg".to_owned(), algorithm.into());
            let ours = RsaKey { public: key.to_public_key(), jwk: serde_json::from_value(jwk.into()).unwrap() };
            let wrapped = ours.wrap(&envelope.kid, text(&vectors["plaintext"]).as_bytes()).unwrap();
            assert_eq!((&wrapped.cty, &wrapped.kid, &wrapped.enc), (&envelope.cty, &envelope.kid, &envelope.enc));
            assert_eq!(decrypt(&key, &wrapped), plaintext);
        }
    }

    #[test]
    fn a_client_can_open_every_keyset_and_vault_key_from_the_master_key_on() {
        let rsa = RsaKeys::load().unwrap();
        let names = ["automation-primary", "automation-secondary"];
        let ring = Keyring::made_up(Seed(1), "automation", &[5; 32], &rsa, &names).unwrap();
        let [second, first] = ring.wire(false)[..] else { panic!() };

        assert_eq!((first.encrypted_by.as_str(), first.enc_sym_key.kid.as_str()), ("mp", "mp"));
        let first_key = symmetric(&opened(&SymmetricKey::new("mp", [5; 32]), &first.enc_sym_key));
        assert_eq!(first_key.id(), first.uuid);
        let first_private = opened(&first_key, &first.enc_pri_key);
        assert_eq!(first_private["alg"], "RSA-OAEP");

        assert_eq!(
            (second.encrypted_by.as_str(), second.enc_sym_key.kid.as_str()),
            (first.uuid.as_str(), first.uuid.as_str())
        );
        let second_key = symmetric(&decrypt(&private(&first_private), &second.enc_sym_key));
        let second_private = opened(&second_key, &second.enc_pri_key);
        assert_eq!(second_private["alg"], "RSA-OAEP-256");

        let vault_key = SymmetricKey::new("jznakprl56t6kswv7t6bvd4nqe", [9; 32]);
        let (keyset, envelope) = ring.wrap_vault_key(1, &vault_key, &rsa).unwrap();
        assert_eq!((&keyset, &envelope.kid, envelope.enc.as_str()), (&second.uuid, &second.uuid, "RSA-OAEP-256"));
        assert_eq!(decrypt(&private(&second_private), &envelope)["kid"], "jznakprl56t6kswv7t6bvd4nqe");
    }

    #[test]
    fn the_foreign_keyset_is_handed_out_on_demand_only() {
        let rsa = RsaKeys::load().unwrap();
        let ring = Keyring::made_up(Seed(1), "auditor", &[5; 32], &rsa, &["auditor"]).unwrap();
        assert_eq!(ring.wire(false).len(), 1);
        assert_eq!(ring.wire(true)[1].encrypted_by, ring.wire(true)[0].uuid);
    }
}
