//! One-time codes (RFC 6238) from the secret that an entry holds.
//!
//! People store what a site shows them: a bare base32 secret, in lower case or in groups, or the
//! whole `otpauth://totp/` URL. Parsing is lenient about notation, and strict about what would make
//! wrong codes: the algorithm, the number of digits, the period. `totp-rs` makes the codes; its
//! secret wipes itself.

use data_encoding::{BASE32_NOPAD, Encoding, Specification};
use totp_rs::{Algorithm, Builder};
use url::form_urlencoded;
use zeroize::Zeroizing;

use keyway_runtime::contract::OneTimeCode;

/// The default period in seconds: RFC 6238, section 5.2.
const PERIOD: u32 = 30;

/// The error for a text that makes no one-time codes. It never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither a base32 secret nor an otpauth://totp URL")]
pub(crate) struct NotTotp;

/// The authenticator of one entry. It wipes itself.
pub(crate) struct Totp {
    totp: totp_rs::Totp,
    period: u32,
}

impl Totp {
    /// Reads a bare secret or an `otpauth://totp/...` URL.
    pub(crate) fn parse(text: &str) -> Result<Self, NotTotp> {
        let text = text.trim();
        if !text.contains("://") {
            return Self::new(text, Algorithm::SHA1, 6, PERIOD);
        }
        // Parsed by hand: a URL of the crate `url` would be a copy of the secret that is not wiped.
        let text = text.split('#').next().unwrap_or_default();
        let (address, query) = text.split_once('?').ok_or(NotTotp)?;
        let (scheme, rest) = address.split_once("://").ok_or(NotTotp)?;
        let host = rest.split('/').next().unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("otpauth") || !host.eq_ignore_ascii_case("totp") {
            return Err(NotTotp);
        }
        let (mut secret, mut algorithm, mut digits, mut period) = (None, Algorithm::SHA1, 6, PERIOD);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.to_ascii_lowercase().as_str() {
                "secret" => secret = Some(Zeroizing::new(value.into_owned())),
                "algorithm" => algorithm = algorithm_of(&value)?,
                "digits" => digits = value.parse().ok().filter(|digits| (6..=8).contains(digits)).ok_or(NotTotp)?,
                "period" => period = value.parse().ok().filter(|period| *period > 0).ok_or(NotTotp)?,
                _ => {}
            }
        }
        Self::new(&secret.ok_or(NotTotp)?, algorithm, digits, period)
    }

    fn new(secret: &str, algorithm: Algorithm, digits: u8, period: u32) -> Result<Self, NotTotp> {
        let secret = decode(secret)?;
        // Short secrets violate the RFC but are in use: a site that issued one expects its codes.
        let builder = Builder::new().with_secret(secret.as_slice()).with_algorithm(algorithm).with_digits(digits);
        Ok(Self { totp: builder.with_step_duration(period.into()).build_noncompliant(), period })
    }

    /// The code at this time, in seconds since 1970.
    pub(crate) fn code_at(&self, unix_seconds: u64) -> OneTimeCode {
        let code = self.totp.generate(unix_seconds).to_string();
        OneTimeCode::new(code, self.totp.next_step(unix_seconds), self.period)
    }
}

fn algorithm_of(name: &str) -> Result<Algorithm, NotTotp> {
    match name.to_ascii_uppercase().replace('-', "").as_str() {
        "SHA1" => Ok(Algorithm::SHA1),
        "SHA256" => Ok(Algorithm::SHA256),
        "SHA512" => Ok(Algorithm::SHA512),
        _ => Err(NotTotp),
    }
}

/// Decodes base32 in either case, with or without spaces, dashes and padding. Like authenticator
/// apps, it ignores bits after the last whole byte.
fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, NotTotp> {
    let bare: Zeroizing<String> = Zeroizing::new(
        text.chars().filter(|c| !matches!(c, ' ' | '-' | '=')).map(|c| c.to_ascii_uppercase()).collect(),
    );
    let secret = Zeroizing::new(lenient_base32()?.decode(bare.as_bytes()).map_err(|_| NotTotp)?);
    if secret.is_empty() { Err(NotTotp) } else { Ok(secret) }
}

fn lenient_base32() -> Result<Encoding, NotTotp> {
    let mut specification: Specification = BASE32_NOPAD.specification();
    specification.check_trailing_bits = false;
    specification.encoding().map_err(|_| NotTotp)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    /// The secret of RFC 6238, appendix B.
    const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn code(text: &str, time: u64) -> Result<(String, u64), NotTotp> {
        let code = Totp::parse(text)?.code_at(time);
        Ok((code.code.expose_secret().to_owned(), code.expires_at))
    }

    #[test]
    fn the_codes_are_those_of_the_rfc() {
        let url = format!("otpauth://totp/Acme:alice@acme.com?secret={SECRET}&issuer=Other&digits=8");
        for (time, expected) in [(59, "94287082"), (1_111_111_109, "07081804"), (20_000_000_000, "65353130")] {
            assert_eq!(code(&url, time).unwrap().0, expected);
        }
        let secret = BASE32_NOPAD.encode(b"12345678901234567890123456789012");
        let sha256 = format!("otpauth://totp/x?secret={secret}&algorithm=SHA-256&digits=8&period=30");
        assert_eq!(code(&sha256, 59).unwrap(), ("46119246".into(), 60));
    }

    #[test]
    fn a_secret_may_be_written_as_people_write_it() {
        let expected = Ok(("287082".to_owned(), 60));
        for text in [
            SECRET,
            "gezd gnbv gy3t qojq gezd gnbv gy3t qojq",
            &format!(" {SECRET}==== \n"),
            "GEZDGNBVGY3TQOJQ-GEZDGNBVGY3TQOJQ",
        ] {
            assert_eq!(code(text, 59), expected, "{text}");
        }
        assert!(code("JBSWY3DPEHPK3PXP", 0).is_ok(), "80 bits, which many sites give out");
    }

    #[test]
    fn what_would_make_wrong_codes_makes_none() {
        for text in [
            "",
            "   ",
            "0189!",
            "otpauth://hotp/x?secret=GEZDGNBVGY3TQOJQ&counter=1",
            "otpauth://totp/x",
            "otpauth://totp/x?secret=",
            "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&digits=10",
            "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&period=0",
            "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&algorithm=MD5",
            "https://acme.com/?secret=GEZDGNBVGY3TQOJQ",
        ] {
            assert_eq!(code(text, 0), Err(NotTotp), "{text}");
        }
    }
}
