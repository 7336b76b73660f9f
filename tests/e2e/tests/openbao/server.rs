//! A real OpenBao server, `hvac` as its independent client, and the compiled provider in a runtime.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use keyway_e2e::component;
use keyway_runtime::egress::EgressPolicy;
use keyway_runtime::store::MemoryStore;
use keyway_runtime::{CallError, OpenConnection, Provider, ProviderError, Runtime, Settings};
use serde_json::{Value, json};

/// The server and its client, in a process that ends with its input.
pub(crate) struct OpenBao {
    process: Child,
    pipes: Mutex<(Option<ChildStdin>, BufReader<ChildStdout>)>,
    pub(crate) url: String,
    pub(crate) token: String,
}

impl OpenBao {
    pub(crate) fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        let python = folder.join(".venv/bin/python");
        assert!(python.exists(), "{} is not there: `cargo xtask test` installs it", python.display());
        let mut process = Command::new(python)
            .arg("openbao.py")
            .current_dir(folder)
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let started: Value = serde_json::from_str(&line).expect("OpenBao starts");
        let text = |name: &str| started[name].as_str().unwrap().to_owned();
        let pipes = Mutex::new((process.stdin.take(), output));
        Self { url: text("url"), token: text("token"), pipes, process }
    }

    /// Sends a command of `openbao.py`.
    pub(crate) fn send(&self, command: &Value) -> Result<Value, String> {
        let mut pipes = self.pipes.lock().unwrap();
        writeln!(pipes.0.as_mut().unwrap(), "{command}").unwrap();
        let mut line = String::new();
        pipes.1.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["result"].take()),
        }
    }

    /// Calls a method of `hvac.Client` with named arguments, with the root token.
    pub(crate) fn hvac(&self, method: &str, kwargs: Value) -> Value {
        self.send(&json!({ "method": method, "kwargs": kwargs })).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Writes any path of the server.
    pub(crate) fn put(&self, path: &str, data: Value) -> Value {
        self.hvac("write_data", json!({ "path": path, "data": data }))
    }

    /// Mounts a KV engine.
    pub(crate) fn mount(&self, path: &str, version: u8) {
        let options = json!({ "version": version.to_string() });
        self.hvac("sys.enable_secrets_engine", json!({ "backend_type": "kv", "path": path, "options": options }));
    }

    /// The data of a secret in version 2, and its version.
    pub(crate) fn read(&self, mount: &str, path: &str) -> (Value, u64) {
        let read = self.hvac(
            "secrets.kv.v2.read_secret_version",
            json!({ "path": path, "mount_point": mount, "raise_on_deleted_version": true }),
        );
        (read["data"]["data"].clone(), read["data"]["metadata"]["version"].as_u64().unwrap())
    }

    /// A token with this policy alone, besides `default`.
    pub(crate) fn token_for(&self, name: &str, policy: &str, more: Value) -> String {
        self.hvac("sys.create_or_update_policy", json!({ "name": name, "policy": policy }));
        let mut kwargs = json!({ "policies": [name] });
        kwargs.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.hvac("auth.token.create", kwargs)["auth"]["client_token"].as_str().unwrap().to_owned()
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        drop(self.pipes.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).0.take());
        let _ = self.process.wait();
    }
}

/// A server, and the compiled provider in a runtime that may reach it.
pub(crate) struct World {
    pub(crate) bao: OpenBao,
    pub(crate) provider: Provider,
    pub(crate) runtime: Runtime,
}

impl World {
    pub(crate) async fn start() -> Self {
        let bao = OpenBao::start();
        let policy = EgressPolicy::default().with_private(bao.url.parse().unwrap());
        let runtime = Runtime::builder().egress(policy).build().unwrap();
        let provider = runtime.load(&component("openbao").unwrap()).await.unwrap();
        Self { bao, provider, runtime }
    }

    /// A connection with these settings besides the address, and the store of its durable state.
    pub(crate) fn connect(&self, settings: &[(&str, &str)]) -> (OpenConnection, Arc<MemoryStore>) {
        let address = Settings::new().with("address", self.bao.url.as_str());
        let settings = settings.iter().fold(address, |settings, (name, value)| settings.with(*name, *value));
        let approved = self.provider.description().approved_destinations(&settings).unwrap();
        let store = Arc::new(MemoryStore::default());
        (self.runtime.connection(settings, approved).with_state_store(store.clone()), store)
    }

    /// A connection with the root token.
    pub(crate) fn root(&self) -> OpenConnection {
        self.connect(&[("token", &self.bao.token)]).0
    }
}

pub(crate) fn provider_error<T: std::fmt::Debug>(result: Result<T, CallError>) -> ProviderError {
    match result {
        Err(CallError::Provider(error)) => error,
        other => panic!("{other:?}"),
    }
}
