//! One count of requests: those of one kind, of a token or an account, in one window.
//!
//! **Invariant:** a request is counted in the database before it is made. Requests are reserved
//! there in blocks, each for the current slot of time, and handed out from memory. The unused rest
//! of a block is returned when its slot ends and more are needed, when its token is no longer in
//! use, and at an orderly shutdown. So no burst, crash or second host on the same database exceeds
//! the limit. A crash loses no count and wastes at most one block. A block that is used up within
//! its slot makes the next one larger: a busy token costs few database writes, and a quiet one
//! reserves little.

use std::sync::Arc;

use jiff::Timestamp;
use keyway_clock::{CLOCK_TOLERANCE, Clock};
use keyway_storage::{RequestKind, RequestReservation, Storage, StorageError};
use parking_lot::{Mutex, MutexGuard};

use crate::identity::Subject;
use crate::limits::Counter;
use crate::not_called::{NotCalled, Refusal};
use crate::window::{Slot, Window};

/// The smallest and the largest block. A start of the process wastes at most a small one. 256
/// requests are a fraction of a second's worth when a server is asked at full speed.
const BLOCK: std::ops::RangeInclusive<u32> = 1..=256;

pub(crate) struct Meter {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    subject: Subject,
    /// What it counts.
    pub(crate) of: Counter,
    window: Window,
    limit: Option<u32>,
    smallest: u32,
    largest: u32,
    state: Mutex<State>,
    /// One reservation at a time; the other calls wait for its result.
    reserving: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The slot in which the database was last asked.
    slot: Option<i64>,
    /// How many of the requests reserved in that slot are left.
    left: u32,
    /// How many the next reservation asks for.
    block: u32,
    /// The counts after the last reservation; without a limit, those of this process.
    slots: Vec<Slot>,
}

impl State {
    /// From here on they are no longer this process's. If returning them fails, they stay counted.
    fn take_unused(&mut self) -> Option<(Timestamp, u32)> {
        let slot = self.slot.take()?;
        let unused = std::mem::take(&mut self.left);
        (unused > 0).then(|| (time(slot), unused))
    }
}

impl Meter {
    /// `subject` and the kind of requests are the key of this count in the database.
    pub(crate) fn new(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>, subject: Subject, of: Counter) -> Self {
        let (window, limit) = (Window::of(of.window), of.limit);
        let part = |of: u32| (limit.unwrap_or(0) / of).clamp(*BLOCK.start(), *BLOCK.end());
        let (smallest, largest) = (part(100).min(8), part(20));
        Self {
            storage,
            clock,
            subject,
            of,
            window,
            limit,
            smallest,
            largest,
            state: Mutex::new(State { block: smallest, ..State::default() }),
            reserving: tokio::sync::Mutex::default(),
        }
    }

    /// Whether a request of this kind counts here.
    pub(crate) fn counts(&self, kind: RequestKind) -> bool {
        self.of.requests == kind || self.of.requests == RequestKind::Any
    }

    /// Takes a request unless fewer than `kept` would be left.
    pub(crate) async fn take(&self, kept: u32) -> Result<(), Refusal> {
        loop {
            if let Some(taken) = self.try_take(kept) {
                return taken;
            }
            self.reserve().await?;
        }
    }

    /// Returns a request that was taken and not made.
    pub(crate) fn give_back(&self) {
        let now = self.now();
        let mut state = self.lock();
        // In a later slot it stays counted.
        if state.slot == Some(self.window.slot_of(now)) {
            state.left += 1;
        }
    }

    /// Returns unused reservations to the other hosts and to this one's next start. A later call
    /// makes a new reservation.
    pub(crate) async fn return_unused(&self) -> Result<(), StorageError> {
        let _turn = self.reserving.lock().await;
        let Some(unused) = self.lock().take_unused() else { return Ok(()) };
        let returned = self.storage.reserve_requests(&self.reservation(0, self.limit, Some(unused))).await?;
        self.lock().slots = slots(&returned.counts);
        Ok(())
    }

    /// Whether `needed` requests could be taken.
    pub(crate) async fn check(&self, needed: u32, kept: u32) -> Result<(), Refusal> {
        loop {
            if let Some(checked) = self.try_check(needed, kept) {
                return checked;
            }
            self.reserve().await?;
        }
    }

    /// As [`check`](Self::check), from memory; `None` if the database must be asked.
    pub(crate) fn try_check(&self, needed: u32, kept: u32) -> Option<Result<(), Refusal>> {
        let Some(limit) = self.limit else { return Some(Ok(())) };
        let now = self.now();
        let state = self.lock();
        if state.slot != Some(self.window.slot_of(now)) {
            return None;
        }
        // A call that needs more than the limit needs the whole limit.
        let usable = limit.saturating_sub(kept);
        Some(self.fits(&state, now, limit, usable, needed.clamp(1, usable.max(1))))
    }

    /// Counts requests that have already been made and can no longer be refused.
    pub(crate) async fn charge(&self, requests: u32) -> Result<(), StorageError> {
        if self.limit.is_none() {
            (0..requests).for_each(|_| drop(self.try_take(0)));
            return Ok(());
        }
        let _turn = self.reserving.lock().await;
        let reserved = self.storage.reserve_requests(&self.reservation(requests, None, None)).await?;
        self.lock().slots = slots(&reserved.counts);
        Ok(())
    }

    /// How much of the limit all hosts on this database have used.
    pub(crate) async fn read(&self) -> Result<u32, StorageError> {
        if self.limit.is_some() {
            let _turn = self.reserving.lock().await;
            self.look().await?;
        }
        Ok(self.read_now())
    }

    /// How much is used, as far as this process knows. If other hosts use the database too, their
    /// use since the last query is missing.
    pub(crate) fn read_now(&self) -> u32 {
        let (now, state) = (self.now(), self.lock());
        // The rest of a block is counted for as long as its slot is.
        let left = if state.slot >= Some(self.window.first_slot(now)) { state.left } else { 0 };
        u32::try_from(self.window.count(&state.slots, now)).unwrap_or(u32::MAX).saturating_sub(left)
    }

    /// Loads what all hosts on this database have used. Skipped during a reservation, which loads
    /// it anyway.
    pub(crate) async fn refresh(&self) -> Result<(), StorageError> {
        if self.limit.is_none() {
            return Ok(());
        }
        let Ok(_turn) = self.reserving.try_lock() else { return Ok(()) };
        self.look().await
    }

    /// Reads the counts. The caller holds the `reserving` lock: a reservation in between would not
    /// match what is left here.
    async fn look(&self) -> Result<(), StorageError> {
        let from = time(self.window.first_slot(self.now()));
        let counts = slots(&self.storage.request_counts(&self.subject, self.of.requests, from).await?);
        self.lock().slots = counts;
        Ok(())
    }

    /// From memory; `None` if the database must be asked.
    fn try_take(&self, kept: u32) -> Option<Result<(), Refusal>> {
        let now = self.now();
        let slot = self.window.slot_of(now);
        let mut state = self.lock();
        let Some(limit) = self.limit else {
            let first = self.window.first_slot(now);
            state.slots.retain(|(slot, _)| *slot >= first);
            match state.slots.iter_mut().find(|(of, _)| *of == slot) {
                Some((_, count)) => *count = count.saturating_add(1),
                None => state.slots.push((slot, 1)),
            }
            return Some(Ok(()));
        };
        if state.slot != Some(slot) {
            return None;
        }
        if let Err(spent) = self.fits(&state, now, limit, limit.saturating_sub(kept), 1) {
            return Some(Err(spent));
        }
        if state.left == 0 {
            return None;
        }
        state.left -= 1;
        Some(Ok(()))
    }

    fn fits(&self, state: &State, now: Timestamp, limit: u32, usable: u32, more: u32) -> Result<(), Refusal> {
        // The rest of a block is counted, but not used yet.
        let usable_and_left = usable.saturating_add(state.left);
        match self.window.wait(&state.slots, now, usable_and_left, more) {
            None => Ok(()),
            Some(retry_after) => {
                let Counter { requests, scope, window: period, .. } = self.of;
                Err(NotCalled::BudgetSpent { scope, requests, limit, period, retry_after }.into())
            }
        }
    }

    /// Reserves the next block in the database, unless another call has just done so.
    async fn reserve(&self) -> Result<(), StorageError> {
        let _turn = self.reserving.lock().await;
        let (block, returned) = {
            let now = self.now();
            let slot = self.window.slot_of(now);
            let mut state = self.lock();
            let is_new = state.slot != Some(slot);
            if !is_new && state.left > 0 {
                return Ok(());
            }
            let returned = state.take_unused();
            state.block = if is_new { state.block / 2 } else { state.block.saturating_mul(2) };
            state.block = state.block.clamp(self.smallest, self.largest);
            (state.block, returned)
        };
        let reservation = self.reservation(block, self.limit, returned);
        let slot = reservation.slot.as_millisecond();
        let reserved = self.storage.reserve_requests(&reservation).await?;
        let mut state = self.lock();
        state.slot = Some(slot);
        state.left = reserved.granted;
        state.slots = slots(&reserved.counts);
        Ok(())
    }

    fn reservation(&self, requests: u32, limit: Option<u32>, returned: Option<(Timestamp, u32)>) -> RequestReservation {
        let now = self.now();
        RequestReservation {
            subject: self.subject,
            kind: self.of.requests,
            slot: time(self.window.slot_of(now)),
            counted_from: time(self.window.first_slot(now)),
            kept_from: now.checked_sub(self.window.kept()).unwrap_or(Timestamp::MIN),
            future: now.checked_add(CLOCK_TOLERANCE).unwrap_or(now),
            requests,
            limit,
            returned,
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now().timestamp()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock can panic half-way through a change.
        self.state.lock()
    }
}

/// Runs when the last connection with a token is closed.
impl Drop for Meter {
    fn drop(&mut self) {
        let Some(unused) = self.lock().take_unused() else { return };
        // What leaves the window soon is not worth a database write: tokens unused for an hour are
        // dropped many at a time.
        if unused.0 < time(self.window.middle(self.now())) {
            return;
        }
        // Without a Tokio runtime there is no task to write them, and they stay counted.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (storage, reservation) = (self.storage.clone(), self.reservation(0, self.limit, Some(unused)));
        runtime.spawn(async move {
            if let Err(error) = storage.reserve_requests(&reservation).await {
                tracing::debug!(%error, "unused reservations of requests stay counted");
            }
        });
    }
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MIN)
}

fn slots(counts: &[keyway_storage::RequestCount]) -> Vec<Slot> {
    counts.iter().map(|count| (count.slot.as_millisecond(), count.requests)).collect()
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
