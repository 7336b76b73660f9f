//! Drives `sdk.mjs`, the official SDK as a program, step by step from a Rust test. Tests include
//! this file: `#[path = ".../tests/e2e/node/driver.rs"] mod official_sdk;`

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test support")]

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// Longer than any operation of the SDK takes. If its core panics, it never answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The official SDK in its own process, which ends when this is dropped.
pub(crate) struct OfficialSdk {
    process: Child,
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
}

/// The error that the SDK threw.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SdkError {
    /// The error's class, for example `RateLimitExceededError`.
    pub(crate) name: String,
    /// Its message.
    pub(crate) message: String,
}

impl fmt::Display for SdkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

impl OfficialSdk {
    /// Starts the SDK without a client. It reaches the server at `url` as
    /// `https://my.1password.com`.
    pub(crate) fn start(url: &str) -> Self {
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut candidates = crate_folder.ancestors().map(|folder| folder.join("tests/e2e/node"));
        let folder = candidates.find(|folder| folder.join("sdk.mjs").exists()).unwrap();
        assert!(
            folder.join("node_modules/@1password/sdk/package.json").exists(),
            "1Password's SDK is not installed: run `npm ci` in tests/e2e/node, or `cargo xtask test`, which does"
        );
        let mut process = Command::new("node")
            .arg("sdk.mjs")
            .current_dir(folder)
            .env("KEYWAY_EMULATOR_URL", url)
            .env_remove("KEYWAY_EMULATOR_TOKEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js 18 or newer must be on the PATH to run 1Password's SDK");
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, answers) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { commands: process.stdin.take(), process, answers }
    }

    /// Starts the SDK and signs in.
    pub(crate) fn signed_in(url: &str, token: &str) -> Self {
        let mut sdk = Self::start(url);
        sdk.sign_in(token).unwrap();
        sdk
    }

    /// `createClient`.
    pub(crate) fn sign_in(&mut self, token: &str) -> Result<(), SdkError> {
        self.call(json!({ "op": "createClient", "token": token })).map(drop)
    }

    /// `secrets.resolve`.
    pub(crate) fn resolve(&mut self, reference: &str) -> Result<String, SdkError> {
        let value = self.call(json!({ "op": "secrets.resolve", "reference": reference }))?;
        Ok(value.as_str().unwrap().to_owned())
    }

    /// `items.get`, then `items.put` with another password.
    pub(crate) fn put_password(&mut self, vault: &str, item: &str, password: &str) -> Result<Value, SdkError> {
        self.call(json!({ "op": "items.put", "vault": vault, "item": item, "fields": { "password": password } }))
    }

    /// Sends any command of `sdk.mjs` and waits for the answer.
    pub(crate) fn call(&mut self, command: Value) -> Result<Value, SdkError> {
        writeln!(self.commands.as_mut().unwrap(), "{command}").expect("the SDK's process has ended");
        let line = self.answers.recv_timeout(ANSWER_LIMIT).expect("the SDK gives no answer");
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        if answer["ok"] == true {
            return Ok(answer["result"].take());
        }
        let text = |name: &str| answer["error"][name].as_str().unwrap().to_owned();
        Err(SdkError { name: text("name"), message: text("message") })
    }
}

impl Drop for OfficialSdk {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
