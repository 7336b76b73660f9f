//! One meter, or several on one database, with a clock that the test sets.

use std::time::Duration;

use keyway_clock::ManualClock;
use keyway_storage::{BudgetStorage, SqliteStorage};

use super::*;
use crate::limits::BudgetScope;

struct Harness {
    storage: SqliteStorage,
    clock: Arc<ManualClock>,
}

impl Harness {
    async fn new() -> Self {
        let start = Timestamp::from_second(1_000_000_020).unwrap();
        Self { storage: SqliteStorage::in_memory().await.unwrap(), clock: Arc::new(ManualClock::new(start)) }
    }

    /// A meter with nothing in memory, as after a start.
    fn meter(&self, limit: Option<u32>) -> Arc<Meter> {
        let storage = Arc::new(self.storage.clone());
        let hour = Duration::from_secs(3_600);
        let of = Counter { requests: RequestKind::Read, scope: BudgetScope::Credential, window: hour, limit };
        Arc::new(Meter::new(storage, self.clock.clone(), [7; 16], of))
    }

    async fn stored(&self) -> u32 {
        let counts = self.storage.request_counts(&[7; 16], RequestKind::Read, Timestamp::UNIX_EPOCH).await;
        counts.unwrap().iter().map(|count| count.requests).sum()
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

async fn takes(meter: &Meter, kept: u32) -> u32 {
    let mut taken = 0;
    while meter.take(kept).await.is_ok() {
        taken += 1;
    }
    taken
}

fn wait(refused: Result<(), Refusal>) -> Duration {
    match refused {
        Err(Refusal::NotCalled(why)) => why.retry_after(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn exactly_as_many_as_the_limit_are_taken_and_the_wait_for_more_is_said() {
    let harness = Harness::new().await;
    let meter = harness.meter(Some(1_000));
    assert_eq!(takes(&meter, 0).await, 1_000);
    let wait = wait(meter.take(0).await);
    assert!(wait > Duration::from_secs(60 * 60) && wait <= Duration::from_secs(62 * 60), "{wait:?}");
    harness.clock.advance(wait - Duration::from_millis(1));
    assert!(meter.take(0).await.is_err());
    harness.clock.advance(Duration::from_millis(1));
    assert_eq!(takes(&meter, 0).await, 1_000);
}

#[tokio::test]
async fn a_thousand_at_once_take_no_more_than_the_limit_also_from_two_hosts() {
    let harness = Harness::new().await;
    let hosts = [harness.meter(Some(300)), harness.meter(Some(300))];
    let tasks: Vec<_> = (0..1_000)
        .map(|number| {
            let meter = hosts[number % 2].clone();
            tokio::spawn(async move { meter.take(0).await.is_ok() })
        })
        .collect();
    let mut taken = 0;
    for task in tasks {
        taken += u32::from(task.await.unwrap());
    }
    assert!(taken <= 300, "{taken}");
    // One meter's unused reservation is unavailable to the other until the slot ends.
    assert!(taken >= 280, "{taken}");
}

#[tokio::test]
async fn a_process_that_dies_forgets_no_request_and_loses_a_block_at_most() {
    let harness = Harness::new().await;
    for start in 1..=20_u32 {
        let meter = harness.meter(Some(1_000));
        for _ in 0..3 {
            meter.take(0).await.unwrap();
        }
        std::mem::forget(meter);
        let stored = harness.stored().await;
        assert!(stored >= 3 * start && stored <= 8 * start, "{stored} after {start}");
    }
    assert!(takes(&harness.meter(Some(1_000)), 0).await <= 1_000 - 60);
}

#[tokio::test]
async fn what_was_not_used_is_returned_when_its_slot_is_over() {
    let harness = Harness::new().await;
    let meter = harness.meter(Some(1_000));
    for minute in 1..=30 {
        meter.take(0).await.unwrap();
        assert_eq!(meter.read().await.unwrap(), minute);
        harness.pass(60);
    }
    assert!(harness.stored().await < 30 + 8);
}

#[tokio::test]
async fn what_was_not_used_is_returned_by_whoever_ends() {
    let harness = Harness::new().await;
    for start in 1..=20 {
        let meter = harness.meter(Some(1_000));
        meter.take(0).await.unwrap();
        meter.return_unused().await.unwrap();
        assert_eq!((harness.stored().await, meter.read_now()), (start, start));
    }
    let meter = harness.meter(Some(1_000));
    meter.take(0).await.unwrap();
    meter.return_unused().await.unwrap();
    meter.return_unused().await.unwrap();
    meter.give_back();
    assert_eq!(harness.stored().await, 21, "returned once");
    meter.take(0).await.unwrap();
    assert_eq!(meter.read().await.unwrap(), 22);
}

#[tokio::test]
async fn what_was_not_used_is_returned_when_nobody_has_the_meter_any_more() {
    let harness = Harness::new().await;
    let meter = harness.meter(Some(1_000));
    meter.take(0).await.unwrap();
    assert_eq!(harness.stored().await, 8);
    drop(meter);
    let returned = async {
        while harness.stored().await != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), returned).await.unwrap();
}

#[tokio::test]
async fn what_another_host_has_used_is_known_once_the_database_was_asked() {
    let harness = Harness::new().await;
    let (meter, other) = (harness.meter(Some(1_000)), harness.meter(Some(1_000)));
    for _ in 0..20 {
        other.take(0).await.unwrap();
    }
    other.return_unused().await.unwrap();
    assert_eq!(meter.read_now(), 0);
    meter.read().await.unwrap();
    assert_eq!(meter.read_now(), 20);
}

#[tokio::test]
async fn taking_from_a_block_writes_nothing_to_the_database() {
    let harness = Harness::new().await;
    let meter = harness.meter(Some(1_000));
    meter.take(0).await.unwrap();
    harness.storage.close().await;
    for _ in 0..7 {
        meter.take(0).await.unwrap();
    }
    assert!(matches!(meter.take(0).await, Err(Refusal::Storage(_))), "not counted, not made");
}

#[tokio::test]
async fn once_nothing_is_left_the_refusal_needs_no_database() {
    let harness = Harness::new().await;
    let meter = harness.meter(Some(10));
    takes(&meter, 0).await;
    harness.storage.close().await;
    wait(meter.take(0).await);
    wait(meter.check(1, 0).await);
}

#[tokio::test]
async fn the_last_ones_are_kept_for_those_who_may_have_them() {
    let harness = Harness::new().await;
    let meter = harness.meter(Some(1_000));
    assert_eq!(takes(&meter, 10).await, 990);
    assert!(meter.check(1, 10).await.is_err());
    meter.check(10, 0).await.unwrap();
    assert_eq!(takes(&meter, 0).await, 10);
}

#[tokio::test]
async fn a_call_that_would_not_get_to_its_end_is_not_begun() {
    let harness = Harness::new().await;
    let meter = harness.meter(Some(10));
    for _ in 0..5 {
        meter.take(0).await.unwrap();
    }
    meter.check(5, 0).await.unwrap();
    assert!(meter.check(6, 0).await.is_err());
    assert!(harness.meter(Some(10)).check(1_000, 0).await.is_err());
    let harness = Harness::new().await;
    harness.meter(Some(10)).check(1_000, 0).await.unwrap();
}

#[tokio::test]
async fn what_is_given_back_can_be_taken_again() {
    let harness = Harness::new().await;
    let meter = harness.meter(Some(10));
    takes(&meter, 0).await;
    meter.give_back();
    assert_eq!(takes(&meter, 0).await, 1);
}

#[tokio::test]
async fn what_was_made_anyway_counts_beyond_the_limit() {
    let harness = Harness::new().await;
    let meter = harness.meter(Some(10));
    meter.charge(12).await.unwrap();
    assert!(meter.take(0).await.is_err());
    assert_eq!(meter.read().await.unwrap(), 12);
}

#[tokio::test]
async fn without_a_limit_requests_are_counted_in_memory_only() {
    let harness = Harness::new().await;
    let meter = harness.meter(None);
    for _ in 0..10_000 {
        meter.take(0).await.unwrap();
    }
    assert_eq!((meter.read().await.unwrap(), harness.stored().await), (10_000, 0));
}

#[tokio::test]
async fn what_was_taken_while_the_clock_was_ahead_counts_for_an_hour_and_not_for_a_year() {
    let harness = Harness::new().await;
    let right = harness.clock.now().timestamp();
    let meter = harness.meter(Some(100));
    harness.clock.set_wall(right.checked_add(Duration::from_secs(365 * 86_400)).unwrap());
    assert_eq!(takes(&meter, 0).await, 100);
    harness.clock.set_wall(right);
    for meter in [&meter, &harness.meter(Some(100))] {
        let wait = wait(meter.take(0).await);
        assert!(wait > Duration::from_secs(60 * 60) && wait <= Duration::from_secs(62 * 60), "{wait:?}");
    }
    assert_eq!(harness.stored().await, 100);
    harness.pass(62 * 60);
    assert_eq!(takes(&meter, 0).await, 100);
    assert_eq!(harness.meter(Some(100)).read().await.unwrap(), 100);
}

#[tokio::test]
async fn what_was_taken_before_a_clock_was_ahead_for_a_while_still_counts_afterwards() {
    let harness = Harness::new().await;
    let right = harness.clock.now().timestamp();
    let meter = harness.meter(Some(100));
    assert_eq!(takes(&meter, 10).await, 90);
    harness.clock.set_wall(right.checked_add(Duration::from_secs(2 * 60 * 60)).unwrap());
    meter.take(0).await.unwrap();
    harness.clock.set_wall(right);
    assert!(takes(&meter, 0).await <= 10);
}

#[tokio::test]
async fn what_is_left_of_a_block_of_long_ago_hides_nothing_that_others_use() {
    let harness = Harness::new().await;
    let (meter, other) = (harness.meter(Some(1_000)), harness.meter(Some(1_000)));
    meter.take(0).await.unwrap();
    harness.pass(2 * 60 * 60);
    for _ in 0..5 {
        other.take(0).await.unwrap();
    }
    other.return_unused().await.unwrap();
    assert_eq!(meter.read().await.unwrap(), 5);
}
