//! How far this machine's clock is from those of servers, by the `date` of their answers. A clock
//! that is wrong makes every one-time code wrong, and nothing else tells.
//!
//! The date has no fraction of a second, and the answer has been on its way: what one answer shows
//! is a span. It is taken for the value in it that is nearest to zero. One server alone may be
//! wrong, so of several answers the one that agrees most with this machine counts.

use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use http::header::DATE;
use jiff::{SignedDuration, Timestamp};
use keyway_clock::{Clock, Moment};

/// Beyond this the clock counts as wrong. Machines that keep their time are within a second of each
/// other, and a code is good for 30 seconds.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// How long an answer counts although later ones agree less: longer than the calls of a host that
/// does little, and short enough for a clock that has just gone wrong.
const KEPT: std::time::Duration = std::time::Duration::from_secs(5 * 60);

pub(crate) struct ClockSkew {
    clock: Arc<dyn Clock>,
    seen: Mutex<Option<(Moment, SignedDuration)>>,
}

impl ClockSkew {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, seen: Mutex::default() }
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Looks at an answer to a request of that moment.
    pub(crate) fn note(&self, asked: Moment, headers: &HeaderMap) {
        let Some(date) = headers.get(DATE).and_then(|date| date.to_str().ok()) else { return };
        // The form is that of mail, with the zone GMT.
        let Ok(date) = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date) else { return };
        let now = self.clock.now();
        let skew = nearest_to_zero(date, asked.timestamp(), now.timestamp());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.filter(|(at, _)| now.since(*at) < KEPT).map(|(_, before)| before);
        if before.is_some_and(|before| before.abs() < skew.abs()) {
            return;
        }
        let was_wrong = seen.is_some_and(|(_, before)| is_wrong(before));
        *seen = Some((now, skew));
        drop(seen);
        match (was_wrong, is_wrong(skew)) {
            (false, true) => tracing::warn!(
                "{}; one-time codes may be wrong. Set the clock, and have it kept by NTP",
                described(skew)
            ),
            (true, false) => tracing::info!("the clock agrees with those of secret managers again"),
            _ => {}
        }
    }

    /// How far the servers' clocks are ahead of this one, if that is more than they may be.
    pub(crate) fn wrong_by(&self) -> Option<SignedDuration> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).map(|(_, skew)| skew).filter(|skew| is_wrong(*skew))
    }
}

fn is_wrong(skew: SignedDuration) -> bool {
    skew.abs() > TOLERANCE
}

/// What to tell people about a clock that is wrong.
pub(crate) fn described(skew: SignedDuration) -> String {
    let side = if skew.is_positive() { "behind" } else { "ahead of" };
    format!("the clock of this machine is {} s {side} those of secret managers", skew.abs().as_secs())
}

/// The server's clock said `date` at some moment between these two, and up to a second more.
fn nearest_to_zero(date: Timestamp, asked: Timestamp, answered: Timestamp) -> SignedDuration {
    let least = date.duration_since(answered);
    let most = date.duration_since(asked) + SignedDuration::from_secs(1);
    if least.is_positive() {
        least
    } else if most.is_negative() {
        most
    } else {
        SignedDuration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use keyway_clock::ManualClock;

    use super::*;

    const START: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(START + seconds).unwrap()
    }

    /// An answer whose date is so many seconds ahead of the start.
    fn dated(seconds: i64) -> HeaderMap {
        let date = at(seconds).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        HeaderMap::from_iter([(DATE, HeaderValue::from_str(&date).unwrap())])
    }

    #[test]
    fn only_what_neither_the_fraction_nor_the_way_explains_counts() {
        let span = |date, asked, answered| nearest_to_zero(at(date), at(asked), at(answered)).as_secs();
        assert_eq!(span(0, 0, 0), 0);
        assert_eq!(span(10, 0, 20), 0, "a slow answer");
        assert_eq!(span(90, 0, 1), 89);
        assert_eq!(span(-90, 0, 1), -89);
    }

    #[test]
    fn a_clock_that_is_wrong_is_told_and_one_server_that_is_wrong_is_not() {
        let clock = Arc::new(ManualClock::new(at(0)));
        let skew = ClockSkew::new(clock.clone());
        let answer = |seconds| skew.note(clock.now(), &dated(seconds));
        answer(3);
        assert_eq!(skew.wrong_by(), None);
        // Another server, which is wrong.
        answer(3_600);
        assert_eq!(skew.wrong_by(), None);

        let clock = Arc::new(ManualClock::new(at(0)));
        let skew = ClockSkew::new(clock.clone());
        let answer = |seconds| skew.note(clock.now(), &dated(seconds));
        answer(3_600);
        answer(90);
        let wrong = skew.wrong_by().unwrap();
        assert_eq!(described(wrong), "the clock of this machine is 90 s behind those of secret managers");
        clock.set_wall(at(90));
        answer(90);
        assert_eq!(skew.wrong_by(), None);
    }

    #[test]
    fn a_clock_that_goes_wrong_is_told_within_minutes_and_nonsense_is_no_date() {
        let clock = Arc::new(ManualClock::new(at(0)));
        let skew = ClockSkew::new(clock.clone());
        skew.note(clock.now(), &dated(0));
        clock.advance(std::time::Duration::from_secs(301));
        skew.note(clock.now(), &dated(301 - 120));
        assert_eq!(skew.wrong_by().unwrap().as_secs(), -119);
        for nonsense in ["", "tomorrow", "Thu, 99 Foo 2026 00:00:00 GMT"] {
            skew.note(clock.now(), &HeaderMap::from_iter([(DATE, HeaderValue::from_str(nonsense).unwrap())]));
        }
        assert_eq!(skew.wrong_by().unwrap().as_secs(), -119);
    }
}
