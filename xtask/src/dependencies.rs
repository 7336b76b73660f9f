//! Licences, origins and known vulnerabilities of the dependencies, checked by cargo-deny with the
//! rules of `deny.toml`.
//!
//! cargo-deny is installed below `target/` on first use (a minute or two) unless it is on the PATH.
//! Its advisory database is a git repository. If the repository cannot be reached, the check is
//! reported as skipped, never as passed.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;

use crate::process;
use crate::tools::{self, Tool};
use crate::workspace;

/// cargo-deny's default database.
const DATABASE: &str = "https://github.com/RustSec/advisory-db";
/// The release that deny.toml is written for.
const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "^0.20", arguments: &[] };
/// A reachable repository answers in a fraction of this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Checks licences, sources and banned crates. Needs no network once the tool is installed.
pub(crate) fn check_rules() -> Result<()> {
    process::shown(cargo_deny()?.args(["check", "licenses", "bans", "sources"]))
}

/// Checks for known vulnerabilities. If the database cannot be reached, returns the reason.
pub(crate) fn check_advisories() -> Result<Option<String>> {
    let mut probe = Command::new("git");
    probe.args(["ls-remote", "--heads", DATABASE]).env("GIT_TERMINAL_PROMPT", "0");
    let reached = process::quietly("Looking for the advisory database", &mut probe, |elapsed| {
        (elapsed > PATIENCE).then(|| "no answer".to_owned())
    });
    if !reached.is_ok_and(|finished| finished.status.success()) {
        return Ok(Some(format!("the database {DATABASE} cannot be reached from here")));
    }
    process::shown(cargo_deny()?.args(["check", "advisories"]))?;
    Ok(None)
}

fn cargo_deny() -> Result<Command> {
    let program = find_or_install()?;
    let mut command = Command::new(program);
    command.current_dir(workspace::root()).arg("--workspace");
    Ok(command)
}

fn find_or_install() -> Result<PathBuf> {
    if tools::installed(&CARGO_DENY).is_none() && on_path() {
        return Ok(PathBuf::from(CARGO_DENY.name));
    }
    tools::find_or_install(&CARGO_DENY)
}

/// Whether a release that understands deny.toml is already installed.
fn on_path() -> bool {
    let output = Command::new("cargo-deny").arg("--version").stderr(Stdio::null()).output();
    output.is_ok_and(|output| is_new_enough(&String::from_utf8_lossy(&output.stdout)))
}

fn is_new_enough(version: &str) -> bool {
    let minor = version.trim().strip_prefix("cargo-deny 0.").and_then(|rest| rest.split('.').next());
    minor.and_then(|minor| minor.parse::<u32>().ok()).is_some_and(|minor| minor >= 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_cargo_deny_is_not_taken() {
        assert!(is_new_enough("cargo-deny 0.20.2\n"));
        assert!(!is_new_enough("cargo-deny 0.14.2\n"));
        assert!(!is_new_enough("error: no such command"));
    }
}
