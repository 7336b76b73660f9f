//! The npm packages of the whole-system tests: the official SDKs of the secret manager and of the
//! HTTP API's clients.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian;
use crate::process;
use crate::workspace;

/// The oldest Node.js that has `fetch` and a test runner.
const OLDEST: (u32, u32) = (18, 17);

/// Installs the packages of `package-lock.json`, unless the last install used the same file.
/// Returns false if there is no such project.
pub(crate) fn install_packages() -> Result<bool> {
    let project = workspace::node_project();
    let lock = project.join("package-lock.json");
    if !lock.is_file() {
        return Ok(false);
    }
    require_node()?;
    let wanted = fs::read(&lock).with_context(|| format!("{} cannot be read", lock.display()))?;
    // Removed together with the packages that it describes.
    let memory = project.join("node_modules/.installed-lock.json");
    if fs::read(&memory).is_ok_and(|installed| installed == wanted) {
        return Ok(true);
    }
    let mut command = Command::new("npm");
    command.args(["ci", "--no-audit", "--no-fund", "--no-progress"]).current_dir(&project);
    process::checked(&format!("npm ci in {}", workspace::shown(&project)), &mut command)?;
    fs::write(&memory, wanted).with_context(|| format!("{} cannot be written", memory.display()))?;
    Ok(true)
}

/// Checks for Node.js and npm, and installs them on Debian.
fn require_node() -> Result<()> {
    let missing: Vec<&str> = [("node", "nodejs"), ("npm", "npm")]
        .into_iter()
        .filter(|(program, _)| !process::exists(program))
        .map(|(_, package)| package)
        .collect();
    if !missing.is_empty() {
        debian::install(&missing).with_context(|| {
            let (major, minor) = OLDEST;
            format!("The interoperability tests run the official client on Node.js {major}.{minor} or newer with npm: install both")
        })?;
    }
    let output = Command::new("node").arg("--version").output().context("Node.js does not start")?;
    let version = String::from_utf8_lossy(&output.stdout);
    if release(&version).is_none_or(|release| release < OLDEST) {
        bail!("Node.js is {}; the official client needs {}.{} or newer.", version.trim(), OLDEST.0, OLDEST.1);
    }
    Ok(())
}

/// `(20, 11)` of `v20.11.1`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim().strip_prefix('v')?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_of_node_is_compared_as_numbers() {
        assert!(release("v18.17.0\n") >= Some(OLDEST));
        assert!(release("v18.9.0\n") < Some(OLDEST));
        assert!(release("v20.20.2") > Some(OLDEST));
        assert_eq!(release("20"), None);
    }
}
