//! Implements `cargo xtask bench`: builds everything optimised and runs the measurements of
//! `tests/bench`.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::components;
use crate::node;
use crate::process;
use crate::programs::Programs;
use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Passed to keyway-bench
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Installs the official client, which the measurements compare with, and runs the measurements.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    components::run(&components::Options::default())?;
    node::install_packages()?;
    eprintln!("Building the host and the measurements, optimised (minutes the first time).");
    let programs = Programs::optimised(&["keyway-bench", "keyway-server", "keyway-emulator-onepassword"])?;
    let mut command = Command::new(programs.path("keyway-bench")?);
    command.args(&options.arguments).env("KEYWAY_COMPONENTS", workspace::components());
    // The server's start is measured on the real program.
    command.env("KEYWAY_PROGRAM", programs.path("keyway")?);
    process::shown(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
