//! The names of the commands and steps.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn xtask(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).args(arguments).output().unwrap()
}

#[test]
fn help_names_every_command() {
    let output = xtask(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    for command in ["demo", "build-components", "test", "bench", "fuzz"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in: {help}");
    }
}

#[test]
fn an_unknown_step_is_refused_with_the_way_to_the_known_ones() {
    let output = xtask(&["test", "--only", "nonsense"]);
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("'nonsense'") && message.contains("cargo xtask test --list"), "{message}");
}

#[test]
fn a_token_file_that_does_not_exist_is_refused_before_anything_is_built() {
    let output = xtask(&["demo", "--token-file", "/nonexistent/token"]);
    assert!(!output.status.success());
    assert_eq!(output.stdout, b"");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("/nonexistent/token cannot be read"), "{message}");
}
