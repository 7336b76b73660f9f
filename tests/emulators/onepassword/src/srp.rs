//! The server's half of SRP-6a in 1Password's variant (RFC 5054's 4096-bit group, SHA-256, protocol
//! notes section 5).
//!
//! Numbers have three encodings, and mixing them up fails one login in sixteen or in 128, so each
//! has its own function: padded to 512 bytes (`k`, `u`), minimal bytes (`M1`, `M2`), and hex text
//! without leading zero digits (the key, and what a client sends as `userA`).
//!
//! The server knows only the verifier `v = g^x`, kept in Montgomery form, and uses a 256-bit
//! ephemeral exponent. So a login costs it three exponentiations with 256-bit exponents.

use std::sync::LazyLock;

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Encoding, Odd, U256, U4096};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::encoding::{b64u, hex};

/// RFC 5054, appendix A, 4096-bit group.
const N: &str = concat!(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd",
    "ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed",
    "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f",
    "83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b",
    "e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa0510",
    "15728e5a8aaac42dad33170d04507a33a85521abdf1cba64ecfb850458dbef0a8aea71575d060c7db3970f85a6e1e4c7",
    "abf5ae8cdb0933d71e8c94e04a25619dcee3d2261ad2ee6bf12ffa06d98a0864d87602733ec86a64521f2b18177b200c",
    "bbe117577a615d6c770988c0bad946e208e24fa074e5ab3143db5bfce0fd108e4b82d120a92108011a723c12a787e6d7",
    "88719a10bdba5b2699c327186af4e23c1a946834b6150bda2583e9ca2ad44ce8dbbbc2db04de8ef92e8efc141fbecaa6",
    "287c59474e6bc05d99b2964fa090c3a2233ba186515be7ed1f612970cee2d7afb81bdd762170481cd0069127d5b05aa9",
    "93b4ea988d8fddc186ffb7dc90a6c08f4df435c934063199ffffffffffffffff",
);

/// The size of a padded group element in bytes.
const GROUP_BYTES: usize = 512;

type Element = FixedMontyForm<{ U4096::LIMBS }>;

/// Values that are the same for every login.
struct Group {
    params: FixedMontyParams<{ U4096::LIMBS }>,
    generator: Element,
    /// `k = H(N || PAD(g))`.
    multiplier: Element,
    /// `H(N) xor H(g)`, the start of `M1`.
    digest: [u8; 32],
}

static GROUP: LazyLock<Group> = LazyLock::new(|| {
    let modulus = Odd::<U4096>::from_be_hex(N);
    let params = FixedMontyParams::new_vartime(modulus);
    let generator = U4096::from(5u32);
    let multiplier = sha256(&[&padded(&modulus), &padded(&generator)]);
    let mut digest = sha256(&[&padded(&modulus)]);
    for (left, right) in digest.iter_mut().zip(sha256(&[&[5]])) {
        *left ^= right;
    }
    Group {
        params,
        generator: Element::new(&generator, &params),
        multiplier: Element::new(&U256::from_be_slice(&multiplier).resize(), &params),
        digest,
    }
});

/// `v = g^x`, the only part of a password that a server stores.
pub(crate) struct Verifier(Element);

/// Why a client's public value is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BadPublicValue {
    #[error("userA is not 1 to 1024 hex digits")]
    NotHex,
    #[error("userA is zero modulo N, or not below N")]
    OutOfRange,
}

/// The client's public value `A`, checked to be in the group and not zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ClientPublic(U4096);

/// The server's ephemeral key pair for one login.
pub(crate) struct Ephemeral {
    secret: Zeroizing<U256>,
    public: U4096,
}

/// What both sides agree on if they know the same secret.
pub(crate) struct Agreement {
    /// `K`, the session key.
    pub(crate) key: Zeroizing<[u8; 32]>,
    client_proof: [u8; 32],
    server_proof: [u8; 32],
}

impl Verifier {
    /// Derives it from a token's private value `x`.
    pub(crate) fn from_private(x: &[u8; 32]) -> Self {
        let x = Zeroizing::new(U256::from_be_slice(x));
        Self(GROUP.generator.pow_bounded_exp(&*x, U256::BITS))
    }

    /// `B = k*v + g^b` for a fresh secret `b`.
    pub(crate) fn ephemeral(&self, secret: [u8; 32]) -> Ephemeral {
        let secret = Zeroizing::new(U256::from_be_bytes(secret.into()));
        let public = GROUP.multiplier.mul(&self.0).add(&GROUP.generator.pow_bounded_exp(&*secret, U256::BITS));
        Ephemeral { secret, public: public.retrieve() }
    }
}

impl ClientPublic {
    /// Parses `userA`: up to 1024 hex digits, including odd lengths (clients omit leading zero
    /// digits).
    pub(crate) fn from_hex(text: &str) -> Result<Self, BadPublicValue> {
        if text.is_empty() || text.len() > 2 * GROUP_BYTES || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(BadPublicValue::NotHex);
        }
        let value = U4096::from_be_hex(&format!("{text:0>1024}").to_ascii_lowercase());
        if bool::from(value.is_zero()) || value >= *GROUP.params.modulus().as_ref() {
            return Err(BadPublicValue::OutOfRange);
        }
        Ok(Self(value))
    }
}

impl Ephemeral {
    /// `userB`: hex of whole bytes (a client of the real service cannot read an odd number of
    /// digits).
    pub(crate) fn user_b(&self) -> String {
        hex(minimal(&self.public))
    }

    /// The server's side of the agreement: `S = (A * v^u)^b`.
    pub(crate) fn agree(&self, verifier: &Verifier, client: ClientPublic, identity: &str, salt: &[u8]) -> Agreement {
        let u = U256::from_be_slice(&sha256(&[&padded(&client.0), &padded(&self.public)]));
        let base = Element::new(&client.0, &GROUP.params).mul(&verifier.0.pow_bounded_exp(&u, U256::BITS));
        let secret = Zeroizing::new(base.pow_bounded_exp(&*self.secret, U256::BITS).retrieve());
        let key = Zeroizing::new(sha256(&[hex_digits(&secret).as_bytes()]));
        let a = minimal(&client.0);
        let b = minimal(&self.public);
        let client_proof = sha256(&[&GROUP.digest, &sha256(&[identity.as_bytes()]), salt, &a, &b, &*key]);
        let server_proof = sha256(&[&a, &client_proof, &*key]);
        Agreement { key, client_proof, server_proof }
    }
}

impl Agreement {
    /// Whether `proof` is the client's `M1`.
    pub(crate) fn accepts(&self, proof: &[u8]) -> bool {
        self.client_proof.ct_eq(proof).into()
    }

    /// `M2`, which proves to the client that the server knows the verifier.
    pub(crate) fn server_proof(&self) -> &[u8; 32] {
        &self.server_proof
    }
}

/// `I`: the user in `M1`, derived from the secret key's id and the e-mail address.
pub(crate) fn identity(secret_key_id: &str, email: &str) -> String {
    let id = sha256(&[secret_key_id.as_bytes()]);
    let email = sha256(&[email.to_lowercase().as_bytes()]);
    b64u(sha256(&[&id, &email]))
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// `PAD(n)`: all 512 bytes.
fn padded(number: &U4096) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(number.to_be_bytes().as_ref().to_vec())
}

/// `BYTES(n)`: without leading zero bytes.
fn minimal(number: &U4096) -> Zeroizing<Vec<u8>> {
    let bytes = padded(number);
    Zeroizing::new(bytes.iter().copied().skip_while(|byte| *byte == 0).collect())
}

/// `HEX(n)`: without leading zero digits.
fn hex_digits(number: &U4096) -> Zeroizing<String> {
    let digits = Zeroizing::new(hex(padded(number)));
    Zeroizing::new(digits.trim_start_matches('0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::from_b64u;
    use crate::vectors::{VECTORS, bytes, text};
    use serde_json::Value;

    fn check(case: &Value) {
        let verifier = Verifier::from_private(&bytes(&case["x"]));
        assert_eq!(*hex_digits(&verifier.0.retrieve()), text(&case["v"]).trim_start_matches('0'));
        let ephemeral = verifier.ephemeral(bytes(&case["b"]));
        assert_eq!(ephemeral.user_b(), text(&case["userB"]));
        let client = ClientPublic::from_hex(text(&case["userA"])).unwrap();
        let identity = identity(text(&case["skid"]), text(&case["email"]));
        assert_eq!(identity, text(&case["identity"]));
        let salt = from_b64u(text(&case["salt"])).unwrap();
        let agreement = ephemeral.agree(&verifier, client, &identity, &salt);
        assert_eq!(hex(*agreement.key), text(&case["K"]));
        assert!(agreement.accepts(&from_b64u(text(&case["clientVerifyHash"])).unwrap()));
        assert_eq!(b64u(agreement.server_proof()), text(&case["serverVerifyHash"]));
    }

    #[test]
    fn the_login_that_the_official_sdk_made_is_reproduced() {
        check(&VECTORS["srp"]["main"]);
    }

    #[test]
    fn logins_whose_numbers_start_with_zeros_are_reproduced() {
        let cases = VECTORS["srp"]["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 5);
        cases.iter().for_each(check);
    }

    #[test]
    fn the_multiplier_is_that_of_the_padded_generator() {
        assert_eq!(*hex_digits(&GROUP.multiplier.retrieve()), text(&VECTORS["srp"]["k"]));
    }

    #[test]
    fn a_proof_of_another_password_is_refused() {
        let case = &VECTORS["srp"]["main"];
        let verifier = Verifier::from_private(&[7; 32]);
        let ephemeral = verifier.ephemeral(bytes(&case["b"]));
        let client = ClientPublic::from_hex(text(&case["userA"])).unwrap();
        let agreement = ephemeral.agree(&verifier, client, text(&case["identity"]), &[]);
        assert!(!agreement.accepts(&from_b64u(text(&case["clientVerifyHash"])).unwrap()));
        assert!(!agreement.accepts(&[]));
    }

    #[test]
    fn public_values_that_would_fix_the_key_are_refused() {
        for zero in ["0", "00", N] {
            assert_eq!(ClientPublic::from_hex(zero), Err(BadPublicValue::OutOfRange));
        }
        for wrong in ["", "xyz", &"1".repeat(1025)] {
            assert_eq!(ClientPublic::from_hex(wrong), Err(BadPublicValue::NotHex));
        }
    }
}
