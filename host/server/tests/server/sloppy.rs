//! A provider that leaks everything it can, behind a server: nothing of it is in an answer, the log
//! at its most verbose level, the metrics, the audit log, or any file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Child;

use serde_json::{Value, json};

use crate::leaks::files;
use crate::support::{Answer, Folder, assert_without, send};

const TOKEN: &str = "token-of-the-sloppy-provider-3f9a";
/// The content of an item on the server; also inside other encodings, as some secret managers have
/// it.
const BODY: &str = r#"{"username":"ada.lovelace","password":"correct-horse-99","inner":"{\"key\":\"inner-secret\"}","data":"ZW5jb2RlZC1zZWNyZXQ=","pin":48151623}"#;
const COOKIE: &str = "cookie-0f1e2d3c4b5a6978";
const SECRETS: [&str; 7] =
    [TOKEN, "ada.lovelace", "correct-horse-99", "inner-secret", "encoded-secret", "48151623", COOKIE];

/// The secret manager: it answers every request with the item and a cookie.
pub(crate) fn secret_manager() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // A request without a body comes in one piece.
            if !matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
                continue;
            }
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\nset-cookie: sid";
            let answer = format!("{head}={COOKIE}; Path=/\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

struct World {
    folder: Folder,
    server: Child,
    url: String,
    operators: String,
    key: String,
    /// All answers.
    said: Vec<(String, String)>,
}

impl World {
    fn start() -> Self {
        let folder = Folder::with(&["fixtures/leaks"]);
        folder.run(&["workspace", "create", "Acme"]).ok();
        let key = folder.run(&["key", "create", "all", "--scopes", "api,admin,resolve,rotate", "--json"]).ok().json();
        let log = File::create(folder.path().join("log")).unwrap();
        let listen = ["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
        let arguments = [&listen[..], &["--json", "--log", "trace", "--log-format", "json"]].concat();
        let mut server = folder.keyway(&arguments);
        server.env("KEYWAY_CONNECT_TO", format!("leaks.example.com=http://{}", secret_manager())).stderr(log);
        let mut server = server.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let url = ready["listening"].as_str().unwrap().to_owned();
        let operators = ready["metrics"].as_str().unwrap().to_owned();
        let key = key["api_key"].as_str().unwrap().to_owned();
        Self { folder, server, url, operators, key, said: Vec::new() }
    }

    async fn ask(&mut self, method: &str, path: &str, body: Value) -> Answer {
        let headers = [("cc-key", &*self.key), ("content-type", "application/json")];
        let sent = if body.is_null() { String::new() } else { body.to_string() };
        let base = if path == "/metrics" { &self.operators } else { &self.url };
        let answer = send(&format!("{base}{path}"), method, &headers, sent).await;
        self.said.push((format!("{method} {path} {body}"), format!("{:?} {}", answer.headers, answer.text)));
        answer
    }

    /// A connection that opens no breaker for the others: each has another token.
    async fn connect(&mut self, case: &str) -> String {
        let new = Self::connection(case, "false");
        self.ask("POST", "/secret-providers", new).await.ok(201)["id"].as_str().unwrap().to_owned()
    }

    fn connection(case: &str, fails: &str) -> Value {
        let address = "https://leaks.example.com";
        let settings = json!({ "token": format!("{TOKEN}-{case}"), "address": address, "fails": fails });
        json!({ "name": case, "provider_type": "leaks", "settings": settings })
    }

    async fn bind(&mut self, case: &str) -> String {
        let connection = self.connect(case).await;
        let bound = json!({
            "permissioned_user_id": case, "domain": "https://acme.com",
            "secret_provider_id": connection, "secret_ref": format!("leaks://item/{case}"),
        });
        self.ask("POST", "/vault", bound).await.ok(201)["id"].as_str().unwrap().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_sloppy_provider_leaks_is_in_an_answer_the_log_a_metric_or_a_file() {
    let mut world = World::start();
    let refused = world.ask("POST", "/secret-providers", World::connection("refused", "true")).await;
    assert!(refused.text.contains("The server said") && refused.text.contains("[REDACTED]"), "{refused:?}");
    let listing = world.connect("listing").await;
    let listed = world.ask("GET", &format!("/secret-providers/{listing}/items"), Value::Null).await;
    assert!(listed.status.is_server_error() && listed.text.contains("[REDACTED]"), "{listed:?}");
    for case in ["print", "panic", "log", "split", "shout", "cookie", "code", "attributes", "error"] {
        let entry = world.bind(case).await;
        // Only a code is requested: the password never comes back, but is still secret.
        let answer = world.ask("POST", "/vault/resolve", json!({ "id": entry, "fields": ["one_time_code"] })).await;
        let fails = matches!(case, "panic" | "error");
        assert_eq!(answer.status.is_server_error(), fails, "{case}: {answer:?}");
    }
    for action in ["renew", "revoke"] {
        let entry = world.bind(action).await;
        let lease = json!({ "id": entry, "lease": "lease" });
        let answer = world.ask("POST", &format!("/vault/leases/{action}"), lease).await;
        assert!(answer.status.is_server_error() && answer.text.contains("[REDACTED]"), "{answer:?}");
    }
    let entry = world.bind("denied").await;
    world.ask("POST", "/vault/rotations", json!({ "entry_id": entry })).await;
    for path in ["/vault/rotations", "/secret-providers", "/metrics", "/audit"] {
        assert_eq!(world.ask("GET", path, Value::Null).await.status, 200, "{path}");
    }

    let mut searched = std::mem::take(&mut world.said);
    searched.extend(files(world.folder.path()));
    let find = |name: &str| {
        let (_, text) = searched
            .iter()
            .find(|(place, _)| place.starts_with(name) || place.ends_with(name))
            .unwrap_or_else(|| panic!("no {name}"));
        text
    };
    for name in ["GET /metrics", "GET /audit", "keyway.db"] {
        assert!(find(name).len() > 1_000, "{name}");
    }
    let log = find("/log");
    for (level, words) in [("DEBUG", "panicked at"), ("DEBUG", "sid=[REDACTED]"), ("INFO", "[REDACTED]")] {
        let level = format!("\"level\":\"{level}\"");
        assert!(log.lines().any(|line| line.contains(&level) && line.contains(words)), "{level} {words}: {log}");
    }
    let printed = |line: &&str| line.contains("panicked at") || line.contains("sid=");
    assert!(log.lines().filter(printed).all(|line| line.contains("\"level\":\"DEBUG\"")), "{log}");
    for (place, text) in &searched {
        // Also in upper case.
        let lower = text.to_ascii_lowercase();
        let clean = std::panic::catch_unwind(|| {
            assert_without(text, &SECRETS);
            assert!(!SECRETS.iter().any(|secret| lower.contains(secret)), "{lower}");
        });
        assert!(clean.is_ok(), "{place}");
    }
}
