//! One-time codes (RFC 6238) from what people store: an `otpauth://totp/...` URL, `steam://...`, or
//! the bare secret.
//!
//! **Invariant:** a text that could mean two things makes no code, and the error says why. A wrong
//! code that looks right locks accounts. [`parse`](Totp::parse) is lenient about notation: spaces,
//! dashes, lower case and padding in the secret, short secrets, a label that is not encoded, a URL
//! that was copied out of HTML, unknown parameters. It is strict about what decides the code: type,
//! algorithm, digits and period.
//!
//! `totp-rs` makes the codes. Its own reader of URLs is not used: it accepts no label with a `?`,
//! no `&amp;` and no short secret, reads Valve's URLs as six digits, and copies the secret into a
//! URL that is not wiped.
//!
//! Texts and secrets are wiped when dropped and print a placeholder. The secret manager's provider
//! and the host read one-time passwords with this crate, so that they agree.
//!
//! ```
//! use keyway_otp::Totp;
//! use keyway_otp::secrecy::ExposeSecret;
//!
//! let totp = Totp::parse("otpauth://totp/Example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&digits=8")?;
//! let code = totp.code_at(59);
//! assert_eq!((code.code.expose_secret(), code.expires_at), ("94287082", 60));
//! # Ok::<(), keyway_otp::TotpError>(())
//! ```

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroU32;

pub use secrecy;
use secrecy::SecretString;
use totp_rs::Builder;
use zeroize::{Zeroize, Zeroizing};

/// The authenticator of one item or entry. Its secret is wiped when dropped and never printed.
pub struct Totp {
    secret: Zeroizing<Vec<u8>>,
    algorithm: Algorithm,
    digits: Digits,
    period: NonZeroU32,
}

/// A code that is current.
#[derive(Debug)]
pub struct Code {
    /// Six to eight digits, or Steam's five letters and digits.
    pub code: SecretString,
    /// The first second since 1970 at which it is no longer current.
    pub expires_at: u64,
    /// How many seconds each code is current.
    pub period_seconds: u32,
}

/// The hash under the HMAC (RFC 6238, section 1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC-SHA-1, which nearly all sites use.
    #[default]
    Sha1,
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
}

/// How a code is written (RFC 4226, section 5.3, recommends 6 to 8 digits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Digits {
    /// Six digits, the default.
    #[default]
    Six,
    /// Seven digits.
    Seven,
    /// Eight digits.
    Eight,
    /// Steam's five letters and digits, always with SHA-1.
    Steam,
}

/// Why a text makes no codes: a sentence for a person, and what to do. Never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TotpError {
    /// There is no secret.
    #[error("The one-time password has no secret. Copy it again from the site.")]
    MissingSecret,
    /// The secret is not base32.
    #[error("The secret of the one-time password is not base32. Copy it again from the site.")]
    InvalidSecret,
    /// A URL of another kind.
    #[error("The one-time password is neither an otpauth:// URL nor a base32 secret. Copy it again from the site.")]
    InvalidUrl,
    /// The parameters of the URL can be read in two ways.
    #[error("The otpauth:// URL of the one-time password can be read in two ways. Copy it again from the site.")]
    Ambiguous,
    /// The period is not a number of seconds from 1 to [`MAX_PERIOD`].
    #[error(
        "The period of the one-time password is not a number of seconds from 1 to {}. Copy it again from the site.",
        MAX_PERIOD
    )]
    Period,
    /// `otpauth://hotp/...`.
    #[error(
        "The one-time password is counter-based (HOTP), which is not supported. Set up a time-based one at the site."
    )]
    CounterBased,
    /// `otpauth-migration://...`: an authenticator's export, usually of several accounts.
    #[error(
        "The one-time password is an authenticator's export for another device (otpauth-migration). Store the secret \
         of this one account instead."
    )]
    Migration,
    /// The type after `otpauth://` is unknown.
    #[error("The one-time password is of a type that is not supported. Set up a time-based one (totp) at the site.")]
    UnknownType,
    /// The hash is not supported.
    #[error("The one-time password asks for an algorithm that is not supported. SHA1, SHA256 and SHA512 are.")]
    Algorithm,
    /// The number of digits is not 6 to 8.
    #[error("The one-time password asks for a number of digits that is not supported. 6, 7 and 8 are.")]
    Digits,
    /// Steam's form with other parameters than Steam's.
    #[error(
        "The one-time password is Steam's, but has parameters that Steam's codes do not have. Copy it again from Steam."
    )]
    NotLikeSteam,
}

/// What kind of reason an [`TotpError`] is, for programs to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Counter-based, and so without current codes.
    CounterBased,
    /// Understood, but not supported.
    Unsupported,
    /// Not understood.
    Malformed,
}

impl TotpError {
    /// What kind of reason it is.
    pub fn kind(self) -> Kind {
        match self {
            Self::CounterBased => Kind::CounterBased,
            Self::Migration | Self::UnknownType | Self::Algorithm | Self::Digits => Kind::Unsupported,
            Self::MissingSecret
            | Self::InvalidSecret
            | Self::InvalidUrl
            | Self::Ambiguous
            | Self::Period
            | Self::NotLikeSteam => Kind::Malformed,
        }
    }
}

/// The longest period, in seconds, that is read from a URL.
///
/// A code can be used by whoever sees it for as long as it is current, which is why RFC 6238
/// (section 5.2) recommends 30 s and NIST SP 800-63B (section 5.1.4.1) allows at most two minutes.
/// Beyond five, the URL is wrong, for example one with the number of seconds of a day.
pub const MAX_PERIOD: u32 = 300;

/// RFC 6238, section 5.2.
const DEFAULT_PERIOD: NonZeroU32 = NonZeroU32::new(30).unwrap();

impl Totp {
    /// Codes with the usual values: SHA-1, six digits, 30 seconds.
    ///
    /// # Errors
    ///
    /// [`TotpError::MissingSecret`] for an empty secret.
    pub fn new(secret: impl Into<Zeroizing<Vec<u8>>>) -> Result<Self, TotpError> {
        let secret = secret.into();
        if secret.is_empty() {
            return Err(TotpError::MissingSecret);
        }
        Ok(Self { secret, algorithm: Algorithm::default(), digits: Digits::default(), period: DEFAULT_PERIOD })
    }

    /// The same with another hash. Steam's form ignores it.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// The same with this number of digits.
    #[must_use]
    pub fn digits(mut self, digits: Digits) -> Self {
        self.digits = digits;
        self
    }

    /// The same with another period in seconds.
    #[must_use]
    pub fn period(mut self, period: NonZeroU32) -> Self {
        self.period = period;
        self
    }

    /// The current code at this time, in seconds since 1970.
    pub fn code_at(&self, unix_seconds: u64) -> Code {
        let (algorithm, digits) = self.form();
        let builder = Builder::new().with_secret(self.secret.as_slice()).with_algorithm(algorithm).with_digits(digits);
        // Short secrets violate the RFC but are in use: a site that issued one expects its codes.
        let totp = builder.with_step_duration(self.period.get().into()).build_noncompliant();
        let mut text = totp.generate(unix_seconds).to_string();
        let code = SecretString::from(text.as_str());
        text.zeroize();
        let period = u64::from(self.period.get());
        let expires_at = (unix_seconds / period).saturating_add(1).saturating_mul(period);
        Code { code, expires_at, period_seconds: self.period.get() }
    }

    /// The algorithm and the length, as `totp-rs` names them.
    fn form(&self) -> (totp_rs::Algorithm, u8) {
        let algorithm = match self.algorithm {
            Algorithm::Sha1 => totp_rs::Algorithm::SHA1,
            Algorithm::Sha256 => totp_rs::Algorithm::SHA256,
            Algorithm::Sha512 => totp_rs::Algorithm::SHA512,
        };
        match self.digits {
            Digits::Six => (algorithm, 6),
            Digits::Seven => (algorithm, 7),
            Digits::Eight => (algorithm, 8),
            Digits::Steam => (totp_rs::Algorithm::Steam, 5),
        }
    }
}

/// Prints everything but the secret.
impl fmt::Debug for Totp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Totp")
            .field("algorithm", &self.algorithm)
            .field("digits", &self.digits)
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}
