//! Bodies of requests over HTTP/1 that were answered without reading them to the end.
//!
//! A request that is refused at once, for its key or for the size of its body, is answered while
//! its client still sends. hyper then closes the connection, and a client that only looks for its
//! answer when it has sent everything finds a broken connection instead. So the rest is read and
//! dropped, within reason. (HTTP/2 can end a request alone.)

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::peer::Peer;

/// How many bytes are read after the answer: several of the largest bodies that are accepted.
const LIMIT: usize = 16 << 20;

/// For how long they are read: [`LIMIT`] in this time is 13 Mbit/s.
const PATIENCE: Duration = Duration::from_secs(10);

/// A body whose rest is read when it is dropped.
#[derive(Debug)]
pub(super) struct ReadToEnd {
    /// `None` at its end.
    body: Option<Incoming>,
    peer: Arc<Peer>,
}

impl ReadToEnd {
    pub(super) fn new(body: Incoming, peer: Arc<Peer>) -> Self {
        Self { body: Some(body).filter(|body| !body.is_end_stream()), peer }
    }
}

impl HttpBody for ReadToEnd {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(&mut *body).poll_frame(context);
        let is_over = match &frame {
            Poll::Ready(Some(Ok(_))) => body.is_end_stream(),
            Poll::Ready(_) => true,
            Poll::Pending => false,
        };
        if is_over {
            self.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for ReadToEnd {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let peer = self.peer.clone();
            peer.is_answered_early();
            runtime.spawn(async move {
                tokio::select! {
                    discarded = timeout(PATIENCE, discard(body)) => if discarded.is_ok() { peer.has_sent_all() },
                    () = peer.ended() => {}
                }
            });
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut size = 0;
    while size <= LIMIT
        && let Some(Ok(frame)) = body.frame().await
    {
        size += frame.data_ref().map_or(0, Bytes::len);
    }
}
