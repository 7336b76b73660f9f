//! Limited things that all clients share, such that none can use up what the others need.
//!
//! **Invariant:** a holder gets more only while at least as much stays free as it then holds. Alone
//! it gets at most half, and each further holder at most half of what the others leave. As what
//! they hold is given back, all come to equal shares. (It is the rule by which switches share their
//! packet memory: Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet
//! switches", 1998, with a factor of 1.) It needs no number for each holder and no queue.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// A number of equal things, places or bytes, that holders share.
#[derive(Debug)]
pub struct Shares<K> {
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    free: usize,
    /// Only those that hold something.
    held: HashMap<K, usize>,
}

/// What a holder has taken; given back when it is dropped.
#[derive(Debug)]
pub struct Share<K: Copy + Eq + Hash> {
    of: Arc<Shares<K>>,
    holder: K,
    amount: usize,
}

impl<K: Copy + Eq + Hash> Shares<K> {
    /// This many.
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { free: total, held: HashMap::new() }) })
    }

    /// Takes so much for the holder; `None` when that is more than its share at present.
    pub fn take(self: &Arc<Self>, holder: K, amount: usize) -> Option<Share<K>> {
        let mut state = self.state.lock();
        let free = state.free.checked_sub(amount)?;
        match state.held.entry(holder) {
            Entry::Occupied(mut held) if held.get() + amount <= free => *held.get_mut() += amount,
            Entry::Vacant(none) if amount <= free => _ = none.insert(amount),
            _ => return None,
        }
        state.free = free;
        drop(state);
        Some(Share { of: self.clone(), holder, amount })
    }

    /// How many this holder has.
    pub fn held_by(&self, holder: K) -> usize {
        self.state.lock().held.get(&holder).copied().unwrap_or_default()
    }

    /// How many nobody holds.
    pub fn free(&self) -> usize {
        self.state.lock().free
    }
}

impl<K: Copy + Eq + Hash> Share<K> {
    /// How many it is.
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Gives back all but so much.
    pub fn shrink(&mut self, amount: usize) {
        let more = self.amount.saturating_sub(amount);
        self.amount -= more;
        let mut state = self.of.state.lock();
        state.free += more;
        if let Entry::Occupied(mut held) = state.held.entry(self.holder) {
            *held.get_mut() -= more;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

impl<K: Copy + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one after the other, for as long as there is something.
    fn all_of(shares: &Arc<Shares<u16>>, holder: u16) -> Vec<Share<u16>> {
        std::iter::from_fn(|| shares.take(holder, 1)).collect()
    }

    #[test]
    fn one_alone_gets_half_and_others_get_half_of_what_it_leaves() {
        let shares = Shares::new(1_000);
        let one = all_of(&shares, 1);
        assert_eq!(one.len(), 500);
        let two = all_of(&shares, 2);
        assert_eq!(two.len(), 250);
        drop(one);
        let one = all_of(&shares, 1);
        assert_eq!((one.len(), shares.free()), (375, 375));
        drop((one, two));
        assert_eq!(shares.free(), 1_000);
        assert!(shares.state.lock().held.is_empty());
    }

    #[test]
    fn several_that_take_all_that_they_can_leave_something_for_a_newcomer() {
        let shares = Shares::new(1_024);
        let _held: Vec<_> = (0..5).map(|holder| all_of(&shares, holder)).collect();
        assert_eq!(all_of(&shares, 5).len(), 16);
    }

    #[test]
    fn what_is_given_back_early_is_given_back_once() {
        let shares = Shares::new(100);
        let mut share = shares.take(1, 40).unwrap();
        share.shrink(50);
        assert_eq!((share.amount(), shares.free()), (40, 60));
        share.shrink(10);
        assert_eq!((share.amount(), shares.free()), (10, 90));
        drop(share);
        assert_eq!(shares.free(), 100);
        assert!(shares.take(1, 51).is_none() && shares.take(1, 50).is_some());
    }
}
