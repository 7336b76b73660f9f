//! Tests of the way through a proxy, with a real proxy on loopback that follows RFC 9110, section
//! 9.3.6.

use std::net::SocketAddr;
use std::sync::Mutex as Heads;

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::tests::{acceptor, client_config, get, guard, guard_with, tls, tls_server};
use super::*;
use crate::egress::{NoProxy, Proxy, ProxyFault};

/// What the proxy does with a request for a tunnel.
#[derive(Clone, Copy)]
enum Manner {
    /// Opens a tunnel to this server, whatever its name: only the proxy knows names.
    Connects(SocketAddr),
    /// The same with a success that is not 200.
    ConnectsWith201(SocketAddr),
    Answers(&'static str),
    Silent,
    HangsUp,
}

struct TestProxy {
    address: SocketAddr,
    heads: Arc<Heads<Vec<String>>>,
}

impl TestProxy {
    async fn start(manner: Manner) -> Self {
        Self::with_tls(manner, None).await
    }

    async fn with_tls(manner: Manner, acceptor: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heads) = (listener.local_addr().unwrap(), Arc::<Heads<Vec<String>>>::default());
        let proxy = Self { address, heads: heads.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (heads, acceptor) = (heads.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, manner, heads).await,
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            serve(stream, manner, heads).await;
                        }
                    }
                });
            }
        });
        proxy
    }

    fn policy(&self) -> EgressPolicy {
        EgressPolicy::default().with_proxy(format!("http://ann:hunter%402@{}", self.address).parse().unwrap())
    }

    fn seen(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, manner: Manner, heads: Arc<Heads<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    let (server, answer) = match manner {
        Manner::Connects(server) => (server, "HTTP/1.1 200 Connection established\r\n\r\n"),
        Manner::ConnectsWith201(server) => (server, "HTTP/1.1 201 Created\r\nvia: 1.1 test\r\n\r\n"),
        Manner::Answers(answer) => {
            let _ = stream.write_all(answer.as_bytes()).await;
            // Keeps the connection, as a proxy does that expects another try.
            let _ = stream.read_u8().await;
            return;
        }
        Manner::Silent => {
            let _ = stream.read_u8().await;
            return;
        }
        Manner::HangsUp => return,
    };
    let mut server = TcpStream::connect(server).await.unwrap();
    stream.write_all(answer.as_bytes()).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
}

const APPROVED: &[&str] = &["https://*.1password.com"];
const URL: &str = "https://my.1password.com";

#[tokio::test]
async fn a_name_that_only_the_proxy_knows_is_reached_through_it_and_tls_ends_at_the_secret_manager() {
    let (server, roots) = tls_server("my.1password.com").await;
    for manner in [Manner::Connects(server), Manner::ConnectsWith201(server)] {
        let proxy = TestProxy::start(manner).await;
        let guard = guard_with(APPROVED, proxy.policy(), client_config(roots.clone()));
        assert_eq!(get(&guard, URL).await, Ok((200, "ok".into())));
        let [head] = &proxy.seen()[..] else { panic!("{:?}", proxy.seen()) };
        assert!(head.starts_with("CONNECT my.1password.com:443 HTTP/1.1\r\n"), "{head}");
        assert!(head.to_lowercase().contains("\r\nhost: my.1password.com:443\r\n"), "{head}");
        // base64 of `ann:hunter@2`
        assert!(head.contains(": Basic YW5uOmh1bnRlckAy\r\n"), "{head}");
    }
}

#[tokio::test]
async fn the_proxy_cannot_pass_for_the_secret_manager() {
    let (other, roots) = tls_server("other.example").await;
    let proxy = TestProxy::start(Manner::Connects(other)).await;
    let error = get(&guard_with(APPROVED, proxy.policy(), client_config(roots)), URL).await;
    assert_eq!(error, Err(EgressError::Tls("my.1password.com".into())));
    let error = get(&guard(APPROVED, proxy.policy()), URL).await;
    assert_eq!(error, Err(EgressError::UntrustedAuthority("my.1password.com".into())));
}

#[tokio::test]
async fn a_proxy_may_itself_be_reached_over_tls() {
    let (server, mut roots) = tls_server("my.1password.com").await;
    let (acceptor, certificate) = acceptor("localhost");
    let proxy = TestProxy::with_tls(Manner::Connects(server), Some(acceptor)).await;
    let url = format!("https://localhost:{}", proxy.address.port());
    let policy = || EgressPolicy::default().with_proxy(url.parse().unwrap());
    let error = get(&guard_with(APPROVED, policy(), client_config(roots.clone())), URL).await;
    assert_eq!(error, Err(failed(&url, ProxyFault::Tls)));
    roots.add(certificate.der().clone()).unwrap();
    let guard = guard_with(APPROVED, policy(), client_config(roots));
    assert_eq!(get(&guard, URL).await, Ok((200, "ok".into())));
}

fn failed(proxy: &str, fault: ProxyFault) -> EgressError {
    EgressError::Proxy { proxy: proxy.to_owned(), host: "my.1password.com".into(), fault }
}

#[tokio::test]
async fn what_the_proxy_does_wrong_is_told_as_the_proxys_fault() {
    let refused = ProxyFault::Refused;
    for (manner, fault) in [
        (Manner::Answers("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno"), refused(StatusCode::FORBIDDEN)),
        (
            Manner::Answers(
                "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n",
            ),
            refused(StatusCode::PROXY_AUTHENTICATION_REQUIRED),
        ),
        (Manner::Answers("HTTP/1.1 502 Bad Gateway\r\n\r\n"), refused(StatusCode::BAD_GATEWAY)),
        (Manner::Answers("HTTP/1.1 302 Found\r\nlocation: http://login.example/\r\n\r\n"), refused(StatusCode::FOUND)),
        (Manner::Answers("SSH-2.0-OpenSSH_9.2\r\n\r\n"), ProxyFault::NotHttp),
        (Manner::Answers("HTTP/1.1 200 OK\r\n\r\nnot a tunnel at all"), ProxyFault::NotHttp),
        (Manner::HangsUp, ProxyFault::NotHttp),
        (Manner::Silent, ProxyFault::Timeout),
    ] {
        let proxy = TestProxy::start(manner).await;
        let error = get(&guard(APPROVED, proxy.policy()), URL).await.unwrap_err();
        assert_eq!(error, failed(&format!("http://{}", proxy.address), fault));
        assert!(!error.to_string().contains("hunter") && !error.is_refusal(), "{error}");
    }
    // Nothing listens on a port that was just released.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (url, fault) in [
        (format!("http://{gone}"), ProxyFault::Unreachable),
        ("http://does-not-exist.invalid:3128".to_owned(), ProxyFault::NameNotFound),
    ] {
        let policy = EgressPolicy::default().with_proxy(url.parse().unwrap());
        assert_eq!(get(&guard(APPROVED, policy), URL).await, Err(failed(&url, fault)));
    }
}

#[tokio::test]
async fn the_guard_decides_before_the_proxy_is_asked() {
    let (server, roots) = tls_server("10.0.0.1").await;
    let proxy = TestProxy::start(Manner::Connects(server)).await;
    let error = get(&guard(APPROVED, proxy.policy()), "https://example.com").await;
    assert!(matches!(error, Err(EgressError::NotApproved(_))), "{error:?}");
    for url in ["https://10.0.0.1", "https://[::ffff:169.254.169.254]", "https://2130706433", "https://localhost:1"] {
        let error = get(&guard(&[url], proxy.policy()), url).await;
        assert!(matches!(error, Err(EgressError::PrivateAddress { .. })), "{url}: {error:?}");
    }
    assert_eq!(proxy.seen().len(), 0);
    let allowed = proxy.policy().with_range("10.0.0.0/8".parse().unwrap());
    let guard = guard_with(&["https://10.0.0.1"], allowed, client_config(roots));
    assert_eq!(get(&guard, "https://10.0.0.1").await, Ok((200, "ok".into())));
    assert!(proxy.seen()[0].starts_with("CONNECT 10.0.0.1:443 "), "{:?}", proxy.seen());
}

#[tokio::test]
async fn an_excepted_host_is_reached_directly() {
    let (server, roots) = tls_server("127.0.0.1").await;
    let url = format!("https://{server}");
    let proxy = TestProxy::start(Manner::Silent).await;
    let policy = proxy.policy().with_private(url.parse().unwrap()).with_no_proxy(NoProxy::new("127.0.0.0/8"));
    let guard = guard_with(&[&url], policy, client_config(roots));
    assert_eq!(get(&guard, &url).await, Ok((200, "ok".into())));
    assert_eq!(proxy.seen().len(), 0);
}

#[tokio::test]
async fn a_private_address_is_named_with_its_kind_and_the_setting_and_a_range_allows_it() {
    let url = "https://127.0.0.1:1";
    let error = get(&guard(&[url], EgressPolicy::default()), url).await.unwrap_err().to_string();
    assert!(error.starts_with("127.0.0.1 is a loopback address"), "{error}");
    let url = "https://localhost:1";
    let error = get(&guard(&[url], EgressPolicy::default()), url).await.unwrap_err().to_string();
    assert!(error.contains("localhost resolves to ") && error.contains("allow_private"), "{error}");
    let policy = ["127.0.0.0/8", "::1"].into_iter();
    let policy = policy.fold(EgressPolicy::default(), |policy, range| policy.with_range(range.parse().unwrap()));
    let error = get(&guard_with(&[url], policy, tls()), url).await;
    assert!(matches!(error, Err(EgressError::ConnectFailed(_))), "{error:?}");
}

#[test]
fn a_proxy_in_a_policy_prints_no_password() {
    let proxy: Proxy = "http://ann:hunter2@proxy.example:3128".parse().unwrap();
    let shown = format!("{:?}", EgressPolicy::default().with_proxy(proxy));
    assert!(shown.contains("proxy.example") && !shown.contains("hunter2"), "{shown}");
}
