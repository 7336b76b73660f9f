//! A stream whose readers keep nothing of what they have read.
//!
//! HTTP and TLS libraries read into buffers that live as long as their connection. What was read
//! and used stays there, in what they offer for the next bytes. While there are none, this stream
//! overwrites what it is offered, so that an idle connection holds no key, token or password.
//!
//! How it can fail: hyper offers all of its buffer if the buffer never grew. It grows when a read
//! fills it, which never happens here, and when the head of a message arrives in pieces. A
//! connection on which that happened should not be kept open.

use std::io::{IoSlice, Result};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::Zeroize;

/// Less than hyper's first buffer of 8 KiB: it grows when a read fills it.
const READ: usize = (8 << 10) - 1;

/// A stream that overwrites what its reader does not need.
#[derive(Debug)]
pub struct WipingIo<S>(S);

impl<S> WipingIo<S> {
    /// Wraps a stream.
    pub fn new(stream: S) -> Self {
        Self(stream)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WipingIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        // Not read into the reader's buffer itself: a part of that would have to be initialized
        // before each read, which takes longer than copying what was read.
        let mut space = [MaybeUninit::uninit(); READ];
        let mut space = ReadBuf::uninit(&mut space);
        let mut part = space.take(into.remaining());
        let read = Pin::new(&mut self.0).poll_read(context, &mut part);
        into.put_slice(part.filled());
        part.filled_mut().zeroize();
        if read.is_pending() {
            let known = into.initialized().len() - into.filled().len();
            // Initializing overwrites the others.
            into.initialize_unfilled().iter_mut().take(known).for_each(|byte| *byte = 0);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WipingIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn an_idle_stream_overwrites_the_buffer_that_it_is_offered() {
        let (mut client, server) = duplex(64 << 10);
        let mut server = WipingIo::new(server);
        let mut buffer = vec![0; 20_000];
        client.write_all(&[7; 10_000]).await.unwrap();
        let mut sizes = Vec::new();
        poll_fn(|context| {
            // The reader uses up at once what it reads.
            loop {
                let mut into = ReadBuf::new(&mut buffer);
                match Pin::new(&mut server).poll_read(context, &mut into) {
                    Poll::Ready(read) => read.map(|()| sizes.push(into.filled().len())).unwrap(),
                    Poll::Pending => return Poll::Ready(()),
                }
            }
        })
        .await;
        assert_eq!(sizes, [READ, 10_000 - READ]);
        assert!(buffer.iter().all(|byte| *byte == 0));
    }
}
