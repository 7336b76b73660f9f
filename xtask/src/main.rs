//! The project's own chores: `cargo xtask demo`, `cargo xtask test`, building the provider
//! components, the benchmark, fuzzing.
//!
//! It has few dependencies, so it builds in seconds on a fresh machine and can then report progress
//! during the long builds. It installs or builds whatever is missing, and names what it cannot get
//! in one error.

mod bench;
mod bindings;
mod book;
mod components;
mod debian;
mod demo;
mod dependencies;
mod emulator;
mod fuzz;
mod links;
mod node;
mod package;
mod process;
mod programs;
mod python;
mod supervise;
mod test;
mod tools;
mod wasm_toolchain;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
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
    /// Show the main job, end to end: a sandboxed provider resolves credentials, from an emulator
    /// or the real 1Password
    Demo(demo::Options),
    /// Build the provider components and the fixtures of the tests into target/components
    BuildComponents(components::Options),
    /// Build everything, check everything, run all tests
    Test(test::Options),
    /// Measure, on an optimised build
    Bench(bench::Options),
    /// Feed what reads input from outside with inputs that look for new paths through it
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    if fuzz::is_compiler() {
        return reported(fuzz::compile());
    }
    reported(match Arguments::parse().command {
        Command::BuildComponents(options) => components::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Test(options) => test::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
    })
}

fn reported(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
