//! The client's side of SRP-6a (RFC 5054, 4096-bit group, SHA-256) in 1Password's variant.
//!
//! Invariants: no branch or memory access depends on a secret (Montgomery exponentiation with a
//! public bound on the exponent's length); a server value that would make the key predictable is
//! refused; the server's proof is compared in constant time before anything else is sent. Secrets
//! are wiped when dropped.
//!
//! The protocol writes numbers in three ways, and mixing them up breaks one login in 16, or in 128:
//! 512 bytes with leading zeros (`k`, `u`), as few bytes as possible (both proofs), as few
//! *hexadecimal digits* as possible (`userA` and the session key).

use crypto_bigint::{
    U256, U512, U4096, const_monty_params,
    modular::{ConstMontyForm, ConstMontyParams},
};
use keyway_sdk::encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    encoding::{b64u, decode_b64u},
    random::Random,
};

const_monty_params!(
    Group,
    U4096,
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74\
     020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437\
     4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed\
     ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf05\
     98da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb\
     9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b\
     e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf695581718\
     3995497cea956ae515d2261898fa051015728e5a8aaac42dad33170d04507a33\
     a85521abdf1cba64ecfb850458dbef0a8aea71575d060c7db3970f85a6e1e4c7\
     abf5ae8cdb0933d71e8c94e04a25619dcee3d2261ad2ee6bf12ffa06d98a0864\
     d87602733ec86a64521f2b18177b200cbbe117577a615d6c770988c0bad946e2\
     08e24fa074e5ab3143db5bfce0fd108e4b82d120a92108011a723c12a787e6d7\
     88719a10bdba5b2699c327186af4e23c1a946834b6150bda2583e9ca2ad44ce8\
     dbbbc2db04de8ef92e8efc141fbecaa6287c59474e6bc05d99b2964fa090c3a2\
     233ba186515be7ed1f612970cee2d7afb81bdd762170481cd0069127d5b05aa9\
     93b4ea988d8fddc186ffb7dc90a6c08f4df435c934063199ffffffffffffffff",
    "RFC 5054, appendix A, the 4096-bit group."
);
type Element = ConstMontyForm<Group, { U4096::LIMBS }>;

/// The group's generator, RFC 5054, appendix A.
const GENERATOR: u8 = 5;
/// The group's size.
const GROUP_BYTES: usize = 512;
/// The length of the secret exponent. RFC 5054, section 2.5.4, asks for at least 256 bits, which is
/// twice the strength of the 128-bit level. The account's own exponent `x` is a 256-bit hash, so a
/// longer one would not make the exchange stronger. The official client draws 4,088 bits and spends
/// most of its login on them.
const EXPONENT_BYTES: usize = 32;

/// Why a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SrpError {
    /// The server's public value is not a number of at most 4096 bits.
    #[error("the server's public value is malformed")]
    Malformed,
    /// The server's public value is one that makes the key predictable (RFC 5054, section 2.5.4).
    #[error("the server's public value is not allowed")]
    IllegalServerValue,
    /// The server does not know the account's verifier: it is an impostor.
    #[error("the server's proof is wrong")]
    WrongServerProof,
}

/// What identifies an account in the proofs.
pub(crate) struct Identity<'a> {
    /// Six characters of the secret key.
    pub(crate) key_id: &'a str,
    /// In lower case.
    pub(crate) email: &'a str,
}

/// The client's one-time key pair for one login.
pub(crate) struct Ephemeral {
    secret: Zeroizing<U4096>,
    /// An upper bound on the secret's length, independent of its value.
    secret_bits: u32,
    public: U4096,
}

/// What both sides know after the exchange, if both are genuine.
pub(crate) struct Agreement {
    session_key: Zeroizing<[u8; 32]>,
    client_proof: [u8; 32],
    server_proof: [u8; 32],
}

impl Ephemeral {
    /// Draws a new key pair.
    pub(crate) fn generate(random: &dyn Random) -> Result<Self, keyway_sdk::Error> {
        let mut secret = Zeroizing::new([0; EXPONENT_BYTES]);
        random.fill(secret.as_mut_slice())?;
        Ok(Self::from_secret(&U256::from_be_slice(secret.as_slice()).resize(), U256::BITS))
    }

    fn from_secret(secret: &U4096, secret_bits: u32) -> Self {
        let public = generator().pow_bounded_exp(secret, secret_bits).retrieve();
        Self { secret: Zeroizing::new(*secret), secret_bits, public }
    }

    /// A key pair with a given secret, in big-endian bytes, for replaying the official client's
    /// login.
    #[cfg(test)]
    pub(crate) fn from_secret_bytes(secret: &[u8]) -> Self {
        let mut padded = [0; GROUP_BYTES];
        padded[GROUP_BYTES - secret.len()..].copy_from_slice(secret);
        Self::from_secret(&U4096::from_be_slice(&padded), U4096::BITS)
    }

    /// `userA`: the client's public value, in hexadecimal without leading zero digits.
    pub(crate) fn user_a(&self) -> String {
        minimal_hex(&self.public).as_str().to_owned()
    }

    /// Finishes the exchange with `userB`, the server's public value in hexadecimal.
    pub(crate) fn agree(
        self,
        user_b: &str,
        x: &[u8; 32],
        identity: &Identity<'_>,
        salt: &[u8],
    ) -> Result<Agreement, SrpError> {
        let server_public = parse_group_element(user_b)?;
        let (a, b) = (padded(&self.public), padded(&server_public));
        let u = U256::from_be_slice(&hash(&[&a[..], &b[..]]));
        if u == U256::ZERO {
            return Err(SrpError::IllegalServerValue);
        }

        let k = U256::from_be_slice(&hash(&[
            &padded(Group::PARAMS.modulus().as_ref())[..],
            &padded(&U4096::from(GENERATOR))[..],
        ]));
        let x = Zeroizing::new(U256::from_be_slice(x));
        // S = (B - k * g^x) ^ (a + u * x)
        let verifier = Zeroizing::new(generator().pow(&*x));
        let base = Zeroizing::new(Element::new(&server_public) - Element::new(&k.resize()) * *verifier);
        let product: Zeroizing<U512> = Zeroizing::new(u.concatenating_mul(&*x));
        let exponent: Zeroizing<U4096> =
            Zeroizing::new(product.resize::<{ U4096::LIMBS }>().wrapping_add(&self.secret));
        let exponent_bits = self.secret_bits.max(U512::BITS).saturating_add(1).min(U4096::BITS);
        let shared = Zeroizing::new(base.pow_bounded_exp(&*exponent, exponent_bits).retrieve());
        let session_key = Zeroizing::new(hash(&[minimal_hex(&shared).as_bytes()]));

        let client_proof = hash(&[
            &hash_of_group(),
            &hash(&[identity.name().as_bytes()]),
            salt,
            minimal_bytes(&a),
            minimal_bytes(&b),
            session_key.as_slice(),
        ]);
        let server_proof = hash(&[minimal_bytes(&a), &client_proof, session_key.as_slice()]);
        Ok(Agreement { session_key, client_proof, server_proof })
    }
}

impl Agreement {
    /// `clientVerifyHash`: proves to the server that the client has the account's secret.
    pub(crate) fn client_verify_hash(&self) -> String {
        b64u(&self.client_proof)
    }

    /// Checks `serverVerifyHash`, and releases the session key only if the server has proven that
    /// it knows the account's verifier.
    pub(crate) fn confirm(self, server_verify_hash: &str) -> Result<Zeroizing<[u8; 32]>, SrpError> {
        let claimed = decode_b64u(server_verify_hash).map_err(|_| SrpError::WrongServerProof)?;
        if bool::from(claimed.as_slice().ct_eq(&self.server_proof)) {
            Ok(self.session_key)
        } else {
            Err(SrpError::WrongServerProof)
        }
    }
}

impl Identity<'_> {
    /// The account's name in the proofs.
    fn name(&self) -> String {
        let (key_id, email) = (hash(&[self.key_id.as_bytes()]), hash(&[self.email.as_bytes()]));
        b64u(&hash(&[&key_id[..], &email[..]]))
    }
}

fn generator() -> Element {
    Element::new(&U4096::from(GENERATOR))
}

/// H(N) xor H(g).
fn hash_of_group() -> [u8; 32] {
    let mut combined = hash(&[&padded(Group::PARAMS.modulus().as_ref())[..]]);
    for (byte, other) in combined.iter_mut().zip(hash(&[&[GENERATOR]])) {
        *byte ^= other;
    }
    combined
}

fn hash(pieces: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize().into()
}

/// Reads `userB`. Like the official client, accepts either case and leading zeros; an odd number of
/// digits means that a leading zero was omitted. Zero and everything from N on are refused: a value
/// that is 0 modulo N fixes the key.
fn parse_group_element(hex: &str) -> Result<U4096, SrpError> {
    if hex.is_empty() || hex.len() > GROUP_BYTES * 2 {
        return Err(SrpError::Malformed);
    }
    let digits = format!("{hex:0>width$}", width = GROUP_BYTES * 2);
    let bytes = keyway_sdk::encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| SrpError::Malformed)?;
    let value = U4096::from_be_slice(&bytes);
    if value == U4096::ZERO || value >= *Group::PARAMS.modulus().as_ref() {
        return Err(SrpError::IllegalServerValue);
    }
    Ok(value)
}

/// As 512 big-endian bytes.
fn padded(value: &U4096) -> Zeroizing<[u8; GROUP_BYTES]> {
    Zeroizing::new(value.to_be_bytes().into())
}

/// Without leading zero bytes. Only for public values: the time reveals how many there are.
fn minimal_bytes(padded: &[u8; GROUP_BYTES]) -> &[u8] {
    let zeros = padded.iter().take_while(|byte| **byte == 0).count();
    padded.get(zeros..).unwrap_or_default()
}

/// In lower-case hexadecimal without leading zero digits. For the shared secret this reveals how
/// many there are, as does the protocol itself: they are not hashed.
fn minimal_hex(value: &U4096) -> Zeroizing<String> {
    let digits = Zeroizing::new(HEXLOWER.encode(padded(value).as_slice()));
    Zeroizing::new(digits.trim_start_matches('0').to_owned())
}

#[cfg(test)]
#[path = "srp_tests.rs"]
mod tests;
