//! Tasks that a broker runs beside what it is asked for.

use std::sync::Weak;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};

use crate::connections::Connections;

/// How often memory is freed of what is over. It counts no more by then; this is about how long it
/// lies there.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Ends the task when the broker is gone.
#[derive(Debug)]
pub(crate) struct BackgroundTask(AbortHandle);

impl BackgroundTask {
    /// Begins nothing more.
    pub(crate) fn stop(&self) {
        self.0.abort();
    }
}

impl From<JoinHandle<()>> for BackgroundTask {
    fn from(task: JoinHandle<()>) -> Self {
        Self(task.abort_handle())
    }
}

impl Drop for BackgroundTask {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Frees memory of what is over, also while nobody asks for anything. Like all of a broker's tasks
/// it does not keep the broker alive, so that a log and a database are free once it is dropped.
pub(crate) fn sweep(connections: Weak<Connections>) -> BackgroundTask {
    let task = async move {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            let Some(connections) = connections.upgrade() else { return };
            connections.sweep();
        }
    };
    tokio::spawn(task).into()
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
