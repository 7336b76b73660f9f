//! When a rotation of a workspace's key that could not be finished is tried again.
//!
//! What stops it is mostly a damaged value, which does not mend itself, and each attempt is in the
//! audit log. So the pauses of that workspace grow, and the others' do not. They are kept in
//! memory: after a start everything is tried.

use std::collections::BTreeMap;
use std::time::Duration;

use keyway_clock::Moment;
use keyway_storage::WorkspaceId;
use parking_lot::Mutex;

/// Between the first attempt and the second; as often as a server looks.
const FIRST_WAIT: Duration = Duration::from_secs(60);

/// Between attempts at most: somebody who has mended the value may wait so long, or do it by hand.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// The workspaces whose rotations could not be finished: when that was, and the pause since then.
#[derive(Default)]
pub(crate) struct Attempts(Mutex<BTreeMap<WorkspaceId, (Moment, Duration)>>);

impl Attempts {
    /// Those of the unfinished rotations that may be tried now. The others are forgotten: somebody
    /// has finished them.
    pub(super) fn due(&self, unfinished: Vec<WorkspaceId>, now: Moment) -> Vec<WorkspaceId> {
        let mut failed = self.0.lock();
        failed.retain(|workspace, _| unfinished.contains(workspace));
        let rests = |workspace: &_| failed.get(workspace).is_some_and(|(at, wait)| now.since(*at) < *wait);
        unfinished.into_iter().filter(|workspace| !rests(workspace)).collect()
    }

    /// That one could not be finished.
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
