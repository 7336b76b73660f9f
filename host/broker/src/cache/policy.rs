//! The numbers of the cache's policy.

use std::time::Duration;

/// Settings of the cache of resolved secrets, beside the durations of connections and entries.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CacheOptions {
    /// How much memory the values may take, in bytes. When it is full, rarely used values are
    /// evicted first. Workspaces share it: one alone gets half, and what it resolves beyond that is
    /// not cached.
    pub capacity_bytes: u64,
    /// The last part of its duration in which a value is refreshed while it is still used, from 0
    /// (never) to 1.
    pub refresh_within: f64,
    /// How long a missing item is remembered, unless the reader's cache duration is shorter.
    pub missing: Duration,
}

impl Default for CacheOptions {
    /// 128 MiB (about 280,000 items), the last 5 %, 5 s.
    fn default() -> Self {
        Self { capacity_bytes: 128 << 20, refresh_within: 0.05, missing: Duration::from_secs(5) }
    }
}

/// The longest window for refreshing, so that a duration of 24 hours means 24 hours.
const LONGEST_REFRESH_WINDOW: Duration = Duration::from_secs(60);

/// Whether a value of this age is due for a refresh. `draw`, from 0 to 1, is the value's random
/// place in the window.
pub(super) fn refresh_due(age: Duration, ttl: Duration, draw: f64, options: &CacheOptions) -> bool {
    let window = ttl.mul_f64(options.refresh_within.clamp(0.0, 1.0)).min(LONGEST_REFRESH_WINDOW);
    let ahead = window.mul_f64(draw.clamp(0.0, 1.0));
    age >= ttl.saturating_sub(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(age: u64, ttl: u64, draw: f64) -> bool {
        refresh_due(Duration::from_secs(age), Duration::from_secs(ttl), draw, &CacheOptions::default())
    }

    #[test]
    fn a_value_is_refreshed_only_in_the_last_part_of_its_duration() {
        assert!(!due(284, 300, 1.0));
        assert!(due(285, 300, 1.0));
        assert!(!due(292, 300, 0.5));
        assert!(due(293, 300, 0.5));
        assert!(!due(299, 300, 0.0));
    }

    #[test]
    fn the_last_part_of_a_day_is_a_minute() {
        assert!(!due(86_400 - 61, 86_400, 1.0));
        assert!(due(86_400 - 60, 86_400, 1.0));
    }
}
