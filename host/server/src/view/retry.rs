//! How long to wait after a failure, reported in the same way over HTTP and on the command line.

use std::time::Duration;

/// A wait in whole seconds, rounded up.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}
