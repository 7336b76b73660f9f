//! Builds this workspace's programs and says where they are. Cargo shows its own progress on standard error.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;
use crate::workspace;

/// Programs that were built.
#[derive(Debug)]
pub(crate) struct Programs(Vec<(String, PathBuf)>);

impl Programs {
    /// Builds the programs of these packages.
    pub(crate) fn build(packages: &[&str], release: bool) -> Result<Self> {
        let mut command = workspace::cargo();
        command.args(["build", "--bins"]);
        for package in packages {
            command.args(["--package", package]);
        }
        if release {
            command.arg("--release");
        }
        Ok(Self(executables(&process::messages(&mut command)?)))
    }

    /// Where the program of that name is.
    pub(crate) fn path(&self, name: &str) -> Result<&PathBuf> {
        let found = self.0.iter().find(|(program, _)| program == name);
        found.map(|(_, path)| path).with_context(|| format!("No package of this workspace has a program '{name}'."))
    }
}

/// Names and files of the programs among cargo's messages.
fn executables(messages: &str) -> Vec<(String, PathBuf)> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed
        .filter_map(|message| {
            let file = message.get("executable")?.as_str()?;
            Some((message.get("target")?.get("name")?.as_str()?.to_owned(), PathBuf::from(file)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_name_and_a_library_is_none() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"keyway"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"keyway"},"executable":"/t/debug/keyway"}
{"reason":"build-finished","success":true}"#;
        let programs = Programs(executables(messages));
        assert_eq!(programs.0, [("keyway".to_owned(), PathBuf::from("/t/debug/keyway"))]);
        assert!(programs.path("keyway-bench").is_err());
    }
}
