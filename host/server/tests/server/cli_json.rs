//! `--json`: every command accepts it, and prints exactly one document.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cli_database::change;
use crate::support::{ECHO_TOKEN, Folder};

/// Commands with tests of their own, because they do not end without a signal or need more than a
/// folder.
const ELSEWHERE: [&str; 2] = ["demo", "serve"];

/// All commands that the program's help lists, including subcommands.
fn commands(folder: &Folder) -> BTreeSet<String> {
    fn below(folder: &Folder, path: &[&str], found: &mut BTreeSet<String>) {
        let help = folder.run(&[path, &["--help"]].concat()).ok().stdout;
        let Some((_, listed)) = help.split_once("Commands:\n") else {
            assert!(help.contains("--json"), "{help}");
            found.insert(path.join(" "));
            return;
        };
        let names = listed.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
        for name in names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
            below(folder, &[path, &[name]].concat(), found);
        }
    }
    let mut found = BTreeSet::new();
    below(folder, &[], &mut found);
    found
}

/// Runs commands with `--json`, and records which.
struct Script {
    folder: Folder,
    run: BTreeSet<String>,
}

impl Script {
    /// The one document that a command prints.
    fn run(&mut self, command: &str, arguments: &[&str]) -> Value {
        self.run_with(command, arguments, "")
    }

    fn run_with(&mut self, command: &str, arguments: &[&str], input: &str) -> Value {
        self.run.insert(command.to_owned());
        let all: Vec<_> = command.split(' ').chain(arguments.iter().copied()).chain(["--json"]).collect();
        let ran = self.folder.run_with(&all, input).ok();
        let document = ran.json();
        assert!(document.is_object() || document.is_array(), "{command}: {ran:#?}");
        document
    }
}

fn id(document: &Value) -> &str {
    document["id"].as_str().unwrap_or_else(|| panic!("{document}"))
}

#[tokio::test]
async fn every_command_prints_one_json_document_when_asked_to() {
    let mut script = Script { folder: Folder::with(&["fixtures/echo"]), run: BTreeSet::new() };
    let expected = commands(&script.folder);
    let new_key_file = script.folder.path().join("new.key");

    let new = script.folder.path().join("new");
    let begun = script.run("init", &["--data-dir", new.to_str().unwrap()]);
    assert_eq!(begun["database"], new.join("keyway.db").to_str().unwrap());
    script.run("workspace create", &["Acme"]);
    let elsewhere = tempfile::tempdir().unwrap();
    script.run("backup", &[elsewhere.path().join("backup").to_str().unwrap()]);
    script.run("workspace list", &[]);
    script.run("workspace encryption-key", &[]);
    script.run("workspace rotate-key", &[]);
    script.run("workspace rename", &["Acme Inc."]);
    script.run("key create", &["ci"]);
    let keys = script.run("key list", &[]);
    script.run("key revoke", &[id(&keys[0])]);
    script.run("provider list", &[]);
    script.run("provider inspect", &["echo"]);
    script.run("config check", &[]);

    script.run_with("connect", &["echo", "--name", "First", "--token-file", "-"], ECHO_TOKEN);
    let second = ["echo", "--name", "Second", "--token-file", "-"];
    script.run_with("connection create", &second, ECHO_TOKEN);
    script.run("connection list", &[]);
    script.run("connection update", &["--connection", "Second", "--cache-ttl", "1h"]);
    script.run("connection budget", &[]);
    script.run("connection clear-cache", &["--connection", "First"]);
    script.run("connection retry", &["--connection", "First"]);
    script.run("connection delete", &["Second"]);
    script.run("items", &[]);

    let bound = script.run("bind", &["echo://item/one", "--user", "bound", "--domain", "https://acme.com"]);
    script.run("resolve", &[id(&bound)]);
    script.run("entry code", &[id(&bound)]);
    let own = ["--user", "own", "--domain", "https://acme.com", "--password-file", "-"];
    let own = script.run_with("entry create", &own, "the old one");
    script.run("entry update", &[id(&own), "--alias", "Own"]);
    script.run("entry get", &[id(&own)]);
    script.run("entry list", &[]);
    script.run("entry fields", &[id(&own)]);

    let abandoned = script.run("rotation begin", &[id(&own)]);
    script.run("rotation abandon", &[id(&abandoned)]);
    let rotation = script.run("rotation begin", &[id(&own)]);
    script.run("rotation commit", &[id(&rotation)]);
    script.run("rotation retry", &[id(&rotation)]);
    script.run("rotation show", &[id(&rotation)]);
    script.run("rotation list", &[]);
    script.run("entry delete", &[id(&own)]);

    script.run("audit list", &[]);
    script.run("audit root", &[]);
    script.run("audit verify", &[]);
    script.run("workspace create", &["Gone"]);
    script.run("workspace delete", &["Gone", "--yes"]);
    let damaged = script.run("workspace create", &["Damaged"]);
    script.run("database check", &[]);
    change(&script.folder, "UPDATE workspaces SET name = 'Changed' WHERE name = 'Damaged'").await;
    script.run("database delete-damaged", &["workspaces", id(&damaged), "--yes"]);
    script.run("master-key rotate", &["--new-key-file", new_key_file.to_str().unwrap()]);

    let run = script.run.iter().map(String::as_str).chain(ELSEWHERE).map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(run, expected);
}
