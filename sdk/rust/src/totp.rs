//! One-time codes (RFC 6238) from what users store: an `otpauth://totp/...` URL or the bare secret.
//!
//! The codes themselves are a dozen lines over RustCrypto's HMAC. The parser is lenient where
//! authenticator apps are: spaces, dashes, lower case and padding in the secret, short secrets, an
//! unknown parameter, an issuer that contradicts the label. It is strict where a wrong guess would
//! yield wrong codes: algorithm, digits, period and type. Steam's codes are the same numbers
//! written in letters.
//!
//! ```
//! use keyway_sdk::secrecy::ExposeSecret;
//! use keyway_sdk::totp::Totp;
//!
//! let totp = Totp::parse("otpauth://totp/Example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&digits=8")?;
//! let code = totp.code_at(59);
//! assert_eq!((code.code.expose_secret(), code.expires_at), ("94287082", 60));
//! # Ok::<(), keyway_sdk::totp::TotpError>(())
//! ```

use std::fmt;
use std::num::NonZeroU32;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

use crate::{Error, NoCode, NoCodeReason, OneTimeCode, encoding};

/// Generates the codes of one item. Its secret is wiped when dropped and never printed.
pub struct Totp {
    secret: Zeroizing<Vec<u8>>,
    algorithm: Algorithm,
    digits: Digits,
    period: NonZeroU32,
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
pub enum Digits {
    /// Six digits, the default.
    #[default]
    Six,
    /// Seven digits.
    Seven,
    /// Eight digits.
    Eight,
    /// Steam's five letters and digits.
    Steam,
}

/// Why a text yields no one-time codes. Never contains the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TotpError {
    /// There is no secret.
    #[error("the one-time password has no secret")]
    MissingSecret,
    /// The secret is not base32.
    #[error("the secret of the one-time password is not base32")]
    InvalidSecret,
    /// The URL is not `otpauth://...`.
    #[error("the one-time password is neither an otpauth:// URL nor a base32 secret")]
    InvalidUrl,
    /// `otpauth://hotp/...`, or a parameter that only such URLs have.
    #[error("counter-based one-time passwords (HOTP) are not supported")]
    Hotp,
    /// The type after `otpauth://` is unknown.
    #[error("the one-time password is of a type that is not supported; only totp is")]
    UnknownType,
    /// The hash is not supported.
    #[error("the one-time password asks for an algorithm that is not supported; SHA1, SHA256 and SHA512 are")]
    Algorithm,
    /// The number of digits is not 6 to 8.
    #[error("the one-time password asks for a number of digits that is not supported; 6, 7 and 8 are")]
    Digits,
    /// The period is not a positive number of seconds.
    #[error("the period of the one-time password is not a number of seconds above 0")]
    Period,
}

impl From<TotpError> for Error {
    /// [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported), as for an item of a kind that the
    /// provider does not support.
    fn from(error: TotpError) -> Self {
        let text = error.to_string();
        let mut chars = text.chars();
        let first = chars.next().map(|first| first.to_ascii_uppercase()).unwrap_or_default();
        Error::unsupported(format!("{first}{}.", chars.as_str()))
    }
}

impl From<TotpError> for NoCode {
    fn from(error: TotpError) -> Self {
        let reason = match error {
            TotpError::Hotp => NoCodeReason::CounterBased,
            _ => NoCodeReason::Malformed,
        };
        Self::new(reason, Error::from(error).message)
    }
}

/// The current one-time code at this time, in seconds since 1970, or why there is none: what
/// `resolve` returns as [`Resolved::one_time_code`](crate::Resolved::one_time_code).
///
/// `stored` is the item's one-time password in a form that [`Totp::parse`] reads; `None` or an
/// empty text if the item has none.
/// ```
/// use keyway_sdk::{NoCodeReason, totp};
///
/// assert!(totp::code_of(Some("JBSWY3DPEHPK3PXP"), 59).is_ok());
/// assert_eq!(totp::code_of(None, 59).unwrap_err().reason, NoCodeReason::Absent);
/// assert_eq!(totp::code_of(Some("1?"), 59).unwrap_err().reason, NoCodeReason::Malformed);
/// ```
pub fn code_of(stored: Option<&str>, unix_seconds: u64) -> Result<OneTimeCode, NoCode> {
    match stored.filter(|stored| !stored.trim().is_empty()) {
        Some(stored) => Ok(Totp::parse(stored)?.code_at(unix_seconds)),
        None => Err(NoCode::new(NoCodeReason::Absent, "The item has no one-time password.")),
    }
}

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

    /// The same with another hash.
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

    /// Reads an `otpauth://totp/...` URL (the [key URI format]) or a bare base32 secret. White
    /// space around it is ignored.
    ///
    /// [key URI format]: https://github.com/google/google-authenticator/wiki/Key-Uri-Format
    ///
    /// # Errors
    ///
    /// See [`TotpError`].
    pub fn parse(text: &str) -> Result<Self, TotpError> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else { return Self::new(decode_secret(text)?) };
        if scheme.eq_ignore_ascii_case("steam") {
            return Ok(Self::new(decode_secret(rest)?)?.digits(Digits::Steam));
        }
        if !scheme.eq_ignore_ascii_case("otpauth") {
            return Err(TotpError::InvalidUrl);
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (label, query) = rest.split_once('?').unwrap_or((rest, ""));
        match label.split('/').next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "totp" => Self::from_query(query),
            "steam" => Ok(Self::from_query(query)?.digits(Digits::Steam)),
            "hotp" => Err(TotpError::Hotp),
            _ => Err(TotpError::UnknownType),
        }
    }

    fn from_query(query: &str) -> Result<Self, TotpError> {
        let (mut secret, mut steam) = (None, false);
        let (mut algorithm, mut digits, mut period) = (Algorithm::default(), Digits::default(), DEFAULT_PERIOD);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.to_ascii_lowercase().as_str() {
                "secret" => secret = Some(Zeroizing::new(value.into_owned())),
                "algorithm" => algorithm = parse_algorithm(&value)?,
                "digits" => digits = parse_digits(&value)?,
                "period" => period = value.trim().parse().map_err(|_| TotpError::Period)?,
                "encoder" if value.eq_ignore_ascii_case("steam") => steam = true,
                _ => {}
            }
        }
        let secret = secret.ok_or(TotpError::MissingSecret)?;
        let digits = if steam { Digits::Steam } else { digits };
        Ok(Self::new(decode_secret(&secret)?)?.algorithm(algorithm).digits(digits).period(period))
    }

    /// The current code at this time, in seconds since 1970.
    pub fn code_at(&self, unix_seconds: u64) -> OneTimeCode {
        let period = u64::from(self.period.get());
        let step = unix_seconds / period;
        OneTimeCode::new(self.hotp(step), step.saturating_add(1).saturating_mul(period), self.period.get())
    }

    /// The code for a counter (RFC 4226, section 5.3).
    fn hotp(&self, counter: u64) -> String {
        let message = counter.to_be_bytes();
        let truncated = match self.algorithm {
            Algorithm::Sha1 => truncate(&mac::<Hmac<Sha1>>(&self.secret, &message)),
            Algorithm::Sha256 => truncate(&mac::<Hmac<Sha256>>(&self.secret, &message)),
            Algorithm::Sha512 => truncate(&mac::<Hmac<Sha512>>(&self.secret, &message)),
        };
        let (modulus, width) = match self.digits {
            Digits::Six => (1_000_000, 6),
            Digits::Seven => (10_000_000, 7),
            Digits::Eight => (100_000_000, 8),
            Digits::Steam => return steam(truncated),
        };
        format!("{:0width$}", truncated % modulus)
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

/// RFC 6238, section 5.2.
const DEFAULT_PERIOD: NonZeroU32 = NonZeroU32::new(30).unwrap();

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Zeroizing<Vec<u8>> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104, section 3)")]
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("a key of any length");
    mac.update(message);
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// Dynamic truncation (RFC 4226, section 5.3): the low four bits of the last byte are the offset of
/// 31 bits.
fn truncate(mac: &[u8]) -> u32 {
    let offset = usize::from(mac.last().copied().unwrap_or_default() & 0x0f);
    let bytes = mac.iter().skip(offset).take(4);
    bytes.fold(0, |number, byte| (number << 8) | u32::from(*byte)) & 0x7fff_ffff
}

/// Steam writes the number in an alphabet without letters that look like digits, least significant
/// place first.
fn steam(mut number: u32) -> String {
    const ALPHABET: [u8; 26] = *b"23456789BCDFGHJKMNPQRTVWXY";
    let mut letter = || {
        let letter = ALPHABET.iter().cycle().nth((number % 26) as usize).copied().unwrap_or_default();
        number /= 26;
        char::from(letter)
    };
    (0..5).map(|_| letter()).collect()
}

fn decode_secret(text: &str) -> Result<Zeroizing<Vec<u8>>, TotpError> {
    let secret = encoding::decode_base32_lenient(text).ok_or(TotpError::InvalidSecret)?;
    if secret.is_empty() { Err(TotpError::MissingSecret) } else { Ok(secret) }
}

/// `SHA1`, and the spellings of various apps: `SHA-1`, `HMACSHA1`, `HmacSHA1`. Empty means the
/// default.
fn parse_algorithm(text: &str) -> Result<Algorithm, TotpError> {
    let name = text.trim().to_ascii_uppercase().replace(['-', '_'], "");
    match name.strip_prefix("HMAC").unwrap_or(&name) {
        "" | "SHA1" => Ok(Algorithm::Sha1),
        "SHA256" => Ok(Algorithm::Sha256),
        "SHA512" => Ok(Algorithm::Sha512),
        _ => Err(TotpError::Algorithm),
    }
}

fn parse_digits(text: &str) -> Result<Digits, TotpError> {
    match text.trim() {
        "6" => Ok(Digits::Six),
        "7" => Ok(Digits::Seven),
        "8" => Ok(Digits::Eight),
        _ => Err(TotpError::Digits),
    }
}

#[cfg(test)]
#[path = "totp_tests.rs"]
mod tests;
