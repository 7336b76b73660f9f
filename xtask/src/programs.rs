//! Builds this workspace's programs and locates them. Cargo shows its own progress on standard
//! error.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;
use crate::workspace;

/// The programs that were built.
#[derive(Debug)]
pub(crate) struct Programs(Vec<(String, PathBuf)>);

impl Programs {
    /// Builds these programs for development.
    ///
    /// The whole workspace is selected, with one of its tests, so that every dependency has the
    /// same features as in `cargo xtask test`. On their own the programs need fewer features, and
    /// half of the dependencies, wasmtime among them, would be compiled twice.
    pub(crate) fn for_development(names: &[&str]) -> Result<Self> {
        Self::with(names, |_| Ok(()))
    }

    /// The same with further arguments or variables for cargo.
    pub(crate) fn with(names: &[&str], change: impl FnOnce(&mut Command) -> Result<()>) -> Result<Self> {
        let mut command = workspace::cargo();
        command.args(["build", "--workspace", "--test", "command_line"]);
        for name in names {
            command.args(["--bin", name]);
        }
        change(&mut command)?;
        Ok(Self(executables(&process::messages(&mut command)?)))
    }

    /// Builds the programs of these packages with the release profile.
    pub(crate) fn optimised(packages: &[&str]) -> Result<Self> {
        let mut command = workspace::cargo();
        command.args(["build", "--release", "--bins"]);
        for package in packages {
            command.args(["--package", package]);
        }
        Ok(Self(executables(&process::messages(&mut command)?)))
    }

    /// The path of the program of that name.
    pub(crate) fn path(&self, name: &str) -> Result<&PathBuf> {
        let found = self.0.iter().find(|(program, _)| program == name);
        found.map(|(_, path)| path).with_context(|| format!("No package of this workspace has a program '{name}'."))
    }
}

/// The names and files of the programs among cargo's messages.
fn executables(messages: &str) -> Vec<(String, PathBuf)> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed
        .filter_map(|message| {
            let file = message.get("executable")?.as_str()?;
            let target = message.get("target")?;
            let program = target.get("kind")?.as_array()?.iter().any(|kind| kind == "bin");
            program.then_some((target.get("name")?.as_str()?.to_owned(), PathBuf::from(file)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_name_and_neither_a_library_nor_a_test_is_one() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"keyway","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"keyway","kind":["test"]},"executable":"/t/debug/deps/keyway-1"}
{"reason":"compiler-artifact","target":{"name":"keyway","kind":["bin"]},"executable":"/t/debug/keyway"}
{"reason":"build-finished","success":true}"#;
        let programs = Programs(executables(messages));
        assert_eq!(programs.0, [("keyway".to_owned(), PathBuf::from("/t/debug/keyway"))]);
        assert!(programs.path("keyway-bench").is_err());
    }
}
