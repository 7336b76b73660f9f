//! Session slots: what a provider keeps between calls.
//!
//! Each connection has one [`Slot`]. Its bytes are encrypted while no call uses them, under a key
//! that the host generates at every start. They are bound to the component build that stored them,
//! so that a swapped component starts without a session. At most one call at a time may renew; the
//! others wait and receive the new state, or the error that the renewal ended with. A renewal that
//! hangs is overtaken after [`RENEWAL`]: what it hangs on may be over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use keyway_clock::{Clock, Moment};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::error::{ErrorCode, ProviderError};

/// The longest lifetime of a session, a day, as the contract says.
pub(crate) const MAX_TTL: u32 = 86_400;

/// How long calls wait for another's renewal: longer than a login takes at a healthy server, and a
/// good part less than a request may hang.
const RENEWAL: Duration = Duration::from_secs(8);

/// The state as a call receives it: wiped when dropped.
pub(crate) struct State {
    pub(crate) data: Zeroizing<Vec<u8>>,
    pub(crate) generation: u64,
}

pub(crate) enum Renewal {
    Granted,
    Renewed(State),
}

/// How a renewal ended, for the calls that wait for it.
#[derive(Clone)]
enum Outcome {
    Running,
    /// A state was stored, or the renewal ended without an error to share: look again.
    Over,
    Failed(ProviderError),
}

struct Sealed {
    nonce: [u8; 12],
    ciphertext: Vec<u8>,
    put_at: Moment,
    keep: Duration,
    component: Arc<str>,
}

struct Inner {
    sealed: Option<Sealed>,
    /// The generation of the last `put`; only grows.
    generation: u64,
    counter: u64,
    renewing: Option<watch::Receiver<Outcome>>,
}

impl Inner {
    /// Ends a renewal, which another one may have overtaken.
    fn end(&mut self, right: &watch::Sender<Outcome>, outcome: Outcome) {
        self.forget(&right.subscribe());
        right.send_replace(outcome);
    }

    /// Lets another call renew, unless one does so already instead of this renewal.
    fn forget(&mut self, renewal: &watch::Receiver<Outcome>) {
        self.renewing.take_if(|renewing| renewing.same_channel(renewal));
    }
}

/// The key that seals session states and settings in memory, generated at every start of the host.
pub(crate) struct SessionKey(Aes256Gcm);

impl SessionKey {
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut())?;
        Ok(Self(Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key))))
    }

    /// Seals what belongs to no generation of a session. `None` when the system has no random
    /// bytes.
    pub(crate) fn seal(&self, data: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; 12];
        getrandom::fill(&mut nonce).ok()?;
        let ciphertext = self.0.encrypt(&Nonce::from(nonce), data).ok()?;
        Some([nonce.as_slice(), &ciphertext].concat())
    }

    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<12>()?;
        self.0.decrypt(&Nonce::from(*nonce), ciphertext).ok().map(Zeroizing::new)
    }
}

/// Numbers the slots of one host, so that a state opens only in its own slot.
static NEXT_SLOT: AtomicU64 = AtomicU64::new(0);

/// The session of one connection.
pub(crate) struct Slot {
    id: u64,
    key: Arc<SessionKey>,
    clock: Arc<dyn Clock>,
    max_bytes: usize,
    inner: Mutex<Inner>,
}

impl Slot {
    pub(crate) fn new(key: Arc<SessionKey>, clock: Arc<dyn Clock>, max_bytes: usize) -> Self {
        let id = NEXT_SLOT.fetch_add(1, Ordering::Relaxed);
        let inner = Mutex::new(Inner { sealed: None, generation: 0, counter: 0, renewing: None });
        Self { id, key, clock, max_bytes, inner }
    }

    pub(crate) fn key(&self) -> &SessionKey {
        &self.key
    }

    fn associated_data(&self, generation: u64) -> [u8; 16] {
        ((u128::from(self.id) << 64) | u128::from(generation)).to_be_bytes()
    }

    /// Discards the state. Running calls keep their copies.
    pub(crate) fn clear(&self) {
        let mut inner = self.lock();
        inner.sealed = None;
        // A running call that extends its copy must not restore the old state.
        inner.generation += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code under this lock can panic half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, inner: &mut Inner, component: &str) -> Option<State> {
        let generation = inner.generation;
        let now = self.clock.now();
        inner.sealed.take_if(|sealed| now.since(sealed.put_at) >= sealed.keep);
        let sealed = inner.sealed.as_ref()?;
        if *sealed.component != *component {
            return None;
        }
        let payload = Payload { msg: &sealed.ciphertext, aad: &self.associated_data(generation) };
        let data = self.key.0.decrypt(&Nonce::from(sealed.nonce), payload).ok()?;
        Some(State { data: Zeroizing::new(data), generation })
    }

    fn seal(&self, inner: &mut Inner, component: &Arc<str>, data: &[u8], ttl: u32) -> Result<u64, ProviderError> {
        let generation = inner.generation + 1;
        if ttl == 0 {
            inner.sealed = None;
        } else {
            let failed =
                || ProviderError::new(ErrorCode::Other("host".into()), "The host could not store the session.");
            let mut nonce = [0; 12];
            getrandom::fill(&mut nonce).map_err(|_| failed())?;
            let payload = Payload { msg: data, aad: &self.associated_data(generation) };
            let ciphertext = self.key.0.encrypt(&Nonce::from(nonce), payload).map_err(|_| failed())?;
            let (put_at, keep) = (self.clock.now(), Duration::from_secs(ttl.min(MAX_TTL).into()));
            inner.sealed = Some(Sealed { nonce, ciphertext, put_at, keep, component: component.clone() });
        }
        inner.generation = generation;
        Ok(generation)
    }
}

/// The session as one call sees it. Dropping it releases the right to renew.
pub(crate) struct CallSession {
    slot: Arc<Slot>,
    component: Arc<str>,
    /// The generation that this call last received.
    seen: Option<u64>,
    /// The right to renew.
    right: Option<watch::Sender<Outcome>>,
}

impl CallSession {
    pub(crate) fn new(slot: Arc<Slot>, component: Arc<str>) -> Self {
        Self { slot, component, seen: None, right: None }
    }

    pub(crate) fn get(&mut self) -> Option<State> {
        let state = self.slot.open(&mut self.slot.lock(), &self.component);
        self.seen = state.as_ref().map(|state| state.generation);
        state
    }

    pub(crate) fn put(&mut self, data: &[u8], ttl: u32) -> Result<u64, ProviderError> {
        if data.len() > self.slot.max_bytes {
            let message = format!("A session state may have {} KiB at most.", self.slot.max_bytes >> 10);
            return Err(ProviderError::new(ErrorCode::Unsupported, message));
        }
        let mut inner = self.slot.lock();
        let unchanged = self.seen.is_some_and(|seen| seen == inner.generation) && inner.renewing.is_none();
        if self.right.is_none() && !unchanged {
            return Ok(inner.generation);
        }
        let generation = self.slot.seal(&mut inner, &self.component, data, ttl)?;
        self.seen = Some(generation);
        if let Some(right) = self.right.take() {
            inner.end(&right, Outcome::Over);
        }
        Ok(generation)
    }

    pub(crate) async fn renew(&mut self, refused: Option<u64>) -> Result<Renewal, ProviderError> {
        loop {
            let mut running = {
                let mut inner = self.slot.lock();
                if self.right.is_some() {
                    return Ok(Renewal::Granted);
                }
                if let Some(state) = self.slot.open(&mut inner, &self.component)
                    && refused.is_none_or(|refused| state.generation > refused)
                {
                    self.seen = Some(state.generation);
                    return Ok(Renewal::Renewed(state));
                }
                match &inner.renewing {
                    Some(running) => running.clone(),
                    None => {
                        let (right, waiting) = watch::channel(Outcome::Running);
                        inner.renewing = Some(waiting);
                        self.right = Some(right);
                        return Ok(Renewal::Granted);
                    }
                }
            };
            // An error means that the sender is gone; `release` drops it only after it has sent the
            // outcome.
            let over = running.wait_for(|outcome| !matches!(outcome, Outcome::Running));
            let outcome = match tokio::time::timeout(RENEWAL, over).await {
                Ok(Ok(outcome)) => outcome.clone(),
                Ok(Err(_)) => Outcome::Over,
                Err(_) => Outcome::Running,
            };
            match outcome {
                Outcome::Failed(error) => return Err(error),
                Outcome::Over => {}
                Outcome::Running => self.slot.lock().forget(&running),
            }
        }
    }

    pub(crate) fn counter(&mut self) -> u64 {
        let mut inner = self.slot.lock();
        inner.counter += 1;
        inner.counter
    }

    /// Ends the call, with this error of the contract or without one.
    pub(crate) fn finish(mut self, error: Option<&ProviderError>) {
        self.release(error.map_or(Outcome::Over, |error| Outcome::Failed(error.clone())));
    }

    fn release(&mut self, outcome: Outcome) {
        if let Some(right) = self.right.take() {
            self.slot.lock().end(&right, outcome);
        }
    }
}

impl Drop for CallSession {
    fn drop(&mut self) {
        // A trap, a time-out or a cancelled call: the next waiting call gets the right.
        self.release(Outcome::Over);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use keyway_clock::ManualClock;

    use super::*;

    fn slot() -> (Arc<Slot>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let key = Arc::new(SessionKey::generate().unwrap());
        (Arc::new(Slot::new(key, clock.clone(), 1024)), clock)
    }

    fn call(slot: &Arc<Slot>) -> CallSession {
        CallSession::new(slot.clone(), "build-1".into())
    }

    async fn granted(call: &mut CallSession, refused: Option<u64>) -> bool {
        matches!(call.renew(refused).await.unwrap(), Renewal::Granted)
    }

    #[tokio::test]
    async fn what_is_put_is_what_the_next_call_gets_until_it_expires() {
        let (slot, clock) = slot();
        let mut first = call(&slot);
        assert!(first.get().is_none());
        assert!(granted(&mut first, None).await);
        let generation = first.put(b"login", 60).unwrap();
        first.finish(None);
        let state = call(&slot).get().unwrap();
        assert_eq!((&**state.data, state.generation), (&b"login"[..], generation));
        clock.advance(Duration::from_secs(59));
        assert!(call(&slot).get().is_some());
        clock.advance(Duration::from_secs(1));
        assert!(call(&slot).get().is_none());
    }

    #[tokio::test]
    async fn fifty_calls_that_start_cold_log_in_once() {
        let (slot, _) = slot();
        let logins = Arc::new(AtomicUsize::new(0));
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let (mut call, logins) = (call(&slot), logins.clone());
                tokio::spawn(async move {
                    let state = match call.renew(None).await.unwrap() {
                        Renewal::Granted => {
                            logins.fetch_add(1, Ordering::Relaxed);
                            tokio::task::yield_now().await;
                            call.put(b"login", 60).unwrap();
                            call.get().unwrap()
                        }
                        Renewal::Renewed(state) => state,
                    };
                    assert_eq!(&**state.data, b"login");
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(logins.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn those_who_wait_receive_the_error_of_the_failed_login() {
        let (slot, _) = slot();
        let mut first = call(&slot);
        assert!(granted(&mut first, None).await);
        let mut second = call(&slot);
        let waiting = tokio::spawn(async move { second.renew(None).await.err() });
        tokio::task::yield_now().await;
        let refused = ProviderError::new(ErrorCode::Unauthenticated, "no");
        first.finish(Some(&refused));
        assert_eq!(waiting.await.unwrap(), Some(refused));
        assert!(granted(&mut call(&slot), None).await, "the next call may try again");
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_gives_the_right_to_the_next() {
        let (slot, _) = slot();
        let mut first = call(&slot);
        assert!(granted(&mut first, None).await);
        let mut second = call(&slot);
        let waiting = tokio::spawn(async move { granted(&mut second, None).await });
        tokio::task::yield_now().await;
        drop(first);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_new_login_wins_over_an_addition_to_the_old_one() {
        let (slot, _) = slot();
        let mut first = call(&slot);
        assert!(granted(&mut first, None).await);
        let old = first.put(b"old", 60).unwrap();
        let mut adding = call(&slot);
        adding.get().unwrap();
        let mut renewing = call(&slot);
        assert!(granted(&mut renewing, Some(old)).await);
        assert_eq!(adding.put(b"old and more", 60).unwrap(), old, "ignored while another call renews");
        renewing.put(b"new", 60).unwrap();
        adding.put(b"old and more", 60).unwrap();
        assert_eq!(&**call(&slot).get().unwrap().data, b"new");
    }

    #[tokio::test]
    async fn an_addition_to_the_present_state_is_kept() {
        let (slot, _) = slot();
        let mut first = call(&slot);
        assert!(granted(&mut first, None).await);
        first.put(b"a", 60).unwrap();
        let mut adding = call(&slot);
        adding.get().unwrap();
        adding.put(b"ab", 60).unwrap();
        assert_eq!(&**call(&slot).get().unwrap().data, b"ab");
    }

    #[tokio::test]
    async fn another_build_of_the_component_and_another_connection_start_from_nothing() {
        let (slot_a, _) = slot();
        let mut first = call(&slot_a);
        assert!(granted(&mut first, None).await);
        first.put(b"a", 60).unwrap();
        assert!(CallSession::new(slot_a.clone(), "build-2".into()).get().is_none());
        let (slot_b, _) = slot();
        assert!(call(&slot_b).get().is_none());
        slot_a.clear();
        assert!(call(&slot_a).get().is_none());
    }

    #[tokio::test]
    async fn a_running_call_does_not_bring_back_what_was_cleared() {
        let (slot, _) = slot();
        let mut first = call(&slot);
        assert!(granted(&mut first, None).await);
        first.put(b"old", 60).unwrap();
        let mut adding = call(&slot);
        adding.get().unwrap();
        slot.clear();
        adding.put(b"old and more", 60).unwrap();
        assert!(call(&slot).get().is_none());
    }

    #[tokio::test]
    async fn a_state_that_is_too_large_is_refused_and_the_old_one_stays() {
        let (slot, _) = slot();
        let mut first = call(&slot);
        assert!(granted(&mut first, None).await);
        first.put(b"small", 60).unwrap();
        assert!(matches!(first.put(&[0; 1025], 60), Err(error) if error.code == ErrorCode::Unsupported));
        assert_eq!(&**first.get().unwrap().data, b"small");
    }

    #[test]
    fn the_counter_ascends_over_all_calls() {
        let (slot, _) = slot();
        let numbers: Vec<_> = (0..3).map(|_| call(&slot).counter()).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_hangs_is_overtaken_and_its_late_end_takes_no_right_away() {
        let (slot, _) = slot();
        let (mut hanging, mut second, mut third) = (call(&slot), call(&slot), call(&slot));
        assert!(granted(&mut hanging, None).await);
        let began = tokio::time::Instant::now();
        assert!(granted(&mut second, None).await);
        assert_eq!(began.elapsed(), RENEWAL);
        drop(hanging);
        let waiting = tokio::spawn(async move { matches!(third.renew(None).await, Ok(Renewal::Renewed(_))) });
        tokio::task::yield_now().await;
        second.put(b"state", 60).unwrap();
        assert!(waiting.await.unwrap(), "it did not renew a second time");
    }
}
