//! Times in the protocol's format.

/// Unix seconds as RFC 3339 in UTC with whole seconds, for example `2025-01-02T03:04:05Z`.
pub(crate) fn rfc3339(unix_seconds: u64) -> String {
    let seconds = i64::try_from(unix_seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn seconds_are_whole_and_the_zone_is_z() {
        assert_eq!(rfc3339(1_735_787_045), "2025-01-02T03:04:05Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    }
}
