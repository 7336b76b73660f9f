//! Programs from the package registry, installed below `target/tools` at the first use.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::process;
use crate::workspace;

/// A program to install.
pub(crate) struct Tool {
    /// The crate, and the program that it installs.
    pub(crate) name: &'static str,
    /// The release, as a requirement of cargo's.
    pub(crate) version: &'static str,
    /// More arguments for `cargo install`.
    pub(crate) arguments: &'static [&'static str],
}

/// Where the program is if it is installed.
pub(crate) fn installed(tool: &Tool) -> Option<PathBuf> {
    let program = workspace::tools().join("bin").join(tool.name);
    program.is_file().then_some(program)
}

/// Where the program is, after installing it if it is missing.
pub(crate) fn find_or_install(tool: &Tool) -> Result<PathBuf> {
    if let Some(program) = installed(tool) {
        return Ok(program);
    }
    let Tool { name, version, arguments } = tool;
    eprintln!("Installing {name} {version} into {}.", workspace::shown(&workspace::tools()));
    let mut command = workspace::cargo();
    // Without optimisation: it compiles in a fraction of the time and is quick enough. It has a
    // build folder of its own, because the workspace's lock and profiles are none of its business.
    command.args(["install", name, "--locked", "--debug", "--version", version]).args(*arguments);
    command.arg("--root").arg(workspace::tools());
    command.arg("--target-dir").arg(workspace::tools().join("build"));
    let built = process::checked(&format!("Installing {name}"), &mut command);
    // Up to half a gigabyte that nothing needs again. Left in place it does no harm.
    let _ = std::fs::remove_dir_all(workspace::tools().join("build"));
    built?;
    let Some(program) = installed(tool) else {
        bail!("{name} was installed, but is not in {}", workspace::tools().display());
    };
    Ok(program)
}
