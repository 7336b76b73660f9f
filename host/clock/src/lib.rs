//! The current time, as a trait, so that tests of durations are exact and take no time.
//!
//! A duration is measured on two clocks at once, and the longer result counts. The wall clock keeps
//! running while the machine sleeps but can be set back; the monotonic clock cannot be set back but
//! may stop during sleep. So a cached value may be taken for older than it is, but never for
//! younger.
//!
//! **May import** of Keyway: nothing.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

/// A stored time further in the future than this means that the clock was set back. Longer than the
/// clocks of hosts that share a database differ; a clock that is set back by less delays things by
/// less.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(15 * 60);

/// A point in time on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    wall: Timestamp,
    monotonic: Duration,
}

impl Moment {
    /// A moment from a wall-clock time and a monotonic one. The monotonic time counts from an
    /// origin that all moments of a clock share.
    pub fn new(wall: Timestamp, monotonic: Duration) -> Self {
        Self { wall, monotonic }
    }

    /// The wall-clock time.
    pub fn timestamp(self) -> Timestamp {
        self.wall
    }

    /// By how much the wall clock was set back since `earlier`.
    pub fn set_back_since(self, earlier: Self) -> Duration {
        let monotonic = self.monotonic.saturating_sub(earlier.monotonic);
        let expected = earlier.wall.checked_add(monotonic).unwrap_or(earlier.wall);
        Duration::try_from(expected.duration_since(self.wall)).unwrap_or(Duration::ZERO)
    }

    /// The time since `earlier`: the longer result of the two clocks, never negative.
    pub fn since(self, earlier: Self) -> Duration {
        let monotonic = self.monotonic.saturating_sub(earlier.monotonic);
        let wall = Duration::try_from(self.wall.duration_since(earlier.wall)).unwrap_or(Duration::ZERO);
        monotonic.max(wall)
    }
}

/// A source of the current time.
pub trait Clock: Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Moment;
}

/// The clocks of the operating system.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic part starts now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment { wall: Timestamp::now(), monotonic: self.origin.elapsed() }
    }
}

/// A clock that moves only when told to, for tests.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Moment>,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        Self { now: Mutex::new(Moment { wall: start, monotonic: Duration::ZERO }) }
    }

    /// Advances both clocks.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock();
        now.monotonic = now.monotonic.saturating_add(by);
        now.wall = now.wall.checked_add(by).unwrap_or(Timestamp::MAX);
    }

    /// Sets the wall clock, forwards or back; the monotonic clock is unchanged.
    pub fn set_wall(&self, to: Timestamp) {
        self.now.lock().wall = to;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        *self.now.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_wall_clock_set_back_does_not_make_anything_younger() {
        let clock = ManualClock::new(at(1_000));
        let then = clock.now();
        clock.advance(Duration::from_secs(60));
        clock.set_wall(at(0));
        assert_eq!(clock.now().since(then), Duration::from_secs(60));
    }

    #[test]
    fn how_far_a_clock_was_set_back_is_known_until_it_is_right_again() {
        let clock = ManualClock::new(at(10_000));
        let then = clock.now();
        clock.advance(Duration::from_secs(60));
        assert_eq!(clock.now().set_back_since(then), Duration::ZERO);
        clock.set_wall(at(3_000));
        assert_eq!(clock.now().set_back_since(then), Duration::from_secs(7_060));
        clock.set_wall(at(20_000));
        assert_eq!(clock.now().set_back_since(then), Duration::ZERO, "it is ahead");
    }

    #[test]
    fn time_asleep_counts_although_the_monotonic_clock_stood_still() {
        let clock = ManualClock::new(at(1_000));
        let then = clock.now();
        clock.set_wall(at(1_000 + 3_600));
        assert_eq!(clock.now().since(then), Duration::from_secs(3_600));
    }
}
