//! Clients that are slow, silent, too many or odd: what one does takes nothing from the others.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::json;

use crate::serve::{Process, api_key};
use crate::support::{Api, Folder, send};

/// For what should happen soon, on a machine that is busy with something else.
const LONG: Duration = Duration::from_secs(60);

/// Lets this process open as many sockets as the system allows.
fn allow_sockets() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Sends a request as it is, and returns everything until the server closes the connection.
fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A connection that is cut off has said what it had to say.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn get(path: &str, key: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: keyway\r\ncc-key: {key}\r\n\r\n")
}

/// Reads the head of an answer, and its body of that length.
fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    let head = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).unwrap();
    head
}

/// Whether something came that can be read without waiting.
fn has_answer(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let has = stream.peek(&mut [0]).is_ok();
    stream.set_nonblocking(false).unwrap();
    has
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_whose_bodies_never_arrive_stops_no_other_and_not_even_its_own_whole_requests() {
    const SLOW: usize = 1_100;
    /// Half of the places for bodies that arrive.
    const FIT: usize = 512;
    allow_sockets();
    let folder = Folder::connected(&["fixtures/echo"]);
    let key = api_key(&folder);
    let other = folder.run(&["workspace", "create", "Other", "--json"]).ok().json();
    let other = other["api_key"].as_str().unwrap().to_owned();
    // Nobody reads what it logs, and a line for each of them would fill the pipe.
    let server = Process::start(&folder, &["--log", "warn"]);
    let head = format!(
        "POST /vault HTTP/1.1\r\nhost: keyway\r\ncc-key: {other}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    );
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut stream = connect(&server.url);
        stream.write_all(head.as_bytes()).unwrap();
        slow.push(stream);
    }
    // Those that are too many are told so; then all others wait.
    let deadline = Instant::now() + LONG;
    while slow.iter().filter(|stream| has_answer(stream)).count() < SLOW - FIT {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    let refused = slow.iter_mut().find(|stream| has_answer(stream)).unwrap();
    let refused = exchange(refused, "");
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("the rest of their bodies"), "{refused}");
    // Behind a load balancer, all clients have this address.
    let entry = r#"{"permissioned_user_id": "b", "domain": "https://acme.com"}"#;
    let length = entry.len();
    let mut patient = connect(&server.url);
    let head = head.replace(&other, &key).replace("length: 100", &format!("length: {length}"));
    patient.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    patient.write_all(entry.as_bytes()).unwrap();
    assert!(read_answer(&mut patient).starts_with("http/1.1 201"));
    for key in [&key, &other] {
        server.get("/vault", key).await.ok(200);
        let headers = [("cc-key", &**key), ("content-type", "application/json")];
        let entry = json!({"permissioned_user_id": "a", "domain": "https://acme.com"});
        send(&format!("{}/vault", server.url), "POST", &headers, entry.to_string()).await.ok(201);
    }
    drop(slow);
    assert_eq!(server.end(Signal::TERM).0, 0);
}

/// Many clients send head and body apart, and look for the answer when they have sent both.
#[test]
fn who_is_refused_before_the_body_comes_can_still_send_it_and_then_another_request() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let key = api_key(&folder);
    let server = Process::start(&folder, &[]);
    let mut stream = connect(&server.url);
    let announced = ["content-length: 100\r\n", "transfer-encoding: chunked\r\n"];
    let refused = [("not-a-key", "application/json", "401"), (&*key, "text/plain", "415")];
    for (length, (key, kind, status)) in
        announced.into_iter().flat_map(|length| refused.map(|refused| (length, refused)))
    {
        let head =
            format!("POST /vault HTTP/1.1\r\nhost: keyway\r\ncc-key: {key}\r\ncontent-type: {kind}\r\n{length}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with(&format!("http/1.1 {status}")), "{length}{answer}");
        let body = "x".repeat(100);
        let body = if length.starts_with("transfer") { format!("64\r\n{body}\r\n0\r\n\r\n") } else { body };
        for part in body.as_bytes().chunks(40) {
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(part).unwrap();
        }
    }
    stream.write_all(get("/secret-providers", &key).as_bytes()).unwrap();
    let answer = read_answer(&mut stream);
    assert!(answer.starts_with("http/1.1 200") && !answer.contains("connection: close"), "{answer}");
    // Who still sends does not hold up the end of the server.
    stream.write_all(b"POST /vault HTTP/1.1\r\nhost: keyway\r\ncontent-length: 100\r\n\r\nx").unwrap();
    assert!(read_answer(&mut stream).starts_with("http/1.1 401"));
    let (code, log) = server.end(Signal::TERM);
    assert!(code == 0 && !log.contains("did not finish"), "{log}");
}

/// A server that may open so many files.
fn with_files(folder: &Folder, files: usize) -> Process {
    let program = env!("CARGO_BIN_EXE_keyway");
    let limited = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &limited, program, "serve", "--json", "--listen", "127.0.0.1:0"]);
    command.args(["--metrics-listen", "127.0.0.1:0"]);
    command.env_clear().env("HOME", folder.path()).env("KEYWAY_DATA_DIR", folder.path());
    command.env("KEYWAY_MASTER_KEY_FILE", folder.key_file());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Process::of(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_make_room_for_new_ones_and_leave_those_of_known_clients_alone() {
    allow_sockets();
    let folder = Folder::connected(&["fixtures/echo"]);
    let key = api_key(&folder);
    // Half of them for connections.
    let server = with_files(&folder, 512);
    let mut known = connect(&server.url);
    known.write_all(get("/secret-providers", &key).as_bytes()).unwrap();
    assert!(read_answer(&mut known).starts_with("http/1.1 200"));
    let mut silent = Vec::new();
    for number in 0..600 {
        let mut stream = connect(&server.url);
        // Some of them have begun to speak.
        if number % 2 == 0 {
            stream.write_all(b"GET /vault HTTP/1.1\r\n").unwrap();
        }
        silent.push(stream);
    }
    for _ in 0..3 {
        assert_eq!(server.get("/healthz", "").await.ok(200), json!({"status": "ok"}));
        server.get("/vault", &key).await.ok(200);
        send(&format!("{}/readyz", server.operators), "GET", &[], "").await.ok(200);
    }
    known.write_all(get("/secret-providers", &key).as_bytes()).unwrap();
    assert!(read_answer(&mut known).starts_with("http/1.1 200"), "it was not closed");
    // The first of those that were silent was.
    assert_eq!(exchange(&mut silent[0], ""), "");
    drop(silent);
    assert_eq!(server.end(Signal::TERM).0, 0);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn without_file_descriptors_new_connections_get_in_and_the_log_says_so_once_a_second() {
    use rustix::process::prlimit;
    let folder = Folder::connected(&["fixtures/echo"]);
    let key = api_key(&folder);
    let server = with_files(&folder, 512);
    server.get("/vault", &key).await.ok(200);
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.id().as_raw_nonzero())).unwrap().count() as u64;
    let few = Rlimit { current: Some(open + 10), maximum: Some(512) };
    let before = prlimit(Some(server.id()), Resource::Nofile, few).unwrap();
    let started = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.extend((0..20).map(|_| connect(&server.url)));
        server.get("/healthz", "").await.ok(200);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let took = started.elapsed();
    prlimit(Some(server.id()), Resource::Nofile, before).unwrap();
    server.get("/vault", &key).await.ok(200);
    let (code, said) = server.end(Signal::TERM);
    assert_eq!(code, 0, "{said}");
    let warnings = said.lines().filter(|line| line.contains("cannot accept connections")).count() as u64;
    assert!((1..=took.as_secs() + 2).contains(&warnings), "{warnings} in {took:?}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_sending_side_gets_its_answer() {
    let (api, _) = Api::echo().await;
    let entry = r#"{"permissioned_user_id": "a", "domain": "https://acme.com"}"#;
    let post = format!(
        "POST /vault HTTP/1.1\r\nhost: keyway\r\ncc-key: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{entry}",
        api.key,
        entry.len()
    );
    let get = get("/vault", &api.key);
    tokio::task::spawn_blocking(move || {
        for attempt in 0..20 {
            let (request, status) = match attempt {
                0 => (&post, "HTTP/1.1 201"),
                _ => (&get, "HTTP/1.1 200"),
            };
            let mut stream = connect(&api.url);
            stream.write_all(request.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let answer = exchange(&mut stream, "");
            assert!(answer.starts_with(status), "{attempt}: {answer}");
            assert!(answer.contains("https://acme.com"), "{attempt}: {answer}");
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_one_host() {
    let (api, _) = Api::echo().await;
    let send = async |version: &str, hosts: &str| {
        let url = api.url.clone();
        let request = format!("GET /healthz HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
        tokio::task::spawn_blocking(move || exchange(&mut connect(&url), &request)).await.unwrap()
    };
    let none = send("1.1", "").await;
    assert!(none.starts_with("HTTP/1.1 400") && none.contains("one Host header"), "{none}");
    assert!(send("1.1", "host: keyway\r\nhost: keyway\r\n").await.starts_with("HTTP/1.1 400"));
    assert!(send("1.1", "host: keyway\r\nHost: other\r\n").await.starts_with("HTTP/1.1 400"));
    for (version, hosts) in [("1.1", "host: keyway\r\n"), ("1.0", "")] {
        let answer = send(version, hosts).await;
        assert!(answer.contains("200 OK"), "{answer}");
    }
}

#[test]
fn a_head_that_does_not_end_and_a_rest_that_is_too_long_end_the_connection() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let key = api_key(&folder);
    let server = Process::start(&folder, &["--head-timeout-seconds", "1", "--idle-timeout-seconds", "3600"]);
    let mut rests = connect(&server.url);
    // Reading times out only if the server does not close it.
    assert_eq!(exchange(&mut connect(&server.url), "GET /vault HTTP/1.1\r\nhost: key"), "");
    rests.write_all(get("/secret-providers", &key).as_bytes()).unwrap();
    assert!(read_answer(&mut rests).starts_with("http/1.1 200"));
    assert_eq!(server.end(Signal::TERM).0, 0);

    let server = Process::start(&folder, &["--head-timeout-seconds", "3600", "--idle-timeout-seconds", "1"]);
    let mut rests = connect(&server.url);
    rests.write_all(get("/secret-providers", &key).as_bytes()).unwrap();
    assert!(read_answer(&mut rests).starts_with("http/1.1 200"));
    assert_eq!(rests.read(&mut [0]).unwrap(), 0, "closed");
    assert_eq!(server.end(Signal::TERM).0, 0);
}

#[test]
fn the_api_is_plain_http_beyond_this_machine_only_when_that_was_said() {
    let ran = Folder::with(&[]).run(&["serve", "--listen", "0.0.0.0:0"]).failed(1);
    assert!(ran.stderr.contains("--tls-certificate") && ran.stderr.contains("--insecure-plain-http"), "{ran:#?}");
}

#[test]
fn a_body_that_says_that_it_is_too_large_is_refused_before_it_comes() {
    let folder = Folder::connected(&["fixtures/echo"]);
    let key = api_key(&folder);
    let server = Process::start(&folder, &[]);
    for length in [(2_u64 << 20) + 1, 1 << 40, 1 << 62] {
        let started = Instant::now();
        let mut stream = connect(&server.url);
        let head = format!(
            "POST /vault HTTP/1.1\r\nhost: keyway\r\ncc-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with("http/1.1 413"), "{length}: {answer}");
        // Without the header's word it would be the whole time of a request, 55 s.
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }
    assert_eq!(server.end(Signal::TERM).0, 0);
}
