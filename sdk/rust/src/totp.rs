//! One-time codes from what users store: the crate `keyway-otp`, and its results in the form of the
//! contract.
//!
//! ```
//! use keyway_sdk::secrecy::ExposeSecret;
//! use keyway_sdk::{NoCodeReason, totp};
//!
//! let stored = "otpauth://totp/Example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&digits=8";
//! let code = totp::code_of(Some(stored), 59).unwrap();
//! assert_eq!((code.code.expose_secret(), code.expires_at), ("94287082", 60));
//! assert_eq!(totp::code_of(None, 59).unwrap_err().reason, NoCodeReason::Absent);
//! assert_eq!(totp::code_of(Some("1?"), 59).unwrap_err().reason, NoCodeReason::Malformed);
//! ```

pub use keyway_otp::{Algorithm, Code, Digits, Kind, Totp, TotpError};

use crate::{Error, NoCode, NoCodeReason, OneTimeCode};

/// The current one-time code at this time, in seconds since 1970, or why there is none: what
/// `resolve` returns as [`Resolved::one_time_code`](crate::Resolved::one_time_code).
///
/// `stored` are the item's one-time passwords in a form that [`Totp::parse`] reads, usually one or
/// none; empty ones do not count. Of several, the first that makes a code is taken.
pub fn code_of<'a>(stored: impl IntoIterator<Item = &'a str>, unix_seconds: u64) -> Result<OneTimeCode, NoCode> {
    let mut none = None;
    for text in stored.into_iter().filter(|text| !text.trim().is_empty()) {
        match Totp::parse(text) {
            Ok(totp) => return Ok(totp.code_at(unix_seconds).into()),
            Err(error) => _ = none.get_or_insert(error),
        }
    }
    let absent = || NoCode::new(NoCodeReason::Absent, "The item has no one-time password.");
    Err(none.map_or_else(absent, NoCode::from))
}

impl From<Code> for OneTimeCode {
    fn from(code: Code) -> Self {
        Self::new(code.code, code.expires_at, code.period_seconds)
    }
}

impl From<TotpError> for NoCode {
    fn from(error: TotpError) -> Self {
        let reason = match error.kind() {
            Kind::CounterBased => NoCodeReason::CounterBased,
            Kind::Unsupported => NoCodeReason::Other("unsupported".to_owned()),
            _ => NoCodeReason::Malformed,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<TotpError> for Error {
    /// [`ErrorCode::Unsupported`](crate::ErrorCode::Unsupported), as for an item of a kind that the
    /// provider does not support.
    fn from(error: TotpError) -> Self {
        Error::unsupported(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    #[test]
    fn of_several_the_first_that_makes_a_code_is_taken() {
        use secrecy::ExposeSecret;

        let counter = format!("otpauth://hotp/x?secret={S}&counter=1");
        let eight = format!("otpauth://totp/x?secret={S}&digits=8");
        let code = code_of([" ", &counter, &eight, S], 59).unwrap();
        assert_eq!(code.code.expose_secret(), "94287082");
        assert_eq!(code_of([" "], 59).unwrap_err().reason, NoCodeReason::Absent);
    }

    #[test]
    fn the_first_reason_counts_where_none_makes_a_code() {
        let counter = format!("otpauth://hotp/x?secret={S}&counter=1");
        let ten = format!("otpauth://totp/x?secret={S}&digits=10");
        for (stored, reason, word) in [
            ([counter.as_str(), "1?"], NoCodeReason::CounterBased, "HOTP"),
            (["1?", &counter], NoCodeReason::Malformed, "base32"),
            ([ten.as_str(), ""], NoCodeReason::Other("unsupported".into()), "number of digits"),
            (["otpauth-migration://offline?data=x", ""], NoCodeReason::Other("unsupported".into()), "migration"),
        ] {
            let none = code_of(stored, 59).unwrap_err();
            assert!(none.reason == reason && none.message.contains(word), "{none:?}");
        }
    }
}
