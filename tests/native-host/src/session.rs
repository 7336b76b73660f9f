//! A session slot after the contract (`session` in wit/provider.wit), for any number of concurrent calls.

use std::{
    cell::Cell,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use keyway_sdk::{
    Error, Result,
    session::{Renewal, SessionState, SessionStore},
    zeroize::Zeroizing,
};

/// The most that a state may have, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// The slot of one connection. Nothing expires by itself.
#[derive(Default)]
pub struct SessionSlot {
    slot: Mutex<Slot>,
    renewed: Condvar,
}

#[derive(Default)]
struct Slot {
    state: Option<Zeroizing<Vec<u8>>>,
    generation: u64,
    counter: u64,
    /// Which call may log in, and who tried last without success.
    renewing: Option<u64>,
    calls: u64,
    failed: Option<(u64, Error)>,
    granted: u64,
}

impl SessionSlot {
    /// Drops the state, as a host may at any time.
    pub fn clear(&self) {
        self.lock().state = None;
    }

    /// How often the right to log in was granted.
    pub fn logins(&self) -> u64 {
        self.lock().granted
    }

    pub(crate) fn begin(&self) -> CallSession<'_> {
        let mut slot = self.lock();
        slot.calls += 1;
        CallSession { slots: self, call: slot.calls, seen: Cell::new(slot.generation) }
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn state(&self) -> Option<SessionState> {
        self.state.as_ref().map(|data| SessionState { data: data.clone(), generation: self.generation })
    }
}

/// The slot as one call sees it.
pub(crate) struct CallSession<'a> {
    slots: &'a SessionSlot,
    call: u64,
    /// The generation that this call received last.
    seen: Cell<u64>,
}

impl CallSession<'_> {
    /// The call is over. If it had the right to log in and did not use it, those who wait get its error, or the right.
    pub(crate) fn end(self, error: Option<&Error>) {
        let mut slot = self.slots.lock();
        if slot.renewing == Some(self.call) {
            slot.renewing = None;
            slot.failed = error.map(|error| (self.call, error.clone()));
            self.slots.renewed.notify_all();
        }
    }
}

impl SessionStore for CallSession<'_> {
    fn get(&self) -> Option<SessionState> {
        let slot = self.slots.lock();
        self.seen.set(slot.generation);
        slot.state()
    }

    fn put(&self, data: &[u8], ttl_seconds: u32) -> Result<u64> {
        if data.len() > MAX_BYTES {
            return Err(Error::Unsupported("A session may be at most 256 KiB.".to_owned()));
        }
        let mut slot = self.slots.lock();
        let granted = slot.renewing == Some(self.call);
        if granted || (slot.renewing.is_none() && slot.generation == self.seen.get()) {
            slot.generation += 1;
            slot.state = (ttl_seconds > 0).then(|| Zeroizing::new(data.to_vec()));
            self.seen.set(slot.generation);
        }
        if granted {
            slot.renewing = None;
            self.slots.renewed.notify_all();
        }
        Ok(slot.generation)
    }

    fn renew(&self, refused: Option<u64>) -> Result<Renewal> {
        let mut slot = self.slots.lock();
        loop {
            match slot.state() {
                Some(state) if refused.is_none_or(|refused| refused < state.generation) => {
                    self.seen.set(state.generation);
                    return Ok(Renewal::Renewed(state));
                }
                _ => {}
            }
            let Some(other) = slot.renewing.filter(|call| *call != self.call) else {
                slot.renewing = Some(self.call);
                slot.granted += 1;
                return Ok(Renewal::Granted);
            };
            slot = self
                .slots
                .renewed
                .wait_while(slot, |slot| slot.renewing == Some(other))
                .unwrap_or_else(PoisonError::into_inner);
            if let Some((call, error)) = &slot.failed
                && *call == other
            {
                return Err(error.clone());
            }
        }
    }

    fn counter(&self) -> u64 {
        let mut slot = self.slots.lock();
        slot.counter += 1;
        slot.counter
    }
}
