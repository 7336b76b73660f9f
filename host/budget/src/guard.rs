//! The check before each call of one token under one tier: the token's breaker, its counts and its
//! account's.
//!
//! **Invariant:** a call that may not go out is refused from memory, before any other work. A
//! refusal writes nothing and delays nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use keyway_runtime::egress::RequestEffect;
use keyway_storage::{PauseReason, RequestKind, StorageError};
use parking_lot::Mutex;

use crate::breaker::{Answer, Lease, Outcome, State};
use crate::limits::RateLimits;
use crate::meter::Meter;
use crate::not_called::{NotCalled, Refusal};
use crate::operation::ProviderOperation;
use crate::token::TokenBreaker;

/// The pause before the first failure is retried is drawn from this range (in seconds), so that
/// callers that failed together do not retry together.
const RETRY_AFTER: std::ops::Range<f64> = 0.1..0.4;

/// The longest pause for which a call waits to be retried. A first refusal is doubted for 2 s as a
/// rule, and for longer only to spare a limit.
pub const LONGEST_RETRY_PAUSE: Duration = Duration::from_secs(3);

/// How many requests an operation is expected to make before its first call: more than 1Password's
/// cold resolve (7), as many as its cold write.
const FIRST_COST: u32 = 8;

/// Guards the calls of one token under one tier.
pub struct Guard {
    provider_type: String,
    pub(crate) limits: RateLimits,
    pub(crate) breaker: Arc<TokenBreaker>,
    /// The counts of the token.
    meters: Vec<Arc<Meter>>,
    /// The counts of its account, once the account is known.
    account: Mutex<Option<Vec<Arc<Meter>>>>,
    /// Reads and writes made before that.
    uncharged: [(RequestKind, AtomicU32); 2],
    costs: [AtomicU32; ProviderOperation::COUNT],
}

/// The right to call, and whether the call is the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    pub(crate) probe: Option<Lease>,
}

impl Guard {
    pub(crate) fn new(
        provider_type: &str,
        limits: RateLimits,
        breaker: Arc<TokenBreaker>,
        meters: Vec<Arc<Meter>>,
    ) -> Self {
        Self {
            provider_type: provider_type.to_owned(),
            limits,
            breaker,
            meters,
            account: Mutex::default(),
            uncharged: [RequestKind::Read, RequestKind::Write].map(|kind| (kind, AtomicU32::default())),
            costs: std::array::from_fn(|_| AtomicU32::new(FIRST_COST)),
        }
    }

    /// The type of the provider called with this token.
    pub fn provider_type(&self) -> &str {
        &self.provider_type
    }

    /// The counts that its calls change: the token's, and its account's once the account is known.
    pub(crate) fn meters(&self) -> Vec<Arc<Meter>> {
        let account = self.account.lock().clone();
        self.meters.iter().cloned().chain(account.unwrap_or_default()).collect()
    }

    pub(crate) async fn set_account(&self, account: Vec<Arc<Meter>>) -> Result<(), StorageError> {
        *self.account.lock() = Some(account.clone());
        for (kind, uncharged) in &self.uncharged {
            let requests = uncharged.swap(0, Ordering::Relaxed);
            if requests == 0 {
                continue;
            }
            for meter in account.iter().filter(|meter| meter.counts(*kind)) {
                if let Err(error) = meter.charge(requests).await {
                    uncharged.fetch_add(requests, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Lets a call begin, or returns why not.
    pub async fn begin(&self, operation: ProviderOperation) -> Result<Pass, Refusal> {
        let entered = operation == ProviderOperation::Verify;
        let is_probe = passed(self.breaker.ask_again(entered).await)?;
        let needed = self.cost(operation).map_or(1, |cost| cost.load(Ordering::Relaxed));
        // Check all of them to report the longest wait: a call that comes back earlier would be
        // refused again.
        let mut checked = Vec::new();
        for meter in self.meters() {
            let only_writes = meter.of.requests == RequestKind::Write;
            if !only_writes || operation == ProviderOperation::Write {
                let needed = if only_writes { 1 } else { needed };
                checked.push(meter.check(needed, kept(&meter, operation)).await);
            }
        }
        if let Some(refused) = longest(checked) {
            return Err(refused);
        }
        if !is_probe {
            return Ok(Pass { probe: None });
        }
        let (answer, probe) = self.breaker.claim(entered).await?;
        passed(answer)?;
        Ok(Pass { probe })
    }

    /// Whether calls are refused because of a pause.
    pub fn is_paused(&self) -> bool {
        self.breaker.resting().is_some()
    }

    /// Ends every pause, because a person says so. The next call goes out.
    ///
    /// # Errors
    /// The database's.
    pub async fn end_pauses(&self) -> Result<(), StorageError> {
        let (before, _) = self.breaker.change(|state, _| *state = State::default()).await?;
        if let Some(pause) = before.pause {
            tracing::info!(provider = self.provider_type, reason = %pause.reason, "a person has ended a token's pause");
        }
        Ok(())
    }

    /// Counts one request before it goes out.
    pub async fn admit(&self, operation: ProviderOperation, effect: RequestEffect, pass: Pass) -> Result<(), Refusal> {
        // Another call may have opened the breaker in the meantime.
        if pass.probe.is_none() {
            passed(self.breaker.ask(false))?;
        }
        let writes = operation == ProviderOperation::Write && effect == RequestEffect::Unsafe;
        let kind = if writes { RequestKind::Write } else { RequestKind::Read };
        let account = self.account.lock().clone();
        let charged = account.is_some();
        let mut taken: Vec<Arc<Meter>> = Vec::new();
        for meter in self.meters.iter().cloned().chain(account.unwrap_or_default()) {
            if !meter.counts(kind) {
                continue;
            }
            if let Err(refused) = meter.take(kept(&meter, operation)).await {
                taken.iter().for_each(|meter| meter.give_back());
                return Err(refused);
            }
            taken.push(meter);
        }
        if !charged {
            for (_, uncharged) in self.uncharged.iter().filter(|(of, _)| *of == kind) {
                uncharged.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Records how a call ended and how many requests it made. Returns after which pause to retry
    /// it, if at all.
    pub async fn ended(
        &self,
        operation: ProviderOperation,
        pass: Pass,
        outcome: Outcome,
        requests: u32,
    ) -> Result<Option<Duration>, StorageError> {
        if requests > 0
            && outcome == Outcome::Answered
            && let Some(cost) = self.cost(operation)
        {
            cost.store(requests, Ordering::Relaxed);
        }
        let used = self.meters().into_iter().map(|meter| (meter.of, meter.read_now()));
        let (chance, options) = (draw(), self.breaker.options.in_view_of(used));
        let change = self.breaker.change(|state, now| state.ended(now, outcome, pass.probe, chance, &options));
        let (before, after) = change.await?;
        if let Some(pause) = after.pause.filter(|pause| before.pause != Some(*pause) && !pause.probing) {
            tracing::warn!(
                provider = self.provider_type,
                reason = %pause.reason,
                until = %pause.until,
                "a connection's token is paused"
            );
        }
        if before.pause.is_some() && after.pause.is_none() {
            tracing::info!(provider = self.provider_type, "a connection's token is in use again");
        }
        let is_first = match outcome {
            Outcome::Unavailable => before.failures == 0 && after.failures == 1 && after.pause.is_none(),
            // A caller that enters credentials is told at once, and can enter them again.
            Outcome::Refused => operation != ProviderOperation::Verify && !before.is_doubted() && after.is_doubted(),
            _ => false,
        };
        if !options.retry || !is_first {
            return Ok(None);
        }
        let again = match self.breaker.ask(false) {
            // A moment more, because the timer may be early.
            Answer::Wait { wait, .. } => wait + Duration::from_millis(10),
            _ => Duration::from_secs_f64(RETRY_AFTER.start + draw() * (RETRY_AFTER.end - RETRY_AFTER.start)),
        };
        Ok(Some(again).filter(|again| *again <= LONGEST_RETRY_PAUSE))
    }

    /// Why a request would be refused now, from memory, without asking the database.
    pub fn refusal_now(&self, operation: ProviderOperation) -> Option<NotCalled> {
        if let Err(why) = passed(self.breaker.ask(false)) {
            return Some(why);
        }
        let meters = self.meters().into_iter().filter(|meter| meter.counts(RequestKind::Read));
        match longest(meters.filter_map(|meter| meter.try_check(1, kept(&meter, operation))))? {
            Refusal::NotCalled(why) => Some(why),
            Refusal::Storage(_) => None,
        }
    }

    /// How many requests the last call of this operation made.
    fn cost(&self, operation: ProviderOperation) -> Option<&AtomicU32> {
        let kind = if operation == ProviderOperation::ReadBack { ProviderOperation::Resolve } else { operation };
        self.costs.get(kind as usize)
    }
}

/// How many requests of a limit this operation must leave.
fn kept(meter: &Meter, operation: ProviderOperation) -> u32 {
    if operation.may_use_what_is_kept() { 0 } else { meter.of.kept_for_writing() }
}

/// Whether a call may go out only as the probe, or why not at all.
fn passed(answer: Answer) -> Result<bool, NotCalled> {
    let (reason, retry_after, doubted) = match answer {
        Answer::Go => return Ok(false),
        Answer::Probe => return Ok(true),
        Answer::Wait { reason, wait, doubted } => (reason, wait, doubted),
    };
    Err(match reason {
        PauseReason::Unavailable => NotCalled::Unavailable { retry_after },
        PauseReason::RateLimited => NotCalled::RateLimited { retry_after },
        PauseReason::Refused if doubted => NotCalled::Doubted { retry_after },
        PauseReason::Refused => NotCalled::Refused { retry_after },
    })
}

/// The refusal with the longest wait; a database error comes first.
fn longest(checked: impl IntoIterator<Item = Result<(), Refusal>>) -> Option<Refusal> {
    checked.into_iter().filter_map(Result::err).max_by_key(|refused| match refused {
        Refusal::Storage(_) => Duration::MAX,
        Refusal::NotCalled(why) => why.retry_after(),
    })
}

/// A random number from 0 to 1. Without randomness from the system, the longest pause applies.
pub fn draw() -> f64 {
    getrandom::u32().map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use jiff::Timestamp;
    use keyway_clock::ManualClock;
    use keyway_storage::SqliteStorage;

    use super::*;
    use crate::limits::BreakerOptions;
    use crate::limits::BudgetScope;

    fn guard(storage: &Arc<SqliteStorage>, clock: &Arc<ManualClock>, token: u8, limits: &RateLimits) -> Guard {
        let options = BreakerOptions::default();
        let breaker = Arc::new(TokenBreaker::new(storage.clone(), clock.clone(), [token; 16], options));
        let meter =
            |(number, of): (u8, _)| Arc::new(Meter::new(storage.clone(), clock.clone(), [100 + number; 16], of));
        Guard::new("echo", limits.clone(), breaker, (0..).zip(limits.counters()).map(meter).collect())
    }

    async fn admitted(guard: &Guard, operation: ProviderOperation, effect: RequestEffect) -> Result<(), Duration> {
        match guard.admit(operation, effect, Pass { probe: None }).await {
            Ok(()) => Ok(()),
            Err(Refusal::NotCalled(why)) => Err(why.retry_after()),
            Err(refused) => panic!("{refused:?}"),
        }
    }

    #[tokio::test]
    async fn every_window_of_a_tier_is_kept_and_one_request_counts_in_each() {
        let storage = Arc::new(SqliteStorage::in_memory().await.unwrap());
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_000_000_000).unwrap()));
        let seconds = Duration::from_secs;
        let limits = RateLimits::UNLIMITED
            .limit(3, seconds(10), RequestKind::Any, BudgetScope::Credential)
            .limit(5, seconds(60), RequestKind::Read, BudgetScope::Credential)
            .limit(1, seconds(3_600), RequestKind::Write, BudgetScope::Credential);
        let guard = guard(&storage, &clock, 1, &limits);
        let reads = async || admitted(&guard, ProviderOperation::Resolve, RequestEffect::Safe).await;
        let writes = async || admitted(&guard, ProviderOperation::Write, RequestEffect::Unsafe).await;
        writes().await.unwrap();
        assert!(writes().await.unwrap_err() > seconds(3_600));
        for _ in 0..2 {
            reads().await.unwrap();
        }
        let wait = reads().await.unwrap_err();
        assert!(wait > seconds(10) && wait < seconds(11), "three requests in ten seconds: {wait:?}");
        clock.advance(wait);
        for _ in 0..3 {
            reads().await.unwrap();
        }
        clock.advance(seconds(12));
        let wait = reads().await.unwrap_err();
        assert!(wait > seconds(30) && wait < seconds(62), "five reads in a minute: {wait:?}");
        clock.advance(wait);
        reads().await.unwrap();
    }

    #[tokio::test]
    async fn a_secret_manager_that_wants_a_rest_gets_it_although_that_cannot_be_stored() {
        let storage = Arc::new(SqliteStorage::in_memory().await.unwrap());
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_000_000_000).unwrap()));
        let guard = guard(&storage, &clock, 1, &RateLimits::UNLIMITED);
        let pass = guard.begin(ProviderOperation::Resolve).await.unwrap();
        storage.close().await;
        let limited = Outcome::RateLimited(Some(Duration::from_secs(60)));
        assert!(guard.ended(ProviderOperation::Resolve, pass, limited, 1).await.is_err());
        let refused = guard.begin(ProviderOperation::Resolve).await.unwrap_err();
        assert!(matches!(refused, Refusal::NotCalled(NotCalled::RateLimited { .. })), "{refused:?}");
    }

    async fn refused(guard: &Guard) -> NotCalled {
        match guard.begin(ProviderOperation::Resolve).await {
            Err(Refusal::NotCalled(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_during_a_pause_makes_it_no_longer() {
        let storage = Arc::new(SqliteStorage::in_memory().await.unwrap());
        let start = Timestamp::from_second(1_000_000_000).unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let running = guard(&storage, &clock, 1, &RateLimits::UNLIMITED);
        let pass = running.begin(ProviderOperation::Resolve).await.unwrap();
        let limited = Outcome::RateLimited(Some(Duration::from_secs(59)));
        running.ended(ProviderOperation::Resolve, pass, limited, 1).await.unwrap();
        clock.set_wall(start - jiff::Span::new().hours(2));
        // Also to a process that starts now.
        let started = guard(&storage, &clock, 1, &RateLimits::UNLIMITED);
        started.breaker.refresh().await.unwrap();
        for guard in [&running, &started] {
            let wait = refused(guard).await.retry_after();
            assert!(wait <= Duration::from_secs(59), "{wait:?}");
        }
        clock.advance(Duration::from_secs(59));
        for guard in [&running, &started] {
            guard.breaker.refresh().await.unwrap();
            assert!(matches!(guard.breaker.ask(false), Answer::Probe));
        }
    }

    #[tokio::test]
    async fn a_pause_that_a_person_has_ended_in_another_process_is_over_within_a_second() {
        let storage = Arc::new(SqliteStorage::in_memory().await.unwrap());
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_000_000_000).unwrap()));
        let server = guard(&storage, &clock, 1, &RateLimits::UNLIMITED);
        let pass = server.begin(ProviderOperation::Resolve).await.unwrap();
        let limited = Outcome::RateLimited(Some(Duration::from_secs(3_600)));
        server.ended(ProviderOperation::Resolve, pass, limited, 1).await.unwrap();
        refused(&server).await;
        let command_line = guard(&storage, &clock, 1, &RateLimits::UNLIMITED);
        command_line.breaker.refresh().await.unwrap();
        command_line.end_pauses().await.unwrap();
        refused(&server).await;
        clock.advance(Duration::from_secs(1));
        server.begin(ProviderOperation::Resolve).await.unwrap();
    }

    #[tokio::test]
    async fn a_first_refusal_is_retried_when_its_pause_is_over_and_a_second_one_is_not() {
        let storage = Arc::new(SqliteStorage::in_memory().await.unwrap());
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_000_000_000).unwrap()));
        let guard = guard(&storage, &clock, 1, &RateLimits::UNLIMITED);
        let pass = guard.begin(ProviderOperation::Resolve).await.unwrap();
        let again = guard.ended(ProviderOperation::Resolve, pass, Outcome::Refused, 1).await.unwrap().unwrap();
        assert!((1_000..=2_100).contains(&again.as_millis()), "{again:?}");
        assert!(matches!(refused(&guard).await, NotCalled::Doubted { .. }));
        clock.advance(again);
        let pass = guard.begin(ProviderOperation::Resolve).await.unwrap();
        assert_eq!(guard.ended(ProviderOperation::Resolve, pass, Outcome::Refused, 1).await.unwrap(), None);
        assert!(matches!(refused(&guard).await, NotCalled::Refused { .. }));
    }

    #[tokio::test]
    async fn fifty_tokens_that_were_cut_off_together_do_not_come_back_together() {
        let storage = Arc::new(SqliteStorage::in_memory().await.unwrap());
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_000_000_000).unwrap()));
        let mut waits = HashSet::new();
        for token in 0..50 {
            let guard = guard(&storage, &clock, token, &RateLimits::UNLIMITED);
            let pass = guard.begin(ProviderOperation::Resolve).await.unwrap();
            guard.ended(ProviderOperation::Resolve, pass, Outcome::RateLimited(None), 1).await.unwrap();
            let refused = guard.begin(ProviderOperation::Resolve).await.unwrap_err();
            let Refusal::NotCalled(NotCalled::RateLimited { retry_after }) = refused else { panic!("{refused:?}") };
            assert!((2_000..=4_000).contains(&retry_after.as_millis()), "{retry_after:?}");
            waits.insert(retry_after);
        }
        // Two of two thousand milliseconds may coincide.
        assert!(waits.len() > 40, "{waits:?}");
    }
}
