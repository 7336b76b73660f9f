//! What a component prints: kept, within a limit, until the call is over, then written to the
//! host's log without the call's secrets.
//!
//! Only at the end is it known which secrets the call has seen. Output beyond the limit is dropped
//! silently: an error would only make the component print about it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::{ComponentType, Lift};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use zeroize::Zeroizing;

use crate::redact::Redactor;

/// How much the component may write at once; it may do so repeatedly.
const WRITE_PERMIT: usize = 64 << 10;

/// How many lines of a call are logged. More is a component that logs in a loop: a call may print
/// 32,000 of them.
const LOGGED_LINES: usize = 100;

/// The level of a line. Mirrors `log.level` of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "three of them are only made of what a component passes")]
pub(crate) enum Level {
    #[component(name = "error")]
    Error,
    #[component(name = "warn")]
    Warn,
    #[component(name = "info")]
    Info,
    #[component(name = "debug")]
    Debug,
}

impl Level {
    /// Whether a subscriber wants this level. Searching for secrets is expensive.
    fn is_logged(self) -> bool {
        match self {
            Self::Error => tracing::enabled!(target: "keyway::provider", tracing::Level::ERROR),
            Self::Warn => tracing::enabled!(target: "keyway::provider", tracing::Level::WARN),
            Self::Info => tracing::enabled!(target: "keyway::provider", tracing::Level::INFO),
            Self::Debug => tracing::enabled!(target: "keyway::provider", tracing::Level::DEBUG),
        }
    }
}

struct Kept {
    text: Zeroizing<Vec<u8>>,
    /// The offsets at which the level changes; printed text is [`Level::Debug`].
    levels: Vec<(usize, Level)>,
    limit: usize,
    dropped: u64,
}

impl Kept {
    fn keep(&mut self, bytes: &[u8], level: Level) {
        if self.text.capacity() == 0 {
            let limit = self.limit;
            self.text.reserve_exact(limit);
        }
        let room = self.limit.saturating_sub(self.text.len());
        let (fits, rest) = bytes.split_at(room.min(bytes.len()));
        if !fits.is_empty() && self.levels.last().map_or(Level::Debug, |(_, level)| *level) != level {
            self.levels.push((self.text.len(), level));
        }
        self.text.extend_from_slice(fits);
        self.dropped += rest.len() as u64;
    }

    /// The text in pieces of one level each.
    fn pieces(&self) -> impl Iterator<Item = (Level, &[u8])> {
        let starts = std::iter::once((0, Level::Debug)).chain(self.levels.iter().copied());
        let ends = self.levels.iter().map(|(start, _)| *start).chain([self.text.len()]);
        starts.zip(ends).filter_map(|((start, level), end)| Some((level, self.text.get(start..end)?)))
    }
}

/// Standard output or standard error of one call.
#[derive(Clone)]
pub(crate) struct Output(Arc<Mutex<Kept>>);

impl Output {
    pub(crate) fn new(limit: usize) -> Self {
        // Grows without moving its contents, so that no copy stays behind.
        let text = Zeroizing::new(Vec::new());
        Self(Arc::new(Mutex::new(Kept { text, levels: Vec::new(), limit, dropped: 0 })))
    }

    /// Keeps what the component prints.
    fn keep(&self, bytes: &[u8]) {
        self.lock().keep(bytes, Level::Debug);
    }

    /// Keeps a message of the component's log, as separate lines.
    pub(crate) fn write(&self, level: Level, message: &str) {
        let mut kept = self.lock();
        if kept.text.last().is_some_and(|last| *last != b'\n') {
            kept.keep(b"\n", Level::Debug);
        }
        kept.keep(message.as_bytes(), level);
        kept.keep(b"\n", level);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the kept text to the log. Where secrets cannot be told from the rest, only the number
    /// of bytes is logged.
    pub(crate) fn log(&self, provider: &str, operation: &str, redactor: &Redactor) {
        let mut kept = self.lock();
        if kept.dropped > 0 {
            // A truncated secret would not be found.
            let whole_lines = kept.text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            kept.text.truncate(whole_lines);
        }
        let (mut withheld, mut lines) = (0, 0_usize);
        for (level, piece) in kept.pieces().filter(|(level, piece)| !piece.is_empty() && level.is_logged()) {
            let text = Zeroizing::new(String::from_utf8_lossy(piece).into_owned());
            let Some(clean) = redactor.clean(&text) else {
                withheld += piece.len();
                continue;
            };
            for line in clean.lines().filter(|line| !line.trim().is_empty()) {
                lines += 1;
                if lines > LOGGED_LINES {
                    continue;
                }
                let line = plain(line);
                match level {
                    Level::Error => tracing::error!(target: "keyway::provider", provider, operation, "{line}"),
                    Level::Warn => tracing::warn!(target: "keyway::provider", provider, operation, "{line}"),
                    Level::Info => tracing::info!(target: "keyway::provider", provider, operation, "{line}"),
                    Level::Debug => tracing::debug!(target: "keyway::provider", provider, operation, "{line}"),
                }
            }
        }
        if lines > LOGGED_LINES {
            let left_out = lines - LOGGED_LINES;
            tracing::warn!(target: "keyway::provider", provider, operation, left_out, "the provider printed more lines than are logged of one call");
        }
        if withheld > 0 {
            tracing::warn!(target: "keyway::provider", provider, operation, withheld_bytes = withheld, "the provider's output is withheld, because the call received more than can be searched for secrets");
        }
        if kept.dropped > 0 {
            tracing::warn!(target: "keyway::provider", provider, operation, dropped_bytes = kept.dropped, "the provider printed more than the limit; the rest was dropped");
        }
        kept.text.clear();
        kept.levels.clear();
        kept.dropped = 0;
    }
}

/// A line whose control and invisible characters are escaped. Quotes and backslashes stay: a log
/// that needs them escaped does so itself.
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn what_goes_beyond_the_limit_is_dropped_and_counted() {
        let mut output = Output::new(10);
        OutputStream::write(&mut output, Bytes::from_static(b"12345678")).unwrap();
        OutputStream::write(&mut output, Bytes::from_static(b"90abc")).unwrap();
        OutputStream::write(&mut output, Bytes::from(vec![b'x'; 1_000_000])).unwrap();
        let kept = output.0.lock().unwrap();
        assert_eq!((kept.text.as_slice(), kept.dropped), (&b"1234567890"[..], 1_000_003));
        assert!(kept.text.capacity() <= 10);
    }

    #[test]
    fn a_message_has_lines_and_a_level_of_its_own() {
        let output = Output::new(1_000);
        output.keep(b"printed");
        output.write(Level::Warn, "one\ntwo");
        output.keep(b"printed again");
        let kept = output.0.lock().unwrap();
        let pieces: Vec<_> = kept.pieces().filter(|(_, piece)| !piece.is_empty()).collect();
        assert_eq!(pieces[0], (Level::Debug, &b"printed\n"[..]));
        assert_eq!(pieces[1], (Level::Warn, &b"one\ntwo\n"[..]));
        assert_eq!(pieces[2], (Level::Debug, &b"printed again"[..]));
    }

    /// Counts the lines of the log.
    struct Lines(Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Lines {
        fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_component_that_prints_in_a_loop_makes_a_bounded_number_of_log_lines() {
        let lines = Arc::new(AtomicUsize::new(0));
        let subscriber = tracing_subscriber::registry().with(Lines(lines.clone()));
        let output = Output::new(64 << 10);
        tracing::subscriber::with_default(subscriber, || {
            for (printed, logged) in [(LOGGED_LINES, LOGGED_LINES), (30_000, LOGGED_LINES + 1)] {
                output.keep("x\n".repeat(printed).as_bytes());
                output.log("provider", "resolve", &Redactor::default());
                assert_eq!(lines.swap(0, Ordering::Relaxed), logged, "{printed}");
            }
        });
    }

    #[test]
    fn a_line_of_json_stays_one_and_what_acts_on_a_terminal_does_not() {
        let json = r#"{"message": "it's C:\\dir"}"#;
        assert_eq!(plain(json), json);
        assert_eq!(plain("a\u{1b}[2Jb\rc\u{202e}d \u{e4}"), "a\\u{1b}[2Jb\\rc\\u{202e}d \u{e4}");
    }
}
