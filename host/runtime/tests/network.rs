//! The network as hostile components see it, and which of their secrets reach a log.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use keyway_runtime::egress::EgressPolicy;
use keyway_runtime::{CallError, ErrorCode, Fields, OpenConnection, Provider, ProviderError, Runtime, Settings};
use secrecy::ExposeSecret;
use support::{TOKEN, connect, connect_with, limits, load, runtime, runtime_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An HTTP server that counts what it sees. `/redirect` answers with a redirect to `other`.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(other: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            Self { address, connections: Arc::default(), most_at_once: Arc::default(), requests: Arc::default() };
        let (connections, most, requests) =
            (server.connections.clone(), server.most_at_once.clone(), server.requests.clone());
        let now = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let (now, most, requests) = (now.clone(), most.clone(), requests.clone());
                tokio::spawn(async move {
                    most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    let _ = answer(stream, other, requests, UnderWay(now)).await;
                });
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn seen(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Decrements the count when dropped.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request for each connection, which keeps the counting simple.
async fn answer(
    mut stream: TcpStream,
    other: Option<SocketAddr>,
    requests: Arc<Mutex<Vec<String>>>,
    under_way: UnderWay,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut buffer = [0; 4_096];
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            read => head.extend_from_slice(&buffer[..read]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    requests.lock().unwrap().push(head.clone());
    if head.starts_with("POST /upload") {
        // Accepts everything, as a patient accomplice would.
        while stream.read(&mut [0; 65_536]).await? > 0 {}
        return Ok(());
    }
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let answer = match other {
        Some(other) if head.starts_with("GET /redirect") => {
            format!("HTTP/1.1 302 Found\r\nlocation: http://{other}/\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        }
        _ => "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".to_owned(),
    };
    // Ends as soon as the client can notice, and may send the next one.
    drop(under_way);
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// A connection whose address is the server's; the operator allows it to be on loopback.
async fn connected(fixture: &str, server: &Server) -> (Runtime, Provider, OpenConnection) {
    let runtime = runtime_with(EgressPolicy::default().with_private(server.url().parse().unwrap()));
    let provider = load(&runtime, fixture).await;
    let setting = if fixture == "echo" { "base_url" } else { "address" };
    let settings = Settings::new().with("token", TOKEN).with(setting, server.url());
    let connection = connect_with(&runtime, &provider, settings);
    (runtime, provider, connection)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_approved_destination_can_be_reached() {
    let elsewhere = Server::start(None).await;
    let server = Server::start(Some(elsewhere.address)).await;
    let (_runtime, provider, connection) = connected("calls-everywhere", &server).await;
    let verified = provider.verify(&connection).await.unwrap();
    let outcomes: BTreeMap<_, _> = verified.attributes.iter().map(|a| (a.name.as_str(), a.value.as_str())).collect();
    let reached: Vec<_> =
        outcomes.iter().filter(|(_, outcome)| outcome.starts_with("status-")).map(|(name, _)| *name).collect();
    for name in &reached {
        // An absolute path or a header of the request cannot change its destination.
        let harmless = ["approved", "redirect", "host-header", "proxy-header", "framing-header", "absolute-path"];
        assert!(harmless.contains(name), "{name}: {outcomes:?}");
    }
    assert_eq!((outcomes["approved"], outcomes["redirect"]), ("status-200", "status-302"), "{outcomes:?}");
    let counts = connection.request_counts();
    assert_eq!((counts.answered, counts.failed), (reached.len() as u64 + 1, 0), "{counts:?}");
    assert!(counts.refused > 20, "{counts:?}");
    assert_eq!(elsewhere.seen(), 0, "the redirect was followed");
    for request in server.requests.lock().unwrap().iter() {
        assert!(request.to_lowercase().contains(&format!("host: {}", server.address)), "{request}");
        assert!(!request.contains("proxy-authorization") && !request.contains("transfer-encoding"), "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_refused_even_to_the_approved_destination() {
    let server = Server::start(None).await;
    let (_runtime, provider, connection) = connected("opens-sockets", &server).await;
    for attribute in provider.verify(&connection).await.unwrap().attributes {
        assert_eq!(attribute.value, "refused", "{}", attribute.name);
    }
    assert_eq!(server.seen(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_body_is_cut_off_at_its_limit() {
    let server = Server::start(None).await;
    let (_runtime, provider, connection) = connected("sends-huge-body", &server).await;
    let resolved = provider.resolve(&connection, "sends-huge-body://item", Fields::ALL).await.unwrap();
    let taken: u64 = resolved.password.unwrap().expose_secret().parse().unwrap();
    assert!(!resolved.username.unwrap().expose_secret().starts_with("status-"));
    // The contents of buffers between the guest and the wire come on top.
    assert!(taken <= limits().request_body_bytes + (4 << 20), "{taken} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_requests_of_one_connection_are_under_way() {
    let server = Server::start(None).await;
    let (_runtime, provider, connection) = connected("floods-requests", &server).await;
    let resolved = provider.resolve(&connection, "floods-requests://item", Fields::ALL).await.unwrap();
    assert!(server.most_at_once.load(Ordering::Relaxed) <= limits().requests_per_connection as usize);
    // The component reads the answers in the order of its requests, so none may be blocked by a
    // later one.
    assert_eq!(resolved.username.unwrap().expose_secret(), "status-200=200");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_guard_is_told_to_the_person() {
    let server = Server::start(None).await;
    let runtime = runtime();
    let echo = load(&runtime, "echo").await;
    let settings = Settings::new().with("token", TOKEN).with("base_url", server.url());
    let connection = connect_with(&runtime, &echo, settings);
    let error = echo.resolve(&connection, "echo://server/x", Fields::ALL).await.unwrap_err();
    assert!(error.to_string().contains("the operator can allow"), "{error}");
    // A connection whose destinations were approved before the provider requested more.
    let settings = Settings::new().with("token", TOKEN).with("base_url", server.url());
    let narrow = runtime.connection(settings, Vec::new());
    let error = echo.resolve(&narrow, "echo://server/x", Fields::ALL).await.unwrap_err();
    assert!(error.to_string().contains("is not an approved destination of this connection"), "{error}");
    assert_eq!(server.seen(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_error_of_the_contract_arrives_as_itself() {
    let runtime = runtime();
    let echo = load(&runtime, "echo").await;
    let connection = connect(&runtime, &echo);
    for case in [
        "invalid-settings",
        "unauthenticated",
        "permission-denied",
        "invalid-reference",
        "not-found",
        "action-required",
        "conflict",
        "rate-limited",
        "unavailable",
        "unsupported",
        "unexpected-answer",
    ] {
        let error = echo.resolve(&connection, &format!("echo://error/{case}"), Fields::ALL).await.unwrap_err();
        let CallError::Provider(error) = error else { panic!("{error}") };
        assert_eq!(error.code(), case);
        if let ProviderError { code: ErrorCode::RateLimited, retry_after, .. } = error {
            assert_eq!(retry_after.unwrap().as_secs(), 17);
        }
    }
}

// ---- secrets -----------------------------------------------------------------------------------

/// The log of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_secret_of_a_call_reaches_a_log_or_a_message() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let messages = tracing::subscriber::with_default(subscriber, || {
        let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        reactor.block_on(async {
            let runtime = runtime();
            let mut messages = Vec::new();
            let provider = load(&runtime, "secret-in-error").await;
            let connection = connect(&runtime, &provider);
            messages.push(format!("{:?}", provider.verify(&connection).await));
            for case in ["message", "other", "setting", "halves"] {
                let outcome =
                    provider.resolve(&connection, &format!("secret-in-error://item/{case}"), Fields::ALL).await;
                messages.push(format!("{outcome:?}"));
                if let Err(error) = outcome {
                    messages.push(error.to_string());
                }
            }
            for fixture in ["traps", "echo"] {
                let provider = load(&runtime, fixture).await;
                let connection = connect(&runtime, &provider);
                let reference = if fixture == "echo" { "echo://print" } else { "traps://item" };
                messages.push(format!("{:?}", provider.resolve(&connection, reference, Fields::ALL).await));
                messages.push(format!("{connection:?} {provider:?}"));
            }
            messages
        })
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for text in messages.iter().chain([&log]) {
        assert!(!text.contains(TOKEN), "{text}");
    }
    assert!(messages.iter().any(|message| message.contains("[REDACTED]")));
    // The log is not simply empty.
    assert!(log.contains("to standard error: [REDACTED]"), "{log}");
}
