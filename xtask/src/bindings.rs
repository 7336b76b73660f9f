//! Checks that the tools of other languages read the contract as it is, without a flag: both
//! componentize-py (Python) and jco (JavaScript) generate bindings from `wit/`. (wasm-tools reads
//! it with the crate wit-parser, as the tests of `keyway-runtime` do.)
//!
//! jco stays at 1.17, which runs on Node.js 18. Release 1.35 is twice as large and finds no WIT
//! file at all on Node.js 20.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace;

/// The version of the contract that a new provider is written for.
const CONTRACT: &str = "wit/0.2.0";
/// The world of a provider.
const WORLD: &str = "provider";

/// Generates the bindings. Needs the npm and Python packages of the whole-system tests.
pub(crate) fn check() -> Result<()> {
    let folder = tempfile::tempdir().context("There is no temporary folder")?;

    let python = folder.path().join("python");
    let mut command = Command::new(workspace::python_project().join(".venv/bin/componentize-py"));
    command.args(["--quiet", "-d", CONTRACT, "-w", WORLD, "bindings"]).arg(&python);
    generate(&mut command, &python, "wit_world/exports/__init__.py", "def normalize_reference")?;

    let javascript = folder.path().join("javascript");
    let mut command = Command::new(workspace::node_project().join("node_modules/.bin/jco"));
    command.args(["types", CONTRACT, "--quiet", "-n", WORLD, "-o"]).arg(&javascript);
    let interface = "interfaces/keyway-provider-secret-provider.d.ts";
    generate(&mut command, &javascript, interface, "export function normalizeReference")
}

/// Runs a generator, and looks for a declaration in one of the files that it wrote.
fn generate(command: &mut Command, folder: &Path, file: &str, declaration: &str) -> Result<()> {
    command.current_dir(workspace::root());
    let line = process::command_line(command);
    process::checked(&line, command)?;
    let file = folder.join(file);
    let text = fs::read_to_string(&file).with_context(|| format!("{line} did not write {}", file.display()))?;
    if !text.contains(declaration) {
        bail!("{line} wrote {} without `{declaration}`.", file.display());
    }
    println!("{line}");
    Ok(())
}
