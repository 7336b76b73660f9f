//! The request that a task works for, which identifies its log lines.
//!
//! It is a task-local variable and not a span of `tracing`, because a span has a cost for every
//! request, and most log nothing. Work that is started for a request and outlives its caller keeps
//! the id; work that several requests share has the id of the first.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tracing::Instrument;

tokio::task_local! {
    static REQUEST: Option<Arc<str>>;
}

/// Does `work` for the request with this id, which must not be secret: [`current`] returns it
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
