//! A rolling window of requests, counted in slots.
//!
//! **Invariant:** whoever admits a request only while [`Window::wait`] says none, and counts it first, makes no more
//! than `limit` requests in *any* period of the window's length, wherever the server's own period begins. A slot counts
//! for as long as a request of it could lie within the period: a request leaves at most one slot after the one that it
//! was counted in.

use std::time::Duration;

use jiff::Timestamp;

/// How many requests were counted in a slot, and when the slot began (milliseconds since 1970).
pub(super) type Slot = (i64, u32);

/// The length of a window and of its slots, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    length: i64,
    slot: i64,
}

impl Window {
    /// An hour, in minutes.
    pub(super) const HOUR: Self = Self { length: 3_600_000, slot: 60_000 };
    /// A day, in quarters of an hour.
    pub(super) const DAY: Self = Self { length: 86_400_000, slot: 900_000 };

    /// Its length.
    pub(super) fn length(self) -> Duration {
        Duration::from_millis(self.length.unsigned_abs())
    }

    /// The slot of a time.
    pub(super) fn slot_of(self, now: Timestamp) -> i64 {
        now.as_millisecond().div_euclid(self.slot) * self.slot
    }

    /// The first slot that counts at that time. Slots of the future count, too: the clock was set back (by more than a little, and whoever
    /// reserves next moves them into the slot at hand, so that they count for a window and not until that time comes again).
    pub(super) fn first_slot(self, now: Timestamp) -> i64 {
        let gone = now.as_millisecond().saturating_sub(self.length + 2 * self.slot);
        gone.div_euclid(self.slot) * self.slot + self.slot
    }

    /// The time that half of the window is after.
    pub(super) fn middle(self, now: Timestamp) -> i64 {
        now.as_millisecond().saturating_sub(self.length / 2)
    }

    /// How many requests count at that time.
    pub(super) fn count(self, slots: &[Slot], now: Timestamp) -> u64 {
        let first = self.first_slot(now);
        slots.iter().filter(|(slot, _)| *slot >= first).map(|(_, count)| u64::from(*count)).sum()
    }

    /// How long to wait until `more` requests fit below the limit; `None` when they do now. `slots` in ascending order.
    pub(super) fn wait(self, slots: &[Slot], now: Timestamp, limit: u32, more: u32) -> Option<Duration> {
        let first = self.first_slot(now);
        let mut excess = (self.count(slots, now) + u64::from(more)).checked_sub(u64::from(limit)).filter(|e| *e > 0)?;
        for (slot, count) in slots.iter().filter(|(slot, _)| *slot >= first) {
            excess = excess.saturating_sub(u64::from(*count));
            if excess == 0 {
                let over = slot.saturating_add(self.length + 2 * self.slot);
                let wait = over.saturating_sub(now.as_millisecond()).clamp(1, self.length + 2 * self.slot);
                return Some(Duration::from_millis(wait.unsigned_abs()));
            }
        }
        // More than the whole limit.
        Some(self.length())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::testing::Random;

    const MINUTE: i64 = 60_000;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn the_wait_is_over_to_the_millisecond() {
        let slots = [(0, 6), (MINUTE, 4)];
        let now = 30 * MINUTE + 17;
        assert_eq!(Window::HOUR.wait(&slots, at(now), 10, 0), None);
        let wait = Window::HOUR.wait(&slots, at(now), 10, 1).unwrap();
        assert_eq!(wait, Duration::from_millis((62 * MINUTE - now) as u64));
        let then = now + wait.as_millis() as i64;
        assert!(Window::HOUR.wait(&slots, at(then - 1), 10, 1).is_some());
        assert_eq!(Window::HOUR.wait(&slots, at(then), 10, 6), None);
        assert!(Window::HOUR.wait(&slots, at(then), 10, 7).is_some());
    }

    #[test]
    fn what_was_counted_before_the_clock_was_set_back_still_counts() {
        let slots = [(600 * MINUTE, 10)];
        assert!(Window::HOUR.wait(&slots, at(0), 10, 1).is_some());
    }

    #[test]
    fn more_than_the_whole_limit_waits_the_whole_window() {
        assert_eq!(Window::DAY.wait(&[], at(0), 10, 11), Some(Duration::from_secs(86_400)));
    }

    /// For random traffic, pauses and lateness: no period of an hour, wherever it begins, has more than the limit.
    #[test]
    fn no_period_of_the_windows_length_has_more_requests_than_the_limit() {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let limit = 1 + random.below(60) as u32;
            let (mut now, mut slots, mut sent) = (random.below(10_000_000) as i64, Vec::<Slot>::new(), Vec::new());
            for _ in 0..600 {
                let pace = 1 + random.below(20);
                now += random.below(4 * MINUTE as u64 / pace) as i64;
                if Window::HOUR.wait(&slots, at(now), limit, 1).is_some() {
                    continue;
                }
                let slot = Window::HOUR.slot_of(at(now));
                match slots.iter_mut().find(|(of, _)| *of == slot) {
                    Some((_, count)) => *count += 1,
                    None => slots.push((slot, 1)),
                }
                // It may leave up to a slot later.
                sent.push(now + random.below(MINUTE as u64) as i64);
            }
            sent.sort_unstable();
            for (index, from) in sent.iter().enumerate() {
                let within = sent[index..].iter().take_while(|time| **time < from + 60 * MINUTE).count();
                assert!(within <= limit as usize, "seed {seed}: {within} of {limit} from {from}");
            }
            assert!(sent.len() >= limit as usize, "seed {seed}: the limit is there to be used");
        }
    }
}
