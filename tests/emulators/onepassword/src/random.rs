//! Random bytes of the operating system, and the made-up but reproducible ones that accounts and
//! items are built from.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::encoding::{lower_id, upper_id};

/// Fresh random bytes.
///
/// The operating system has random bytes from early in its boot. Without them the emulator is
/// useless anyway, and the bytes stay zero.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "the operating system gives no random bytes");
    }
    bytes
}

/// The source of made-up ids and keys: the same seed gives the same ones on every machine, so that
/// references and tokens in a script stay valid.
#[derive(Clone, Copy)]
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    /// Up to 32 bytes, determined by the seed and `label`.
    pub(crate) fn bytes<const N: usize>(self, label: &str) -> [u8; N] {
        let mut made = [0; N];
        // HMAC accepts keys of any length.
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0.to_be_bytes()) {
            mac.update(label.as_bytes());
            for (to, from) in made.iter_mut().zip(mac.finalize().into_bytes()) {
                *to = from;
            }
        }
        made
    }

    /// A lower-case id.
    pub(crate) fn lower_id(self, label: &str) -> String {
        lower_id(self.bytes(label))
    }

    /// An upper-case id.
    pub(crate) fn upper_id(self, label: &str) -> String {
        upper_id(self.bytes(label))
    }

    /// `length` characters of the alphabet of secret keys.
    pub(crate) fn secret_key_text(self, label: &str, length: usize) -> String {
        const ALPHABET: &[u8; 31] = b"ABCDEFGHJKLMNPQRSTVWXYZ23456789";
        let bytes = self.bytes::<32>(label);
        let digit = |byte: &u8| ALPHABET.get(usize::from(byte % 31)).copied().map(char::from);
        bytes.iter().filter_map(digit).take(length).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_label_give_the_same_bytes_and_others_give_others() {
        assert_eq!(Seed(1).bytes::<32>("a"), Seed(1).bytes::<32>("a"));
        assert_ne!(Seed(1).bytes::<32>("a"), Seed(1).bytes::<32>("b"));
        assert_ne!(Seed(1).bytes::<32>("a"), Seed(2).bytes::<32>("a"));
    }

    #[test]
    fn fresh_bytes_are_fresh() {
        assert_ne!(bytes::<16>(), bytes::<16>());
    }
}
