//! Cuts off clients that do not read their answers, so that none can hold an answer in memory for
//! as long as it likes.
//!
//! When a write has to wait, the connection must take at least [`ENOUGH`] within [`PATIENCE`], or
//! the rest of the answer. The clock runs only while a write waits: an answer that fits into the
//! system's buffers, as nearly all do, costs nothing. Those buffers are kept small ([`bound`]). A
//! large answer therefore waits where it is counted (`http/memory.rs`) and not in uncounted memory
//! of the system.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::peer::Peer;

/// How long a client may take less than [`ENOUGH`].
const PATIENCE: Duration = Duration::from_secs(30);

/// The progress that a client must make, in bytes. With the bytes that the system takes ahead
/// ([`UNSENT`]) this is some 4 KiB a second, a tenth of a poor mobile connection.
const ENOUGH: usize = 64 << 10;

/// How many bytes of an answer the system takes before it can send them. Enough to keep a fast line
/// busy until this process is asked for more.
const UNSENT: u32 = 64 << 10;

/// How long the system tries to deliver what it has taken when the other end does not answer or
/// does not read; also after the connection's end.
const UNDELIVERED: Duration = Duration::from_secs(180);

/// Bounds what the system buffers for a client that does not read. Systems other than Linux apply
/// only their own limits.
pub(crate) fn bound(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    {
        let socket = socket2::SockRef::from(stream);
        let bounded =
            socket.set_tcp_notsent_lowat(UNSENT).and_then(|()| socket.set_tcp_user_timeout(Some(UNDELIVERED)));
        if let Err(error) = bounded {
            tracing::debug!(%error, "the system's send buffer of a connection is not bounded");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, UNSENT, UNDELIVERED);
}

/// A stream whose other end must keep reading. The peer notes what moves.
#[derive(Debug)]
pub(crate) struct Impatient<S> {
    stream: S,
    peer: Arc<Peer>,
    waiting: Option<Waiting>,
}

/// The progress since a write first had to wait.
#[derive(Debug)]
struct Waiting {
    until: Pin<Box<Sleep>>,
    taken: usize,
}

impl<S> Impatient<S> {
    pub(crate) fn new(stream: S, peer: Arc<Peer>) -> Self {
        Self { stream, peer, waiting: None }
    }

    fn written(&mut self, context: &mut Context<'_>, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => {
                self.peer.took();
                if let Some(waiting) = &mut self.waiting {
                    waiting.taken = waiting.taken.saturating_add(*bytes);
                    if waiting.taken >= ENOUGH {
                        self.waiting = None;
                    }
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let begin = || Waiting { until: Box::pin(sleep(PATIENCE)), taken: 0 };
                let waiting = self.waiting.get_or_insert_with(begin);
                if waiting.until.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not read its answer")));
                }
            }
        }
        written
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when everything is written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.waiting = None;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if into.filled().len() > before {
            self.peer.sent();
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    /// Writes `length` bytes to a client that reads `a_second` bytes each second.
    async fn write(length: usize, a_second: usize) -> Result<()> {
        let (server, mut client) = duplex(4_096);
        let reading = tokio::spawn(async move {
            let mut part = vec![0; a_second];
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if client.read_exact(&mut part).await.is_err() {
                    return;
                }
            }
        });
        let mut server = Impatient::new(server, Peer::new(None));
        let written = async {
            server.write_all(&vec![7; length]).await?;
            server.flush().await
        };
        let written = written.await;
        reading.abort();
        written
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_next_to_nothing_is_cut_off_and_a_slow_one_is_not() {
        let started = Instant::now();
        let error = write(1 << 20, 1_000).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(started.elapsed() < PATIENCE + Duration::from_secs(2), "{:?}", started.elapsed());

        let started = Instant::now();
        write(1 << 20, 8_192).await.unwrap();
        assert!(started.elapsed() > 2 * PATIENCE, "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_may_rest_for_as_long_as_it_likes_between_its_answers() {
        let (server, mut client) = duplex(1_024);
        let mut server = Impatient::new(server, Peer::new(None));
        let mut part = vec![0; 2_048];
        for _ in 0..3 {
            let both = async { tokio::join!(server.write_all(&[7; 2_048]), client.read_exact(&mut part)) };
            let (written, read) = both.await;
            written.and(read.map(drop)).unwrap();
            server.flush().await.unwrap();
            tokio::time::sleep(10 * PATIENCE).await;
        }
    }
}
