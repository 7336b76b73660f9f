//! The project's own chores: `cargo xtask demo`, `cargo xtask test`, building the provider components, the benchmark.
//!
//! It depends on next to nothing, so that it is built in seconds on a fresh machine and can then say what it is doing
//! while the long builds run. Whatever is missing, it installs or builds; what it cannot get, it names in one error.

mod components;
mod debian;
mod process;
mod wasm_toolchain;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the provider components and the fixtures of the tests into target/components
    BuildComponents(components::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::BuildComponents(options) => components::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
