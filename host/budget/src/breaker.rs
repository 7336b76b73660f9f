//! The states of a token's breaker and the transitions between them. Pure: time and randomness are
//! parameters.
//!
//! ```text
//!             5 failures in a row, "too many requests", refused credentials
//!   closed ────────────────────────────────────────────────────────────────▶ paused until ...
//!     ▲                                                                       │ when that is over,
//!     │ the probe succeeds                                                    ▼ one call
//!     └──────────────────────────────────────────────────────────────────── probing
//!                                                                             │ the probe fails:
//!                                                                             └─▶ paused, twice as long
//! ```
//!
//! **Invariants:** asking changes nothing, so a refused call never extends a pause. While one call
//! probes, no other goes out; the right to probe is a lease that expires, so a crashed process
//! cannot keep it. The stored state is the whole state.

use std::time::Duration;

use jiff::Timestamp;
use keyway_storage::{PauseReason, PauseRecord};

use crate::limits::{BreakerOptions, LONGEST_WAIT};

/// How long other calls wait for the result of a probe.
const WHILE_PROBING: Duration = Duration::from_secs(1);

/// The state of one token's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    /// Consecutive failures.
    pub(crate) failures: u32,
    /// The current pause.
    pub(crate) pause: Option<PauseRecord>,
}

/// Whether a call may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Go,
    /// Yes, as the probe, unless another call claims it first ([`State::claim`]).
    Probe,
    Wait {
        reason: PauseReason,
        wait: Duration,
    },
}

/// How a call ended, as far as the breaker is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered, even if with an error.
    Answered,
    /// The server is failing, unreachable or too slow.
    Unavailable,
    /// Too many requests; how long the server asked to wait.
    RateLimited(Option<Duration>),
    /// The server does not accept the credentials.
    Refused,
    /// The call shows neither that the server is healthy nor that it is not.
    Unclear,
    /// The call made no request.
    NotAsked,
}

impl State {
    /// Whether a call may go out. `entered`: the credentials have just been entered, so an earlier
    /// refusal no longer counts.
    pub(crate) fn ask(&self, now: Timestamp, entered: bool) -> Answer {
        let Some(pause) = &self.pause else { return Answer::Go };
        let left = left(pause, now);
        if left.is_zero() || (entered && pause.reason == PauseReason::Refused && !pause.probing) {
            Answer::Probe
        } else {
            let wait = if pause.probing { left.min(WHILE_PROBING) } else { left };
            Answer::Wait { reason: pause.reason, wait }
        }
    }

    /// Claims the right to probe. The caller stores the state before it calls.
    pub(crate) fn claim(&mut self, now: Timestamp, options: &BreakerOptions) {
        if let Some(pause) = &mut self.pause {
            pause.probing = true;
            pause.until = after(now, options.probe);
        }
    }

    /// Applies the end of a call. `probe`: the call was the probe. `draw`: a random number from 0
    /// to 1.
    pub(crate) fn ended(&mut self, now: Timestamp, outcome: Outcome, probe: bool, draw: f64, options: &BreakerOptions) {
        let resting = self.pause.map(|pause| pause.reason);
        match outcome {
            Outcome::Answered => {
                // A call that began before a pause may end during it. Its answer shows that the
                // server works, but disproves neither a rate limit nor refused credentials.
                if probe || matches!(resting, None | Some(PauseReason::Unavailable)) {
                    *self = Self::default();
                }
            }
            Outcome::Unavailable if probe => self.pause(PauseReason::Unavailable, now, None, draw, options),
            // The call began before the pause and shows nothing new.
            Outcome::Unavailable if resting.is_some() => {}
            Outcome::Unavailable => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= options.threshold {
                    self.pause(PauseReason::Unavailable, now, None, draw, options);
                }
            }
            Outcome::RateLimited(asked) => {
                let late = !probe && resting == Some(PauseReason::RateLimited);
                if !late || asked.is_some() {
                    let until = self.pause.filter(|_| late).map(|pause| pause.until);
                    let strikes = self.pause.map_or(0, |pause| pause.strikes);
                    self.pause(PauseReason::RateLimited, now, asked, draw, options);
                    if let (true, Some(pause)) = (late, &mut self.pause) {
                        pause.until = pause.until.max(until.unwrap_or(pause.until));
                        pause.strikes = strikes;
                    }
                }
            }
            Outcome::Refused if !probe && resting == Some(PauseReason::Refused) => {}
            Outcome::Refused => self.pause(PauseReason::Refused, now, None, draw, options),
            Outcome::Unclear if probe => {
                if let Some(PauseRecord { reason, strikes, .. }) = &mut self.pause {
                    // The probe replaces the last strike instead of adding one. Otherwise an item
                    // whose answer is not understood would lengthen the pause for all others.
                    *strikes = strikes.saturating_sub(1);
                    let reason = *reason;
                    self.pause(reason, now, None, draw, options);
                }
            }
            Outcome::NotAsked if probe => {
                if let Some(pause) = &mut self.pause {
                    pause.probing = false;
                    pause.until = now;
                }
            }
            Outcome::Unclear | Outcome::NotAsked => {}
        }
    }

    fn pause(
        &mut self,
        reason: PauseReason,
        now: Timestamp,
        asked: Option<Duration>,
        draw: f64,
        options: &BreakerOptions,
    ) {
        let before = self.pause.filter(|pause| pause.reason == reason).map_or(0, |pause| pause.strikes);
        let strikes = before.saturating_add(1);
        let (first, longest) = match reason {
            PauseReason::Unavailable => (options.unavailable, options.unavailable_max),
            PauseReason::RateLimited => (options.rate_limited, options.rate_limited_max),
            PauseReason::Refused => (options.refused, options.refused_max),
        };
        // The server's wait is honoured as given, but never as zero: it has just refused a request.
        let wait = match asked {
            Some(asked) => asked.clamp(Duration::from_secs(1), LONGEST_WAIT),
            None => back_off(first, longest, strikes, draw),
        };
        self.pause = Some(PauseRecord { reason, until: after(now, wait), strikes, probing: false });
    }
}

/// The pause after so many strikes: doubled each time, and drawn from its upper half.
pub fn back_off(first: Duration, longest: Duration, strikes: u32, draw: f64) -> Duration {
    let doubled = first.saturating_mul(1_u32.checked_shl(strikes.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(longest).mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0)
}

/// What remains of a pause. A pause that ends later than any can was stored before the clock was
/// set back.
fn left(pause: &PauseRecord, now: Timestamp) -> Duration {
    let left = Duration::try_from(pause.until.duration_since(now)).unwrap_or(Duration::ZERO);
    if left > LONGEST_WAIT { Duration::ZERO } else { left }
}

/// In whole milliseconds, as times are stored.
pub fn after(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = i64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(now.as_millisecond().saturating_add(wait)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    const OPTIONS: fn() -> BreakerOptions = BreakerOptions::default;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ended(state: &mut State, now: i64, outcome: Outcome, probe: bool) {
        state.ended(at(now), outcome, probe, 1.0, &OPTIONS());
    }

    fn opened() -> State {
        let mut state = State::default();
        for _ in 0..5 {
            ended(&mut state, 0, Outcome::Unavailable, false);
        }
        state
    }

    fn wait(state: &State, now: i64) -> Option<Duration> {
        match state.ask(at(now), false) {
            Answer::Wait { wait, .. } => Some(wait),
            _ => None,
        }
    }

    #[test]
    fn it_opens_after_five_failures_in_a_row_and_a_success_in_between_starts_the_count_anew() {
        let mut state = State::default();
        for _ in 0..4 {
            ended(&mut state, 0, Outcome::Unavailable, false);
        }
        ended(&mut state, 0, Outcome::Answered, false);
        for _ in 0..4 {
            ended(&mut state, 0, Outcome::Unavailable, false);
            assert_eq!(state.ask(at(0), false), Answer::Go);
        }
        ended(&mut state, 0, Outcome::Unavailable, false);
        assert_eq!(wait(&state, 0), Some(Duration::from_secs(2)));
    }

    #[test]
    fn asking_and_late_failures_extend_nothing() {
        let mut state = opened();
        let before = state;
        for second in 0..2 {
            state.ask(at(second), false);
            ended(&mut state, second, Outcome::Unavailable, false);
            ended(&mut state, second, Outcome::NotAsked, false);
            ended(&mut state, second, Outcome::Unclear, false);
        }
        assert_eq!(state, before);
    }

    #[test]
    fn a_refusal_that_comes_late_extends_nothing_and_one_of_a_probe_does() {
        let mut state = State::default();
        ended(&mut state, 0, Outcome::Refused, false);
        let before = state;
        ended(&mut state, 5, Outcome::Refused, false);
        assert_eq!(state, before);
        let over = before.pause.unwrap().until.as_second();
        state.claim(at(over), &OPTIONS());
        ended(&mut state, over, Outcome::Refused, true);
        assert_eq!(state.pause.unwrap().strikes, 2);
        // Refused credentials take precedence over any other reason for a pause.
        let mut state = opened();
        ended(&mut state, 1, Outcome::Refused, false);
        assert_eq!(state.pause.unwrap().reason, PauseReason::Refused);
    }

    #[test]
    fn one_call_probes_and_the_others_wait_for_it() {
        let mut state = opened();
        assert_eq!(state.ask(at(3), false), Answer::Probe);
        state.claim(at(3), &OPTIONS());
        assert_eq!(wait(&state, 3), Some(WHILE_PROBING));
        ended(&mut state, 4, Outcome::Answered, true);
        assert_eq!(state, State::default());
    }

    #[test]
    fn a_probe_that_fails_doubles_the_pause_up_to_the_longest() {
        let (mut state, mut now, mut pauses) = (opened(), 0, Vec::new());
        for _ in 0..7 {
            let pause = wait(&state, now).unwrap();
            pauses.push(pause.as_secs());
            now += pause.as_secs() as i64 + 1;
            assert_eq!(state.ask(at(now), false), Answer::Probe);
            state.claim(at(now), &OPTIONS());
            ended(&mut state, now, Outcome::Unavailable, true);
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_pause_is_drawn_from_its_upper_half() {
        let seconds = Duration::from_secs;
        for (strikes, longest) in [(1, 2), (2, 4), (6, 60), (400, 60)] {
            let drawn = |draw| back_off(seconds(2), seconds(60), strikes, draw);
            assert_eq!(drawn(0.0), seconds(longest) / 2);
            assert_eq!(drawn(0.5), seconds(longest) * 3 / 4);
            assert_eq!(drawn(1.0), seconds(longest));
        }
    }

    #[test]
    fn the_right_of_a_probe_that_was_never_heard_of_again_ends() {
        let mut state = opened();
        state.claim(at(3), &OPTIONS());
        assert!(wait(&state, 42).is_some());
        assert_eq!(state.ask(at(44), false), Answer::Probe);
    }

    #[test]
    fn a_probe_that_made_no_request_leaves_the_right_to_the_next() {
        let mut state = opened();
        state.claim(at(3), &OPTIONS());
        ended(&mut state, 3, Outcome::NotAsked, true);
        assert_eq!(state.ask(at(3), false), Answer::Probe);
    }

    #[test]
    fn the_servers_word_on_how_long_to_wait_is_taken_and_only_a_longer_one_replaces_it() {
        let mut state = State::default();
        let limited = |seconds| Outcome::RateLimited(Some(Duration::from_secs(seconds)));
        ended(&mut state, 0, limited(60), false);
        ended(&mut state, 10, limited(5), false);
        ended(&mut state, 10, Outcome::Answered, false);
        assert_eq!(wait(&state, 10), Some(Duration::from_secs(50)));
        ended(&mut state, 10, limited(100), false);
        assert_eq!(wait(&state, 10), Some(Duration::from_secs(100)));
        ended(&mut state, 10, limited(10_000_000), false);
        assert_eq!(wait(&state, 10), Some(LONGEST_WAIT));
    }

    #[test]
    fn without_the_servers_word_it_backs_off_by_itself() {
        let mut state = State::default();
        ended(&mut state, 0, Outcome::RateLimited(None), false);
        ended(&mut state, 0, Outcome::RateLimited(None), false);
        assert_eq!(wait(&state, 0), Some(Duration::from_secs(60)), "fifty at once are one strike");
        state.claim(at(61), &OPTIONS());
        ended(&mut state, 61, Outcome::RateLimited(None), true);
        assert_eq!(wait(&state, 61), Some(Duration::from_secs(120)));
    }

    #[test]
    fn refused_credentials_rest_until_somebody_enters_them_again() {
        let mut state = State::default();
        ended(&mut state, 0, Outcome::Refused, false);
        assert_eq!(wait(&state, 0), Some(Duration::from_secs(300)));
        assert_eq!(state.ask(at(0), true), Answer::Probe);
        state.claim(at(0), &OPTIONS());
        ended(&mut state, 0, Outcome::Answered, true);
        assert_eq!(state, State::default());
        // The server's wait applies to every call.
        ended(&mut state, 0, Outcome::RateLimited(None), false);
        assert!(matches!(state.ask(at(0), true), Answer::Wait { .. }));
    }

    #[test]
    fn a_pause_from_a_clock_that_was_set_back_is_over() {
        let mut state = State::default();
        ended(&mut state, 1_000_000, Outcome::Refused, false);
        assert_eq!(state.ask(at(0), false), Answer::Probe);
    }

    #[test]
    fn an_item_whose_answer_is_not_understood_makes_no_pause_longer() {
        for reason in [Outcome::RateLimited(None), Outcome::Unavailable] {
            let mut state = opened();
            state.ended(at(0), reason, true, 1.0, &OPTIONS());
            let first = state.pause.unwrap();
            for _ in 0..10 {
                let now = state.pause.unwrap().until;
                state.claim(now, &OPTIONS());
                state.ended(now, Outcome::Unclear, true, 1.0, &OPTIONS());
                let pause = state.pause.unwrap();
                assert_eq!((pause.reason, pause.strikes), (first.reason, first.strikes));
                assert_eq!(pause.until.duration_since(now), first.until.duration_since(at(0)));
            }
        }
    }

    /// Under any sequence of outcomes every wait ends, and at most one probe is in flight.
    #[test]
    fn every_pause_ends_and_one_probes_at_a_time() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let (mut state, mut now, mut probing): (_, _, Option<i64>) = (State::default(), 0_i64, None);
            for _ in 0..300 {
                now += random.below(20) as i64;
                let outcome = match random.below(6) {
                    0 => Outcome::Answered,
                    1 | 2 => Outcome::Unavailable,
                    3 => {
                        Outcome::RateLimited((random.below(2) == 0).then(|| Duration::from_secs(random.below(1 << 20))))
                    }
                    4 => Outcome::Refused,
                    _ => Outcome::Unclear,
                };
                match state.ask(at(now), random.below(10) == 0) {
                    Answer::Probe => {
                        assert!(probing.is_none_or(|since| now - since >= 40), "seed {seed}: two probes at {now}");
                        state.claim(at(now), &OPTIONS());
                        probing = Some(now);
                    }
                    Answer::Go => state.ended(at(now), outcome, false, random.fraction(), &OPTIONS()),
                    Answer::Wait { wait, .. } => assert!(wait <= LONGEST_WAIT && !wait.is_zero()),
                }
                if random.below(3) == 0 && probing.take().is_some() {
                    state.ended(at(now), outcome, true, random.fraction(), &OPTIONS());
                }
            }
        }
    }
}
