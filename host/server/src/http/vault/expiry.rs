//! When an entry's session data expires.
//!
//! Two intervals may be set, in PostgreSQL's notation: the maximum age of session data, and how
//! long it may stay unused. Session data is used by browsers, which the host does not see. The last
//! use it knows of is when changed data was stored. So both intervals count from there; data stored
//! again unchanged may have been sent back by any client.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use keyway::entries::VaultEntry;

use super::attributes::read;

pub(super) const FROM_LAST_USE: &str = "expiry_time_from_last_use";
pub(super) const FROM_SESSION_DATA_SET: &str = "expiry_time_from_session_data_set";

/// Parses an interval in PostgreSQL's notation: `01:30:00`, `7 days`, `1 year 2 mons 3 days
/// 04:05:06`. Not negative.
pub(super) fn parse(text: &str) -> Option<Span> {
    // jiff's friendly notation is the same except for one abbreviation.
    let words = text.split_whitespace().map(|word| match word {
        "mon" | "mons" => "months",
        word => word,
    });
    let span: Span = words.collect::<Vec<_>>().join(" ").parse().ok()?;
    // An interval that cannot be added to a date is no expiry.
    let sum = after(Timestamp::UNIX_EPOCH, span)?;
    (!span.is_negative() && sum >= Timestamp::UNIX_EPOCH).then_some(span)
}

/// When an entry's session data expires: the earlier of the two; `None` without session data or
/// without an interval.
pub(crate) fn effective(entry: &VaultEntry) -> Option<Timestamp> {
    let set_at = entry.session_data_set_at?;
    [FROM_LAST_USE, FROM_SESSION_DATA_SET]
        .into_iter()
        .filter_map(|name| after(set_at, parse(&read::<String>(entry.attributes.get(name)?)?)?))
        .min()
}

fn after(time: Timestamp, span: Span) -> Option<Timestamp> {
    Some(time.to_zoned_datetime(TimeZone::UTC).checked_add(span).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<i64> {
        after(Timestamp::UNIX_EPOCH, parse(text)?).map(Timestamp::as_second)
    }

    #[test]
    fn intervals_are_read_as_postgresql_writes_them() {
        let hour = 3_600;
        for (text, expected) in [
            ("01:30:00", hour + hour / 2),
            ("7 days 00:00:00", 7 * 24 * hour),
            ("7 days", 7 * 24 * hour),
            ("1 day", 24 * hour),
            ("1 mon", 31 * 24 * hour),
            ("2 mons 1 day 00:00:01", 60 * 24 * hour + 1),
            ("1 year", 365 * 24 * hour),
            ("30 minutes", hour / 2),
            ("00:00:00", 0),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in ["", "soon", "-01:30:00", "7", "1 day -02:00:00", "99999999 years", "01:30:00; DROP TABLE x"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
