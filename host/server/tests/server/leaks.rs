//! Searches everything that a server writes or answers for every secret that passed through it: its
//! log at the most verbose level, its metrics, its audit log, its error messages, the output of the
//! command line, and every file of its data folder.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;

use keyway::keys::ClientKey;
use keyway_emulator_onepassword::{Emulator, Endpoint, Fault, FaultRule};
use serde_json::{Value, json};

use crate::support::{Answer, Folder, MASTER_KEY, assert_without, has_encoded, send};

const MANUAL_USER: &str = "manual-user-7c1f@acme.example";
const MANUAL_PASSWORD: &str = "manual-password-E9!kq";
const CHANGED_PASSWORD: &str = "changed-password-T4%vx";
const ROTATED_PASSWORD: &str = "rotated-password-W8&zn";
const MANUAL_SEED: &str = "KRSXG5CTMVRXEZLUKN2XGZLS";
const COOKIE: &str = "session-cookie-51d0e8";
const PASSED_AS_PARAMETER: &str = "pasted-into-the-url-3b9a";

/// A server whose log goes to a file, and all output so far.
/// A token in the server's environment, which only the command line uses.
pub(crate) const UNUSED_TOKEN: &str = "ops_unused-token-3e7a51f09bd4";

pub(crate) struct World {
    folder: Folder,
    pub(crate) emulator: Emulator,
    pub(crate) server: Child,
    pub(crate) url: String,
    operators: String,
    pub(crate) key: String,
    pub(crate) encryption_key: String,
    /// Answers and output that must not contain a secret.
    said: Vec<(String, String)>,
}

impl World {
    /// With the master key in the environment.
    pub(crate) fn start() -> Self {
        let folder = Folder::with(&["onepassword"]);
        let emulator = Emulator::start().unwrap();
        let created = folder.run(&["workspace", "create", "Acme", "--json"]).ok().json();
        let log = File::create(folder.path().join("log")).unwrap();
        let listen = ["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
        let arguments = [&listen[..], &["--json", "--log", "trace", "--log-format", "json"]].concat();
        let mut server = folder.keyway(&arguments);
        server.env("KEYWAY_CONNECT_TO", connect_to(&emulator)).stderr(log);
        server.env_remove("KEYWAY_MASTER_KEY_FILE").env("KEYWAY_MASTER_KEY", MASTER_KEY);
        server.env("KEYWAY_SETTING_TOKEN", UNUSED_TOKEN);
        let mut server = server.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let url = ready["listening"].as_str().unwrap().to_owned();
        let operators = ready["metrics"].as_str().unwrap().to_owned();
        let key = folder.run(&["key", "create", "all", "--scopes", "api,admin,resolve,rotate", "--json"]).ok().json();
        Self {
            key: key["api_key"].as_str().unwrap().to_owned(),
            encryption_key: created["encryption_key"].as_str().unwrap().to_owned(),
            folder,
            emulator,
            server,
            url,
            operators,
            said: Vec::new(),
        }
    }

    /// Encrypted as by a client.
    pub(crate) fn encrypted(&self, value: &str) -> String {
        ClientKey::from_hex(&self.encryption_key.as_str().into()).unwrap().encrypt(&value.into()).unwrap()
    }

    /// An answer that is meant to contain secrets.
    pub(crate) async fn secret(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("cc-key", &*self.key), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let base = if path == "/metrics" { &self.operators } else { &self.url };
        send(&format!("{base}{path}"), method, &headers, body).await
    }

    /// An answer that must not contain any.
    async fn ask(&mut self, method: &str, path: &str, body: Value) -> Answer {
        let answer = self.secret(method, path, &body).await;
        self.said.push((format!("the answer to {method} {path}"), format!("{:?} {}", answer.headers, answer.text)));
        answer
    }

    /// A command that must not print any.
    fn command(&mut self, arguments: &[&str]) {
        let mut command = self.folder.keyway(arguments);
        command.env("KEYWAY_CONNECT_TO", connect_to(&self.emulator)).env("KEYWAY_LOG", "trace");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let said = [output.stdout, output.stderr].concat();
        self.said.push((format!("keyway {}", arguments.join(" ")), String::from_utf8(said).unwrap()));
    }

    pub(crate) fn token(&self) -> String {
        self.emulator.token("automation").unwrap().expose().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn connect_to(emulator: &Emulator) -> String {
    format!("{}={}", emulator.host(), emulator.url())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_log_a_message_a_metric_the_audit_log_or_a_file() {
    let mut world = World::start();
    let account = world.emulator.account("automation").unwrap();
    let item = account.vault("Automation").unwrap().item("Northwind Supplier Portal").unwrap().clone();
    let mut codes = Vec::new();

    // Requests that succeed.
    let connection =
        json!({ "name": "Acme 1Password", "provider_type": "1password", "settings": { "token": world.token() } });
    let connection = world.ask("POST", "/secret-providers", connection).await.ok(201)["id"].clone();
    let connection = connection.as_str().unwrap().to_owned();
    world.ask("GET", "/secret-providers", Value::Null).await.ok(200);
    world
        .ask("PATCH", &format!("/secret-providers/{connection}"), json!({ "settings": { "token": world.token() } }))
        .await
        .ok(200);
    for path in ["items", "budget"] {
        world.ask("GET", &format!("/secret-providers/{connection}/{path}"), Value::Null).await.ok(200);
    }
    let bound = json!({
        "permissioned_user_id": "bound", "domain": "https://acme.com",
        "secret_provider_id": connection, "secret_ref": item.reference,
    });
    let bound = world.ask("POST", "/vault", bound).await.ok(201)["id"].clone();
    let manual = json!({
        "permissioned_user_id": "manual", "domain": "https://acme.com",
        "user_name": world.encrypted(MANUAL_USER), "password": world.encrypted(MANUAL_PASSWORD),
        "tfa_method": "AUTHENTICATOR", "tfa_secret": world.encrypted(MANUAL_SEED),
        "cookies": [{ "name": "s", "value": COOKIE }],
    });
    let manual = world.secret("POST", "/vault", &manual).await.ok(201)["id"].clone();
    let mut passwords = Vec::new();
    for entry in [&bound, &manual] {
        // Live, from the cache, and after a rejection.
        for _ in 0..2 {
            let resolved = world.secret("POST", "/vault/resolve", &json!({ "id": entry })).await.ok(200);
            let text = |field: &str, name: &str| resolved[field][name].as_str().unwrap().to_owned();
            passwords.extend([text("username", "value"), text("password", "value")]);
            codes.push(text("one_time_code", "code"));
            let rejected = json!({ "id": entry, "rejected": resolved["revision"] });
            world.secret("POST", "/vault/resolve", &rejected).await.ok(200);
        }
    }
    let code = world.secret("GET", "/vault/tfa-code?permissioned_user_id=manual&domain=https://acme.com", &Value::Null);
    codes.push(code.await.ok(200)["code"].as_str().unwrap().to_owned());
    let changed = json!({ "id": manual, "password": world.encrypted(CHANGED_PASSWORD) });
    world.secret("PUT", "/vault", &changed).await.ok(200);
    rotate(&mut world, &manual).await;

    // Requests that fail: values in the wrong places, and a secret manager that echoes what it
    // received.
    refused(&mut world, &connection, &bound).await;
    world.secret("POST", &format!("/secret-providers/{connection}/clear-cache"), &Value::Null).await;
    for endpoint in [Endpoint::AuthStart, Endpoint::Complete, Endpoint::Keysets, Endpoint::Item] {
        for fault in [Fault::Garbage, Fault::TamperedEnvelope, Fault::status(401), Fault::status(500)] {
            world.emulator.expire_sessions();
            world.emulator.fault(FaultRule::next_of(endpoint, fault));
            let wanted = json!({ "id": bound, "fields": ["one_time_code"], "rejected": "x" });
            let answer = world.secret("POST", "/vault/resolve", &wanted).await;
            // Some faults are overcome by a retry, and the answer then contains the requested
            // values.
            if !answer.status.is_success() {
                world.said.push(("the answer to a resolve that failed".into(), answer.text));
            }
            world.emulator.clear_faults();
        }
    }
    let pages = ["/metrics", "/readyz", "/healthz", "/audit", "/openapi.json"];
    for path in pages {
        assert_eq!(world.ask("GET", path, Value::Null).await.status, 200, "{path}");
    }
    for arguments in [
        &["audit", "list", "--json"][..],
        &["audit", "verify"],
        &["connection", "list"],
        &["entry", "list"],
        &["key", "list"],
        &["rotation", "list"],
        &["config", "check"],
    ] {
        world.command(arguments);
    }

    let token = world.token();
    let secrets = [&world.key[19..], &token, &token[100..140], &world.encryption_key, MASTER_KEY];
    let manual =
        [MANUAL_USER, MANUAL_PASSWORD, CHANGED_PASSWORD, ROTATED_PASSWORD, MANUAL_SEED, COOKIE, PASSED_AS_PARAMETER];
    let resolved = passwords.iter().map(String::as_str);
    let secrets: Vec<&str> = secrets.into_iter().chain(manual).chain(resolved).collect();
    let mut searched = std::mem::take(&mut world.said);
    searched.extend(files(world.folder.path()));
    let find = |name: &str| searched.iter().any(|(file, text)| file.ends_with(name) && text.len() > 1_000);
    assert!(find("log") && find("keyway.db") && find("/metrics") && find("/audit"), "there is something to search");
    for (place, text) in &searched {
        let clean = std::panic::catch_unwind(|| assert_without(text, &secrets));
        assert!(clean.is_ok(), "{place}");
        for code in &codes {
            assert!(!has_number(text, code), "{place} has the code {code}: {text}");
            // Twelve hexadecimal digits, or seven or eight characters of base64, do not occur by
            // chance.
            assert!(!has_encoded(text, code), "{place} has the code {code}, encoded: {text}");
        }
    }
}

/// A rotation with a given password, from beginning to end.
async fn rotate(world: &mut World, entry: &Value) {
    let begin = json!({ "entry_id": entry, "password": world.encrypted(ROTATED_PASSWORD) });
    let begun = world.secret("POST", "/vault/rotations", &begin).await.ok(201);
    let path = format!("/vault/rotations/{}", begun["id"].as_str().unwrap());
    world.ask("GET", "/vault/rotations", Value::Null).await.ok(200);
    world.ask("POST", &format!("{path}/commit"), Value::Null).await.ok(200);
    world.ask("GET", &path, Value::Null).await.ok(200);
}

/// Refused requests with secrets in every place where a client could put them by mistake.
async fn refused(world: &mut World, connection: &str, entry: &Value) {
    let (token, key) = (world.token(), world.key.clone());
    let pasted = PASSED_AS_PARAMETER;
    for (method, path, body) in [
        (
            "POST",
            "/vault".to_owned(),
            json!({ "permissioned_user_id": "x", "domain": "https://x.com", "password": MANUAL_PASSWORD }),
        ),
        ("POST", "/vault".to_owned(), json!({ "password": { "value": MANUAL_PASSWORD } })),
        ("PUT", "/vault".to_owned(), json!({ "id": entry, "tfa_method": MANUAL_SEED })),
        ("PUT", "/vault".to_owned(), json!({ "id": MANUAL_PASSWORD })),
        ("GET", format!("/vault?permissioned_user_id={pasted}&domain={pasted}"), Value::Null),
        ("GET", format!("/vault?permissioned_user_id=bound&domain=https://acme.com&password={pasted}"), Value::Null),
        ("GET", format!("/{pasted}?{pasted}"), Value::Null),
        ("GET", format!("/secret-providers/{pasted}"), Value::Null),
        ("POST", "/vault/resolve".to_owned(), json!({ "id": entry, "fields": [MANUAL_PASSWORD] })),
        (
            "POST",
            "/secret-providers".to_owned(),
            json!({ "name": "x", "provider_type": "1password", "settings": { "token": &token[..token.len() - 8] } }),
        ),
        (
            "POST",
            "/secret-providers".to_owned(),
            json!({ "name": "x", "provider_type": "1password", "settings": { "token": key } }),
        ),
        ("PATCH", format!("/secret-providers/{connection}"), json!({ "cache_ttl_seconds": token })),
    ] {
        let answer = world.ask(method, &path, body).await;
        assert!(!answer.status.is_server_error(), "{method} {path}: {answer:?}");
    }
    // The name of an unknown field is repeated to its sender, who has to find it, and nowhere else.
    world.secret("POST", "/vault", &json!({ MANUAL_PASSWORD: 1 })).await.error(400, "VALIDATION_FAILED");
    let wrong = format!("{}{}", &key[..key.len() - 1], if key.ends_with('a') { 'b' } else { 'a' });
    for (key, body) in [(wrong.as_str(), "{}"), (&*key, r#"{"password": "manual-password-E9!kq", "#)] {
        let headers = [("cc-key", key), ("content-type", "application/json")];
        let answer = send(&format!("{}/vault", world.url), "POST", &headers, body).await;
        assert!(answer.status.is_client_error(), "{answer:?}");
        world.said.push(("the answer to a broken request".into(), answer.text));
    }
}

/// Every file of the data folder except the master key's, as text.
pub(crate) fn files(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        // Not followed: compiled components are shared by all tests, and many times larger than
        // everything else.
        let kind = file.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&file.path()));
        } else if kind.is_file() && file.file_name() != "key" {
            let bytes = fs::read(file.path()).unwrap();
            found.push((file.path().display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    found
}

/// Whether these digits occur in the text as a separate number. The fraction of a second in a
/// timestamp may have any digits.
fn has_number(text: &str, digits: &str) -> bool {
    text.match_indices(digits).any(|(position, _)| {
        let before = text[..position].chars().next_back();
        let after = text[position + digits.len()..].chars().next();
        let part = |neighbour: Option<char>| neighbour.is_some_and(|one| one.is_ascii_alphanumeric() || one == '.');
        !part(before) && !after.is_some_and(|one| one.is_ascii_alphanumeric())
    })
}
