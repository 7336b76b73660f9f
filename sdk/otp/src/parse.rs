//! Reads one-time passwords as people and other programs write them.
//!
//! The [key URI format] is `otpauth://totp/<label>?<parameters>`. Labels and issuers are often not
//! encoded, so a `?`, a `#` or an `&` may be part of a name. The parameters therefore begin where a
//! known one does, not at the first `?`.
//!
//! [key URI format]: https://github.com/google/google-authenticator/wiki/Key-Uri-Format

use std::num::NonZeroU32;

use data_encoding::{BASE32_NOPAD, Encoding};
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::{Algorithm, DEFAULT_PERIOD, Digits, MAX_PERIOD, Totp, TotpError};

/// The parameters of the key URI format, KeePassXC's `encoder` and FreeOTP's `image`.
const KNOWN: [&str; 8] = ["secret", "algorithm", "digits", "period", "counter", "issuer", "encoder", "image"];
/// An `&` as HTML writes it, behind the `&` itself.
const ESCAPED_AMPERSANDS: [&str; 4] = ["amp;", "#38;", "#038;", "#x26;"];

impl Totp {
    /// Reads an `otpauth://totp/...` URL, `steam://<secret>`, or a bare base32 secret. White space
    /// around it is ignored.
    ///
    /// Codes are Steam's if the type is `steam`, the parameter `encoder` says so, or the issuer, in
    /// its parameter or before the label's colon, is Steam.
    ///
    /// # Errors
    ///
    /// See [`TotpError`].
    pub fn parse(text: &str) -> Result<Self, TotpError> {
        let text = text.trim_matches(is_blank);
        let Some((scheme, rest)) = text.split_once("://") else { return Self::new(decode_secret(text)?) };
        match scheme.to_ascii_lowercase().as_str() {
            "otpauth" => read_url(rest),
            "steam" => Ok(Self::new(decode_secret(rest)?)?.digits(Digits::Steam)),
            "otpauth-migration" => Err(TotpError::Migration),
            _ => Err(TotpError::InvalidUrl),
        }
    }
}

/// Reads what follows `otpauth://`.
fn read_url(text: &str) -> Result<Totp, TotpError> {
    let (path, parameters) = split(text)?;
    let (kind, label) = path.split_once('/').unwrap_or((path, ""));
    let is_steam = match kind.to_ascii_lowercase().as_str() {
        "totp" => is_steams_label(label),
        "steam" => true,
        "hotp" => return Err(TotpError::CounterBased),
        _ => return Err(TotpError::UnknownType),
    };
    let Parameters { secret, algorithm, digits, period, issuer_is_steam, encoder } = parameters;
    let algorithm = algorithm.map_or(Ok(Algorithm::default()), |text| algorithm_of(&text));
    let period = period.map_or(Ok(DEFAULT_PERIOD), |text| period_of(&text));
    let encoder_is_steam = encoder.is_some_and(|encoder| encoder.trim().eq_ignore_ascii_case("steam"));
    let totp = Totp::new(decode_secret(&secret.ok_or(TotpError::MissingSecret)?)?)?;
    if is_steam || issuer_is_steam || encoder_is_steam {
        // Apps that do not know Steam's form export it with six digits.
        let is_like_steam = digits.is_none_or(|digits| matches!(digits.trim(), "5" | "6"))
            && algorithm == Ok(Algorithm::Sha1)
            && period == Ok(DEFAULT_PERIOD);
        return if is_like_steam { Ok(totp.digits(Digits::Steam)) } else { Err(TotpError::NotLikeSteam) };
    }
    let digits = digits.map_or(Ok(Digits::default()), |text| digits_of(&text))?;
    Ok(totp.algorithm(algorithm?).digits(digits).period(period?))
}

/// The parameters that matter, decoded; each is given once or not at all.
#[derive(Default)]
struct Parameters {
    secret: Option<Zeroizing<String>>,
    algorithm: Option<Zeroizing<String>>,
    digits: Option<Zeroizing<String>>,
    period: Option<Zeroizing<String>>,
    encoder: Option<Zeroizing<String>>,
    issuer_is_steam: bool,
}

/// Splits the URL into its path, which ends with the label, and its parameters.
///
/// These begin at the first `?` that a known parameter follows directly, and otherwise at the last
/// `?` before the first `secret=`.
fn split(text: &str) -> Result<(&str, Parameters), TotpError> {
    let question_marks = || text.match_indices('?').map(|(at, _)| at);
    let first_secret = find(text, "secret=");
    let begin = question_marks()
        .find(|at| text.get(at + 1..).is_some_and(begins_known))
        .or_else(|| question_marks().take_while(|at| first_secret.is_some_and(|secret| *at < secret)).last())
        // Without a secret in it, only the type matters.
        .or_else(|| question_marks().next());
    let Some((path, list)) = begin.and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?))) else {
        return Ok((text.split('#').next().unwrap_or_default(), Parameters::default()));
    };
    // A parameter in what was taken for the label: it may decide the code after all.
    if path.split('&').skip(1).any(|part| begins_known(unescaped(part))) {
        return Err(TotpError::Ambiguous);
    }
    Ok((path, read_list(list)?))
}

/// Reads `name=value&name=value`.
fn read_list(list: &str) -> Result<Parameters, TotpError> {
    let mut read = Parameters::default();
    let mut parts = list.split('&').map(unescaped).peekable();
    while let Some(part) = parts.next() {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = name.trim().to_ascii_lowercase();
        // A fragment ends the URL, but a `#` may also be part of an issuer's name.
        let (value, fragment) = value.split_once('#').map_or((value, None), |(value, rest)| (value, Some(rest)));
        let place = match name.as_str() {
            "secret" => &mut read.secret,
            "algorithm" => &mut read.algorithm,
            "digits" => &mut read.digits,
            "period" => &mut read.period,
            "encoder" => &mut read.encoder,
            "issuer" => {
                read.issuer_is_steam |= decode(value).is_some_and(|issuer| is_steam(&issuer));
                continue;
            }
            _ => continue,
        };
        let value = decode(value).ok_or(TotpError::Ambiguous)?;
        let continues = fragment.is_some() && parts.peek().is_some();
        if continues || place.as_ref().is_some_and(|before| *before != value) {
            return Err(TotpError::Ambiguous);
        }
        *place = Some(value);
    }
    Ok(read)
}

/// A part of the list without what is left of an `&` that HTML escaped, once or more often.
fn unescaped(mut part: &str) -> &str {
    while let Some(rest) = ESCAPED_AMPERSANDS.iter().find_map(|escape| without(part, escape)) {
        part = rest;
    }
    part
}

/// The rest of a text that begins with a prefix, in either case.
fn without<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (begin, rest) = text.split_at_checked(prefix.len())?;
    begin.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Whether a text begins with a known parameter.
fn begins_known(text: &str) -> bool {
    KNOWN.iter().any(|name| without(text, name).is_some_and(|rest| rest.starts_with('=')))
}

/// Where an ASCII text begins in another, in either case.
fn find(text: &str, wanted: &str) -> Option<usize> {
    text.char_indices().map(|(at, _)| at).find(|at| text.get(*at..).is_some_and(|rest| without(rest, wanted).is_some()))
}

/// Decodes a value: percent-encoding, and `+` for a space. `None` if it is not text.
fn decode(value: &str) -> Option<Zeroizing<String>> {
    let mut spaced = Zeroizing::new(String::with_capacity(value.len()));
    spaced.extend(value.chars().map(|c| if c == '+' { ' ' } else { c }));
    // Large enough, so that growing leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(value.len()));
    bytes.extend(percent_decode_str(&spaced));
    let text = std::str::from_utf8(&bytes).ok()?;
    Some(Zeroizing::new(text.to_owned()))
}

/// Whether the label, `<issuer>:<account>`, has Steam as its issuer.
fn is_steams_label(label: &str) -> bool {
    decode(label).is_some_and(|label| label.split_once(':').is_some_and(|(issuer, _)| is_steam(issuer)))
}

fn is_steam(issuer: &str) -> bool {
    issuer.trim().eq_ignore_ascii_case("steam")
}

/// `SHA1`, and the spellings of various apps: `SHA-1`, `HMACSHA1`, `HmacSHA1`. Empty means the
/// default.
fn algorithm_of(text: &str) -> Result<Algorithm, TotpError> {
    let name = text.trim().to_ascii_uppercase().replace(['-', '_'], "");
    match name.strip_prefix("HMAC").unwrap_or(&name) {
        "" | "SHA1" => Ok(Algorithm::Sha1),
        "SHA256" => Ok(Algorithm::Sha256),
        "SHA512" => Ok(Algorithm::Sha512),
        _ => Err(TotpError::Algorithm),
    }
}

fn digits_of(text: &str) -> Result<Digits, TotpError> {
    match text.trim() {
        "6" => Ok(Digits::Six),
        "7" => Ok(Digits::Seven),
        "8" => Ok(Digits::Eight),
        _ => Err(TotpError::Digits),
    }
}

fn period_of(text: &str) -> Result<NonZeroU32, TotpError> {
    text.trim().parse().ok().filter(|period: &NonZeroU32| period.get() <= MAX_PERIOD).ok_or(TotpError::Period)
}

/// Decodes base32 (RFC 4648, section 6) in either case, with or without padding, with spaces,
/// dashes and invisible characters anywhere. Like authenticator apps, it ignores bits after the
/// last whole byte.
fn decode_secret(text: &str) -> Result<Zeroizing<Vec<u8>>, TotpError> {
    let mut clean = Zeroizing::new(String::with_capacity(text.len()));
    clean.extend(text.chars().filter(|c| !is_blank(*c) && *c != '-').map(|c| c.to_ascii_uppercase()));
    let digits = clean.trim_end_matches('=').as_bytes();
    let secret = lenient_base32().and_then(|base32| base32.decode(digits).ok()).ok_or(TotpError::InvalidSecret)?;
    let secret = Zeroizing::new(secret);
    if secret.is_empty() { Err(TotpError::MissingSecret) } else { Ok(secret) }
}

fn lenient_base32() -> Option<Encoding> {
    let mut specification = BASE32_NOPAD.specification();
    specification.check_trailing_bits = false;
    specification.encoding().ok()
}

/// White space, and characters without width that are copied along: zero-width spaces and joiners,
/// marks of direction, the byte order mark.
fn is_blank(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}
