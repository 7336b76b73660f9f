//! The time that components see. A trait, so that a conformance runner or a test can choose it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the wall-clock time comes from: what components see and what session states expire by. Time limits of
/// calls do not depend on it.
pub trait Clock: Send + Sync + 'static {
    /// The time since 1970-01-01T00:00:00Z.
    fn now(&self) -> Duration;
}

/// The computer's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
