//! Implements `cargo xtask test`: a list of steps that must pass before a change goes in.
//!
//! A failed step does not stop the later ones, so one run reports all problems. A step that cannot
//! run here is reported as skipped, with the reason, and counts as neither passed nor failed. The
//! last line is `N passed, M failed`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::bindings;
use crate::book;
use crate::components;
use crate::dependencies;
use crate::fuzz;
use crate::node;
use crate::package;
use crate::process;
use crate::python;
use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run just this step; may be given more than once
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// List the steps and end
    #[arg(long)]
    list: bool,
    /// Passed to the test runner (cargo nextest, or cargo test without it), for example a test's
    /// name
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Options) -> Result<Outcome>,
}

enum Outcome {
    Passed,
    Skipped(String),
}

/// How many characters of a reason the summary repeats.
const NOTE_LENGTH: usize = 80;

/// In this order: steps that fail quickly come first, and a step follows those it depends on.
const STEPS: [Step; 16] = [
    Step { name: "format", about: "rustfmt has nothing to change", run: format },
    Step { name: "components", about: "the provider components and the test components build", run: build_components },
    Step { name: "lint", about: "clippy has no warning", run: lint },
    Step {
        name: "lint-components",
        about: "clippy has no warning about what is compiled for Wasm only",
        run: lint_components,
    },
    Step { name: "rules", about: "licences, origins and permitted users of all dependencies", run: rules },
    Step { name: "advisories", about: "no dependency has a known vulnerability", run: advisories },
    Step { name: "book", about: "the book builds, and no link of the documentation is broken", run: book },
    Step {
        name: "packages",
        about: "the crates for providers and for the sandbox can be packaged, with the contract inside",
        run: packages,
    },
    Step {
        name: "node-packages",
        about: "the official SDKs in JavaScript, of 1Password and of CloudCruise, and jco are installed",
        run: node_packages,
    },
    Step {
        name: "python-packages",
        about: "CloudCruise's SDK in Python, schemathesis, componentize-py, OpenBao and others are installed",
        run: python_packages,
    },
    Step { name: "bindings", about: "componentize-py and jco generate bindings from the contract", run: bindings },
    Step { name: "build", about: "all crates, programs and tests build", run: build },
    Step { name: "tests", about: "all tests pass", run: tests },
    Step { name: "doc-tests", about: "all examples in the documentation pass", run: doc_tests },
    Step { name: "docs", about: "the documentation builds without a warning", run: docs },
    Step { name: "fuzz", about: "each fuzz target runs for a minute without a finding", run: fuzz },
];

/// Runs the steps. The exit code is 0 only if none failed.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    if options.list {
        for step in &STEPS {
            println!("{:16}{}", step.name, step.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = options.only.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        bail!("There is no step '{unknown}'. `cargo xtask test --list` shows them.");
    }
    let selected = |step: &&Step| options.only.is_empty() || options.only.iter().any(|name| name == step.name);
    let mut report = Report::default();
    for step in STEPS.iter().filter(selected) {
        println!("\n== {}: {}", step.name, step.about);
        let started = Instant::now();
        let outcome = (step.run)(options);
        let taken = started.elapsed();
        let state = match &outcome {
            Ok(Outcome::Passed) => "passed".to_owned(),
            Ok(Outcome::Skipped(reason)) => format!("skipped: {reason}"),
            Err(error) => format!("FAILED: {error:#}"),
        };
        println!("== {} {state} ({:.1} s)", step.name, taken.as_secs_f32());
        report.add(step.name, outcome, taken);
    }
    print!("\n{}", report.text());
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn format(_: &Options) -> Result<Outcome> {
    cargo(&["fmt", "--all", "--check"])
}

fn build_components(_: &Options) -> Result<Outcome> {
    components::run(&components::Options::default())?;
    Ok(Outcome::Passed)
}

fn lint(_: &Options) -> Result<Outcome> {
    // Without SQLite, as far up as that needs no other build of the sandbox.
    let without_sqlite = "clippy -p keyway-storage -p keyway-keys -p keyway-audit --lib -- --deny warnings";
    cargo(&without_sqlite.split(' ').collect::<Vec<_>>())?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])
}

fn lint_components(_: &Options) -> Result<Outcome> {
    Ok(components::lint()?.map_or(Outcome::Passed, |reason| Outcome::Skipped(reason.to_owned())))
}

fn rules(_: &Options) -> Result<Outcome> {
    dependencies::check_rules()?;
    Ok(Outcome::Passed)
}

fn advisories(_: &Options) -> Result<Outcome> {
    Ok(dependencies::check_advisories()?.map_or(Outcome::Passed, Outcome::Skipped))
}

fn book(_: &Options) -> Result<Outcome> {
    book::check()?;
    Ok(Outcome::Passed)
}

fn packages(_: &Options) -> Result<Outcome> {
    package::check()?;
    Ok(Outcome::Passed)
}

fn node_packages(_: &Options) -> Result<Outcome> {
    let present = node::install_packages()?;
    Ok(if present { Outcome::Passed } else { Outcome::Skipped("there is no tests/e2e/node".to_owned()) })
}

fn python_packages(_: &Options) -> Result<Outcome> {
    python::install_packages()?;
    Ok(Outcome::Passed)
}

fn bindings(_: &Options) -> Result<Outcome> {
    bindings::check()?;
    Ok(Outcome::Passed)
}

/// Programs are included, because whole-system tests start them. So are the tests: the features of
/// dependencies are then the same as in the next step, and nothing is compiled twice.
fn build(_: &Options) -> Result<Outcome> {
    cargo(&["build", "--workspace", "--all-targets"])
}

fn tests(options: &Options) -> Result<Outcome> {
    let mut command = workspace::cargo();
    if process::exists("cargo-nextest") {
        command.args(["nextest", "run", "--workspace"]).args(&options.arguments);
    } else {
        command.args(["test", "--workspace", "--lib", "--bins", "--tests", "--"]).args(&options.arguments);
    }
    // Where tests find the output of earlier steps.
    command.env("KEYWAY_COMPONENTS", workspace::components());
    process::shown(&mut command)?;
    Ok(Outcome::Passed)
}

fn doc_tests(_: &Options) -> Result<Outcome> {
    let mut command = workspace::cargo();
    command.args(["test", "--workspace", "--doc"]).env("KEYWAY_COMPONENTS", workspace::components());
    process::shown(&mut command)?;
    Ok(Outcome::Passed)
}

/// Libraries only: the docs of the program `keyway` would overwrite those of the library of that
/// name.
fn docs(_: &Options) -> Result<Outcome> {
    let mut command = workspace::cargo();
    command.args(["doc", "--workspace", "--no-deps", "--lib"]).env("RUSTDOCFLAGS", "-D warnings");
    process::shown(&mut command)?;
    Ok(Outcome::Passed)
}

fn fuzz(_: &Options) -> Result<Outcome> {
    Ok(fuzz::check()?.map_or(Outcome::Passed, |reason| Outcome::Skipped(reason.to_owned())))
}

fn cargo(arguments: &[&str]) -> Result<Outcome> {
    process::shown(workspace::cargo().args(arguments))?;
    Ok(Outcome::Passed)
}

#[derive(Default)]
struct Report {
    lines: String,
    passed: usize,
    failed: usize,
}

impl Report {
    fn add(&mut self, name: &str, outcome: Result<Outcome>, taken: Duration) {
        let (state, note) = match outcome {
            Ok(Outcome::Passed) => {
                self.passed += 1;
                ("passed", String::new())
            }
            Ok(Outcome::Skipped(reason)) => ("skipped", reason),
            Err(error) => {
                self.failed += 1;
                // The step has already printed the rest.
                let reason = format!("{error}");
                ("FAILED", reason.lines().next().unwrap_or_default().chars().take(NOTE_LENGTH).collect())
            }
        };
        let line = format!("{state:8} {name:16} {:8.1} s  {note}", taken.as_secs_f32());
        self.lines.push_str(line.trim_end());
        self.lines.push('\n');
    }

    fn text(&self) -> String {
        format!("{}\n{} passed, {} failed\n", self.lines, self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn the_last_line_counts_steps_and_a_skipped_one_is_neither_passed_nor_failed() {
        let mut report = Report::default();
        report.add("format", Ok(Outcome::Passed), Duration::from_millis(1200));
        report.add("advisories", Ok(Outcome::Skipped("no database".into())), Duration::ZERO);
        report.add("tests", Err(anyhow!("exit 1\nwith details")), Duration::ZERO);
        let text = report.text();
        assert!(text.contains("skipped  advisories            0.0 s  no database\n"), "{text}");
        assert!(text.contains("FAILED   tests                 0.0 s  exit 1\n"), "{text}");
        assert!(text.ends_with("\n\n1 passed, 1 failed\n"), "{text}");
    }
}
