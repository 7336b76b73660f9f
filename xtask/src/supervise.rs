//! Runs one program in the foreground and forwards requests to end.
//!
//! Ctrl-C reaches every program of the terminal's foreground group; `kill` reaches only the process
//! it names. So after Ctrl-C this program waits, and it forwards other signals. It outlives its
//! child, to clean up after it.

use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How often the child is polled.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the child may take to end after Ctrl-C before it is sent a signal.
const AFTER_INTERRUPT: Duration = Duration::from_secs(2);
/// How long the child may take to end after that signal.
const AFTER_REQUEST: Duration = Duration::from_secs(10);

/// The signals that end this program; once watched, they only set a flag.
pub(crate) struct Signals {
    interrupted: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
}

impl Signals {
    /// Starts to watch them. Until this is called, they end this program at once.
    pub(crate) fn watch() -> Result<Self> {
        let signals = Self { interrupted: Arc::default(), terminated: Arc::default() };
        let watched = [(SIGINT, &signals.interrupted), (SIGTERM, &signals.terminated), (SIGHUP, &signals.terminated)];
        for (signal, flag) in watched {
            signal_hook::flag::register(signal, Arc::clone(flag)).context("Signals cannot be watched")?;
        }
        Ok(signals)
    }

    /// Runs the program to its end, or until a signal ends it.
    pub(crate) fn run(&self, command: &mut Command) -> Result<ExitStatus> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| format!("{name} could not be started"))?;
        let mut interrupted_at = None;
        loop {
            if let Some(status) = child.try_wait().with_context(|| format!("{name} could not be waited for"))? {
                return Ok(status);
            }
            if self.interrupted.load(Ordering::Relaxed) && interrupted_at.is_none() {
                interrupted_at = Some(Instant::now());
            }
            let patience_over = interrupted_at.is_some_and(|since: Instant| since.elapsed() > AFTER_INTERRUPT);
            if self.terminated.load(Ordering::Relaxed) || patience_over {
                end(&mut child);
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// Asks the program to end, waits, and kills it if it does not.
pub(crate) fn end(child: &mut Child) {
    // The process id cannot be reused before the child has been waited for.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
    let asked = Instant::now();
    while asked.elapsed() < AFTER_REQUEST {
        match child.try_wait() {
            Ok(None) => thread::sleep(LOOK_EVERY),
            Ok(Some(_)) | Err(_) => return,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_asked_to_end_does_so_before_force_is_used() -> Result<()> {
        let mut child = Command::new("sleep").arg("60").spawn()?;
        let started = Instant::now();
        end(&mut child);
        assert!(started.elapsed() < AFTER_REQUEST);
        assert!(child.try_wait()?.is_some());
        Ok(())
    }

    #[test]
    fn the_exit_code_of_the_program_is_returned() -> Result<()> {
        let signals = Signals { interrupted: Arc::default(), terminated: Arc::default() };
        assert_eq!(signals.run(Command::new("sh").args(["-c", "exit 7"]))?.code(), Some(7));
        Ok(())
    }

    #[test]
    fn a_request_to_end_is_passed_on() -> Result<()> {
        let signals = Signals { interrupted: Arc::default(), terminated: Arc::new(AtomicBool::new(true)) };
        let started = Instant::now();
        assert!(!signals.run(Command::new("sleep").arg("60"))?.success());
        assert!(started.elapsed() < AFTER_REQUEST);
        Ok(())
    }
}
