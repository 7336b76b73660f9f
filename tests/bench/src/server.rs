//! `keyway serve` in its own process, with a prepared workspace, and a lightweight HTTP client.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use keyway::budgets::{BudgetOptions, RateLimits};
use keyway::{
    Access, Audit, Broker, CacheTtl, ConnectionId, EntryContent, EntryId, MasterKey, NewConnection, Scope, Scopes,
    SqliteStorage,
};
use keyway_e2e::{Lab, component};
use keyway_emulator_onepassword::Emulator;
use keyway_runtime::{Provider, Settings};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::sandbox::{ITEM, VAULT};

/// A data folder with one workspace in it.
pub(crate) struct Data {
    folder: TempDir,
    master_key: SecretString,
    pub(crate) broker: Broker,
    storage: SqliteStorage,
    pub(crate) access: Access,
    /// An API key with every scope.
    pub(crate) api_key: SecretString,
    pub(crate) reference: String,
    provider_type: String,
    token: String,
}

impl Data {
    pub(crate) async fn create(lab: &Lab) -> Result<Self> {
        Self::create_with(lab, |folder| Audit::in_folder(folder.join("audit"))).await
    }

    /// The same with another audit log.
    pub(crate) async fn create_with(lab: &Lab, audit: impl FnOnce(&Path) -> Audit) -> Result<Self> {
        let reference = lab.reference(VAULT, ITEM).context("the emulator has lost its item")?;
        let token = lab.emulator.account("automation")?.token;
        Self::of(lab, lab.provider.clone(), "onepassword", reference, token, audit).await
    }

    /// With the fixture `echo`, which has every requested item.
    pub(crate) async fn with_any_item(lab: &Lab) -> Result<Self> {
        let echo = lab.runtime.load(&component("fixtures/echo")?).await?;
        let (reference, token) = ("echo://item/model".to_owned(), "echo-token-of-the-benchmark".to_owned());
        let audit = |folder: &Path| Audit::in_folder(folder.join("audit"));
        Self::of(lab, echo, "fixtures/echo", reference, token, audit).await
    }

    async fn of(
        lab: &Lab,
        provider: Provider,
        file: &str,
        reference: String,
        token: String,
        audit: impl FnOnce(&Path) -> Audit,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let providers = folder.path().join("providers");
        std::fs::create_dir(&providers)?;
        std::fs::write(providers.join("provider.wasm"), component(file)?)?;
        let master_key = MasterKey::generate()?;
        let hex = master_key.to_hex();
        let storage = SqliteStorage::open(folder.path().join("keyway.db")).await?;
        // More calls a second than any plan allows in an hour.
        let budgets = BudgetOptions::default().limits("1password", RateLimits::UNLIMITED);
        let broker = Broker::builder(lab.runtime.clone(), storage.clone(), master_key)
            .provider(provider.clone())
            .budgets(budgets)
            .audit(audit(folder.path()))
            .open()
            .await?;
        let workspace = broker.workspaces().create("Bench", Scope::Api).await?.workspace.id;
        let access = Access::operator(workspace, "benchmark");
        let api_key = broker.api_keys().create(&access, "bench", Scopes::ALL).await?.api_key;
        let provider_type = provider.description().provider_type.clone();
        Ok(Self { folder, master_key: hex, broker, storage, access, api_key, reference, provider_type, token })
    }

    /// Adds a connection whose values are cached for a day.
    pub(crate) async fn connect(&self, name: &str) -> Result<ConnectionId> {
        let new =
            NewConnection::new(name, self.provider_type.clone(), Settings::new().with("token", self.token.as_str()))
                .cache_ttl(CacheTtl::ONE_DAY);
        Ok(self.broker.connections().create(&self.access, new).await?.id)
    }

    /// Adds an entry that is bound to the item over this connection.
    pub(crate) async fn bind(&self, user: &str, connection: ConnectionId) -> Result<EntryId> {
        let new = EntryContent::bound(user, "https://example.com", connection, &self.reference);
        Ok(self.broker.entries().create(&self.access, new).await?.id)
    }

    /// Ends the broker in this process and serves the folder in another.
    pub(crate) async fn serve(self, emulator: &Emulator) -> Result<Served> {
        self.broker.close().await;
        self.storage.close().await;
        let mut command = keyway(self.folder.path())?;
        command.args(["serve", "--json", "--listen", "127.0.0.1:0"]);
        command.env("KEYWAY_MASTER_KEY", self.master_key.expose_secret());
        command.env("KEYWAY_CONNECT_TO", format!("{}={}", emulator.host(), emulator.url()));
        let process = Process::start(command)?;
        Ok(Served { process, api_key: self.api_key, _folder: self.folder })
    }
}

/// The program with this data and no other environment. Its log lines go where writing them has its
/// normal cost.
pub(crate) fn keyway(folder: &Path) -> Result<Command> {
    let program = std::env::var_os("KEYWAY_PROGRAM")
        .context("KEYWAY_PROGRAM does not say where `keyway` is; run `cargo xtask bench`")?;
    let mut command = Command::new(program);
    command.env_clear().arg("--data-dir").arg(folder).stderr(Stdio::null());
    Ok(command)
}

/// A running server.
pub(crate) struct Served {
    pub(crate) process: Process,
    api_key: SecretString,
    _folder: TempDir,
}

impl Served {
    /// A request that resolves user name and password of an entry: cached values.
    pub(crate) fn resolve(&self, entry: EntryId) -> Vec<u8> {
        resolve(&self.api_key, entry, r#"["username","password"]"#)
    }

    /// A request that resolves the one-time code of an entry: always a live value.
    pub(crate) fn resolve_live(&self, entry: EntryId) -> Vec<u8> {
        resolve_live(&self.api_key, entry)
    }

    /// A request for one entry, by user and domain.
    pub(crate) fn get(&self, user: &str) -> Vec<u8> {
        let path = format!("/vault?permissioned_user_id={user}&domain=https%3A%2F%2Fexample.com");
        request(&self.api_key, "GET", &path, "")
    }

    /// A request for all entries.
    pub(crate) fn list(&self) -> Vec<u8> {
        request(&self.api_key, "GET", "/vault", "")
    }
}

/// Whether an answer's values came from the cache.
pub(crate) fn is_cached(answer: &[u8]) -> bool {
    String::from_utf8_lossy(answer).contains(r#""source":"cached""#)
}

/// A request that resolves the one-time code of an entry.
pub(crate) fn resolve_live(api_key: &SecretString, entry: EntryId) -> Vec<u8> {
    resolve(api_key, entry, r#"["one_time_code"]"#)
}

fn resolve(api_key: &SecretString, entry: EntryId, fields: &str) -> Vec<u8> {
    request(api_key, "POST", "/vault/resolve", &format!(r#"{{"id":"{entry}","fields":{fields}}}"#))
}

/// A request with an API key.
pub(crate) fn request(api_key: &SecretString, method: &str, path: &str, body: &str) -> Vec<u8> {
    let (key, length) = (api_key.expose_secret(), body.len());
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncc-key: {key}\r\ncontent-length: {length}\r\n");
    format!("{head}content-type: application/json\r\n\r\n{body}").into_bytes()
}

/// A server in its own process, ended when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
}

impl Process {
    /// Starts it and waits for the JSON object with the address at which it is `listening`.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("the server cannot be started")?;
        let mut process = Self { child, address: String::new() };
        let output = process.child.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let ready: serde_json::Value =
            serde_json::from_str(&line).context("the server does not say where it listens")?;
        let url = ready
            .get("listening")
            .and_then(serde_json::Value::as_str)
            .context("the server does not say where it listens")?;
        process.address = url.trim_start_matches("http://").to_owned();
        Ok(process)
    }

    /// Its current and peak memory in MiB.
    pub(crate) fn memory(&self) -> Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).context("no such field")?;
            let kilobytes: u64 = line.split_ascii_whitespace().nth(1).context("no value")?.parse()?;
            anyhow::Ok(kilobytes >> 10)
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One keep-alive connection: sends the bytes of a request, and parses no more of the answer than
/// is needed to find its end, so that the server is what is measured.
pub(crate) struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Sends a request and returns the answer's status and body.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        let (status, start, end) = loop {
            self.more().await?;
            if let Some((status, start, length)) = head(&self.answer)? {
                break (status, start, length.map(|length| start + length));
            }
        };
        // An answer without a length is sent in chunks, the last of which is empty.
        while end.map_or_else(|| !self.answer.ends_with(b"\r\n0\r\n\r\n"), |end| self.answer.len() < end) {
            self.more().await?;
        }
        Ok((status, self.answer.get(start..).unwrap_or_default()))
    }

    /// Like [`send`](Self::send), but fails unless the status is 200.
    pub(crate) async fn expect(&mut self, request: &[u8]) -> Result<&[u8]> {
        let (status, body) = self.send(request).await?;
        ensure!(status == 200, "status {status}: {}", String::from_utf8_lossy(body));
        Ok(body)
    }

    async fn more(&mut self) -> Result<()> {
        self.answer.reserve(4_096);
        ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "the server ended the connection");
        Ok(())
    }
}

/// The status, the start of the body, and its length if known; `None` if the head is incomplete.
fn head(answer: &[u8]) -> Result<Option<(u16, usize, Option<usize>)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = response.parse(answer)? else { return Ok(None) };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.map(|header| std::str::from_utf8(header.value)?.parse().context("no length")).transpose()?;
    Ok(Some((response.code.context("no status")?, start, length)))
}
