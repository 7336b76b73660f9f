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
//! probes, no other goes out; the right to probe is a lease that expires, so neither a crashed
//! process nor a call that hangs can keep it, and the end of a call whose lease has expired counts
//! as that of any late call. The first refusal of credentials is a suspicion ([`Answer::Wait`]):
//! only the refusal of the probe after it is believed. The stored state is the whole state.

use std::time::Duration;

use jiff::Timestamp;
use keyway_storage::{PauseReason, PauseRecord};

use crate::limits::{BreakerOptions, LONGEST_WAIT};

/// How long other calls wait for the result of a probe.
const WHILE_PROBING: Duration = Duration::from_secs(1);

/// How many refusals in a row are believed. A proxy's mistake or a session that ends in the middle
/// of a sign-in refuses once.
const BELIEVED: u32 = 2;

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
        /// Whether the credentials were refused only once so far.
        doubted: bool,
    },
}

/// The right to probe: the time at which it expires, which identifies it.
pub(crate) type Lease = Timestamp;

/// How a call ended, as far as the breaker is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered, even if with an error.
    Answered,
    /// The server is failing, unreachable or too slow.
    Unavailable,
    /// The same, and the server says when to come back.
    UnavailableFor(Duration),
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
            Answer::Wait { reason: pause.reason, wait, doubted: self.is_doubted() }
        }
    }

    /// Whether the credentials were refused, and that is not believed yet.
    pub(crate) fn is_doubted(&self) -> bool {
        self.pause.is_some_and(|pause| pause.reason == PauseReason::Refused && pause.strikes < BELIEVED)
    }

    /// Claims the right to probe. The caller stores the state before it calls.
    pub(crate) fn claim(&mut self, now: Timestamp, options: &BreakerOptions) -> Lease {
        let until = after(now, options.probe);
        if let Some(pause) = &mut self.pause {
            pause.probing = true;
            pause.until = until;
        }
        until
    }

    /// Applies the end of a call. `lease`: the call's right to probe, if it was the probe. `draw`:
    /// a random number from 0 to 1.
    pub(crate) fn ended(
        &mut self,
        now: Timestamp,
        outcome: Outcome,
        lease: Option<Lease>,
        draw: f64,
        options: &BreakerOptions,
    ) {
        let resting = self.pause.map(|pause| pause.reason);
        let probe = self.pause.is_some_and(|pause| pause.probing && lease == Some(pause.until));
        match outcome {
            Outcome::Answered => {
                // A call that began before a pause may end during it. Its answer shows that the
                // server works, but disproves neither a rate limit nor refused credentials.
                if probe || matches!(resting, None | Some(PauseReason::Unavailable)) {
                    *self = Self::default();
                }
            }
            Outcome::Unavailable if probe => self.pause(PauseReason::Unavailable, now, None, draw, options),
            Outcome::UnavailableFor(asked) if probe || resting.is_none() => {
                self.pause(PauseReason::Unavailable, now, Some(asked), draw, options);
            }
            // The call began before the pause and shows nothing new.
            Outcome::Unavailable if resting.is_some() => {}
            Outcome::UnavailableFor(_) => {}
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
            // Fifty that were refused together are one refusal, and none of them ends the wait that
            // the server has asked for.
            Outcome::Refused if !probe && matches!(resting, Some(PauseReason::Refused | PauseReason::RateLimited)) => {}
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
            PauseReason::Refused if strikes > options.refused_strikes => {
                (options.refused_for_long, options.refused_for_long)
            }
            PauseReason::Refused => (options.refused, options.refused_max),
        };
        // The server's wait is honoured, but never as zero: it has just refused a request.
        let wait = match asked {
            Some(asked) => asked.clamp(Duration::from_secs(1), options.asked_max.max(Duration::from_secs(1))),
            None => back_off(first, longest, strikes, draw).max(options.at_least),
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
#[path = "breaker_tests.rs"]
mod tests;
