//! Tasks that a broker runs beside what it is asked for.

use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};

use crate::broker::WeakBroker;

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

/// Takes cached secrets out of memory when their duration is over, and connections with their
/// settings when they were idle for long, also while nobody asks for anything: the caches
/// themselves do so only when they are used. `broker` does not keep it alive.
pub(crate) fn sweep(broker: WeakBroker) -> BackgroundTask {
    let task = async move {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            let Some(broker) = broker.upgrade() else { return };
            broker.cache.sweep();
            broker.opened.run_pending_tasks();
        }
    };
    tokio::spawn(task).into()
}
