//! `keyway serve` as an operator starts it: a workspace and a connection created on the command
//! line, with the emulator as 1Password.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use keyway_e2e::components;
use keyway_emulator_onepassword::{Emulator, ItemInfo};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const DOMAIN: &str = "https://acme.com";

/// The same master key in all tests, so that they can share compiled components.
const MASTER_KEY: &str = "6b6579776179206d6173746572206b657920666f72207468652074657374732e";

pub(crate) struct World {
    pub(crate) emulator: Emulator,
    pub(crate) api_key: String,
    pub(crate) encryption_key: String,
    pub(crate) connection: String,
    pub(crate) url: String,
    /// Where the metrics are.
    pub(crate) operators: String,
    server: Child,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) fn start() -> Self {
        let emulator = Emulator::start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("providers")).unwrap();
        let component = components().join("onepassword.wasm");
        assert!(component.exists(), "{} is missing: run `cargo xtask build-components`", component.display());
        std::fs::copy(component, folder.path().join("providers/onepassword.wasm")).unwrap();
        let compiled = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cloudcruise-compiled-components");
        std::fs::create_dir_all(&compiled).unwrap();
        std::os::unix::fs::symlink(compiled, folder.path().join("code-cache")).unwrap();

        run(&folder, &emulator, &["init"], "");
        let workspace = run(&folder, &emulator, &["workspace", "create", "Acme"], "");
        let token = emulator.token("automation").unwrap();
        let connect = ["connect", "1password", "--name", "Acme 1Password", "--token-file", "-"];
        let connection = run(&folder, &emulator, &connect, token.expose());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut server =
            keyway(&folder, &emulator, &["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
                .spawn()
                .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).expect("the server does not say where it listens");
        Self {
            api_key: text(&workspace["api_key"]),
            encryption_key: text(&workspace["encryption_key"]),
            connection: text(&connection["id"]),
            url: text(&ready["listening"]),
            operators: text(&ready["metrics"]),
            emulator,
            server,
            folder,
        }
    }

    /// Runs a command beside the server, and returns the data that it prints.
    pub(crate) fn keyway(&self, arguments: &[&str]) -> Value {
        run(&self.folder, &self.emulator, arguments, "")
    }

    /// An item with every value that can be read.
    pub(crate) fn item(&self) -> ItemInfo {
        self.item_called("Northwind Supplier Portal")
    }

    pub(crate) fn item_called(&self, title: &str) -> ItemInfo {
        let account = self.emulator.account("automation").unwrap();
        account.vault("Automation").unwrap().item(title).unwrap().clone()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The program beside this test, with this data and no other environment.
fn keyway(folder: &TempDir, emulator: &Emulator, arguments: &[&str]) -> Command {
    // The test is target/debug/deps/cloudcruise-..., and the programs are one level up.
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("keyway");
    assert!(program.exists(), "{} is missing: run `cargo build --workspace`", program.display());
    let mut command = Command::new(program);
    command.env_clear().env("KEYWAY_DATA_DIR", folder.path()).env("KEYWAY_MASTER_KEY", MASTER_KEY);
    command.env("KEYWAY_CONNECT_TO", format!("{}={}", emulator.host(), emulator.url()));
    command.arg("--json").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command.env("KEYWAY_LOG", "warn");
    command
}

fn run(folder: &TempDir, emulator: &Emulator, arguments: &[&str], input: &str) -> Value {
    let mut child = keyway(folder, emulator, arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}
