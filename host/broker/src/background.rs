//! A broker's background tasks.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use crate::connections::Connections;

/// How often expired data is removed from memory. It is no longer used by then; this only limits
/// how long it stays there.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts doing `work` every `interval`. Like all tasks of a broker, it does not keep its owner
/// alive, so that dropping the broker frees the log and the database.
pub(crate) fn every<T, F>(
    interval: Duration,
    tasks: &mut JoinSet<()>,
    whose: Weak<T>,
    work: impl Fn(Arc<T>) -> F + Send + 'static,
) where
    T: Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    tasks.spawn(async move {
        while let Some(whose) = whose.upgrade() {
            work(whose).await;
            tokio::time::sleep(interval).await;
        }
    });
}

/// Starts removing expired data from memory, even while the broker is idle.
pub(crate) fn sweep(tasks: &mut JoinSet<()>, connections: Weak<Connections>) {
    every(SWEEP_INTERVAL, tasks, connections, |connections| async move { connections.sweep() });
}

/// Does all of `work`, at most `limit` at a time, and passes each result to `ended`.
pub(crate) async fn at_most<T: Send + 'static>(
    limit: usize,
    work: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
    mut ended: impl FnMut(Result<T, JoinError>),
) {
    let mut running = JoinSet::new();
    for one in work {
        if running.len() >= limit
            && let Some(result) = running.join_next().await
        {
            ended(result);
        }
        running.spawn(one);
    }
    while let Some(result) = running.join_next().await {
        ended(result);
    }
}
