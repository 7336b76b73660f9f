//! A rolling window of requests, counted in slots.
//!
//! **Invariant:** a caller that counts each request first, and makes it only when [`Window::wait`]
//! returns none, makes at most `limit` requests in *any* period of the window's length, wherever
//! the server's own period begins. A slot counts for as long as one of its requests could lie
//! within the period: a request leaves at most one slot after the one in which it was counted.

use std::time::Duration;

use jiff::Timestamp;

/// The start of a slot (milliseconds since 1970) and the number of requests counted in it.
pub(crate) type Slot = (i64, u32);

/// How long counts and breakers are kept: longer than the longest window and the longest pause.
pub const KEPT: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// The shortest slot: in a busy second the database is asked at most ten times.
const SHORTEST_SLOT: i64 = 100;

/// The length of a window and of its slots, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    length: i64,
    slot: i64,
}

impl Window {
    /// An hour, in minutes.
    #[cfg(test)]
    pub(crate) const HOUR: Self = Self { length: 3_600_000, slot: 60_000 };
    /// A day, in quarter hours.
    pub(crate) const DAY: Self = Self { length: 86_400_000, slot: 900_000 };

    /// A window of any length, in sixty slots.
    pub(crate) fn of(length: Duration) -> Self {
        let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        // Days have always had longer slots, and existing databases count in them.
        if length == Self::DAY.length { Self::DAY } else { Self { length, slot: (length / 60).max(SHORTEST_SLOT) } }
    }

    /// How long counts are kept: much longer than they count. A clock that is temporarily ahead
    /// therefore deletes nothing that counts again once it is corrected. A short window has many
    /// slots, which are not kept for days.
    pub(crate) fn kept(self) -> Duration {
        (self.length() * 72).min(KEPT)
    }

    /// Its length.
    pub(crate) fn length(self) -> Duration {
        Duration::from_millis(self.length.unsigned_abs())
    }

    /// The slot that contains a time.
    pub(crate) fn slot_of(self, now: Timestamp) -> i64 {
        now.as_millisecond().div_euclid(self.slot) * self.slot
    }

    /// The first slot that counts at that time. Slots in the future count too: the clock was set
    /// back. If it went back by more than a little, the next reservation moves them into the
    /// current slot, so that they count for one window and not until that time comes again.
    pub(crate) fn first_slot(self, now: Timestamp) -> i64 {
        let gone = now.as_millisecond().saturating_sub(self.length + 2 * self.slot);
        gone.div_euclid(self.slot) * self.slot + self.slot
    }

    /// The time half a window ago.
    pub(crate) fn middle(self, now: Timestamp) -> i64 {
        now.as_millisecond().saturating_sub(self.length / 2)
    }

    /// How many requests count at that time.
    pub(crate) fn count(self, slots: &[Slot], now: Timestamp) -> u64 {
        let first = self.first_slot(now);
        slots.iter().filter(|(slot, _)| *slot >= first).map(|(_, count)| u64::from(*count)).sum()
    }

    /// How long to wait until `more` requests fit below the limit; `None` if they fit now. `slots`
    /// must be in ascending order.
    pub(crate) fn wait(self, slots: &[Slot], now: Timestamp, limit: u32, more: u32) -> Option<Duration> {
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
        // It is more than the whole limit.
        Some(self.length())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

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

    #[test]
    fn an_hour_and_a_day_have_the_slots_that_databases_have() {
        assert_eq!(Window::of(Duration::from_secs(3_600)), Window::HOUR);
        assert_eq!(Window::of(Duration::from_secs(86_400)), Window::DAY);
        assert_eq!(Window::of(Duration::from_secs(1)), Window { length: 1_000, slot: 100 });
    }

    /// Under random traffic, pauses and delays, no period of the window's length, wherever it
    /// begins, has more requests than the limit.
    #[test]
    fn no_period_of_the_windows_length_has_more_requests_than_the_limit() {
        for (seed, seconds) in (0..60).zip([3_600, 86_400, 60, 10, 1].into_iter().cycle()) {
            let window = Window::of(Duration::from_secs(seconds));
            let mut random = Random::new(seed);
            let limit = 1 + random.below(60) as u32;
            let (mut now, mut slots, mut sent) = (random.below(10_000_000) as i64, Vec::<Slot>::new(), Vec::new());
            for _ in 0..600 {
                let pace = 1 + random.below(20);
                now += random.below(4 * window.slot as u64 / pace) as i64;
                if window.wait(&slots, at(now), limit, 1).is_some() {
                    continue;
                }
                let slot = window.slot_of(at(now));
                match slots.iter_mut().find(|(of, _)| *of == slot) {
                    Some((_, count)) => *count += 1,
                    None => slots.push((slot, 1)),
                }
                // A request may leave up to a slot later.
                sent.push(now + random.below(window.slot as u64) as i64);
            }
            sent.sort_unstable();
            for (index, from) in sent.iter().enumerate() {
                let within = sent[index..].iter().take_while(|time| **time < from + window.length).count();
                assert!(within <= limit as usize, "seed {seed}: {within} of {limit} from {from}");
            }
            assert!(sent.len() >= limit as usize, "seed {seed}: the limit is there to be used");
        }
    }
}
