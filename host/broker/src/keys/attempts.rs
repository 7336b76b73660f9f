//! Scheduling retries of workspace key rotations that could not be finished.
//!
//! The usual cause is a damaged value, which stays damaged, and each attempt is in the audit log.
//! So the pauses grow, separately for each workspace. They are kept in memory: after a start,
//! every unfinished rotation is retried.

use std::collections::BTreeMap;
use std::time::Duration;

use keyway_clock::Moment;
use keyway_storage::WorkspaceId;
use parking_lot::Mutex;

/// The pause between the first attempt and the second; as often as a server polls.
const FIRST_WAIT: Duration = Duration::from_secs(60);

/// The longest pause between attempts: after repairing the value, an operator waits at most this
/// long, or finishes the rotation by hand.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// The workspaces whose rotations could not be finished, with the time of the last attempt and the
/// pause after it.
#[derive(Default)]
pub(crate) struct Attempts(Mutex<BTreeMap<WorkspaceId, (Moment, Duration)>>);

impl Attempts {
    /// The unfinished rotations that are due for an attempt. Workspaces that are not in
    /// `unfinished` are forgotten: their rotations were finished.
    pub(super) fn due(&self, unfinished: Vec<WorkspaceId>, now: Moment) -> Vec<WorkspaceId> {
        let mut failed = self.0.lock();
        failed.retain(|workspace, _| unfinished.contains(workspace));
        let rests = |workspace: &_| failed.get(workspace).is_some_and(|(at, wait)| now.since(*at) < *wait);
        unfinished.into_iter().filter(|workspace| !rests(workspace)).collect()
    }

    /// Notes that a rotation could not be finished.
    pub(super) fn failed(&self, workspace: WorkspaceId, now: Moment) {
        let mut failed = self.0.lock();
        let wait = failed.get(&workspace).map_or(FIRST_WAIT, |(_, wait)| (2 * *wait).min(LONGEST_WAIT));
        failed.insert(workspace, (now, wait));
    }
}

#[cfg(test)]
mod tests {
    use keyway_clock::{Clock, ManualClock};

    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour_and_are_each_workspaces_own() {
        let (attempts, clock) = (Attempts::default(), ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let (damaged, other) = (WorkspaceId::generate(), WorkspaceId::generate());
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(attempts.due(vec![damaged, other], clock.now()), [damaged, other]);
            attempts.failed(damaged, clock.now());
            clock.advance(Duration::from_secs(minutes * 60 - 1));
            assert_eq!(attempts.due(vec![damaged, other], clock.now()), [other], "{minutes}");
            clock.advance(Duration::from_secs(1));
        }
        attempts.failed(damaged, clock.now());
        assert!(attempts.due(Vec::new(), clock.now()).is_empty());
        assert_eq!(attempts.due(vec![damaged], clock.now()), [damaged], "it was finished, so this is another rotation");
    }
}
