//! Which one-time codes were handed out, and callers that wait for one that was not.
//!
//! Most sites accept a code once. Every code that leaves the broker is counted, for each item (or
//! entry with a secret of its own) and period, and the answer says how often.
//!
//! **Invariant:** a caller that asks for an unused code never shares one with another such caller.
//! When the current code is taken, the caller reserves the next period, if that is free, and gets
//! its code then. Of eight callers that ask at once, one gets the current code and one the next;
//! the other six are told at once when to ask again, without waiting.
//!
//! **How it can fail:** the counts are in this process's memory, and bounded ([`CODES`]). After a
//! restart, and between two processes on one database, they begin anew. A code that was handed out
//! and did not arrive counts.

use std::time::Duration;

use keyway_clock::Clock;
use keyway_runtime::contract::OneTimeCode;
use keyway_storage::{ItemId, WorkspaceId};
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

use crate::error::{BrokerError, InvalidInput};

/// How many codes are remembered, the most recent ones: at 200 bytes each, 20 MB.
const CODES: u64 = 100_000;

/// The longest wait for a code: an ordinary period (RFC 6238, section 5.2) and a bit. Usual clients
/// of servers give up after a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(35);

/// For how long the old code may come back after its end, from a clock that is behind.
const BEHIND: Duration = Duration::from_secs(3);

/// How often a waiting caller looks at the clock, which may be set or be a test's.
const LOOK: Duration = Duration::from_millis(200);

/// What a caller demands of a one-time code; without demands, it is the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WantedCode {
    /// Only a code that was not handed out before: see [`Resolution::times_handed_out`].
    ///
    /// [`Resolution::times_handed_out`]: crate::Resolution::times_handed_out
    pub unused: bool,
    /// Only a code that is current for at least this many seconds more; at most its period.
    pub min_seconds_left: u32,
}

impl WantedCode {
    /// The same, but only an unused one.
    #[must_use]
    pub fn unused(mut self, unused: bool) -> Self {
        self.unused = unused;
        self
    }

    /// The same, but with at least this many seconds left.
    #[must_use]
    pub fn min_seconds_left(mut self, seconds: u32) -> Self {
        self.min_seconds_left = seconds;
        self
    }

    /// Whether any current code will do.
    pub(crate) fn is_any(self) -> bool {
        self == Self::default()
    }
}

/// A code of an item: the item, and the end of the code's period.
type CodeKey = (WorkspaceId, ItemId, u64);

/// Counts the codes that were handed out.
pub(crate) struct Codes(Cache<CodeKey, u32>);

impl Default for Codes {
    fn default() -> Self {
        // Old ones must not keep out new ones, which the ordinary policy would do.
        Self(Cache::builder().max_capacity(CODES).eviction_policy(EvictionPolicy::lru()).build())
    }
}

impl Codes {
    /// A caller's way to a code with these demands.
    pub(crate) fn turn(&self, wanted: WantedCode) -> Turn<'_> {
        Turn { codes: self, wanted, reserved: None, waiting: None }
    }

    /// Counts a code as handed out and returns how often it was; `None`, without counting it, if
    /// it was before and must be unused.
    fn count(&self, key: CodeKey, unused: bool) -> Option<u32> {
        let mut times = None;
        self.0.entry(key).and_compute_with(|before| match before {
            Some(_) if unused => Op::Nop,
            before => {
                let count = before.map_or(0, |before| before.into_value()).saturating_add(1);
                times = Some(count);
                Op::Put(count)
            }
        });
        times
    }

    /// Takes back a reservation that was not used.
    fn discount(&self, key: CodeKey) {
        self.0.entry(key).and_compute_with(|before| match before.map_or(0, |before| before.into_value()) {
            0 | 1 => Op::Remove,
            count => Op::Put(count - 1),
        });
    }
}

/// What becomes of a code that was just made or fetched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is handed out, for this many times now.
    HandOut(u32),
    /// It does not meet the demands. Drop it, wait until this second since 1970, and fetch another.
    Wait(u64),
}

/// A caller's way to a code.
pub(crate) struct Turn<'a> {
    codes: &'a Codes,
    wanted: WantedCode,
    /// A later code that is kept for this caller.
    reserved: Option<Reservation<'a>>,
    /// The end of the code that it has waited out, and when it began to.
    waiting: Option<(u64, Instant)>,
}

impl Turn<'_> {
    /// Decides about a code that is current at `now`, in seconds since 1970.
    pub(crate) fn decide(
        &mut self,
        workspace: WorkspaceId,
        item: &ItemId,
        code: &OneTimeCode,
        now: u64,
    ) -> Result<Step, BrokerError> {
        let WantedCode { unused, min_seconds_left } = self.wanted;
        if min_seconds_left > code.period_seconds {
            return Err(InvalidInput::MinSecondsLeft { period: code.period_seconds }.into());
        }
        let left = code.expires_at.saturating_sub(now);
        let key = |expires_at| (workspace, item.clone(), expires_at);
        if left >= u64::from(min_seconds_left) {
            let reserved = self.reserved.take_if(|reserved| reserved.is_for(code.expires_at));
            let times = match reserved {
                // Callers without demands may have got it meanwhile.
                Some(reserved) => Some(reserved.keep()),
                None => self.codes.count(key(code.expires_at), unused),
            };
            if let Some(times) = times {
                return Ok(Step::HandOut(times));
            }
        }
        let later = Err(BrokerError::CodeNotYet { retry_after: Duration::from_secs(left.max(1)) });
        // One wait. After it the code is another one, unless it is made by a clock that is behind.
        if let Some((until, began)) = self.waiting {
            let is_behind = until == code.expires_at && began.elapsed() < LONGEST_WAIT + BEHIND;
            if is_behind && now < code.expires_at.saturating_add(BEHIND.as_secs()) {
                return Ok(Step::Wait(now.saturating_add(1)));
            }
            return later;
        }
        if left > LONGEST_WAIT.as_secs() {
            return later;
        }
        if unused {
            let next = key(code.expires_at.saturating_add(code.period_seconds.into()));
            match self.codes.count(next.clone(), true) {
                Some(_) => self.reserved = Some(Reservation { codes: self.codes, key: Some(next) }),
                None => return later,
            }
        }
        self.waiting = Some((code.expires_at, Instant::now()));
        Ok(Step::Wait(code.expires_at))
    }

    /// Waits until a second since 1970, but no longer than a caller may, whatever the clock does.
    pub(crate) async fn wait(&self, clock: &dyn Clock, second: u64) {
        let began = self.waiting.map_or_else(Instant::now, |(_, began)| began);
        while began.elapsed() < LONGEST_WAIT + BEHIND {
            let now = u64::try_from(clock.now().timestamp().as_millisecond()).unwrap_or_default();
            let left = Duration::from_millis(second.saturating_mul(1_000).saturating_sub(now));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }
}

/// A code that was counted in advance. Dropped with a caller that goes away, it is given back.
struct Reservation<'a> {
    codes: &'a Codes,
    /// `None` once it is handed out.
    key: Option<CodeKey>,
}

impl Reservation<'_> {
    fn is_for(&self, expires_at: u64) -> bool {
        self.key.as_ref().is_some_and(|key| key.2 == expires_at)
    }

    /// The code is handed out: how often it was by now.
    fn keep(mut self) -> u32 {
        self.key.take().and_then(|key| self.codes.0.get(&key)).unwrap_or(1)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.codes.discount(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A code of a period of 30 s.
    fn code(expires_at: u64) -> OneTimeCode {
        OneTimeCode::new("492039", expires_at, 30)
    }

    struct Item(Codes, WorkspaceId, ItemId);

    impl Item {
        fn new() -> Self {
            let id = ItemId { account: "acme".into(), reference: "acme://1".into() };
            Self(Codes::default(), WorkspaceId::generate(), id)
        }

        fn decide(&self, turn: &mut Turn<'_>, expires_at: u64, now: u64) -> Result<Step, BrokerError> {
            turn.decide(self.1, &self.2, &code(expires_at), now)
        }

        fn any(&self, expires_at: u64, now: u64) -> Step {
            self.decide(&mut self.0.turn(WantedCode::default()), expires_at, now).unwrap()
        }

        fn unused(&self) -> Turn<'_> {
            self.0.turn(WantedCode { unused: true, ..WantedCode::default() })
        }
    }

    fn retry_after(step: Result<Step, BrokerError>) -> u64 {
        match step {
            Err(BrokerError::CodeNotYet { retry_after }) => retry_after.as_secs(),
            step => panic!("{step:?}"),
        }
    }

    #[test]
    fn a_code_says_how_often_it_was_handed_out_in_its_period() {
        let item = Item::new();
        assert_eq!([0, 1, 29].map(|now| item.any(30, now)), [1, 2, 3].map(Step::HandOut));
        assert_eq!(item.any(60, 30), Step::HandOut(1));
        let other = Item(item.0, WorkspaceId::generate(), item.2);
        assert_eq!(other.any(60, 30), Step::HandOut(1), "of another workspace");
    }

    #[test]
    fn of_eight_callers_two_get_a_code_and_six_are_told_when_to_ask_again() {
        let item = Item::new();
        let mut turns: Vec<_> = (0..8).map(|_| item.unused()).collect();
        let steps: Vec<_> = turns.iter_mut().map(|turn| item.decide(turn, 30, 10)).collect();
        let mut steps = steps.into_iter();
        assert_eq!(steps.next().unwrap().unwrap(), Step::HandOut(1));
        assert_eq!(steps.next().unwrap().unwrap(), Step::Wait(30));
        assert!(steps.all(|step| retry_after(step) == 20));
        // The one that waited gets its code, and the others ask again.
        assert_eq!(item.decide(&mut turns[1], 60, 30).unwrap(), Step::HandOut(1));
        assert_eq!(item.decide(&mut item.unused(), 60, 30).unwrap(), Step::Wait(60));
    }

    #[test]
    fn a_caller_that_goes_away_leaves_its_period_to_others() {
        let item = Item::new();
        item.any(30, 0);
        let mut gone = item.unused();
        assert_eq!(item.decide(&mut gone, 30, 0).unwrap(), Step::Wait(30));
        assert_eq!(retry_after(item.decide(&mut item.unused(), 30, 0)), 30);
        drop(gone);
        assert_eq!(item.decide(&mut item.unused(), 60, 30).unwrap(), Step::HandOut(1));
    }

    #[test]
    fn a_caller_without_demands_learns_that_a_waiting_one_has_the_code() {
        let item = Item::new();
        item.any(30, 0);
        let mut waiting = item.unused();
        item.decide(&mut waiting, 30, 0).unwrap();
        assert_eq!(item.any(60, 30), Step::HandOut(2));
        assert_eq!(item.decide(&mut waiting, 60, 30).unwrap(), Step::HandOut(2));
    }

    #[test]
    fn a_code_that_ends_too_soon_is_waited_for_and_not_counted() {
        let item = Item::new();
        let mut turn = item.0.turn(WantedCode { min_seconds_left: 10, unused: false });
        assert_eq!(item.decide(&mut turn, 30, 21).unwrap(), Step::Wait(30));
        assert_eq!(item.decide(&mut turn, 60, 31).unwrap(), Step::HandOut(1));
        let mut turn = item.0.turn(WantedCode { min_seconds_left: 31, unused: false });
        let refused = item.decide(&mut turn, 30, 0).unwrap_err();
        assert!(matches!(refused, BrokerError::Invalid(InvalidInput::MinSecondsLeft { period: 30 })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_stands_still_ends_a_wait() {
        let item = Item::new();
        let clock = keyway_clock::ManualClock::new(jiff::Timestamp::from_second(10).unwrap());
        item.any(30, 10);
        let (mut turn, began) = (item.unused(), Instant::now());
        while let Ok(Step::Wait(until)) = item.decide(&mut turn, 30, 10) {
            turn.wait(&clock, until).await;
        }
        assert!(began.elapsed() >= LONGEST_WAIT && began.elapsed() < LONGEST_WAIT + 2 * BEHIND);
    }

    #[test]
    fn nobody_waits_for_longer_than_a_period_and_a_bit() {
        let item = Item::new();
        let (long, now) = (OneTimeCode::new("492039", 3_600, 3_600), 100);
        let mut turn = item.0.turn(WantedCode { min_seconds_left: 3_600, unused: false });
        assert_eq!(retry_after(turn.decide(item.1, &item.2, &long, now)), 3_500);
        // A code that does not change is waited for a few seconds more.
        item.any(30, 29);
        let mut turn = item.unused();
        assert_eq!(item.decide(&mut turn, 30, 29).unwrap(), Step::Wait(30));
        assert_eq!(item.decide(&mut turn, 30, 30).unwrap(), Step::Wait(31));
        assert_eq!(item.decide(&mut turn, 30, 32).unwrap(), Step::Wait(33));
        assert_eq!(retry_after(item.decide(&mut turn, 30, 33)), 1);
    }
}
