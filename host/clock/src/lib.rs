//! What time it is, as a trait, so that tests of durations are exact and take no time.
//!
//! A duration is measured on two clocks at once, and the longer answer counts: the wall clock
//! misses nothing while the machine sleeps but can be set back; the monotonic one cannot be set
//! back but may stand still during sleep. So a cached value can only ever be taken for older than
//! it is, never for younger.
//!
//! **May import** of Keyway: nothing.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

/// What was stored with a time further in the future than this, was so before the clock was set
/// back. More than the clocks of hosts that share a database differ by; what a clock that is set
/// back by less puts off, it puts off by less.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(15 * 60);

/// A point in time on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    wall: Timestamp,
    monotonic: Duration,
}

impl Moment {
    /// A moment from a wall-clock time and a monotonic one, counted from an origin that is the same
    /// for all moments of a clock.
    pub fn new(wall: Timestamp, monotonic: Duration) -> Self {
        Self { wall, monotonic }
    }

    /// The wall-clock time.
    pub fn timestamp(self) -> Timestamp {
        self.wall
    }

    /// How much time has passed since `earlier`: the longer of what the two clocks say, never
    /// negative.
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

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock();
        now.monotonic = now.monotonic.saturating_add(by);
        now.wall = now.wall.checked_add(by).unwrap_or(Timestamp::MAX);
    }

    /// Sets the wall clock, forwards or back; the monotonic clock stays.
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
    fn time_asleep_counts_although_the_monotonic_clock_stood_still() {
        let clock = ManualClock::new(at(1_000));
        let then = clock.now();
        clock.set_wall(at(1_000 + 3_600));
        assert_eq!(clock.now().since(then), Duration::from_secs(3_600));
    }
}
