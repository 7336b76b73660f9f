//! What a component prints: kept until the call is over, bounded, then written to the host's log without the call's secrets.
//!
//! It is written at the end because only then is it known which secrets the call has seen. What goes beyond the limit is dropped without
//! telling the component, which would only make it print about that.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use zeroize::Zeroizing;

use crate::redact::Redactor;

/// How much the component may write in one go; it may do so again and again.
const WRITE_PERMIT: usize = 64 << 10;

struct Kept {
    text: Zeroizing<Vec<u8>>,
    limit: usize,
    dropped: u64,
}

/// Standard output or standard error of one call.
#[derive(Clone)]
pub(crate) struct Output(Arc<Mutex<Kept>>);

impl Output {
    pub(crate) fn new(limit: usize) -> Self {
        // Grows without ever moving what it holds, so that no copy stays behind.
        let text = Zeroizing::new(Vec::new());
        Self(Arc::new(Mutex::new(Kept { text, limit, dropped: 0 })))
    }

    fn keep(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.text.capacity() == 0 {
            let limit = kept.limit;
            kept.text.reserve_exact(limit);
        }
        let room = kept.limit.saturating_sub(kept.text.len());
        let (fits, rest) = bytes.split_at(room.min(bytes.len()));
        kept.text.extend_from_slice(fits);
        kept.dropped += rest.len() as u64;
    }

    /// Writes what was kept to the log.
    pub(crate) fn log(&self, provider: &str, operation: &str, redactor: &Redactor) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = Zeroizing::new(String::from_utf8_lossy(&kept.text).into_owned());
        for line in redactor.clean(&text).lines().filter(|line| !line.trim().is_empty()) {
            tracing::info!(target: "keyway::provider", provider, operation, "{}", plain(line));
        }
        if kept.dropped > 0 {
            tracing::warn!(target: "keyway::provider", provider, operation, dropped_bytes = kept.dropped, "the provider printed too much");
        }
        kept.text.clear();
        kept.dropped = 0;
    }
}

/// A line in which nothing acts on a terminal or hides. Quotes and backslashes stay: a log that needs them escaped does so itself.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '"' | '\'' | '\\' => plain.push(c),
            _ => plain.extend(c.escape_debug()),
        }
    }
    plain
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.keep(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_PERMIT)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.keep(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_beyond_the_limit_is_dropped_and_counted() {
        let mut output = Output::new(10);
        output.write(Bytes::from_static(b"12345678")).unwrap();
        output.write(Bytes::from_static(b"90abc")).unwrap();
        output.write(Bytes::from(vec![b'x'; 1_000_000])).unwrap();
        let kept = output.0.lock().unwrap();
        assert_eq!((kept.text.as_slice(), kept.dropped), (&b"1234567890"[..], 1_000_003));
        assert!(kept.text.capacity() <= 10);
    }

    #[test]
    fn a_line_of_json_stays_one_and_what_acts_on_a_terminal_does_not() {
        let json = r#"{"message": "it's C:\\dir"}"#;
        assert_eq!(plain(json), json);
        assert_eq!(plain("a\u{1b}[2Jb\rc\u{202e}d \u{e4}"), "a\\u{1b}[2Jb\\rc\\u{202e}d \u{e4}");
    }
}
