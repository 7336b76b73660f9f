//! `keyway serve` as a process: when it is ready, how it ends, and what it logs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Answer, ECHO_TOKEN, Folder, assert_without, component, send, try_send};

pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
    /// Where the metrics are; empty without an address of their own.
    pub(crate) operators: String,
}

impl Process {
    pub(crate) fn start(folder: &Folder, more: &[&str]) -> Self {
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--json"];
        arguments.extend(more);
        Self::of(folder.keyway(&arguments))
    }

    /// The program with `--json` among its arguments.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("{error}: {line:?}, {said}")
        });
        let operators = ready["metrics"].as_str().unwrap_or_default().to_owned();
        Self { url: ready["listening"].as_str().unwrap().to_owned(), operators, child }
    }

    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> Answer {
        send(&format!("{}{path}", self.url), "GET", &[("cc-key", key)], "").await
    }

    /// Asks it to shut down; returns its exit code and its standard error.
    pub(crate) fn end(mut self, signal: Signal) -> (i32, String) {
        kill_process(self.id(), signal).unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code().unwrap_or(-1), said)
    }
}

pub(crate) fn api_key(folder: &Folder) -> String {
    let created = folder.run(&["key", "create", "test", "--json"]).ok().json();
    created["api_key"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_where_it_listens_once_it_is_ready_and_ends_when_asked() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let key = api_key(&folder);
    for signal in [Signal::TERM, Signal::INT] {
        let server = Process::start(&folder, &[]);
        assert_eq!(server.get("/healthz", "").await.ok(200), json!({"status": "ok"}));
        server.get("/secret-providers", &key).await.ok(200);
        let url = server.url.clone();
        let (code, said) = server.end(signal);
        assert_eq!(code, 0, "{said}");
        assert_eq!(said.lines().find(|line| line.starts_with("Listening")), Some(&*format!("Listening at {url}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_audit_log_is_missing_says_so_at_its_start_and_whenever_it_is_asked() {
    let folder = Folder::connected(&["fixtures/echo"]);
    std::fs::rename(folder.path().join("audit"), folder.path().join("away")).unwrap();
    let server = Process::start(&folder, &[]);
    let ready = server.get("/readyz", "").await.ok(200);
    assert!(ready["warnings"][0].as_str().unwrap().contains("the audit log was missing from"), "{ready}");
    let (_, said) = server.end(Signal::TERM);
    assert!(said.contains("ERROR") && said.contains("the audit log was missing from"), "{said}");
}

#[cfg(target_os = "linux")]
#[test]
fn its_memory_gets_into_no_core_dump() {
    let folder = Folder::with(&["fixtures/echo"]);
    let server = Process::start(&folder, &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id().as_raw_nonzero())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_ascii_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    server.end(Signal::TERM);
}

#[test]
fn it_works_where_the_address_space_is_limited() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let id = folder.bind("a", "echo://item/one");
    // Its own, so that it compiles the component as well.
    std::fs::remove_file(folder.path().join("code-cache")).unwrap();
    let mut compiled = 0;
    for gibibytes in [8_u64, 100, 512, 1_024] {
        let limited = format!("ulimit -v {}; exec \"$0\" \"$@\"", gibibytes << 20);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_keyway"), "--log", "info"]);
        command.args(["resolve", &id, "--field", "password", "--raw"]);
        command.env_clear().env("HOME", folder.path()).env("KEYWAY_DATA_DIR", folder.path());
        let output = command.env("KEYWAY_MASTER_KEY_FILE", folder.key_file()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "password-one", "{gibibytes} GiB: {said}");
        assert_eq!(said.matches("the address space is limited").count(), 1, "{gibibytes} GiB: {said}");
        compiled = std::fs::read_dir(folder.path().join("code-cache")).unwrap().count();
    }
    assert_eq!(compiled, 1, "one form for all of them");
    let with_ample = folder.run(&["--log", "info", "resolve", &id, "--field", "password", "--raw"]).ok();
    assert!(!with_ample.stderr.contains("address space"), "{with_ample:?}");
}

#[test]
fn a_limit_of_file_sizes_is_an_error_like_a_full_disk() {
    let folder = Folder::connected(&["fixtures/echo"]);
    // In blocks of 512 bytes: less than the database has.
    let limited = "ulimit -f 8; exec \"$0\" \"$@\"";
    let program = env!("CARGO_BIN_EXE_keyway");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", limited, program, "workspace", "create", "Another"]);
    command.env_clear().env("HOME", folder.path()).env("KEYWAY_DATA_DIR", folder.path());
    let output = command.env("KEYWAY_MASTER_KEY_FILE", folder.key_file()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("error: "), "{said}");
    folder.run(&["workspace", "create", "Another"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standard_error_that_is_not_read_blocks_no_request_and_no_end() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let key = api_key(&folder);
    let server = Process::start(&folder, &["--log", "debug"]);
    // Each is a line in the log, and a pipe holds 64 KiB.
    for _ in 0..2_000 {
        let answer = tokio::time::timeout(Duration::from_secs(10), server.get("/secret-providers", &key)).await;
        answer.expect("it waits for the log").ok(200);
    }
    let (code, said) = tokio::task::spawn_blocking(|| server.end(Signal::TERM)).await.unwrap();
    assert_eq!(code, 0);
    assert!(said.matches("answered").count() > 500 && said.len() > 64 << 10, "{}", said.len());
}

/// What a write to the database is when its file system has turned read-only.
#[test]
fn a_bus_error_ends_it_with_the_reason() {
    let folder = Folder::with(&["fixtures/echo"]);
    let (code, said) = Process::start(&folder, &[]).end(Signal::BUS);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("turned read-only") && said.contains("start it again"), "{said}");
}

#[test]
fn it_can_be_ended_properly_as_soon_as_it_says_that_it_listens() {
    let folder = Folder::with(&["fixtures/echo"]);
    for signal in [Signal::TERM, Signal::INT].repeat(5) {
        let (code, said) = Process::start(&folder, &[]).end(signal);
        assert_eq!(code, 0, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_answered_before_the_server_ends() {
    let folder = Folder::with(&["fixtures/echo"]);
    folder.run(&["workspace", "create", "Acme"]).ok();
    let key = api_key(&folder);
    // A slow secret manager.
    let manager = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", manager.local_addr().unwrap());
    let (asked, was_asked) = tokio::sync::oneshot::channel();
    let (seen, answer_now) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = manager.accept().unwrap();
        let mut head = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while head.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        asked.send(()).unwrap();
        // Within the server's grace period.
        let _ = answer_now.recv_timeout(Duration::from_secs(6));
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n[\"a\",\"b\"]")
            .unwrap();
    });
    let base_url = format!("base_url={address}");
    let connect = ["connect", "echo", "--token-file", "-", "--set", &base_url, "--allow-private", &address, "--json"];
    let connection = folder.run_with(&connect, ECHO_TOKEN).ok().json();

    let server = Process::start(&folder, &["--allow-private", &address]);
    let url = format!("{}/secret-providers/{}/items", server.url, connection["id"].as_str().unwrap());
    let request = tokio::spawn(async move { send(&url, "GET", &[("cc-key", &key)], "").await });
    was_asked.await.unwrap();
    let base = server.url.clone();
    let late = tokio::spawn(async move {
        // Until the signal arrives, the server is ready. It then closes idle connections.
        let ready = loop {
            match try_send(&format!("{base}/readyz"), "GET", &[], "").await {
                Ok(answer) if answer.status != 200 => break answer.error(503, "NOT_READY"),
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        send(&format!("{base}/vault"), "GET", &[], "").await.error(503, "ENDING");
        send(&format!("{base}/healthz"), "GET", &[], "").await.ok(200);
        seen.send(()).unwrap();
        ready
    });
    let (code, said) = tokio::task::spawn_blocking(|| server.end(Signal::TERM)).await.unwrap();
    let answer = request.await.unwrap();
    assert_eq!(answer.ok(200).as_array().unwrap().len(), 2);
    assert_eq!(code, 0, "{said}");
    assert!(late.await.unwrap().contains("the server is shutting down"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_line_has_the_template_of_the_path_and_nothing_of_the_request() {
    let folder = Folder::connected(&["fixtures/echo", "fixtures/secret-in-error"]);
    let key = api_key(&folder);
    let server = Process::start(&folder, &["--log", "trace", "--log-format", "json"]);
    let secret = "hunter2-hunter2-hunter2";
    let connections = server.get("/secret-providers", &key).await.ok(200);
    let items = format!("{}/secret-providers/{}/items", server.url, connections[0]["id"].as_str().unwrap());
    send(&items, "GET", &[("cc-key", &key), ("x-request-id", "a-call")], "").await.ok(200);
    server.get(&format!("/secret-providers/{secret}/items"), &key).await.error(400, "BAD_REQUEST");
    server.get(&format!("/vault?permissioned_user_id={secret}&domain=x"), &key).await.error(404, "NOT_FOUND");
    server.get(&format!("/{secret}"), secret).await.error(404, "NOT_FOUND");
    let headers = [("cc-key", &*key), ("content-type", "application/json"), ("x-request-id", "trace-me")];
    let body = json!({"permissioned_user_id": "a", "domain": "https://acme.com", "password": secret}).to_string();
    send(&format!("{}/vault", server.url), "POST", &headers, body).await.error(401, "NOT_ENCRYPTED");
    let (_, said) = server.end(Signal::TERM);
    assert_without(&said, &[secret, &key, ECHO_TOKEN]);

    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let answered: Vec<_> = lines.iter().filter(|line| line["message"] == "answered").collect();
    let routes: Vec<_> =
        answered.iter().map(|line| (line["route"].as_str().unwrap(), line["status"].as_u64().unwrap())).collect();
    let expected = [
        ("/secret-providers", 200),
        ("/secret-providers/{id}/items", 200),
        ("/secret-providers/{id}/items", 400),
        ("/vault", 404),
        ("unknown", 404),
        ("/vault", 401),
    ];
    assert_eq!(routes, expected);
    let last = answered.last().unwrap();
    assert_eq!((&last["method"], &last["request_id"]), (&"POST".into(), &"trace-me".into()));
    // Two errors with the same status are distinguished by their codes; a success has none.
    let codes: Vec<_> = answered.iter().map(|line| line.get("code").and_then(Value::as_str)).collect();
    assert_eq!((codes[0], codes[3], codes[5]), (None, Some("NOT_FOUND"), Some("NOT_ENCRYPTED")));
    assert!(last["ms"].is_f64());
    // Also log lines about a sandboxed call, which runs in its own task.
    let of_sandbox = |line: &&Value| line["target"].as_str().is_some_and(|target| target == "keyway_runtime::call");
    let calls: Vec<_> = lines.iter().filter(of_sandbox).filter(|line| line["request_id"] == "a-call").collect();
    assert!(!calls.is_empty(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_dropped_into_the_folder_is_there_without_a_restart() {
    let folder = Folder::with(&[]);
    folder.run(&["workspace", "create", "Acme"]).ok();
    let server = Process::start(&folder, &[]);
    folder.install("fixtures/echo");
    // Another process connects, and the server sees both connections.
    let connection = folder.run_with(&["connect", "echo", "--token-file", "-", "--json"], ECHO_TOKEN).ok().json();
    let key = api_key(&folder);
    let path = format!("/secret-providers/{}/items", connection["id"].as_str().unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = server.get(&path, &key).await;
        if answer.status == 200 {
            break;
        }
        answer.error(503, "PROVIDER_NOT_INSTALLED");
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    std::fs::write(folder.providers().join("broken.wasm"), "not a component").unwrap();
    std::fs::copy(component("fixtures/traps"), folder.providers().join("traps.wasm")).unwrap();
    server.get(&path, &key).await.ok(200);
    assert_eq!(server.end(Signal::TERM).0, 0);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = Folder::with(&[]).run(&["serve", "--listen", &address]).failed(1);
    assert!(ran.stderr.contains(&address) && ran.stderr.contains("--listen"), "{ran:#?}");
}

#[test]
fn an_address_that_is_none_is_a_wrong_command_line() {
    for command in [&["serve", "--listen", "nonsense"][..], &["demo", "--listen", "127.0.0.1"]] {
        let ran = Folder::with(&[]).run(command).failed(2);
        assert!(ran.stderr.contains("ADDRESS:PORT, as in 127.0.0.1:8600"), "{ran:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn managing_and_resolving_leave_no_secret_in_the_log_or_the_data_folder() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let id = folder.bind("acme-prod", "echo://item/secret-of-the-item");
    let created = folder.run(&["key", "create", "all", "--scopes", "api,admin,resolve", "--json"]).ok().json();
    let key = created["api_key"].as_str().unwrap();
    let server = Process::start(&folder, &["--log", "trace", "--log-format", "json"]);
    let request = async |method: &str, path: &str, body: &Value| {
        let headers = [("cc-key", key), ("content-type", "application/json")];
        send(&format!("{}{path}", server.url), method, &headers, body.to_string()).await
    };
    let token = "another-token-9d24c07be1f35a68-wxyz";
    let new = json!({"name": "Second", "provider_type": "echo", "settings": {"token": token}});
    let connection = request("POST", "/secret-providers", &new).await.ok(201);
    let path = format!("/secret-providers/{}", connection["id"].as_str().unwrap());
    request("PATCH", &path, &json!({"settings": {"token": token, "nosuch": token}}))
        .await
        .error(400, "VALIDATION_FAILED");
    request("PATCH", &path, &json!({"settings": {"token": token}})).await.ok(200);
    let resolved = request("POST", "/vault/resolve", &json!({"id": id})).await.ok(200);
    assert_eq!(resolved["password"]["value"], "password-secret-of-the-item");
    let code = resolved["one_time_code"]["code"].as_str().unwrap().to_owned();
    request("POST", "/vault/resolve", &json!({"id": id, "rejected": resolved["revision"]})).await.ok(200);
    request("DELETE", &path, &json!({})).await.ok(200);
    let files = || {
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.is_file()).map(|file| std::fs::read(file).unwrap()).collect::<Vec<_>>()
    };
    let secrets = [token, key, ECHO_TOKEN, "password-secret-of-the-item", "user-secret-of-the-item"];
    for file in files() {
        assert_without(&String::from_utf8_lossy(&file), &secrets);
    }
    let (_, said) = server.end(Signal::TERM);
    assert_without(&said, &secrets);
    // Six digits may occur in a time or an id; the code must not occur as a separate value.
    assert!(!said.contains(&format!("\"{code}\"")), "{said}");
    for file in files() {
        assert_without(&String::from_utf8_lossy(&file), &secrets);
    }
}
