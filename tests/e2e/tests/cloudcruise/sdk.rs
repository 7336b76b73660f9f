//! An SDK in its own process, driven step by step.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::World;

/// A little more than the Python SDK's timeout of 60 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(70);

/// The published SDKs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    JavaScript,
}

/// An SDK with a client. The process ends when this is dropped.
pub(crate) struct Sdk {
    process: Child,
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
}

/// The error that the SDK threw, as its user sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SdkError {
    pub(crate) name: String,
    pub(crate) message: String,
}

impl fmt::Display for SdkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

impl Sdk {
    /// With the workspace's own keys.
    pub(crate) fn start(language: Language, world: &World) -> Self {
        Self::with_keys(language, world, &world.api_key, &world.encryption_key)
    }

    /// With other keys.
    pub(crate) fn with_keys(language: Language, world: &World, api_key: &str, encryption_key: &str) -> Self {
        let mut process = command(language)
            .env_remove("CLOUDCRUISE_BASE_URL")
            // The server is on this machine.
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, answers) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut sdk = Self { commands: process.stdin.take(), process, answers };
        let keys = json!({"base_url": world.url, "api_key": api_key, "encryption_key": encryption_key});
        sdk.call("client", keys).unwrap();
        sdk
    }

    /// Sends a command and waits for the answer.
    pub(crate) fn call(&mut self, op: &str, mut parameters: Value) -> Result<Value, SdkError> {
        parameters["op"] = op.into();
        writeln!(self.commands.as_mut().unwrap(), "{parameters}").expect("the SDK's process has ended");
        let line = self.answers.recv_timeout(ANSWER_LIMIT).expect("the SDK gives no answer");
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        if answer["ok"] == true {
            return Ok(answer["result"].take());
        }
        let text = |name: &str| answer["error"][name].as_str().unwrap().to_owned();
        Err(SdkError { name: text("name"), message: text("message") })
    }

    /// `vault.create`
    pub(crate) fn create(&mut self, entry: Value) -> Result<Value, SdkError> {
        self.call("vault.create", json!({ "entry": entry }))
    }

    /// `vault.update`
    pub(crate) fn update(&mut self, entry: Value) -> Result<Value, SdkError> {
        self.call("vault.update", json!({ "entry": entry }))
    }

    /// `vault.get` of all entries.
    pub(crate) fn all(&mut self) -> Vec<Value> {
        self.call("vault.get", json!({})).unwrap().as_array().unwrap().clone()
    }

    /// `vault.get` of the entry with that user.
    pub(crate) fn one(&mut self, user: &str) -> Result<Value, SdkError> {
        let filters = json!({"permissioned_user_id": user, "domain": crate::world::DOMAIN});
        let mut list = self.call("vault.get", json!({ "filters": filters }))?;
        assert_eq!(list.as_array().unwrap().len(), 1);
        Ok(list[0].take())
    }

    /// `vault.delete`
    pub(crate) fn delete(&mut self, user: &str) -> Result<Value, SdkError> {
        let params = json!({"permissioned_user_id": user, "domain": crate::world::DOMAIN});
        self.call("vault.delete", json!({ "params": params }))
    }

    /// The current code.
    pub(crate) fn tfa_code(&mut self, user: &str) -> Result<Value, SdkError> {
        self.call("vault.tfaCode", json!({"permissioned_user_id": user, "domain": crate::world::DOMAIN}))
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(language: Language) -> Command {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let need = |file: PathBuf, what: &str| {
        assert!(file.exists(), "{} is not there: `cargo xtask test` installs {what}", file.display());
        file
    };
    let (folder, mut command, script) = match language {
        Language::JavaScript => {
            let folder = here.join("node");
            need(folder.join("node_modules/cloudcruise/package.json"), "the npm packages");
            (folder, Command::new("node"), "cloudcruise.mjs")
        }
        Language::Python => {
            let folder = here.join("python");
            let python = need(folder.join(".venv/bin/python"), "the virtual environment");
            (folder, Command::new(python), "sdk.py")
        }
    };
    command.arg(script).current_dir(folder);
    command
}
