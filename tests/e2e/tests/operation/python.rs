//! The Python packages of the whole-system tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the scripts.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// A program in the virtual environment, run in the folder of the scripts.
pub(crate) fn program(name: &str) -> Command {
    let program = folder().join(".venv/bin").join(name);
    assert!(program.exists(), "{} is not there: `cargo xtask test` installs it", program.display());
    let mut command = Command::new(program);
    // The server is on this machine.
    command.current_dir(folder()).env("NO_PROXY", "127.0.0.1").env("NO_COLOR", "1");
    command
}
