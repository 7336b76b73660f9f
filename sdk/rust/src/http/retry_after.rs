//! The `retry-after` header (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

use super::Headers;

/// How many seconds to wait from `now` (seconds since 1970). The header is a number of seconds or
/// an HTTP date; a date in the past is 0. `None` if the header is missing or malformed.
pub fn retry_after_seconds(headers: &Headers, now: u64) -> Option<u32> {
    let value = headers.get("retry-after")?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // All digits, so a value that does not fit is a very long time.
        return Some(value.parse().unwrap_or(u32::MAX));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let now = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(now))?;
    let wait = at.duration_since(now).unwrap_or_default();
    Some(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1994-11-06T08:49:37Z, the time in RFC 9110's examples.
    const NOW: u64 = 784_111_777;

    fn wait(value: &str) -> Option<u32> {
        retry_after_seconds(&Headers::new().with("Retry-After", value), NOW)
    }

    #[test]
    fn a_number_is_seconds() {
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait(" 0 "), Some(0));
        assert_eq!(wait("99999999999"), Some(u32::MAX));
    }

    #[test]
    fn a_date_is_the_time_until_then() {
        assert_eq!(wait("Sun, 06 Nov 1994 08:51:37 GMT"), Some(120));
        assert_eq!(wait("Sunday, 06-Nov-94 08:51:37 GMT"), Some(120));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
    }

    #[test]
    fn anything_else_is_nothing() {
        for value in ["", "soon", "-1", "1.5", "+3"] {
            assert_eq!(wait(value), None, "{value}");
        }
        assert_eq!(retry_after_seconds(&Headers::new(), NOW), None);
    }
}
