//! The program, and its control endpoint as scripts see it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use keyway_emulator_onepassword::{Calls, Emulator, Endpoint, FaultRule, Info, ItemText, Rules, SeenRequest};
use serde_json::{Value, json};
use support::Client;

/// Sends a request to the control endpoint.
async fn control(emulator: &Emulator, method: &str, path: &str, body: Value) -> (u16, Value) {
    let http = Http::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let uri = format!("{}{path}", emulator.control_url());
    let request = Request::builder().method(method).uri(uri).body(Full::new(body)).unwrap();
    let response = http.request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("not JSON: {body:?}")))
}

async fn get<T: serde::de::DeserializeOwned>(emulator: &Emulator, path: &str) -> T {
    let (status, value) = control(emulator, "GET", path, Value::Null).await;
    assert_eq!(status, 200, "{value}");
    serde_json::from_value(value).unwrap()
}

async fn done(emulator: &Emulator, method: &str, path: &str, body: Value) {
    assert_eq!(control(emulator, method, path, body).await, (200, json!({ "ok": true })), "{method} {path}");
}

#[tokio::test]
async fn items_are_read_changed_replaced_and_added() {
    let emulator = Emulator::start().unwrap();
    let path = "/vaults/Automation/items/Northwind%20Supplier%20Portal";
    let change = json!({ "password": "changed", "state": "archived" });
    let (status, versions) = control(&emulator, "PATCH", path, change).await;
    assert_eq!((status, &versions["item_version"]), (200, &json!(2)));
    let item: ItemText = get(&emulator, path).await;
    assert!(item.details.contains("changed") && item.item_version == 2);
    let details = " {\"fields\" : []}\n";
    control(&emulator, "PUT", path, json!({ "details": details })).await;
    assert_eq!(get::<ItemText>(&emulator, path).await.details, details);
    let new = json!({ "title": "New", "username": "dave", "otpauth": "JBSWY3DPEHPK3PXP" });
    let (status, added) = control(&emulator, "POST", "/vaults/Staging/items", new).await;
    assert_eq!((status, &added["username"], &added["has_one_time_code"]), (200, &json!("dave"), &json!(true)));
    let info: Info = get(&emulator, "/info").await;
    let staging = info.account("automation").unwrap().vault("Staging").unwrap();
    assert_eq!(staging.item("New").unwrap().reference, added["reference"]);
    done(&emulator, "POST", "/reset", Value::Null).await;
    let info: Info = get(&emulator, "/info").await;
    assert!(info.account("automation").unwrap().vault("Staging").unwrap().item("New").is_none());
}

#[tokio::test]
async fn tokens_devices_access_and_sessions_are_changed() {
    let emulator = Emulator::start().unwrap();
    let mut client = Client::signed_in(&emulator, "auditor").await;
    done(&emulator, "PUT", "/accounts/auditor/vaults/Staging", json!({ "access": "read-write" })).await;
    assert_eq!(client.call("GET", "/api/v1/vaults", None).await.1.as_array().unwrap().len(), 3);
    done(&emulator, "PUT", "/accounts/auditor/vaults/Staging", json!({ "access": null })).await;
    assert_eq!(client.call("GET", "/api/v1/vaults", None).await.1.as_array().unwrap().len(), 2);
    done(&emulator, "DELETE", "/sessions", Value::Null).await;
    assert_eq!(client.call("GET", "/api/v1/vaults", None).await.0, 401);
    done(&emulator, "DELETE", "/accounts/auditor/token?status=400", Value::Null).await;
    assert_eq!(client.start().await.status, 400);
    done(&emulator, "PUT", "/accounts/auditor/token", Value::Null).await;
    done(&emulator, "PUT", "/accounts/auditor/device", json!({ "state": "deleted" })).await;
    assert_eq!(client.start().await.json()["status"], "device-deleted");
    let token = get::<Value>(&emulator, "/accounts/auditor/token").await;
    let wrong = get::<Value>(&emulator, "/accounts/auditor/token?wrong=srp-x").await;
    assert!(token["token"] == emulator.account("auditor").unwrap().token && wrong["token"] != token["token"]);
}

#[tokio::test]
async fn calls_are_counted_and_remembered_without_secrets() {
    let emulator = Emulator::start().unwrap();
    let mut client = Client::signed_in(&emulator, "automation").await;
    client.call("GET", "/api/v1/vaults?attrs=combined-access", None).await;
    let calls: Calls = get(&emulator, "/calls").await;
    assert_eq!((calls.total, calls.logins, calls.of(Endpoint::Vaults)), (5, 1, 1));
    let requests: Vec<SeenRequest> = get(&emulator, "/requests").await;
    let last = requests.last().unwrap();
    let (method, path) = (last.method.as_str(), last.path.as_str());
    assert_eq!((last.number, method, path, last.status), (5, "GET", "/api/v1/vaults?attrs=combined-access", Some(200)));
    let all = serde_json::to_string(&requests).unwrap();
    let token = emulator.token("automation").unwrap();
    assert!(!all.contains(token.expose()) && !all.contains(&client.session.unwrap().id));
    done(&emulator, "DELETE", "/calls", Value::Null).await;
    assert_eq!(get::<Calls>(&emulator, "/calls").await, Calls::default());
}

#[tokio::test]
async fn faults_and_rules_are_set_and_cleared() {
    let emulator = Emulator::start().unwrap();
    let fault = json!({
        "endpoint": "auth-start", "times": 2,
        "fault": { "kind": "status", "status": 429, "retry_after_seconds": 7, "retry_after_in": "both" },
    });
    done(&emulator, "POST", "/faults", fault).await;
    let client = Client::new(&emulator, "automation");
    let reply = client.start().await;
    assert_eq!((reply.status, &reply.headers["retry-after"]), (429, &"7".parse().unwrap()));
    let waiting: Vec<FaultRule> = get(&emulator, "/faults").await;
    assert!(waiting.len() == 1 && waiting[0].times == Some(1));
    done(&emulator, "DELETE", "/faults", Value::Null).await;
    assert_eq!(client.start().await.status, 200);
    let (_, rules) = control(&emulator, "PUT", "/rules", json!({ "hidden_vault_status": 403 })).await;
    assert_eq!(rules["hidden_vault_status"], 403);
    assert_eq!(get::<Rules>(&emulator, "/rules").await, Rules { hidden_vault_status: 403, ..Rules::default() });
}

#[tokio::test]
async fn mistakes_are_answered_with_what_is_wrong() {
    let emulator = Emulator::start().unwrap();
    for (method, path, body, status, says) in [
        ("GET", "/nothing", Value::Null, 404, "no such path"),
        ("GET", "/accounts/nobody/token", Value::Null, 404, "no account 'nobody'"),
        ("GET", "/vaults/Nowhere/items/x", Value::Null, 404, "no vault 'Nowhere'"),
        ("GET", "/vaults/Staging/items/x", Value::Null, 404, "no item 'x'"),
        ("POST", "/faults", json!({ "fault": { "kind": "unheard-of" } }), 400, "unheard-of"),
        ("PUT", "/rules", json!({ "strict": true }), 400, "strict"),
        ("PATCH", "/vaults/Staging/items/Metrics", json!({ "pasword": "x" }), 400, "pasword"),
    ] {
        let (got, answer) = control(&emulator, method, path, body).await;
        assert!(got == status && answer["error"].as_str().unwrap().contains(says), "{method} {path}: {got} {answer}");
    }
    emulator.replace_item_text("Staging", "Metrics", None, Some("not JSON")).unwrap();
    let metrics = emulator.account("automation").unwrap().vault("Staging").unwrap().item("Metrics").cloned();
    assert!(metrics.is_none(), "an item that cannot be read is not described");
}

#[test]
fn an_emulator_that_is_dropped_frees_its_address() {
    // Another program may take the same port in between, but not every time.
    let is_free = |_| {
        let emulator = Emulator::start().unwrap();
        let address = emulator.address();
        drop(emulator);
        std::net::TcpStream::connect(address).is_err()
    };
    assert!((0..5).any(is_free));
}

/// The program, ended when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_program_says_what_is_in_it_and_ends_when_it_is_told_to() {
    for signal in ["TERM", "INT"] {
        let started = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway-emulator-onepassword"));
        let mut program =
            Program(command.args(["--listen", "127.0.0.1:0", "--seed", "7"]).stdout(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(program.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(started.elapsed() < Duration::from_secs(5));
        let info: Info = serde_json::from_str(&line).unwrap();
        let names: Vec<_> = info.accounts.iter().map(|account| account.name.as_str()).collect();
        assert_eq!(names, ["automation", "auditor", "newcomer"]);
        let account = info.account("automation").unwrap();
        assert!(account.token.starts_with("ops_eyJ") && account.token.ends_with(&account.token_last4));
        assert!(info.url.starts_with("http://127.0.0.1:") && info.control_url != info.url);
        let pid = program.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
        assert_eq!(program.0.wait().unwrap().code(), Some(0), "{signal}");
    }
}
