//! The Python packages of the whole-system tests, in a virtual environment of their own: the
//! system's Python is left alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian;
use crate::process;
use crate::workspace;

/// The oldest Python that all of them support (schemathesis; CloudCruise's SDK runs on 3.10, too).
const OLDEST: (u32, u32) = (3, 11);

/// Installs the packages of `requirements.txt`, unless the last install used the same file.
pub(crate) fn install_packages() -> Result<()> {
    let project = workspace::python_project();
    let requirements = project.join("requirements.txt");
    let wanted = fs::read(&requirements).with_context(|| format!("{} cannot be read", requirements.display()))?;
    let environment = project.join(".venv");
    // Removed together with the packages that it describes. An environment whose Python is gone
    // does not count as installed.
    let memory = environment.join("installed-requirements.txt");
    if fs::read(&memory).is_ok_and(|installed| installed == wanted) && starts(&environment.join("bin/python")) {
        return Ok(());
    }
    require_python()?;
    make_environment(&environment)?;
    let mut install = Command::new(environment.join("bin/python"));
    // Every file must match its recorded hash.
    install.args(["-m", "pip", "install", "--require-hashes", "--only-binary", ":all:", "--disable-pip-version-check"]);
    install.args(["--quiet", "--requirement"]).arg(&requirements);
    process::checked(&format!("pip install in {}", workspace::shown(&project)), &mut install)?;
    fs::write(&memory, wanted).with_context(|| format!("{} cannot be written", memory.display()))
}

/// Debian packages Python without the module that creates environments.
fn make_environment(environment: &Path) -> Result<()> {
    let make = || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv", "--clear"]).arg(environment);
        process::checked(&format!("python3 -m venv {}", workspace::shown(environment)), &mut command)
    };
    let Err(error) = make() else { return Ok(()) };
    debian::install(&["python3-venv"]).with_context(|| {
        format!("Python makes no virtual environment, which needs its modules venv and ensurepip: {error:#}")
    })?;
    make().map(drop)
}

fn require_python() -> Result<()> {
    if !process::exists("python3") {
        let (major, minor) = OLDEST;
        debian::install(&["python3", "python3-venv"]).with_context(|| {
            format!(
                "The tests run CloudCruise's Python SDK and schemathesis on Python {major}.{minor} or newer: install it"
            )
        })?;
    }
    let output = Command::new("python3").arg("--version").output().context("Python does not start")?;
    let version = String::from_utf8_lossy(&output.stdout);
    if release(&version).is_none_or(|release| release < OLDEST) {
        bail!("{} is too old; the tests' packages need Python {}.{} or newer.", version.trim(), OLDEST.0, OLDEST.1);
    }
    Ok(())
}

fn starts(python: &Path) -> bool {
    Command::new(python).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// `(3, 11)` of `Python 3.11.7`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim().strip_prefix("Python ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_of_python_is_compared_as_numbers() {
        assert!(release("Python 3.11.0\n") >= Some(OLDEST));
        assert!(release("Python 3.9.18\n") < Some(OLDEST));
        assert_eq!(release("3.11"), None);
    }
}
