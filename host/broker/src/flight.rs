//! One fetch for all concurrent callers that want the same value.
//!
//! **Invariant:** at most one fetch runs for a key that the next caller would wait for, and it
//! always runs to its end. It runs in a task of its own, so cancelling one caller does not affect
//! the others. When a fetch ends, even by a panic, its key is free again before any caller is
//! notified.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use keyway_clock::Moment;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::watch;

use crate::request;

/// The fetch ended without a result: it panicked, or the runtime is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a fetch ended without a result")]
pub(crate) struct Lost;

type Running<K, V> = Mutex<HashMap<K, Fetch<V>>>;

/// A running fetch, and when it began.
struct Fetch<V> {
    since: Moment,
    result: watch::Receiver<Option<V>>,
}

/// The fetches that are running.
pub(crate) struct Flights<K, V> {
    running: Arc<Running<K, V>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { running: Arc::default() }
    }
}

/// A caller's handle on the result of a fetch.
pub(crate) enum Flight<V> {
    /// The result was there already.
    Ready(V),
    /// The fetch is running.
    Running(watch::Receiver<Option<V>>),
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.running.lock().is_empty()
    }

    /// Joins the running fetch of `key`, if there is one that is `good` for the caller.
    pub(crate) fn join_running(&self, key: &K, good: impl FnOnce(Moment) -> bool) -> Option<Flight<V>> {
        let running = self.running.lock();
        running.get(key).filter(|fetch| good(fetch.since)).map(|fetch| Flight::Running(fetch.result.clone()))
    }

    /// Joins the running fetch of `key`, or starts one. A fetch that began too long ago to be
    /// `good` for the caller continues for those that wait for it, and later callers join the new
    /// one.
    ///
    /// When none is running, `ready` is called first: it finds the result of a fetch that ended
    /// after the caller looked into the cache, so nothing is fetched twice. Must be called within a
    /// Tokio runtime.
    pub(crate) fn join<F>(
        &self,
        key: K,
        now: Moment,
        good: impl FnOnce(Moment) -> bool,
        ready: impl FnOnce() -> Option<V>,
        fetch: impl FnOnce() -> F,
    ) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = self.running.lock();
        if let Some(fetch) = running.get(&key).filter(|fetch| good(fetch.since)) {
            return Flight::Running(fetch.result.clone());
        }
        if let Some(value) = ready() {
            return Flight::Ready(value);
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(key.clone(), Fetch { since: now, result: receiver.clone() });
        let fetch = fetch();
        // A runtime that is shutting down drops a spawned task at once, and with it the landing,
        // which takes the lock.
        drop(running);
        let landing = Landing { running: self.running.clone(), key, result: receiver.clone() };
        request::spawn(async move {
            let value = fetch.await;
            drop(landing);
            // An error only means that all callers were cancelled.
            let _ = sender.send(Some(value));
        });
        Flight::Running(receiver)
    }
}

impl<V: Clone> Flight<V> {
    /// Waits for the result.
    pub(crate) async fn wait(self) -> Result<V, Lost> {
        match self {
            Self::Ready(value) => Ok(value),
            Self::Running(mut receiver) => {
                receiver.wait_for(Option::is_some).await.map_err(|_| Lost)?.clone().ok_or(Lost)
            }
        }
    }
}

/// Frees the key when the fetch ends, even by a panic.
struct Landing<K: Hash + Eq, V> {
    running: Arc<Running<K, V>>,
    key: K,
    result: watch::Receiver<Option<V>>,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        // A newer fetch may have taken its place.
        if running.get(&self.key).is_some_and(|fetch| fetch.result.same_channel(&self.result)) {
            running.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use keyway_clock::{Clock, SystemClock};
    use tokio::sync::Semaphore;

    use super::*;

    fn now() -> Moment {
        SystemClock::new().now()
    }

    struct Harness {
        flights: Flights<&'static str, u32>,
        fetches: Arc<AtomicU32>,
        gate: Arc<Semaphore>,
    }

    impl Harness {
        fn new() -> Self {
            Self { flights: Flights::default(), fetches: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
        }

        /// A fetch that waits for the gate and returns how many there were before it.
        fn join(&self, key: &'static str) -> Flight<u32> {
            let (fetches, gate) = (self.fetches.clone(), self.gate.clone());
            self.flights.join(
                key,
                now(),
                |_| true,
                || None,
                || async move {
                    let number = fetches.fetch_add(1, Ordering::SeqCst);
                    gate.acquire().await.unwrap().forget();
                    number
                },
            )
        }
    }

    #[test]
    fn a_runtime_that_is_shutting_down_loses_the_fetch_and_holds_up_nobody() {
        let harness = Harness::new();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_timeout(std::time::Duration::from_secs(10));
        let (told, done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _entered = handle.enter();
            let flight = harness.join("item");
            told.send((flight, harness.flights.is_empty())).unwrap();
        });
        let (flight, is_empty) = done.recv_timeout(std::time::Duration::from_secs(10)).expect("it has returned");
        assert!(is_empty);
        assert!(matches!(flight, Flight::Running(receiver) if receiver.has_changed().is_err()));
    }

    #[tokio::test]
    async fn fifty_who_want_the_same_make_one_fetch() {
        let harness = Harness::new();
        let flights: Vec<_> = (0..50).map(|_| harness.join("item")).collect();
        harness.gate.add_permits(1);
        for flight in flights {
            assert_eq!(flight.wait().await, Ok(0));
        }
        assert_eq!(harness.fetches.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_takes_nothing_from_the_others() {
        let harness = Harness::new();
        let first = tokio::spawn(harness.join("item").wait());
        let second = harness.join("item");
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        harness.gate.add_permits(1);
        assert_eq!(second.wait().await, Ok(0));
    }

    #[tokio::test]
    async fn different_keys_do_not_wait_for_each_other() {
        let harness = Harness::new();
        let (one, other) = (harness.join("one"), harness.join("other"));
        harness.gate.add_permits(2);
        one.wait().await.unwrap();
        other.wait().await.unwrap();
        assert_eq!(harness.fetches.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn after_the_end_of_one_fetch_there_can_be_another() {
        let harness = Harness::new();
        harness.gate.add_permits(2);
        assert_eq!(harness.join("item").wait().await, Ok(0));
        assert_eq!(harness.join("item").wait().await, Ok(1));
    }

    #[tokio::test]
    async fn a_result_that_has_arrived_meanwhile_is_not_fetched_again() {
        let flights: Flights<&str, u32> = Flights::default();
        let flight = flights.join("item", now(), |_| true, || Some(7), || async { unreachable!() });
        assert_eq!(flight.wait().await, Ok(7));
    }

    #[tokio::test]
    async fn a_fetch_that_panics_is_lost_and_does_not_block_the_next() {
        let flights: Flights<&str, u32> = Flights::default();
        let flight = flights.join("item", now(), |_| true, || None, || async { panic!("a fault of the fetch") });
        assert_eq!(flight.wait().await, Err(Lost));
        assert_eq!(flights.join("item", now(), |_| true, || None, || async { 1 }).wait().await, Ok(1));
    }

    #[tokio::test]
    async fn who_cannot_use_what_was_asked_for_so_long_ago_starts_another_which_later_callers_join() {
        let harness = Harness::new();
        let old = harness.join("item");
        let fetches = harness.fetches.clone();
        let gate = harness.gate.clone();
        let fetch = || async move {
            fetches.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            100
        };
        let young = harness.flights.join("item", now(), |_| false, || None, fetch);
        harness.gate.add_permits(1);
        assert_eq!(old.wait().await, Ok(0));
        // The old fetch has ended, and left the place of the new one alone.
        let later = harness.join("item");
        harness.gate.add_permits(1);
        assert_eq!((young.wait().await, later.wait().await), (Ok(100), Ok(100)));
        assert_eq!(harness.fetches.load(Ordering::SeqCst), 2);
        assert!(harness.flights.is_empty());
    }
}
