//! How many checks of credentials may fail.
//!
//! A check is a login. Secret managers ban an address that fails too many, for all tenants of the
//! host. So each workspace has a number of failures, which grows back with time, and the host has a
//! larger one: no workspace can use up those of the others alone. A check that succeeds costs
//! nothing.
//!
//! How it can fail: the numbers are in memory, so a restart gives all of them back, and each
//! process has its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use keyway_budget::NotCalled;
use keyway_clock::{Clock, Moment};
use keyway_storage::WorkspaceId;
use parking_lot::Mutex;

/// A workspace's failures: as many at once as a person makes with a token and a clipboard, then one
/// every half minute.
const OF_WORKSPACE: Allowed = Allowed { at_once: 10, one_in: Duration::from_secs(30) };

/// The host's: those of six workspaces.
const OF_HOST: Allowed = Allowed { at_once: 60, one_in: Duration::from_secs(5) };

/// How many failures are allowed at once, and how soon each is forgotten.
#[derive(Clone, Copy)]
struct Allowed {
    at_once: u32,
    one_in: Duration,
}

/// The failures of one workspace or of the host: how long until all are forgotten, as of a moment.
#[derive(Clone, Copy)]
struct Failures {
    until_forgotten: Duration,
    at: Moment,
}

impl Failures {
    fn none(now: Moment) -> Self {
        Self { until_forgotten: Duration::ZERO, at: now }
    }

    fn now(self, now: Moment) -> Self {
        Self { until_forgotten: self.until_forgotten.saturating_sub(now.since(self.at)), at: now }
    }

    /// How long until another is allowed; zero when it is now.
    fn wait(self, of: Allowed) -> Duration {
        self.until_forgotten.saturating_sub(of.one_in * (of.at_once - 1))
    }
}

/// The failed checks of all workspaces.
pub(crate) struct Checks {
    clock: Arc<dyn Clock>,
    failures: Mutex<(Failures, HashMap<WorkspaceId, Failures>)>,
}

impl Checks {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let failures = Mutex::new((Failures::none(clock.now()), HashMap::new()));
        Self { clock, failures }
    }

    /// Allows a check, which counts as failed until it has [succeeded](Self::succeeded).
    pub(super) fn begin(&self, workspace: WorkspaceId) -> Result<(), NotCalled> {
        let now = self.clock.now();
        let (host, workspaces) = &mut *self.failures.lock();
        workspaces.retain(|_, failures| !failures.now(now).until_forgotten.is_zero());
        let own = workspaces.get(&workspace).copied().unwrap_or(Failures::none(now)).now(now);
        *host = host.now(now);
        let wait = own.wait(OF_WORKSPACE).max(host.wait(OF_HOST));
        if !wait.is_zero() {
            return Err(NotCalled::TooManyChecks { retry_after: wait });
        }
        let more = |failures: Failures, of: Allowed| Failures {
            until_forgotten: failures.until_forgotten + of.one_in,
            ..failures
        };
        workspaces.insert(workspace, more(own, OF_WORKSPACE));
        *host = more(*host, OF_HOST);
        Ok(())
    }

    /// Gives back the number of a check that succeeded, or was not made.
    pub(super) fn succeeded(&self, workspace: WorkspaceId) {
        let (host, workspaces) = &mut *self.failures.lock();
        host.until_forgotten = host.until_forgotten.saturating_sub(OF_HOST.one_in);
        if let Some(own) = workspaces.get_mut(&workspace) {
            own.until_forgotten = own.until_forgotten.saturating_sub(OF_WORKSPACE.one_in);
        }
    }
}

#[cfg(test)]
mod tests {
    use keyway_clock::ManualClock;

    use super::*;

    fn checks() -> (Checks, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        (Checks::new(clock.clone()), clock)
    }

    /// How many checks fail before one is refused, and the wait of that one.
    fn fail(checks: &Checks, workspace: WorkspaceId) -> (u32, Duration) {
        let mut failed = 0;
        loop {
            match checks.begin(workspace) {
                Ok(()) => failed += 1,
                Err(refused) => return (failed, refused.retry_after()),
            }
        }
    }

    #[test]
    fn a_workspace_has_ten_failures_and_one_more_every_half_minute() {
        let (checks, clock) = checks();
        let workspace = WorkspaceId::generate();
        assert_eq!(fail(&checks, workspace), (10, Duration::from_secs(30)));
        clock.advance(Duration::from_secs(29));
        assert_eq!(fail(&checks, workspace), (0, Duration::from_secs(1)));
        clock.advance(Duration::from_secs(61));
        assert_eq!(fail(&checks, workspace).0, 3);
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(fail(&checks, workspace).0, 10);
    }

    #[test]
    fn a_check_that_succeeds_costs_nothing() {
        let (checks, _) = checks();
        let workspace = WorkspaceId::generate();
        for _ in 0..1_000 {
            checks.begin(workspace).unwrap();
            checks.succeeded(workspace);
        }
        assert_eq!(fail(&checks, workspace).0, 10);
    }

    #[test]
    fn one_workspace_leaves_the_others_theirs_and_all_together_do_not_flood() {
        let (checks, _) = checks();
        let one = WorkspaceId::generate();
        fail(&checks, one);
        assert_eq!(fail(&checks, WorkspaceId::generate()).0, 10);
        let more: u32 = (0..100).map(|_| fail(&checks, WorkspaceId::generate()).0).sum();
        assert_eq!(more, 40);
    }
}
