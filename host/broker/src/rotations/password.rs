//! Generating new passwords.
//!
//! **Invariant:** every password that follows the policy is equally likely. Characters are drawn
//! uniformly from all that are allowed: a random byte of the operating system beyond the last whole
//! multiple is discarded, not folded back. A password that lacks a kind of character is discarded
//! whole; inserting a missing character would favour some passwords over others.
//!
//! The sampling is written out here because the crates for it either draw from a generator whose
//! state, and with it every password that it made, stays in memory, or panic when there is no
//! randomness. All intermediate values are wiped.

use keyway_keys::EnvelopeError;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::error::{BrokerError, InvalidInput};

/// Punctuation that nearly every site accepts in passwords.
const SYMBOLS: &str = "!#$%*+-=?@_";

const LENGTHS: std::ops::RangeInclusive<usize> = 12..=128;

const DEFAULT_LENGTH: usize = 24;

/// The characters of a generated password. It has at least one of every kind that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PasswordPolicy {
    /// The number of characters: 12 to 128.
    pub length: usize,
    /// Allows `a` to `z`.
    pub lowercase: bool,
    /// Allows `A` to `Z`.
    pub uppercase: bool,
    /// Allows `0` to `9`.
    pub digits: bool,
    /// The ASCII punctuation characters that are allowed; empty for none.
    pub symbols: String,
}

impl Default for PasswordPolicy {
    /// 24 characters of all four kinds, with the symbols `!#$%*+-=?@_`: 148 bits, and accepted by
    /// nearly every site.
    fn default() -> Self {
        Self { length: DEFAULT_LENGTH, lowercase: true, uppercase: true, digits: true, symbols: SYMBOLS.to_owned() }
    }
}

impl PasswordPolicy {
    /// Sets the number of characters.
    #[must_use]
    pub fn length(self, length: usize) -> Self {
        Self { length, ..self }
    }

    /// Sets the punctuation characters that are allowed; empty for none.
    #[must_use]
    pub fn symbols(self, symbols: impl Into<String>) -> Self {
        Self { symbols: symbols.into(), ..self }
    }

    /// Generates a password.
    pub(crate) fn generate(&self) -> Result<SecretString, BrokerError> {
        let kinds = self.kinds()?;
        let alphabet = kinds.concat();
        let mut password = Zeroizing::new(String::with_capacity(self.length));
        loop {
            password.clear();
            fill(&mut password, self.length, alphabet.as_bytes())?;
            if kinds.iter().all(|kind| password.contains(|c| kind.contains(c))) {
                return Ok(password.as_str().into());
            }
        }
    }

    /// The allowed characters by kind, without duplicates.
    fn kinds(&self) -> Result<Vec<String>, InvalidInput> {
        if !LENGTHS.contains(&self.length) {
            return Err(InvalidInput::PasswordLength { least: *LENGTHS.start(), most: *LENGTHS.end() });
        }
        if !self.symbols.bytes().all(|symbol| symbol.is_ascii_punctuation()) {
            return Err(InvalidInput::PasswordSymbols);
        }
        let mut symbols: Vec<char> = self.symbols.chars().collect();
        symbols.sort_unstable();
        symbols.dedup();
        let ranges = [(self.lowercase, 'a'..='z'), (self.uppercase, 'A'..='Z'), (self.digits, '0'..='9')];
        let mut kinds: Vec<String> =
            ranges.into_iter().filter(|(allowed, _)| *allowed).map(|(_, range)| range.collect()).collect();
        kinds.extend((!symbols.is_empty()).then(|| symbols.into_iter().collect()));
        // With fewer characters to choose from, a short password could be guessed.
        if kinds.iter().map(String::len).sum::<usize>() < 10 {
            return Err(InvalidInput::PasswordAlphabet);
        }
        Ok(kinds)
    }
}

/// Appends `count` characters of `alphabet`, which has at most 128.
fn fill(password: &mut String, count: usize, alphabet: &[u8]) -> Result<(), EnvelopeError> {
    let below = 256 - 256 % alphabet.len().max(1);
    let mut bytes = Zeroizing::new([0_u8; 256]);
    while password.len() < count {
        getrandom::fill(bytes.as_mut_slice()).map_err(EnvelopeError::NoRandomness)?;
        let drawn = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < below);
        let characters = drawn.filter_map(|byte| alphabet.get(byte % alphabet.len()));
        password.extend(characters.take(count - password.len()).map(|character| char::from(*character)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn generated(policy: &PasswordPolicy) -> String {
        match policy.generate() {
            Ok(password) => password.expose_secret().to_owned(),
            Err(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn a_password_has_the_length_and_a_character_of_every_kind_and_no_other() {
        for length in [12, 24, 128] {
            let policy = PasswordPolicy { length, ..PasswordPolicy::default() };
            for _ in 0..200 {
                let password = generated(&policy);
                assert_eq!(password.len(), length);
                for has in [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit] {
                    assert!(password.as_bytes().iter().any(has));
                }
                assert!(password.contains(|c| SYMBOLS.contains(c)));
                assert!(password.chars().all(|c| c.is_ascii_alphanumeric() || SYMBOLS.contains(c)));
            }
        }
    }

    #[test]
    fn a_kind_that_is_not_allowed_does_not_occur() {
        let policy = PasswordPolicy { uppercase: false, symbols: "--".into(), ..PasswordPolicy::default() };
        for _ in 0..200 {
            let password = generated(&policy);
            assert!(password.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            assert!(password.contains('-'));
        }
    }

    #[test]
    fn every_character_is_about_equally_likely() {
        // If bytes were folded back, some of the 62 characters would be a quarter more likely
        // (256 = 4 * 62 + 8).
        let policy = PasswordPolicy { length: 128, symbols: String::new(), ..PasswordPolicy::default() };
        let mut counts = std::collections::BTreeMap::new();
        for character in (0..1_500).flat_map(|_| generated(&policy).into_bytes()) {
            *counts.entry(character).or_insert(0_u32) += 1;
        }
        let expected = 1_500.0 * 128.0 / 62.0;
        assert_eq!(counts.len(), 62);
        for (character, count) in counts {
            // Seven standard deviations (55.2 each).
            assert!((f64::from(count) - expected).abs() < 390.0, "{}: {count} of {expected}", char::from(character));
        }
    }

    #[test]
    fn a_policy_that_makes_weak_passwords_or_none_is_refused() {
        let none = PasswordPolicy {
            lowercase: false,
            uppercase: false,
            digits: false,
            symbols: "!#".into(),
            ..PasswordPolicy::default()
        };
        for policy in [
            PasswordPolicy { length: 11, ..PasswordPolicy::default() },
            PasswordPolicy { length: 129, ..PasswordPolicy::default() },
            PasswordPolicy { symbols: "ä".into(), ..PasswordPolicy::default() },
            PasswordPolicy { symbols: " ".into(), ..PasswordPolicy::default() },
            none,
        ] {
            assert!(matches!(policy.generate(), Err(BrokerError::Invalid(_))), "{policy:?}");
        }
    }

    #[test]
    fn two_passwords_differ() {
        assert_ne!(generated(&PasswordPolicy::default()), generated(&PasswordPolicy::default()));
    }
}
