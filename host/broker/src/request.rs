//! For which request a task works: its log lines are told apart by it.
//!
//! A variable of the task and not a span of `tracing`, because a span costs each request its part,
//! and most have no line. What is started on behalf of a request, and outlives its caller, takes
//! the id along; what several share has that of whoever was first.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tracing::Instrument;

tokio::task_local! {
    static REQUEST: Option<Arc<str>>;
}

/// Does `work` for the request of this id, which must not be secret: [`current`] is its id
/// meanwhile.
pub async fn scope<F: Future>(id: Arc<str>, work: F) -> F::Output {
    REQUEST.scope(Some(id), work).await
}

/// The id of the request that this task works for.
pub fn current() -> Option<Arc<str>> {
    REQUEST.try_with(Clone::clone).ok().flatten()
}

/// Starts a task that works for the same request, and in the same span, as this one.
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(REQUEST.scope(current(), work).in_current_span())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_is_started_works_for_the_same_request() {
        let seen = scope("trace-me".into(), async { spawn(async { current() }).await.unwrap() }).await;
        assert_eq!(seen.as_deref(), Some("trace-me"));
        assert_eq!(spawn(async { current() }).await.unwrap(), None);
    }
}
