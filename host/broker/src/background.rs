//! Tasks that a broker runs beside what it is asked for.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use crate::connections::Connections;

/// How often memory is freed of what is over. It counts no more by then; this is about how long it
/// lies there.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Begins to do `work` every `interval`. Like all of a broker's tasks it does not keep what it works
/// for alive, so that a log and a database are free once the broker is dropped.
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

/// Frees memory of what is over, also while nobody asks for anything.
pub(crate) fn sweep(tasks: &mut JoinSet<()>, connections: Weak<Connections>) {
    every(SWEEP_INTERVAL, tasks, connections, |connections| async move { connections.sweep() });
}

/// Does all of `work`, at most `limit` of it at a time, and passes on how each ended.
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
