//! What stands before the calls of one token: its breaker, its counts and its account's.
//!
//! **Invariant:** a call that may not go out is refused from memory, before anything else is done; nothing is written
//! for it and nothing gets later by it. A change of the breaker is stored before the call that caused it returns; where
//! two hosts change it, the one that comes second applies its change to what the first one stored.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use keyway_clock::Clock;
use keyway_runtime::RequestEffect;
use keyway_storage::{BreakerRecord, PauseReason, RequestKind, Storage, StorageError};

use super::breaker::{Answer, Outcome, State};
use super::identity::Subject;
use super::limits::{BreakerOptions, RateLimits, kept_for_writing};
use super::meter::{Meter, NoRequest};
use super::{BudgetScope, NotCalled, ProviderOperation};

/// How many requests a call is expected to make before one of its kind was seen: more than 1Password's cold resolve (7),
/// as many as its cold write.
const FIRST_COST: u32 = 8;

/// How often a change of the breaker is tried when other hosts keep changing it.
const ATTEMPTS: u32 = 8;

/// Before the calls of one token.
pub(crate) struct Guard {
    pub(super) provider_type: String,
    pub(super) subject: Subject,
    pub(super) reads: Meter,
    pub(super) writes: Meter,
    pub(super) limits: RateLimits,
    pub(super) options: BreakerOptions,
    pub(super) clock: Arc<dyn Clock>,
    storage: Arc<dyn Storage>,
    account: Mutex<Option<Arc<Meter>>>,
    /// Requests that were made while it was not known whose account it is.
    uncharged: AtomicU32,
    breaker: Mutex<State>,
    /// The version that is stored, if one is. Whoever changes the breaker holds it, so there is one change at a time.
    stored: tokio::sync::Mutex<Option<u64>>,
    costs: [AtomicU32; ProviderOperation::COUNT],
}

/// Why a call was not made.
#[derive(Debug)]
pub(super) enum Refusal {
    NotCalled(NotCalled),
    Storage(StorageError),
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// The right to call, and to probe if that is what the call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) probe: bool,
}

impl Guard {
    pub(super) async fn load(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        provider_type: &str,
        subject: Subject,
        limits: RateLimits,
        options: BreakerOptions,
    ) -> Result<Self, StorageError> {
        let record = storage.breaker(&subject).await?;
        let meter = |kind, limit| Meter::new(storage.clone(), clock.clone(), subject, kind, limit);
        Ok(Self {
            provider_type: provider_type.to_owned(),
            subject,
            reads: meter(RequestKind::Read, limits.reads_per_hour),
            writes: meter(RequestKind::Write, limits.writes_per_hour),
            limits,
            options,
            account: Mutex::default(),
            uncharged: AtomicU32::default(),
            breaker: Mutex::new(record.as_ref().map(state_of).unwrap_or_default()),
            stored: tokio::sync::Mutex::new(record.map(|record| record.version)),
            costs: std::array::from_fn(|_| AtomicU32::new(FIRST_COST)),
            clock,
            storage,
        })
    }

    /// The account's count, if it is known whose it is.
    pub(super) fn account(&self) -> Option<Arc<Meter>> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn set_account(&self, account: Arc<Meter>) -> Result<(), StorageError> {
        *self.account.lock().unwrap_or_else(PoisonError::into_inner) = Some(account.clone());
        match self.uncharged.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            requests => {
                let charged = account.charge(requests).await;
                if charged.is_err() {
                    self.uncharged.fetch_add(requests, Ordering::Relaxed);
                }
                charged
            }
        }
    }

    /// Lets a call begin, or says why not.
    pub(super) async fn begin(&self, operation: ProviderOperation) -> Result<Pass, Refusal> {
        let entered = operation == ProviderOperation::Verify;
        let answer = self.breaker().ask(self.now(), entered);
        if let Answer::Wait { reason, wait } = answer {
            return Err(paused(reason, wait).into());
        }
        let needed = self.cost(operation).map_or(1, |cost| cost.load(Ordering::Relaxed));
        let (kept_reads, kept_any) = self.kept(operation);
        // All of them: who comes back when one has room and another has not has come for nothing.
        let mut checked = vec![(self.reads.check(needed, kept_reads).await, BudgetScope::TokenReads)];
        if operation == ProviderOperation::Write {
            checked.push((self.writes.check(1, 0).await, BudgetScope::TokenWrites));
        }
        if let Some(account) = self.account() {
            checked.push((account.check(needed, kept_any).await, BudgetScope::Account));
        }
        if let Some(refused) = longest(checked) {
            return Err(refused);
        }
        if answer == Answer::Probe { self.claim(entered).await } else { Ok(Pass { probe: false }) }
    }

    /// Counts one request before it goes out.
    pub(super) async fn admit(
        &self,
        operation: ProviderOperation,
        effect: RequestEffect,
        pass: Pass,
    ) -> Result<(), Refusal> {
        // Another call may have learned meanwhile that nothing must go out.
        if !pass.probe
            && let Answer::Wait { reason, wait } = self.breaker().ask(self.now(), false)
        {
            return Err(paused(reason, wait).into());
        }
        let (kept_reads, kept_any) = self.kept(operation);
        let writes = operation == ProviderOperation::Write && effect == RequestEffect::Unsafe;
        let (meter, kept, scope) = if writes {
            (&self.writes, 0, BudgetScope::TokenWrites)
        } else {
            (&self.reads, kept_reads, BudgetScope::TokenReads)
        };
        meter.take(kept).await.map_err(|no| refusal(no, scope))?;
        let Some(account) = self.account() else {
            self.uncharged.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        if let Err(no) = account.take(kept_any).await {
            meter.give_back();
            return Err(refusal(no, BudgetScope::Account));
        }
        Ok(())
    }

    /// Takes note of how a call ended and how many requests it made. Returns whether it is worth trying once more.
    pub(super) async fn ended(
        &self,
        operation: ProviderOperation,
        pass: Pass,
        outcome: Outcome,
        requests: u32,
    ) -> Result<bool, StorageError> {
        if requests > 0
            && outcome == Outcome::Answered
            && let Some(cost) = self.cost(operation)
        {
            cost.store(requests, Ordering::Relaxed);
        }
        let draw = draw();
        let (before, after) =
            self.change(|state, now| state.ended(now, outcome, pass.probe, draw, &self.options)).await?;
        if let Some(pause) = after.pause.filter(|pause| before.pause != Some(*pause) && !pause.probing) {
            tracing::warn!(
                provider = self.provider_type,
                reason = %pause.reason,
                until = %pause.until,
                "a connection's token is given a rest"
            );
        }
        if before.pause.is_some() && after.pause.is_none() {
            tracing::info!(provider = self.provider_type, "a connection's token is used again");
        }
        let is_first = before.failures == 0 && after.failures == 1 && after.pause.is_none();
        Ok(self.options.retry && outcome == Outcome::Unavailable && is_first)
    }

    /// Why a request would not go out now, as far as is known without asking the database.
    pub(super) fn refusal_now(&self, operation: ProviderOperation) -> Option<NotCalled> {
        if let Answer::Wait { reason, wait } = self.breaker().ask(self.now(), false) {
            return Some(paused(reason, wait));
        }
        let (kept_reads, kept_any) = self.kept(operation);
        let mut checked = vec![(self.reads.try_check(1, kept_reads), BudgetScope::TokenReads)];
        if let Some(account) = self.account() {
            checked.push((account.try_check(1, kept_any), BudgetScope::Account));
        }
        match longest(checked.into_iter().filter_map(|(checked, scope)| Some((checked?, scope))))? {
            Refusal::NotCalled(why) => Some(why),
            Refusal::Storage(_) => None,
        }
    }

    /// The pause that is on, and until when.
    pub(super) fn resting(&self) -> Option<(PauseReason, Timestamp)> {
        let state = *self.breaker();
        let pause = state.pause?;
        matches!(state.ask(self.now(), false), Answer::Wait { .. }).then_some((pause.reason, pause.until))
    }

    /// Claims the right to probe, which is one host's and one call's.
    async fn claim(&self, entered: bool) -> Result<Pass, Refusal> {
        let mut stored = self.stored.lock().await;
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let mut state = *self.breaker();
            match state.ask(now, entered) {
                // While this one waited, another has probed.
                Answer::Go => return Ok(Pass { probe: false }),
                Answer::Wait { reason, wait } => return Err(paused(reason, wait).into()),
                Answer::Probe => state.claim(now, &self.options),
            }
            if self.save(&mut stored, state, now).await? {
                return Ok(Pass { probe: true });
            }
            // Another host was first.
            self.reload(&mut stored).await?;
        }
        Err(contended().into())
    }

    /// Changes the breaker, in the database and here. Returns what it was and what it is.
    async fn change(&self, change: impl Fn(&mut State, Timestamp)) -> Result<(State, State), StorageError> {
        let changed = |state: State, now| {
            let mut after = state;
            change(&mut after, now);
            after
        };
        // Nearly always: a success after a success.
        let present = *self.breaker();
        if changed(present, self.now()) == present {
            return Ok((present, present));
        }
        let mut stored = self.stored.lock().await;
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let before = *self.breaker();
            let after = changed(before, now);
            if before == after {
                return Ok((before, after));
            }
            match self.save(&mut stored, after, now).await {
                Ok(true) => return Ok((before, after)),
                Ok(false) => self.reload(&mut stored).await?,
                Err(error) => {
                    // What was seen is true here also when it cannot be stored: a secret manager that wants a rest gets it.
                    *self.breaker() = after;
                    return Err(error);
                }
            }
        }
        Err(contended())
    }

    async fn save(&self, stored: &mut Option<u64>, state: State, now: Timestamp) -> Result<bool, StorageError> {
        let record = BreakerRecord {
            subject: self.subject,
            failures: state.failures,
            pause: state.pause,
            version: stored.map_or(1, |version| version + 1),
            updated_at: now,
        };
        let saved = self.storage.save_breaker(&record, *stored).await?;
        if saved {
            *stored = Some(record.version);
            *self.breaker() = state;
        }
        Ok(saved)
    }

    async fn reload(&self, stored: &mut Option<u64>) -> Result<(), StorageError> {
        let record = self.storage.breaker(&self.subject).await?;
        *stored = record.as_ref().map(|record| record.version);
        *self.breaker() = record.as_ref().map(state_of).unwrap_or_default();
        Ok(())
    }

    /// Takes over what another process has stored meanwhile.
    pub(super) async fn refresh(&self) -> Result<(), StorageError> {
        let mut stored = self.stored.lock().await;
        self.reload(&mut stored).await
    }

    /// How many requests the last call of its kind made.
    fn cost(&self, operation: ProviderOperation) -> Option<&AtomicU32> {
        let kind = if operation == ProviderOperation::ReadBack { ProviderOperation::Resolve } else { operation };
        self.costs.get(kind as usize)
    }

    /// How many requests of the token's reads, and of the account's, this operation leaves for others.
    fn kept(&self, operation: ProviderOperation) -> (u32, u32) {
        if operation.may_use_what_is_kept() {
            return (0, 0);
        }
        let kept = |limit: Option<u32>| limit.map_or(0, kept_for_writing);
        (kept(self.limits.reads_per_hour), kept(self.limits.account_requests_per_day))
    }

    fn now(&self) -> Timestamp {
        self.clock.now().timestamp()
    }

    fn breaker(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way through a change.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn state_of(record: &BreakerRecord) -> State {
    State { failures: record.failures, pause: record.pause }
}

fn paused(reason: PauseReason, retry_after: Duration) -> NotCalled {
    match reason {
        PauseReason::Unavailable => NotCalled::Unavailable { retry_after },
        PauseReason::RateLimited => NotCalled::RateLimited { retry_after },
        PauseReason::Refused => NotCalled::Refused { retry_after },
    }
}

fn refusal(no: NoRequest, scope: BudgetScope) -> Refusal {
    match no {
        NoRequest::Spent { limit, period, wait } => {
            Refusal::NotCalled(NotCalled::BudgetSpent { scope, limit, period, retry_after: wait })
        }
        NoRequest::Storage(error) => Refusal::Storage(error),
    }
}

/// Of what was refused, that with the longest wait; a database that failed comes first.
fn longest(checked: impl IntoIterator<Item = (Result<(), NoRequest>, BudgetScope)>) -> Option<Refusal> {
    let refused = checked.into_iter().filter_map(|(checked, scope)| Some(refusal(checked.err()?, scope)));
    refused.max_by_key(|refused| match refused {
        Refusal::Storage(_) => Duration::MAX,
        Refusal::NotCalled(why) => why.retry_after(),
    })
}

impl From<NotCalled> for Refusal {
    fn from(not_called: NotCalled) -> Self {
        Self::NotCalled(not_called)
    }
}

fn contended() -> StorageError {
    StorageError::Failed("the state of a connection's breaker is changed by other hosts all the time".into())
}

/// From 0 to 1. Without randomness from the system the longest pause is taken.
pub(crate) fn draw() -> f64 {
    getrandom::u32().map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use keyway_clock::ManualClock;
    use keyway_storage::SqliteStorage;

    use super::*;

    #[tokio::test]
    async fn a_secret_manager_that_wants_a_rest_gets_it_although_that_cannot_be_stored() {
        let storage = Arc::new(SqliteStorage::in_memory().await.unwrap());
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_000_000_000).unwrap()));
        let limits = RateLimits::UNLIMITED;
        let guard = Guard::load(storage.clone(), clock.clone(), "echo", [1; 16], limits, BreakerOptions::default());
        let guard = guard.await.unwrap();
        let pass = guard.begin(ProviderOperation::Resolve).await.unwrap();
        storage.close().await;
        let limited = Outcome::RateLimited(Some(Duration::from_secs(60)));
        assert!(guard.ended(ProviderOperation::Resolve, pass, limited, 1).await.is_err());
        let refused = guard.begin(ProviderOperation::Resolve).await.unwrap_err();
        assert!(matches!(refused, Refusal::NotCalled(NotCalled::RateLimited { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn fifty_tokens_that_were_cut_off_together_do_not_come_back_together() {
        let storage = Arc::new(SqliteStorage::in_memory().await.unwrap());
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_000_000_000).unwrap()));
        let mut waits = HashSet::new();
        for token in 0..50 {
            let (limits, options) = (RateLimits::UNLIMITED, BreakerOptions::default());
            let guard = Guard::load(storage.clone(), clock.clone(), "echo", [token; 16], limits, options);
            let guard = guard.await.unwrap();
            let pass = guard.begin(ProviderOperation::Resolve).await.unwrap();
            guard.ended(ProviderOperation::Resolve, pass, Outcome::RateLimited(None), 1).await.unwrap();
            let refused = guard.begin(ProviderOperation::Resolve).await.unwrap_err();
            let Refusal::NotCalled(NotCalled::RateLimited { retry_after }) = refused else { panic!("{refused:?}") };
            assert!((30_000..=60_000).contains(&retry_after.as_millis()), "{retry_after:?}");
            waits.insert(retry_after);
        }
        // Of thirty thousand milliseconds two may be the same by chance.
        assert!(waits.len() > 40, "{waits:?}");
    }
}
