//! Searches the memory of a server for every secret that passed through it, a second after its last
//! request, while the connections of its clients are still open.
//!
//! Keys that the process holds open are there as bytes, never as text.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::leaks::{UNUSED_TOKEN, World};
use crate::support::MASTER_KEY;

/// JSON escapes it, so its reader has to put it together in a buffer of its own.
const PASSWORD: &str = "left\"over\\password-Zq7";
const USER: &str = "left\"over\\user-Kx3";
const SEED: &str = "MFRGGZDFMZTWQ2LKNNWG23TP";
const REFUSED_KEY: &str = "cc-refused-key-8d1f64b0a97e";
const REFUSED_TOKEN: &str = "ops_refused-token-5b9e02c4d7";

const PAGE: usize = 4 << 10;

/// The parts of a process's memory that are not zero, as text.
fn memory(process: u32) -> Vec<(String, String)> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let zeros = vec![0; PAGE];
    let writable = maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")));
    let read = |line: &str| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let range = u64::from_str_radix(from, 16).unwrap()..u64::from_str_radix(to, 16).unwrap();
        let mut page = vec![0; PAGE];
        let mut bytes = Vec::new();
        for at in range.step_by(PAGE) {
            if memory.read_exact_at(&mut page, at).is_ok() && page != zeros {
                bytes.extend_from_slice(&page);
            }
        }
        (line.to_owned(), String::from_utf8_lossy(&bytes).into_owned())
    };
    writable.map(read).collect()
}

/// How often each of these occurs in the memory, and where.
fn copies(process: u32, secrets: &[(&str, String)]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (place, text) in memory(process) {
        // `contains` is quick even in a test that is not optimised.
        for (name, secret) in secrets.iter().filter(|(_, secret)| text.contains(secret.as_str())) {
            for (at, _) in text.match_indices(secret.as_str()) {
                let before: String = text[..at].chars().rev().take(24).collect();
                let around = format!("{place}: after {:?}", before.chars().rev().collect::<String>());
                found.entry((*name).to_owned()).or_default().push(around);
            }
        }
    }
    found
}

fn request(key: &str, body: &Value) -> String {
    let body = body.to_string();
    let head = format!("POST /vault/resolve HTTP/1.1\r\nhost: keyway\r\ncc-key: {key}\r\n");
    format!("{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A request on a connection that stays open.
fn ask(stream: &mut TcpStream, key: &str, body: &Value) -> Value {
    stream.write_all(request(key, body).as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 4_096];
    loop {
        let read = stream.read(&mut part).unwrap();
        assert_ne!(read, 0, "the connection stays open");
        answer.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return body;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_after_the_last_request_no_secret_is_left_in_memory() {
    let world = World::start();
    if File::open(format!("/proc/{}/mem", world.server.id())).is_err() {
        // The process lets nobody but root read its memory.
        return;
    }
    let account = world.emulator.account("automation").unwrap();
    let item = account.vault("Automation").unwrap().item("Northwind Supplier Portal").unwrap().clone();
    let connect = |token: &str| json!({ "name": "1P", "provider_type": "1password", "settings": { "token": token } });
    let connection = world.secret("POST", "/secret-providers", &connect(&world.token())).await.ok(201);
    world.secret("POST", "/secret-providers", &connect(REFUSED_TOKEN)).await;
    let bound = json!({
        "permissioned_user_id": "bound", "domain": "https://acme.com",
        "secret_provider_id": connection["id"], "secret_ref": item.reference,
    });
    let bound = world.secret("POST", "/vault", &bound).await.ok(201)["id"].clone();
    let manual = json!({
        "permissioned_user_id": "manual", "domain": "https://acme.com",
        "user_name": world.encrypted(USER), "password": world.encrypted(PASSWORD),
        "tfa_method": "AUTHENTICATOR", "tfa_secret": world.encrypted(SEED),
    });
    let manual = world.secret("POST", "/vault", &manual).await.ok(201)["id"].clone();
    let rotation = json!({ "entry_id": manual, "password": world.encrypted(&format!("{PASSWORD}-2")) });
    let rotation = world.secret("POST", "/vault/rotations", &rotation).await.ok(201)["id"].clone();
    let commit = format!("/vault/rotations/{}/commit", rotation.as_str().unwrap());
    world.secret("POST", &commit, &Value::Null).await.ok(200);

    let address = world.url.strip_prefix("http://").unwrap();
    let mut open: Vec<_> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut secrets = vec![
        ("API key", world.key.clone()),
        ("API key without its prefix", world.key[19..].to_owned()),
        ("refused API key", REFUSED_KEY.to_owned()),
        ("token", world.token()),
        ("middle of the token", world.token()[100..140].to_owned()),
        ("refused token", REFUSED_TOKEN.to_owned()),
        ("unused token", UNUSED_TOKEN.to_owned()),
        ("client key", world.encryption_key.clone()),
        ("master key", MASTER_KEY.to_owned()),
        ("password", PASSWORD.to_owned()),
        ("password in JSON", json!(PASSWORD).to_string().trim_matches('"').to_owned()),
        ("user name", USER.to_owned()),
        ("user name in JSON", json!(USER).to_string().trim_matches('"').to_owned()),
        ("one-time password secret", SEED.to_owned()),
    ];
    for stream in &mut open {
        for entry in [&bound, &manual, &manual] {
            let resolved = ask(stream, &world.key, &json!({ "id": entry }));
            let mut seen = |name, field: &str, value: &str| {
                let text = resolved[field][value].as_str().unwrap();
                // Other digits are everywhere.
                let text = if name == "code" { format!("\"{text}\"") } else { text.to_owned() };
                secrets.push((name, text));
            };
            seen("resolved user name", "username", "value");
            seen("resolved password", "password", "value");
            seen("code", "one_time_code", "code");
        }
        ask(stream, REFUSED_KEY, &json!({ "id": bound }));
    }
    // After a head in pieces, the server closes the connection.
    let mut stream = TcpStream::connect(address).unwrap();
    let request = request(&world.key, &json!({ "id": manual }));
    let (start, rest) = request.split_at(request.find("content-type").unwrap());
    stream.write_all(start.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    stream.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");

    secrets.sort();
    secrets.dedup();

    tokio::time::sleep(Duration::from_secs(1)).await;
    let found = copies(world.server.id(), &secrets);
    assert!(found.is_empty(), "{found:#?}");
    let environment = fs::read_to_string(format!("/proc/{}/environ", world.server.id())).unwrap();
    assert!(environment.contains("KEYWAY_MASTER_KEY=xxx") && !environment.contains(MASTER_KEY), "{environment}");
    assert!(environment.contains("KEYWAY_SETTING_TOKEN=xxx") && !environment.contains(UNUSED_TOKEN), "{environment}");
    // It would have been found: what is no secret is there.
    assert!(!copies(world.server.id(), &[("", "KEYWAY_DATA_DIR".to_owned())]).is_empty());
    drop(open);
}
