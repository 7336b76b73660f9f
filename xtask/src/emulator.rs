//! Runs the 1Password emulator in the background for as long as the demo runs.
//!
//! Its first line on standard output is one JSON object: its address, how to control it, and its
//! accounts with their tokens. The line is passed on in a file that only this user can read, never
//! on a command line. The file is deleted with the emulator.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::supervise;
use crate::workspace;

/// It generates a few keys before it listens, which takes a second or two in a development build.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running emulator. It ends when this is dropped.
pub(crate) struct Emulator {
    process: Child,
    information: NamedTempFile,
}

impl Emulator {
    /// Starts it on a free port of the loopback address and waits until it is ready.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let log = workspace::state().join("emulator.log");
        fs::create_dir_all(workspace::state())?;
        let errors = File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        command.env_remove(workspace::TOKEN_VARIABLE);
        let process = command.spawn().context("The 1Password emulator could not be started")?;
        // From here on, dropping `emulator` ends the process.
        let mut emulator = Self { process, information: NamedTempFile::with_prefix("keyway-demo-")? };
        let line = emulator
            .first_line()
            .with_context(|| format!("The 1Password emulator did not start; {} says why", workspace::shown(&log)))?;
        emulator.information.write_all(line.as_bytes()).context("A temporary file cannot be written")?;
        emulator.information.flush().context("A temporary file cannot be written")?;
        Ok(emulator)
    }

    /// The file with the emulator's JSON line.
    pub(crate) fn information(&self) -> &Path {
        self.information.path()
    }

    fn first_line(&mut self) -> Result<String> {
        let output = self.process.stdout.take().context("its output is not connected")?;
        let (sender, receiver) = mpsc::channel();
        // Ends with the emulator. It keeps reading, so that the emulator never blocks on a full
        // pipe.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
                let _ = sender.send(line);
            }
        });
        let line = match receiver.recv_timeout(START_LIMIT) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("it said nothing for {} s", START_LIMIT.as_secs()),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("it ended at once"),
        };
        // Never repeated in the message: the line contains tokens.
        let described = serde_json::from_str::<Value>(&line).is_ok_and(|value| value.get("url").is_some());
        if !described {
            bail!("its first line is not the JSON object with its address");
        }
        Ok(line)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        supervise::end(&mut self.process);
    }
}
