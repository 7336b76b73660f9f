//! Tests of the guard with real sockets on loopback.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{Empty, Full};
use keyway_clock::SystemClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A server that answers every request with the same bytes and records the requests.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answer: impl Into<Vec<u8>>) -> Self {
        Self::with(answer, Duration::ZERO).await
    }

    async fn with(answer: impl Into<Vec<u8>>, delay: Duration) -> Self {
        let answer: Vec<u8> = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Mutex::new(Vec::new())));
        let server = Self { address, connections: connections.clone(), heads: heads.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, answer.clone(), heads.clone(), delay));
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(mut stream: TcpStream, answer: Vec<u8>, heads: Arc<std::sync::Mutex<Vec<String>>>, delay: Duration) {
    let mut buffer = vec![0; 65_536];
    loop {
        let mut filled = 0;
        while !buffer[..filled].windows(4).any(|window| window == b"\r\n\r\n") {
            match stream.read(&mut buffer[filled..]).await {
                Ok(read) if read > 0 => filled += read,
                _ => return,
            }
        }
        heads.lock().unwrap().push(String::from_utf8_lossy(&buffer[..filled]).into_owned());
        tokio::time::sleep(delay).await;
        if stream.write_all(&answer).await.is_err() || !answer.starts_with(b"HTTP/1.1 200") {
            return;
        }
        // A body shorter than announced ends with the connection.
        if answer.ends_with(b"half") {
            return;
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn limits() -> Limits {
    Limits {
        connect_time: Duration::from_millis(500),
        answer_time: Duration::from_millis(500),
        response_body_bytes: 1_000,
        request_body_bytes: 1_000,
        requests_per_connection: 4,
        ..Limits::default()
    }
}

pub(super) fn tls() -> Arc<rustls::ClientConfig> {
    client_config(rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() })
}

pub(super) fn client_config(roots: rustls::RootCertStore) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

pub(super) fn guard(approved: &[&str], policy: EgressPolicy) -> Guard {
    guard_with(approved, policy, tls())
}

pub(super) fn guard_with(approved: &[&str], policy: EgressPolicy, tls: Arc<rustls::ClientConfig>) -> Guard {
    let approved: Vec<_> = approved.iter().map(|text| text.parse().unwrap()).collect();
    let clock_skew = Arc::new(ClockSkew::new(Arc::new(SystemClock::new())));
    Guard::new(Arc::new(policy), tls, approved.into(), Arc::new(limits()), Arc::default(), clock_skew)
}

/// A guard that approves the address, even if it is private.
fn guard_for(url: &str) -> Guard {
    guard(&[url], EgressPolicy::default().with_private(url.parse().unwrap()))
}

fn request(method: &str, url: &str) -> Request<Body> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    Request::builder().method(method).uri(url).body(body).unwrap()
}

pub(super) async fn get(guard: &Guard, url: &str) -> Result<(u16, Bytes), EgressError> {
    let answer = guard.send(request("GET", url), RequestTimes::default()).await?;
    let status = answer.status().as_u16();
    Ok((status, answer.into_body().collect().await?.to_bytes()))
}

#[tokio::test]
async fn an_approved_destination_is_reached_over_one_kept_connection() {
    let server = Server::start(OK).await;
    let guard = guard_for(&server.url());
    for _ in 0..3 {
        assert_eq!(get(&guard, &server.url()).await, Ok((200, "ok".into())));
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_kept_connection_that_went_silent_is_told_apart_if_the_request_only_reads_and_let_go() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Each connection answers one request.
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1_024];
            let _ = stream.read(&mut head).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            open.push(stream);
        }
    });
    let guard = guard_for(&url);
    for _ in 0..2 {
        assert_eq!(get(&guard, &url).await, Ok((200, "ok".into())));
        assert_eq!(get(&guard, &url).await, Err(EgressError::Stale(url.clone())));
    }
    assert_eq!(get(&guard, &url).await, Ok((200, "ok".into())));
    let change = guard.send(request("POST", &url), RequestTimes::default()).await;
    assert_eq!(change.unwrap_err(), EgressError::AnswerTimeout(url.clone()));
    assert_eq!(get(&guard, &url).await, Ok((200, "ok".into())), "which lets the others go, too");
}

#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_has_what_was_approved_and_nothing_that_a_component_chose() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(move || writer.clone());
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    let guard = guard(&["https://*.example.invalid"], EgressPolicy::default());
    for method in ["GET", "HUNTER2"] {
        let request = request(method, "https://hunter2.example.invalid/hunter2?hunter2");
        assert!(guard.send(request, RequestTimes::default()).await.is_err());
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let failed: Vec<_> = text.lines().filter(|line| line.contains("request failed")).collect();
    assert_eq!(failed.len(), 2, "{text}");
    for (line, method) in failed.iter().zip(["GET", "another"]) {
        assert!(line.contains("https://*.example.invalid") && line.contains(method), "{line}");
        assert!(!line.to_ascii_lowercase().contains("hunter2"), "{line}");
    }
}

#[tokio::test]
async fn a_destination_that_was_not_approved_sees_no_connection() {
    let server = Server::start(OK).await;
    let guard =
        guard(&["https://*.1password.com"], EgressPolicy::default().with_private(server.url().parse().unwrap()));
    for url in [
        server.url(),
        "https://example.com".into(),
        "http://my.1password.com".into(),
        "https://my.1password.com:444".into(),
    ] {
        assert!(matches!(get(&guard, &url).await, Err(EgressError::NotApproved(_))), "{url}");
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_private_address_needs_the_operators_word_however_it_is_spelled() {
    let server = Server::start(OK).await;
    let port = server.address.port();
    for host in ["localhost", "127.0.0.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let url = format!("http://{host}:{port}");
        let guard = guard(&[&url], EgressPolicy::default());
        assert!(matches!(get(&guard, &url).await, Err(EgressError::PrivateAddress { .. })), "{url}");
    }
    let metadata = "http://169.254.169.254";
    assert!(matches!(
        get(&guard(&[metadata], EgressPolicy::default()), metadata).await,
        Err(EgressError::PrivateAddress { .. })
    ));
    assert_eq!(server.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_operators_map_changes_the_connection_and_not_the_request() {
    let server = Server::start(OK).await;
    let rule = format!("my.1password.com={}", server.url());
    let guard = guard(&["https://*.1password.com"], EgressPolicy::default().with_connect_to(rule.parse().unwrap()));
    assert_eq!(get(&guard, "https://my.1password.com/api/v1/vaults?attrs=x").await, Ok((200, "ok".into())));
    let head = server.heads.lock().unwrap().join("");
    assert!(head.starts_with("GET /api/v1/vaults?attrs=x HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("host: my.1password.com\r\n"), "{head}");
}

#[tokio::test]
async fn requests_that_no_provider_needs_are_refused() {
    let server = Server::start(OK).await;
    let guard = guard_for(&server.url());
    for (method, url) in [
        ("TRACE", server.url()),
        ("CONNECT", server.url()),
        ("GET", server.url().replace("http://", "http://user:pass@")),
        ("GET", "/relative".into()),
    ] {
        let result = guard.send(request(method, &url), RequestTimes::default()).await;
        assert!(matches!(result, Err(EgressError::InvalidRequest(_))), "{method} {url}");
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let target = Server::start(OK).await;
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", target.url());
    let server = Server::start(answer).await;
    assert_eq!(get(&guard_for(&server.url()), &server.url()).await, Ok((302, Bytes::new())));
    assert_eq!(target.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn answers_over_the_limit_are_cut_off_announced_or_not() {
    let body = "x".repeat(1_001);
    let announced = Server::start(format!("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n{body}")).await;
    assert_eq!(get(&guard_for(&announced.url()), &announced.url()).await, Err(EgressError::AnswerTooLarge(1_000)));
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n{body}\r\n0\r\n\r\n");
    let chunked = Server::start(chunked).await;
    assert_eq!(get(&guard_for(&chunked.url()), &chunked.url()).await, Err(EgressError::AnswerTooLarge(1_000)));
}

#[tokio::test]
async fn the_head_of_an_answer_is_bounded_too() {
    let with_header = |bytes: usize| {
        let value = "x".repeat(bytes);
        Server::start(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-long: {value}\r\n\r\nok"))
    };
    for kibibytes in [64, 100, 300] {
        let server = with_header(kibibytes << 10).await;
        let answer = get(&guard_for(&server.url()), &server.url()).await;
        assert_eq!(answer, Err(EgressError::AnswerTooLarge(64 << 10)), "{kibibytes} KiB");
    }
    let server = with_header(48 << 10).await;
    let answer = guard_for(&server.url()).send(request("GET", &server.url()), RequestTimes::default()).await.unwrap();
    assert_eq!(answer.headers()["x-long"].len(), 48 << 10);
}

#[tokio::test]
async fn a_request_over_the_limit_is_cut_off() {
    let server = Server::start(OK).await;
    let body = Full::from(vec![b'x'; 1_001]).map_err(|never| match never {}).boxed_unsync();
    let request = Request::post(server.url()).body(body).unwrap();
    let result = guard_for(&server.url()).send(request, RequestTimes::default()).await;
    assert_eq!(result.err(), Some(EgressError::RequestTooLarge(1_000)));
}

#[tokio::test]
async fn silence_garbage_and_half_an_answer_are_told_apart() {
    let silent = Server::with(OK, Duration::from_secs(5)).await;
    let error = get(&guard_for(&silent.url()), &silent.url()).await;
    assert!(matches!(error, Err(EgressError::AnswerTimeout(_))), "{error:?}");
    let garbage = Server::start("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    let error = get(&guard_for(&garbage.url()), &garbage.url()).await;
    assert!(matches!(error, Err(EgressError::Protocol(_))), "{error:?}");
    let half = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    let error = get(&guard_for(&half.url()), &half.url()).await;
    assert!(matches!(error, Err(EgressError::Interrupted(_))), "{error:?}");
    // Nothing listens on a port that was just released.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{gone}");
    assert!(matches!(get(&guard_for(&url), &url).await, Err(EgressError::ConnectFailed(_))));
    let url = "https://does-not-exist.invalid";
    assert!(matches!(get(&guard(&[url], EgressPolicy::default()), url).await, Err(EgressError::NameNotFound(_))));
}

#[tokio::test]
async fn only_so_many_requests_are_under_way_at_once() {
    let server = Server::with(OK, Duration::from_millis(100)).await;
    let guard = Arc::new(guard_for(&server.url()));
    let requests: Vec<_> = (0..12)
        .map(|_| {
            let (guard, url) = (guard.clone(), server.url());
            tokio::spawn(async move { get(&guard, &url).await })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), Ok((200, "ok".into())));
    }
    assert!(server.connections.load(Ordering::Relaxed) <= 4);
}

/// An acceptor with a certificate for `name` from its own authority, and that authority.
pub(super) fn acceptor(name: &str) -> (tokio_rustls::TlsAcceptor, rcgen::Certificate) {
    let certificate = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let chain = vec![certificate.cert.der().clone()];
    let key = rustls::pki_types::PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    (tokio_rustls::TlsAcceptor::from(Arc::new(config)), certificate.cert)
}

/// A TLS server for `name`; returns its address and its authority.
pub(super) async fn tls_server(name: &str) -> (SocketAddr, rustls::RootCertStore) {
    let (acceptor, certificate) = acceptor(name);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut buffer = [0; 4_096];
                    let _ = stream.read(&mut buffer).await;
                    let _ = stream.write_all(OK.as_bytes()).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    (address, roots)
}

#[tokio::test]
async fn tls_is_checked_against_the_requested_name_wherever_the_connection_goes() {
    let (address, roots) = tls_server("my.1password.com").await;
    let to_server =
        |from: &str| EgressPolicy::default().with_connect_to(format!("{from}=https://{address}").parse().unwrap());
    let approved = &["https://*.1password.com"];
    let good = guard_with(approved, to_server("my.1password.com"), client_config(roots.clone()));
    assert_eq!(get(&good, "https://my.1password.com").await, Ok((200, "ok".into())));
    let other_name = guard_with(approved, to_server("other.1password.com"), client_config(roots));
    let error = get(&other_name, "https://other.1password.com").await;
    assert!(matches!(error, Err(EgressError::Tls(_))), "{error:?}");
    let unknown_authority = guard(approved, to_server("my.1password.com"));
    let error = get(&unknown_authority, "https://my.1password.com").await;
    assert!(matches!(error, Err(EgressError::UntrustedAuthority(_))), "{error:?}");
}
