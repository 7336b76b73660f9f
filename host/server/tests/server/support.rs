//! Helpers of the tests: a data folder with providers, a server in this process, the program as a
//! process, an HTTP client, and a search for secrets.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use axum::body::Bytes;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use keyway::budgets::BudgetOptions;
use keyway::connections::Connection;
use keyway::{Access, NewConnection, Scope, Scopes};
use keyway_emulator_onepassword::Emulator;
use keyway_runtime::Settings;
use keyway_runtime::egress::EgressPolicy;
use keyway_server::config::{HostConfig, MasterKeySource, ServeConfig};
use keyway_server::host::Host;
use keyway_server::serve::Server;
use secrecy::ExposeSecret;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// The secret of connections to the fixture `echo`.
pub(crate) const ECHO_TOKEN: &str = "echo-token-4f1c9a7733b0d2e6wxyz";

/// The master key of all tests.
pub(crate) const MASTER_KEY: &str = "6b6579776179206d6173746572206b657920666f72207468652074657374732e";

/// A component built by `cargo xtask build-components`.
pub(crate) fn component(name: &str) -> PathBuf {
    let folder = std::env::var_os("KEYWAY_COMPONENTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/components"), PathBuf::from);
    let file = folder.join(format!("{name}.wasm"));
    assert!(file.is_file(), "{} is missing. Run `cargo xtask build-components` first", file.display());
    file
}

/// A database created by the program under the master key of all tests. Every test begins with a
/// copy: compiled code is authenticated under the database's host key, and copies can share it.
fn new_database() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../storage/migrations");
    let mut migrations: Vec<_> = std::fs::read_dir(migrations).unwrap().map(|file| file.unwrap().path()).collect();
    migrations.sort();
    for file in migrations {
        std::fs::read(file).unwrap().hash(&mut hasher);
    }
    let database =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("server-new-database-{:016x}.db", hasher.finish()));
    if !database.exists() {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        command.env_clear().env("KEYWAY_DATA_DIR", folder.path()).env("KEYWAY_MASTER_KEY", MASTER_KEY);
        Ran::from(command.args(["init"]).output().unwrap()).ok();
        // Another test may have created it first; then that one counts.
        let _ = std::fs::hard_link(folder.path().join("keyway.db"), &database);
    }
    database
}

/// A folder with everything that a host needs.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// With these components in the provider folder.
    pub(crate) fn with(components: &[&str]) -> Self {
        // On a disk: in memory, where the system's folder often is, no new master key is made.
        let folder = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        std::fs::create_dir_all(folder.providers()).unwrap();
        for name in components {
            folder.install(name);
        }
        std::fs::write(folder.key_file(), MASTER_KEY).unwrap();
        set_mode(&folder.key_file(), 0o600);
        // Compiling takes longer than most tests; compiled components are kept for the next run.
        let compiled = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("server-compiled-components");
        std::fs::create_dir_all(&compiled).unwrap();
        std::os::unix::fs::symlink(compiled, folder.0.path().join("code-cache")).unwrap();
        std::fs::copy(new_database(), folder.0.path().join("keyway.db")).unwrap();
        folder
    }

    pub(crate) fn install(&self, component_name: &str) {
        let from = component(component_name);
        std::fs::copy(&from, self.providers().join(from.file_name().unwrap())).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn providers(&self) -> PathBuf {
        self.0.path().join("providers")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.0.path().join("key")
    }

    pub(crate) fn config(&self, egress: EgressPolicy) -> HostConfig {
        let mut config = HostConfig::new(self.path());
        config.master_key = Some(MasterKeySource::File(self.key_file()));
        config.egress = egress;
        config
    }

    /// The program with this data, and nothing else in its environment.
    pub(crate) fn keyway(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        command.env_clear().env("HOME", self.path()).env("KEYWAY_DATA_DIR", self.path());
        command.env("KEYWAY_MASTER_KEY_FILE", self.key_file()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.keyway(arguments).output().unwrap())
    }

    /// Runs the program with this standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self.keyway(arguments).stdin(Stdio::piped()).spawn().unwrap();
        // A program that fails before it reads closes its input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ran::from(child.wait_with_output().unwrap())
    }

    /// A workspace with a connection to the fixture `echo`.
    pub(crate) fn connected(components: &[&str]) -> Self {
        let folder = Self::with(components);
        folder.run(&["workspace", "create", "Acme"]).ok();
        folder.run_with(&["connect", "echo", "--name", "Echo", "--token-file", "-"], ECHO_TOKEN).ok();
        folder
    }

    /// Binds an entry and returns its id. The provider is not called.
    pub(crate) fn bind(&self, user: &str, reference: &str) -> String {
        let arguments = ["bind", reference, "--user", user, "--domain", "https://acme.com", "--no-check", "--json"];
        self.run(&arguments).ok().json()["id"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn set_mode(file: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// Asserts success.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// Asserts that it failed with this code and an error on standard error, without a panic.
    pub(crate) fn failed(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.stderr.contains("error: ") && !self.stderr.contains("panic"), "{self:#?}");
        self
    }

    /// Standard output, which must be one JSON document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// All of its output.
    pub(crate) fn all(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// Fails when one of the secrets occurs in the text, in plain, base64 or hexadecimal digits.
pub(crate) fn assert_without(text: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} is in: {text}");
        assert!(!has_encoded(text, secret), "{secret} is in, encoded: {text}");
    }
}

/// Whether the secret occurs in the text in hexadecimal digits, or in one of the two alphabets of
/// base64.
pub(crate) fn has_encoded(text: &str, secret: &str) -> bool {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let is_in_base64 = (0..3).any(|offset| {
        // Base64 depends on the position in the surrounding text, except for the characters that
        // encode the secret alone.
        let placed = [&b"..."[..offset], secret.as_bytes()].concat();
        let own = base64(&placed)[(offset * 8).div_ceil(6)..placed.len() * 8 / 6].to_owned();
        let for_urls = own.replace('+', "-").replace('/', "_");
        // Shorter texts occur by chance.
        own.len() >= 6 && (text.contains(&own) || text.contains(&for_urls))
    });
    is_in_base64 || text.to_ascii_lowercase().contains(&hex)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let number = chunk.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(move |digit| DIGITS[(number >> (18 - 6 * digit) & 63) as usize] as char)
    });
    digits.collect()
}

/// A server in this process, with one workspace.
pub(crate) struct Api {
    pub(crate) folder: Folder,
    pub(crate) host: Host,
    pub(crate) access: Access,
    pub(crate) key: String,
    pub(crate) encryption_key: String,
    pub(crate) url: String,
    /// Where the metrics are.
    pub(crate) operators: String,
    pub(crate) emulator: Option<Emulator>,
    stop: Option<oneshot::Sender<()>>,
}

impl Api {
    /// With the fixture `echo`, and a connection to it.
    pub(crate) async fn echo() -> (Self, Connection) {
        let api = Self::start(&["fixtures/echo"], None).await;
        let connection = api.connect("echo", ECHO_TOKEN).await;
        (api, connection)
    }

    /// With 1Password, and a connection with the emulator's account `automation`.
    pub(crate) async fn onepassword() -> (Self, Connection) {
        Self::onepassword_with(BudgetOptions::default()).await
    }

    /// The same with the test's own budgets.
    pub(crate) async fn onepassword_with(budgets: BudgetOptions) -> (Self, Connection) {
        let emulator = Emulator::start().unwrap();
        let token = emulator.token("automation").unwrap().expose().to_owned();
        let api = Self::start_with(&["onepassword"], Some(emulator), None, budgets).await;
        let connection = api.connect("1password", &token).await;
        (api, connection)
    }

    pub(crate) async fn start(components: &[&str], emulator: Option<Emulator>) -> Self {
        Self::start_with(components, emulator, None, BudgetOptions::default()).await
    }

    /// With requests redirected by this rule (`--connect-to`).
    pub(crate) async fn start_through(components: &[&str], rule: String) -> Self {
        Self::start_with(components, None, Some(rule), BudgetOptions::default()).await
    }

    async fn start_with(
        components: &[&str],
        emulator: Option<Emulator>,
        rule: Option<String>,
        budgets: BudgetOptions,
    ) -> Self {
        let folder = Folder::with(components);
        let to_emulator = emulator.as_ref().map(|emulator| format!("{}={}", emulator.host(), emulator.url()));
        let egress = rule
            .or(to_emulator)
            .map_or_else(EgressPolicy::default, |rule| EgressPolicy::default().with_connect_to(rule.parse().unwrap()));
        let mut config = folder.config(egress);
        config.budgets = budgets;
        let host = Host::open(&config).await.unwrap();
        let created = host.broker().workspaces().create("Acme", Scopes::from(Scope::Api)).await.unwrap();
        let mut config = ServeConfig::new("127.0.0.1:0");
        config.metrics_listen = Some("127.0.0.1:0".into());
        let server = Server::bind_with(&config, host.broker().clone()).await.unwrap();
        let (url, operators) = (server.url().to_owned(), server.metrics_url().unwrap());
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self {
            access: Access::operator(created.workspace.id, "tests"),
            key: created.api_key.expose_secret().to_owned(),
            encryption_key: created.encryption_key.expose_secret().to_owned(),
            folder,
            host,
            url,
            operators,
            emulator,
            stop: Some(stop),
        }
    }

    pub(crate) async fn connect(&self, provider_type: &str, token: &str) -> Connection {
        let new = NewConnection::new("Acme 1Password", provider_type, Settings::new().with("token", token));
        self.host.broker().connections().create(&self.access, new).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[("cc-key", &self.key)], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("cc-key", &*self.key), ("content-type", "application/json")];
        self.send("POST", path, &headers, body.to_string()).await
    }

    /// Another key of the workspace.
    pub(crate) async fn key_with(&self, scopes: impl Into<Scopes>) -> String {
        let created = self.host.broker().api_keys().create(&self.access, "another", scopes).await.unwrap();
        created.api_key.expose_secret().to_owned()
    }

    /// With its own key, and a body unless it is null.
    pub(crate) async fn request(&self, method: &str, path: &str, key: &str, body: &Value) -> Answer {
        let headers = [("cc-key", key), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &headers, body).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let base = if path == "/metrics" { &self.operators } else { &self.url };
        send(&format!("{base}{path}"), method, headers, body).await
    }

    pub(crate) fn emulator(&self) -> &Emulator {
        self.emulator.as_ref().unwrap()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// An answer of a server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json", "{self:#?}");
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// The JSON of the answer, which must have this status.
    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:#?}");
        self.json()
    }

    /// The message of an error with this status and code, in the envelope. Asserts that it is
    /// readable.
    pub(crate) fn error(&self, status: u16, code: &str) -> String {
        let body = self.ok(status);
        assert_eq!(body["statusCode"], status, "{self:#?}");
        assert_eq!(body["code"], code, "{self:#?}");
        assert_eq!(body["error"], self.status.canonical_reason().unwrap(), "{self:#?}");
        let members = 4 + usize::from(body["reason"].is_string());
        assert_eq!(body.as_object().unwrap().len(), members, "{self:#?}");
        let message = body["message"].as_str().unwrap_or_else(|| panic!("{self:#?}"));
        assert!(message.len() > 10 && message.contains(' '), "{self:#?}");
        message.to_owned()
    }
}

pub(crate) async fn send(url: &str, method: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    try_send(url, method, headers, body).await.unwrap()
}

/// An error when the connection ended before the answer.
pub(crate) async fn try_send(
    url: &str,
    method: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Answer, hyper_util::client::legacy::Error> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = client.request(request.body(Full::new(body.into())).unwrap()).await?;
    let (head, body) = answer.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Ok(Answer { status: head.status, headers: head.headers, text })
}

#[test]
fn the_search_finds_secrets_in_every_form() {
    assert_eq!(base64(b"Man"), "TWFu");
    assert_eq!(base64(b"Ma"), "TWE");
    for form in
        ["my hunter2-hunter2", "68756E746572322D68756e74657232", "bXkgaHVudGVyMi1odW50ZXIy", "YSBodW50ZXIyLWh1bnRlcjI"]
    {
        let found = std::panic::catch_unwind(|| assert_without(form, &["hunter2-hunter2"]));
        assert!(found.is_err(), "{form}");
    }
    assert_without("hunter2", &["hunter2-hunter2"]);
    // In the URL-safe alphabet, at every position; and as short as a one-time code.
    for form in ["Pz8-Pj8_Pj4_", "YT8_Pj4_Pz4-Pw", "YWE_Pz4-Pz8-Pj8"] {
        assert!(has_encoded(form, "??>>??>>?"), "{form}");
    }
    for form in ["code 303831383034", "MDgxODA0", "YTA4MTgwNGI", "YWEwODE4MDRi"] {
        assert!(has_encoded(form, "081804"), "{form}");
    }
    assert!(!has_encoded("081804", "081804"));
}
