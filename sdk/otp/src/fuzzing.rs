//! What holds for every text that somebody may store as a one-time password.

use data_encoding::BASE32_NOPAD;
use secrecy::ExposeSecret;

use crate::{Algorithm, Digits, Totp};

/// The edges of periods, today, and the end of time.
const TIMES: [u64; 5] = [0, 29, 59, 1_800_000_000, u64::MAX];

/// A text that is read makes codes of the right form, makes them again, and means the same in its
/// plainest form. Nothing of it is printed.
pub fn otpauth(text: &str) {
    let totp = match Totp::parse(text) {
        Ok(totp) => totp,
        Err(error) => {
            assert!(error.to_string().ends_with('.'), "a sentence");
            assert_eq!(Totp::parse(text).err(), Some(error), "the same reason again");
            return;
        }
    };
    let printed = format!("{totp:?}");
    let (algorithm, digits, period) = (totp.algorithm, totp.digits, totp.period);
    assert_eq!(printed, format!("Totp {{ algorithm: {algorithm:?}, digits: {digits:?}, period: {period}, .. }}"));
    let again = [Totp::parse(text), Totp::parse(&format!("\u{feff} {text}\n")), Totp::parse(&plain(&totp))];
    for time in TIMES {
        let code = totp.code_at(time);
        let shown = code.code.expose_secret();
        let is_right = match digits {
            Digits::Steam => shown.len() == 5 && shown.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            Digits::Six => shown.len() == 6 && is_number(shown),
            Digits::Seven => shown.len() == 7 && is_number(shown),
            Digits::Eight => shown.len() == 8 && is_number(shown),
        };
        assert!(is_right, "{digits:?}");
        // Not whether it contains the code, which may by chance be a part of the time.
        let [printed, placeholder] = [format!("{code:?}"), format!("{:?}", code.code)];
        let (expires_at, period_seconds) = (code.expires_at, code.period_seconds);
        assert_eq!(
            printed,
            format!("Code {{ code: {placeholder}, expires_at: {expires_at}, period_seconds: {period_seconds} }}")
        );
        assert!(!placeholder.contains(shown), "a code is printed");
        assert_eq!(code.period_seconds, period.get());
        let left = code.expires_at.saturating_sub(time);
        assert!(left <= u64::from(period.get()) && (left > 0 || time == u64::MAX), "{left} s of {period}");
        if left > 1 {
            let last = totp.code_at(code.expires_at - 1);
            assert!(last.expires_at == code.expires_at && last.code.expose_secret() == shown, "to the last second");
        }
        for other in &again {
            let other = other.as_ref().expect("the same text, or its plainest form").code_at(time);
            assert_eq!((other.code.expose_secret(), other.expires_at), (shown, code.expires_at));
        }
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The plainest text of this meaning.
fn plain(totp: &Totp) -> String {
    let (secret, period) = (BASE32_NOPAD.encode(&totp.secret), totp.period);
    let algorithm = match totp.algorithm {
        Algorithm::Sha1 => "SHA1",
        Algorithm::Sha256 => "SHA256",
        Algorithm::Sha512 => "SHA512",
    };
    let digits = match totp.digits {
        Digits::Six => 6,
        Digits::Seven => 7,
        Digits::Eight => 8,
        Digits::Steam => return format!("steam://{secret}"),
    };
    format!("otpauth://totp/x?secret={secret}&algorithm={algorithm}&digits={digits}&period={period}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn they_hold_for_texts_of_every_kind() {
        for text in [
            "",
            "JBSW Y3DP-ehpk3pxp====",
            "steam://63BEDWCQZKTQWPESARIERL5DTTQFCJTK",
            "otpauth://totp/a?secret=JBSWY3DP&amp;digits=8&period=4294967295&algorithm=SHA-512",
            "otpauth://totp/Steam:a?secret=JBSWY3DP&digits=5",
            "otpauth://hotp/a?secret=JBSWY3DP",
        ] {
            super::otpauth(text);
        }
    }
}
