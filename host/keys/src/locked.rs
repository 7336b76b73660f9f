//! Memory that is never written to swap space.
//!
//! Keys that are open stay in memory for as long as the process lives, so they have pages of their
//! own, locked. Everything else that is secret is there for a moment only, and is wiped.
//!
//! How it can fail: the system bounds what a process may lock (`RLIMIT_MEMLOCK`, often 8 MiB). A
//! key beyond that is used all the same, and the log says so once.

use std::ops::Deref;
use std::sync::Once;

/// Alone in its pages, of 4 KiB on most systems: unlocking it must not unlock another.
#[cfg_attr(target_vendor = "apple", repr(align(16_384)))]
#[cfg_attr(not(target_vendor = "apple"), repr(align(4_096)))]
struct Pages<T>(T);

/// A value in locked memory.
pub struct Locked<T> {
    /// Unlocked before the value is dropped, because the pages can then be anyone's.
    _lock: Option<region::LockGuard>,
    pages: Box<Pages<T>>,
}

impl<T> Locked<T> {
    /// Moves the value there.
    pub fn new(value: T) -> Self {
        static WARNED: Once = Once::new();
        let pages = Box::new(Pages(value));
        let lock = region::lock(&raw const pages.0, size_of::<T>());
        if let Err(error) = &lock {
            WARNED.call_once(|| {
                tracing::warn!(%error, "open keys are not locked in memory and may get into swap space; raise the limit of locked memory (`ulimit -l`) or turn off swap");
            });
        }
        Self { _lock: lock.ok(), pages }
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.pages.0
    }
}

impl<T> std::fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Locked([REDACTED])")
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// KiB of locked memory in the mapping of an address (`proc_pid_smaps(5)`).
    fn locked_at(address: usize) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let first = line.split(' ').next().unwrap();
            if let Some((from, to)) = first.split_once('-') {
                let number = |hex| usize::from_str_radix(hex, 16).unwrap();
                inside = (number(from)..number(to)).contains(&address);
            } else if inside && let Some(size) = line.strip_prefix("Locked:") {
                return size.trim().trim_end_matches(" kB").parse().unwrap();
            }
        }
        panic!("{address:x} is not mapped");
    }

    #[test]
    fn a_key_is_locked_until_it_is_dropped_and_leaves_others_locked() {
        let address = |key: &Locked<[u8; 32]>| (&raw const **key).addr();
        let (first, second) = (Locked::new([7; 32]), Locked::new([8; 32]));
        assert_ne!(address(&first) / 4_096, address(&second) / 4_096);
        assert!(locked_at(address(&first)) > 0 && locked_at(address(&second)) > 0);
        drop(first);
        assert!(locked_at(address(&second)) > 0);
        assert_eq!((*second, format!("{second:?}")), ([8; 32], "Locked([REDACTED])".to_owned()));
    }
}
