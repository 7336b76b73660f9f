//! Log lines on standard error, and panics that log no values.
//!
//! A server's lines are written by a thread of their own, because standard error may be a pipe that
//! is full. Lines that find the queue full are dropped and counted. Commands write theirs at once.
//!
//! **Invariant:** no secret is in a log. This program's own lines never contain one. The levels
//! `debug` and `trace` of other libraries are dropped whatever the filter says, because an HTTP or
//! TLS library may show what it carries. Of a panic only the place is logged; the message is added
//! only if it is part of the program's text.

use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;

use clap::ValueEnum;
use keyway::request;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line of text each.
    Text,
    /// One JSON object each.
    Json,
}

/// How many lines wait for a reader of standard error: some megabytes.
const QUEUE: usize = 10_000;

/// How often dropped lines are reported.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// The thread that writes lines. When this is dropped, lines that wait are written, unless that
/// takes longer than a second.
pub(crate) struct Background {
    dropped: ErrorCounter,
    _thread: WorkerGuard,
}

impl Background {
    /// Reports in the log how many lines were dropped, until the program ends.
    pub(crate) fn report_dropped(&self) {
        let dropped = self.dropped.clone();
        tokio::spawn(async move {
            let mut told = 0;
            loop {
                tokio::time::sleep(REPORT_EVERY).await;
                let lines = dropped.dropped_lines();
                if lines != told {
                    tracing::warn!(lines = lines - told, "log lines were dropped, because standard error was not read");
                    told = lines;
                }
            }
        });
    }
}

/// Starts logging, in the background for a server.
pub(crate) fn start(filter: Targets, format: LogFormat, is_server: bool) -> Option<Background> {
    let (writer, background) = if is_server {
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE).thread_name("log");
        let (writer, thread) = builder.finish(std::io::stderr());
        let dropped = writer.error_counter();
        (BoxMakeWriter::new(writer), Some(Background { dropped, _thread: thread }))
    } else {
        (BoxMakeWriter::new(std::io::stderr), None)
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.map_event_format(WithRequestId::json).boxed()
        }
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            let lines = lines.with_ansi(colour).with_target(false);
            // Also disables colours in the formatter itself, which writes each line into memory
            // first.
            lines.map_event_format(|lines| WithRequestId::text(lines.with_ansi(colour))).boxed()
        }
    };
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter_fn(may_speak)).with_filter(filter)).try_init();
    std::panic::set_hook(Box::new(report_panic));
    background
}

/// Adds the request's id to each line that is logged during the request.
struct WithRequestId<F> {
    lines: F,
    /// The end of a line, and its replacement: the text before the id and the text after it.
    end: &'static str,
    before: &'static str,
    after: &'static str,
}

impl<F> WithRequestId<F> {
    fn json(lines: F) -> Self {
        Self { lines, end: "}\n", before: ",\"request_id\":\"", after: "\"}\n" }
    }

    fn text(lines: F) -> Self {
        Self { lines, end: "\n", before: " request_id=", after: "\n" }
    }
}

impl<S, N, F> FormatEvent<S, N> for WithRequestId<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(id) = request::current() else { return self.lines.format_event(context, to, event) };
        let mut line = String::new();
        self.lines.format_event(context, Writer::new(&mut line), event)?;
        match line.strip_suffix(self.end) {
            // An id needs no escaping.
            Some(line) => write!(to, "{line}{}{id}{}", self.before, self.after),
            None => to.write_str(&line),
        }
    }
}

/// A level, or levels by module, as in `warn,keyway_server=debug`. Whether a line is enabled is
/// decided once for each line of the program's text; a filter that also looks at the values of
/// spans would be asked several times for each request.
///
/// # Errors
/// What is wrong with the filter. The library takes a name alone for a module at its lowest level;
/// here it is an error, because it is most likely a misspelt level.
pub(crate) fn levels(filter: &str) -> Result<Targets, String> {
    for part in filter.split(',') {
        let level = part.split_once('=').map_or(part, |(_, level)| level).trim();
        // The library accepts an empty level, as `error`.
        if level.is_empty() || level.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "{part:?} is not a level (off, error, warn, info, debug, trace), nor a module with one, as in keyway=debug"
            ));
        }
    }
    filter.split(',').map(str::trim).collect::<Vec<_>>().join(",").parse::<Targets>().map_err(|error| error.to_string())
}

fn may_speak(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::INFO || line.target().split("::").next().is_some_and(|crate_| crate_.starts_with("keyway"))
}

fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    // A message that was formatted at run time may contain anything.
    let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("message withheld");
    tracing::error!(place, message, "panic");
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::panic::{UnwindSafe, catch_unwind, panic_any};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The part of a panic that is logged.
    fn report_of(panics: impl FnOnce() + UnwindSafe) -> String {
        let (lines, before) = (Lines::default(), std::panic::take_hook());
        std::panic::set_hook(Box::new(report_panic));
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().without_time().with_ansi(false).with_writer(move || writer.clone());
        let subscriber = subscriber.finish();
        tracing::subscriber::with_default(subscriber, || catch_unwind(panics).unwrap_err());
        std::panic::set_hook(before);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_report_of_a_panic_says_where_it_was_and_no_message_that_could_hold_a_secret() {
        let secret = String::from("hunter2");
        let (formatted, owned, number) = (secret.clone(), secret.clone(), 4_711);
        let reports = [
            report_of(move || panic!("cannot read {formatted}")),
            report_of(move || panic_any(owned)),
            report_of(move || panic_any(number)),
            report_of(move || secret.parse::<u8>().map(drop).map_err(|_| secret.clone()).unwrap()),
        ];
        for report in reports {
            assert!(report.contains("ERROR") && report.contains("logging.rs:"), "{report}");
            assert!(report.contains("message withheld"), "{report}");
            assert!(!report.contains("hunter2") && !report.contains("4711"), "{report}");
        }
        let report = report_of(|| panic!("a text of the program"));
        assert!(report.contains("a text of the program") && report.contains("logging.rs:"), "{report}");
    }

    #[tokio::test]
    async fn a_line_has_the_id_of_the_request_that_is_handled_and_no_other_line_has_one() {
        let lines = Lines::default();
        let writer = lines.clone();
        let format = tracing_subscriber::fmt::format().without_time().with_target(false).with_ansi(false);
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(WithRequestId::text(format))
            .finish();
        let _logged = tracing::subscriber::set_default(subscriber);
        tracing::info!("before");
        request::scope("trace-me".into(), async { tracing::warn!(status = 404, "answered") }).await;
        tracing::info!("after");
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let said: Vec<_> = said.lines().map(str::trim).collect();
        assert_eq!(said, ["INFO before", "WARN answered status=404 request_id=trace-me", "INFO after"]);
    }

    #[test]
    fn a_filter_is_a_level_or_levels_by_module() {
        for good in ["off", "info", "WARN", "warn,keyway_server=debug", "warn, keyway::audit=trace"] {
            assert!(levels(good).is_ok(), "{good}");
        }
        let filter = levels("warn, keyway=debug").unwrap();
        assert!(filter.would_enable("keyway::audit", &Level::DEBUG) && !filter.would_enable("hyper", &Level::INFO));
        for bad in ["", "debgu", "keyway", "keyway=", "keyway=loud", "info,", "info;warn"] {
            assert!(levels(bad).is_err(), "{bad}");
        }
    }
}
