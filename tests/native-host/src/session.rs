//! A session slot as the contract describes it (`session` in the WIT), for any number of concurrent
//! calls.

use std::{
    cell::Cell,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use keyway_sdk::{
    Error, Result,
    session::{Renewal, SessionState, SessionStore},
    zeroize::Zeroizing,
};

/// The largest state, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// The slot of one connection. Nothing expires on its own.
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
    /// The call that holds the right to log in.
    renewing: Option<u64>,
    calls: u64,
    /// The last call that failed to log in, and its error.
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

/// One call's view of the slot.
pub(crate) struct CallSession<'a> {
    slots: &'a SessionSlot,
    call: u64,
    /// The last generation that this call received.
    seen: Cell<u64>,
}

impl CallSession<'_> {
    /// Ends the call. If it held the right to log in and did not use it, waiting calls get its
    /// error or the right.
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
            return Err(Error::unsupported("A session may be at most 256 KiB."));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(session: &CallSession<'_>, refused: Option<u64>) -> bool {
        matches!(session.renew(refused), Ok(Renewal::Granted))
    }

    #[test]
    fn what_one_call_puts_the_next_one_gets() {
        let slot = SessionSlot::default();
        let one = slot.begin();
        assert!(one.get().is_none() && granted(&one, None));
        let generation = one.put(b"state", 60).unwrap();
        one.end(None);
        let state = slot.begin().get().unwrap();
        assert_eq!((state.data.as_slice(), state.generation), (b"state".as_slice(), generation));
        slot.clear();
        assert!(slot.begin().get().is_none());
    }

    #[test]
    fn an_addition_that_comes_after_a_newer_state_is_ignored() {
        let slot = SessionSlot::default();
        let (one, two) = (slot.begin(), slot.begin());
        assert!(granted(&one, None));
        let first = one.put(b"login", 60).unwrap();
        assert_eq!(two.get().unwrap().generation, first);
        let second = one.put(b"login and key", 60).unwrap();
        assert_eq!(two.put(b"login and another key", 60).unwrap(), second);
        assert_eq!(slot.begin().get().unwrap().data.as_slice(), b"login and key");
    }

    #[test]
    fn those_who_wait_get_the_state_of_the_one_who_logs_in() {
        let slot = SessionSlot::default();
        let one = slot.begin();
        assert!(granted(&one, None));
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let session = slot.begin();
                        let renewed = session.renew(None);
                        matches!(renewed, Ok(Renewal::Renewed(state)) if state.data.as_slice() == b"state")
                    })
                })
                .collect();
            one.put(b"state", 60).unwrap();
            assert!(waiting.into_iter().all(|waiting| waiting.join().unwrap()));
        });
        assert_eq!(slot.logins(), 1);
    }

    #[test]
    fn the_error_of_a_failed_login_ends_the_right_and_the_next_call_may_try() {
        let slot = SessionSlot::default();
        let one = slot.begin();
        assert!(granted(&one, None));
        one.end(Some(&Error::unauthenticated("no")));
        assert!(granted(&slot.begin(), None));
    }

    #[test]
    fn numbers_are_never_given_out_twice() {
        let slot = SessionSlot::default();
        let (one, two) = (slot.begin(), slot.begin());
        assert_eq!([one.counter(), two.counter(), one.counter()], [1, 2, 3]);
    }
}
