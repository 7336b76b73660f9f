//! Programs from the package registry, installed below `target/tools` on first use.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::process;
use crate::workspace;

/// A program to install.
pub(crate) struct Tool {
    /// The name of the crate and of the program that it installs.
    pub(crate) name: &'static str,
    /// The release, as a cargo version requirement.
    pub(crate) version: &'static str,
    /// Further arguments for `cargo install`.
    pub(crate) arguments: &'static [&'static str],
}

/// The program's path, if it is installed.
pub(crate) fn installed(tool: &Tool) -> Option<PathBuf> {
    let program = workspace::tools().join("bin").join(tool.name);
    program.is_file().then_some(program)
}

/// The program's path. Installs the program if it is missing.
pub(crate) fn find_or_install(tool: &Tool) -> Result<PathBuf> {
    if let Some(program) = installed(tool) {
        return Ok(program);
    }
    let Tool { name, version, arguments } = tool;
    eprintln!("Installing {name} {version} into {}.", workspace::shown(&workspace::tools()));
    let mut command = workspace::cargo();
    // Without optimisation it compiles in a fraction of the time and is fast enough. It has its own
    // build folder, because the workspace's lock file and profiles must not apply to it.
    command.args(["install", name, "--locked", "--debug", "--version", version]).args(*arguments);
    command.arg("--root").arg(workspace::tools());
    command.arg("--target-dir").arg(workspace::tools().join("build"));
    let built = process::checked(&format!("Installing {name}"), &mut command);
    // Up to half a gigabyte that is not needed again. A failure to remove it is harmless.
    let _ = std::fs::remove_dir_all(workspace::tools().join("build"));
    built?;
    let Some(program) = installed(tool) else {
        bail!("{name} was installed, but is not in {}", workspace::tools().display());
    };
    Ok(program)
}
