//! Telling what is ready at once from what has to wait.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// The result of what is ready now, or after this thread's other tasks had their turn; `None` when
/// it has to wait for longer.
///
/// Most requests never wait for longer. So what only waiting requests need, a timer or another
/// place, costs the others nothing.
pub(super) async fn soon<F: Future>(mut run: Pin<&mut F>) -> Option<F::Output> {
    let mut others_went = false;
    poll_fn(|context| match run.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if others_went => Poll::Ready(None),
        Poll::Pending => {
            others_went = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}
