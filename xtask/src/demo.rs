//! Implements `cargo xtask demo`: builds what is missing, starts the 1Password emulator unless a
//! real token is given, and runs `keyway demo`, which does the rest. Only `keyway demo` writes to
//! standard output.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use crate::components;
use crate::emulator::Emulator;
use crate::programs::Programs;
use crate::supervise::Signals;
use crate::workspace;

const HOST: &str = "keyway";
const EMULATOR: &str = "keyway-emulator-onepassword";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Use the real 1Password with the service account token in this file (`-` for standard input,
    /// or in KEYWAY_OP_TOKEN), and no emulator
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// End after the last step instead of serving the HTTP API; the exit code says whether every
    /// step worked
    #[arg(long)]
    once: bool,
    /// Print data instead of text
    #[arg(long)]
    json: bool,
    /// Show the password
    #[arg(long)]
    reveal: bool,
    /// Where to serve the HTTP API
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Passed to `keyway demo` as they are
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Runs the demo. The exit code is that of `keyway demo`.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let token_file = options.token_file.as_deref().map(token_file).transpose()?;
    let real = token_file.is_some() || env::var_os(workspace::TOKEN_VARIABLE).is_some_and(|token| !token.is_empty());

    let emulated = if real { "" } else { ", the 1Password emulator" };
    eprintln!("Building the host{emulated} and the provider (minutes the first time).");
    let programs: &[&str] = if real { &[HOST] } else { &[HOST, EMULATOR] };
    // In parallel, because the last minute of a component's build uses only one processor.
    let programs = thread::scope(|scope| {
        let provider = components::Options::beside_other_work("onepassword");
        let component = scope.spawn(move || components::run(&provider));
        let programs = Programs::for_development(programs);
        component.join().map_err(|_| anyhow!("Building the provider panicked."))??;
        programs
    })?;

    let signals = Signals::watch()?;
    let emulator = if real { None } else { Some(Emulator::start(programs.path(EMULATOR)?)?) };
    let information = emulator.as_ref().map(Emulator::information);
    let mut command = Command::new(programs.path(HOST)?);
    command.args(arguments(options, token_file.as_deref(), information));
    let status = signals.run(&mut command)?;
    drop(emulator);
    Ok(exit_code(status))
}

/// The arguments of `keyway demo`. They contain names of files, never a secret.
fn arguments(options: &Options, token_file: Option<&Path>, emulator: Option<&Path>) -> Vec<std::ffi::OsString> {
    let mut list = vec!["demo".into(), "--components".into(), workspace::components().into_os_string()];
    for (flag, path) in [("--token-file", token_file), ("--emulator-info", emulator)] {
        if let Some(path) = path {
            list.extend([flag.into(), path.as_os_str().to_owned()]);
        }
    }
    for (flag, given) in [("--once", options.once), ("--json", options.json), ("--reveal", options.reveal)] {
        if given {
            list.push(flag.into());
        }
    }
    if let Some(address) = &options.listen {
        list.extend(["--listen".into(), address.into()]);
    }
    list.extend(options.arguments.iter().map(Into::into));
    list
}

/// The absolute path of the file, which must exist: a mistyped name should fail before minutes of
/// building.
fn token_file(path: &Path) -> Result<PathBuf> {
    if path == Path::new("-") {
        return Ok(path.to_owned());
    }
    // Not canonicalised: the target of a shell's `<(...)` is not a file once its link is followed.
    let path = std::path::absolute(path).with_context(|| format!("{} is not a path", path.display()))?;
    let metadata = path.metadata().with_context(|| format!("The token file {} cannot be read", path.display()))?;
    if metadata.is_dir() {
        bail!("{} is a folder. --token-file takes a file that holds a service account token.", path.display());
    }
    Ok(path)
}

/// A program ended by a signal has no exit code; that counts as a failure.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options { token_file: None, once: false, json: false, reveal: false, listen: None, arguments: Vec::new() }
    }

    #[test]
    fn the_demo_is_told_of_the_emulator_by_the_name_of_a_file() {
        let list = arguments(&Options { once: true, ..options() }, None, Some(Path::new("/tmp/info")));
        assert_eq!(list.first().map(|word| word.to_str()), Some(Some("demo")));
        assert!(list.ends_with(&["--emulator-info".into(), "/tmp/info".into(), "--once".into()]));
    }

    #[test]
    fn with_a_token_file_there_is_no_emulator() {
        let list = arguments(&options(), Some(Path::new("/token")), None);
        assert!(list.ends_with(&["--token-file".into(), "/token".into()]));
    }

    #[test]
    fn a_token_file_that_is_not_there_is_named() {
        let error = token_file(Path::new("/nonexistent/token")).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("The token file /nonexistent/token cannot be read"));
    }
}
