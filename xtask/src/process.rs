//! Runs another program quietly: its output is kept and shown only if it fails. Work that takes
//! longer than a moment shows progress: a terminal gets one line with the seconds counting, a log
//! gets a line every ten seconds.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Shorter work shows no progress.
const SILENT_FOR: Duration = Duration::from_secs(1);
/// How often a log reports that something is still running.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// How often the line on a terminal is redrawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// The result of a finished program.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    /// All of standard output.
    pub(crate) stdout: String,
    /// All of standard error.
    pub(crate) stderr: String,
}

/// Runs the program to its end without input.
///
/// `label` says what is being done ("Building components"). An empty label shows no progress, for
/// work beside other work that shows its own. `give_up` is called a few times a second with the
/// time since the start. If it returns a reason, the program is ended and the reason becomes the
/// error.
pub(crate) fn quietly(
    label: &str,
    command: &mut Command,
    mut give_up: impl FnMut(Duration) -> Option<String>,
) -> Result<Finished> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{name} could not be started"))?;

    let (lines, received) = mpsc::channel();
    let readers = [
        child.stdout.take().map(|pipe| read_lines(pipe, Source::Output, lines.clone())),
        child.stderr.take().map(|pipe| read_lines(pipe, Source::Errors, lines)),
    ];

    let mut finished = Collected::default();
    let mut progress = Progress::new(label);
    let outcome = loop {
        match received.recv_timeout(DRAW_EVERY) {
            Ok((source, line)) => {
                if source == Source::Errors {
                    progress.note(&line);
                }
                finished.add(source, &line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // Both pipes are closed: the program is about to exit.
            Err(RecvTimeoutError::Disconnected) => break None,
        }
        progress.draw();
        if let Some(reason) = give_up(progress.elapsed()) {
            end(&mut child);
            break Some(reason);
        }
    };
    if let Some(reason) = outcome {
        bail!("{reason}");
    }
    for reader in readers.into_iter().flatten() {
        // The reader threads return nothing.
        let _ = reader.join();
    }
    let status = child.wait().with_context(|| format!("{name} could not be waited for"))?;
    Ok(Finished { status, stdout: finished.stdout, stderr: finished.stderr })
}

/// Like [`quietly`], without a time limit. A failure is an error with all of the program's output.
pub(crate) fn checked(label: &str, command: &mut Command) -> Result<String> {
    let finished = quietly(label, command, |_| None)?;
    if !finished.status.success() {
        bail!("{label} failed ({}).\n{}{}", finished.status, finished.stdout, finished.stderr);
    }
    Ok(finished.stdout)
}

/// Runs the program with its output on the terminal, for programs that show their own progress. A
/// failure is an error.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("{name} could not be started"))?;
    if !status.success() {
        bail!("{} ended with {status}", command_line(command));
    }
    Ok(())
}

/// Runs cargo with its progress on standard error, and returns its messages (`--message-format`)
/// from standard output.
pub(crate) fn messages(command: &mut Command) -> Result<String> {
    command.args(["--message-format", "json-render-diagnostics"]);
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cargo could not be started")?;
    if !output.status.success() {
        bail!("{} ended with {}", command_line(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as typed in a shell, without the folder of the program.
pub(crate) fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether a program of that name is on the PATH.
pub(crate) fn exists(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Ends a program that is no longer wanted; it may have ended already.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[derive(Clone, Copy, PartialEq)]
enum Source {
    Output,
    Errors,
}

fn read_lines(
    pipe: impl Read + Send + 'static,
    source: Source,
    lines: Sender<(Source, String)>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if lines.send((source, String::from_utf8_lossy(&line).into_owned())).is_err() {
                break;
            }
            line.clear();
        }
    })
}

#[derive(Default)]
struct Collected {
    stdout: String,
    stderr: String,
}

impl Collected {
    fn add(&mut self, source: Source, line: &str) {
        match source {
            Source::Output => self.stdout.push_str(line),
            Source::Errors => self.stderr.push_str(line),
        }
    }
}

/// Progress, on standard error.
pub(crate) struct Progress {
    label: String,
    latest: String,
    started: Instant,
    spoke: Instant,
    terminal: bool,
    drawn: bool,
}

impl Progress {
    /// Shows nothing yet.
    pub(crate) fn new(label: &str) -> Self {
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        Self { label: label.to_owned(), latest: String::new(), started: now, spoke: now, terminal, drawn: false }
    }

    /// The time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Extracts the current step from a line of cargo's or apt's output, such as `   Compiling
    /// serde v1.0.0`.
    fn note(&mut self, line: &str) {
        if let Some(step) = step_of(line) {
            self.latest = step;
        }
    }

    /// Shows the progress when the next update is due.
    pub(crate) fn draw(&mut self) {
        let elapsed = self.elapsed();
        if elapsed < SILENT_FOR || self.label.is_empty() {
            return;
        }
        let state = match self.latest.as_str() {
            "" => format!("{} ({} s)", self.label, elapsed.as_secs()),
            latest => format!("{} ({} s, {latest})", self.label, elapsed.as_secs()),
        };
        let mut stderr = std::io::stderr().lock();
        // A closed standard error must not stop the work.
        if self.terminal {
            let _ = write!(stderr, "\r\x1b[2K{state:.110}");
            let _ = stderr.flush();
            self.drawn = true;
        } else if !self.drawn || self.spoke.elapsed() >= LOG_EVERY {
            let _ = writeln!(stderr, "{state}");
            self.drawn = true;
            self.spoke = Instant::now();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.drawn {
            eprint!("\r\x1b[2K");
        }
    }
}

/// Returns `Compiling serde` for `   Compiling serde v1.0.228`, and `None` for lines that are not a
/// step.
fn step_of(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let verb = words.next()?;
    let known =
        ["Compiling", "Checking", "Downloading", "Downloaded", "Updating", "Unpacking", "Setting", "Documenting"];
    if !known.contains(&verb) {
        return None;
    }
    Some(format!("{verb} {}", words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_progress_names_the_crate_and_skips_other_output() {
        assert_eq!(step_of("   Compiling serde v1.0.228\n").as_deref(), Some("Compiling serde"));
        assert_eq!(step_of("warning: unused variable"), None);
        assert_eq!(step_of("\n"), None);
    }

    #[test]
    fn output_and_errors_of_a_program_are_kept_apart_and_its_exit_code_is_returned() -> Result<()> {
        let finished = quietly("test", Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]), |_| None)?;
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(finished.status.code(), Some(3));
        Ok(())
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_the_reason_that_was_given() {
        let started = Instant::now();
        let result = quietly("test", Command::new("sleep").arg("60"), |elapsed| {
            (elapsed > Duration::from_millis(300)).then(|| "took too long".to_owned())
        });
        assert_eq!(result.err().map(|error| error.to_string()).as_deref(), Some("took too long"));
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}
