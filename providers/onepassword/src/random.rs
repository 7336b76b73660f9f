//! Random bytes: the login's secret exponent, the first MAC counter and the IV of every envelope.
//!
//! [`Random`] is a trait so that tests can replay the bytes that the official client drew and
//! compare every request byte for byte.

use keyway_sdk::Error;

/// A source of cryptographically secure random bytes.
pub(crate) trait Random {
    /// Fills `bytes`. Fails only if the system provides no randomness.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Error>;
}

/// The operating system's source: `wasi:random` in the sandbox.
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        getrandom::fill(bytes).map_err(|_| {
            Error::other("no-randomness", "The system gave no random numbers, so nothing can be encrypted. Try again.")
        })
    }
}

#[cfg(test)]
pub(crate) mod scripted {
    //! Replays given bytes, for tests.

    use super::{Error, Random};
    use std::{cell::RefCell, collections::VecDeque};

    /// Returns the given chunks in order; each must be requested with exactly its length.
    pub(crate) struct ScriptedRandom(RefCell<VecDeque<Vec<u8>>>);

    impl ScriptedRandom {
        pub(crate) fn new<C: Into<Vec<u8>>>(chunks: impl IntoIterator<Item = C>) -> Self {
            Self(RefCell::new(chunks.into_iter().map(Into::into).collect()))
        }
    }

    impl Random for ScriptedRandom {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
            let chunk = self.0.borrow_mut().pop_front().expect("the script still has random bytes");
            bytes.copy_from_slice(&chunk);
            Ok(())
        }
    }
}
