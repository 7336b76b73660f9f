//! Opens the TCP or TLS connection for a request that the guard has admitted, directly or through
//! the operator's proxy.
//!
//! The name is resolved once, every address is checked, and the connection goes to a checked
//! address. A name with even one internal address is refused entirely: honest servers have none,
//! and a mixed answer is the mark of DNS rebinding. Addresses are tried in turn, each for part of
//! the time, so that an unresponsive one does not use up the time of the others.
//!
//! Through a proxy, names are not resolved here; an internal address as the host is refused as
//! well. The proxy's own address is the operator's word and is not checked.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tower_service::Service;
use url::Host;

use super::EgressError;
use super::destination::{Scheme, parse_authority};
use super::policy::{ConnectTo, EgressPolicy, Route};
use super::proxy::{Proxy, ProxyFault};
use crate::wiping_io::WipingIo;

/// How long one address is tried while others remain. A connection across the world takes 0.3 s,
/// and a lost first packet is retransmitted after a second (RFC 6298).
const TIME_PER_ADDRESS: Duration = Duration::from_secs(2);

/// Connects as the operator's policy says.
#[derive(Clone)]
pub(crate) struct Connector {
    policy: Arc<EgressPolicy>,
    tls: TlsConnector,
    time: Duration,
}

impl Connector {
    pub(crate) fn new(policy: Arc<EgressPolicy>, tls: Arc<rustls::ClientConfig>, time: Duration) -> Self {
        Self { policy, tls: TlsConnector::from(tls), time }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = EgressError;
    type Future = BoxFuture<'static, Result<Stream, EgressError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), EgressError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (policy, tls, time) = (self.policy.clone(), self.tls.clone(), self.time);
        Box::pin(async move {
            let (scheme, host, port) = target(&uri).ok_or(EgressError::InvalidRequest("its URI has no host"))?;
            let route = policy.route(scheme, &host, port);
            connect(&policy, &route, &host, &tls, Instant::now() + time).await
        })
    }
}

/// Scheme, host and port of an absolute URI.
pub(crate) fn target(uri: &Uri) -> Option<(Scheme, Host<String>, u16)> {
    let scheme = Scheme::parse(uri.scheme_str()?)?;
    let (host, port) = parse_authority(uri.authority()?.as_str())?;
    Some((scheme, host, port.unwrap_or(scheme.default_port())))
}

async fn connect(
    policy: &EgressPolicy,
    route: &Route,
    requested: &Host<String>,
    tls: &TlsConnector,
    deadline: Instant,
) -> Result<Stream, EgressError> {
    let too_late = |_| EgressError::ConnectTimeout(requested.to_string());
    let way = match &policy.proxy {
        Some(proxy) if route.by_proxy => {
            check(policy, route, requested, &literal(route).into_iter().collect::<Vec<_>>())?;
            let failed = |fault| EgressError::Proxy { proxy: proxy.to_string(), host: requested.to_string(), fault };
            let tunnel = tokio::time::timeout_at(deadline, through(proxy, route, tls, deadline)).await;
            tunnel.unwrap_or(Err(ProxyFault::Timeout)).map_err(failed)?
        }
        _ => {
            let direct = tokio::time::timeout_at(deadline, connect_tcp(policy, route, requested, deadline)).await;
            Either::Left(direct.map_err(too_late)??)
        }
    };
    match route.scheme {
        Scheme::Http => Ok(Stream::new(Either::Left(way))),
        Scheme::Https => {
            let failed = || EgressError::Tls(requested.to_string());
            let name = server_name(requested).ok_or_else(failed)?;
            let shaken =
                tokio::time::timeout_at(deadline, tls.connect(name, WipingIo::new(way))).await.map_err(too_late)?;
            let stream = shaken.map_err(|error| match is_unknown_authority(&error) {
                true => EgressError::UntrustedAuthority(requested.to_string()),
                false => failed(),
            })?;
            Ok(Stream::new(Either::Right(Box::new(stream))))
        }
    }
}

/// A tunnel through the proxy.
async fn through(proxy: &Proxy, route: &Route, tls: &TlsConnector, deadline: Instant) -> Result<Way, ProxyFault> {
    let tcp = reach(&proxy.host, proxy.port, deadline).await?;
    let way = match proxy.scheme {
        Scheme::Http => Either::Left(tcp),
        Scheme::Https => {
            let name = server_name(&proxy.host).ok_or(ProxyFault::Tls)?;
            Either::Right(Box::new(tls.connect(name, tcp).await.map_err(|_| ProxyFault::Tls)?))
        }
    };
    proxy.tunnel(way, &route.host, route.port).await
}

/// A connection to what the operator has named: a proxy, or the target of a redirection.
async fn reach(host: &Host<String>, port: u16, deadline: Instant) -> Result<TcpStream, ProxyFault> {
    let addresses = look_up(host, port).await.ok_or(ProxyFault::NameNotFound)?;
    first_that_answers(&addresses, deadline).await.ok_or(ProxyFault::Unreachable)
}

impl EgressPolicy {
    /// The proxy (`the proxy http://...`) and the redirections (`host=http://...`) behind which
    /// nothing answers within this time, and why. Each is only connected to: a proxy may still
    /// refuse requests.
    pub async fn unreachable(&self, time: Duration) -> Vec<(String, ProxyFault)> {
        let proxy = self.proxy.iter().map(|proxy| (format!("the proxy {proxy}"), &proxy.host, proxy.port));
        let targets = self.connect_to.iter().map(ConnectTo::target);
        let deadline = Instant::now() + time;
        let tried = proxy.chain(targets).map(async |(name, host, port)| {
            let reached = tokio::time::timeout_at(deadline, reach(host, port, deadline)).await;
            Some((name, reached.unwrap_or(Err(ProxyFault::Timeout)).err()?))
        });
        join_all(tried).await.into_iter().flatten().collect()
    }
}

fn server_name(host: &Host<String>) -> Option<ServerName<'static>> {
    match host {
        Host::Domain(name) => ServerName::try_from(name.clone()).ok(),
        Host::Ipv4(ip) => Some(IpAddr::from(*ip).into()),
        Host::Ipv6(ip) => Some(IpAddr::from(*ip).into()),
    }
}

fn is_unknown_authority(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)))
}

async fn connect_tcp(
    policy: &EgressPolicy,
    route: &Route,
    requested: &Host<String>,
    deadline: Instant,
) -> Result<TcpStream, EgressError> {
    let addresses = look_up(&route.host, route.port).await;
    let addresses = addresses.ok_or_else(|| EgressError::NameNotFound(requested.to_string()))?;
    check(policy, route, requested, &addresses)?;
    first_that_answers(&addresses, deadline).await.ok_or_else(|| EgressError::ConnectFailed(requested.to_string()))
}

/// The addresses of a host; `None` if it has none.
async fn look_up(host: &Host<String>, port: u16) -> Option<Vec<SocketAddr>> {
    let found: Vec<_> = match host {
        Host::Domain(name) => tokio::net::lookup_host((name.as_str(), port)).await.ok()?.collect(),
        Host::Ipv4(ip) => vec![SocketAddr::from((*ip, port))],
        Host::Ipv6(ip) => vec![SocketAddr::from((*ip, port))],
    };
    (!found.is_empty()).then_some(found)
}

/// The address that the host of a route is, if it is one.
fn literal(route: &Route) -> Option<SocketAddr> {
    match route.host {
        Host::Domain(_) => None,
        Host::Ipv4(ip) => Some(SocketAddr::from((ip, route.port))),
        Host::Ipv6(ip) => Some(SocketAddr::from((ip, route.port))),
    }
}

/// Refuses a host if one of its addresses may not be reached.
fn check(
    policy: &EgressPolicy,
    route: &Route,
    requested: &Host<String>,
    addresses: &[SocketAddr],
) -> Result<(), EgressError> {
    let refused = |address: IpAddr| Some((address, policy.refuses(address)?));
    match addresses.iter().find_map(|address| refused(address.ip())) {
        Some((address, kind)) if !route.any_address => {
            Err(EgressError::PrivateAddress { host: requested.to_string(), address, kind })
        }
        _ => Ok(()),
    }
}

/// The last address gets all the remaining time; the caller enforces the deadline.
async fn first_that_answers(addresses: &[SocketAddr], deadline: Instant) -> Option<TcpStream> {
    let (last, others) = addresses.split_last()?;
    for (address, untried) in others.iter().zip((2..=u32::try_from(addresses.len()).ok()?).rev()) {
        let share = deadline.saturating_duration_since(Instant::now()) / untried;
        if let Ok(Ok(stream)) = tokio::time::timeout(share.min(TIME_PER_ADDRESS), open(address)).await {
            return Some(stream);
        }
    }
    open(last).await.ok()
}

async fn open(address: &SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Without it, a small request waits for the acknowledgement of the previous one.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What carries a connection: TCP, or a tunnel of a proxy that is itself reached over TCP or TLS.
type Way = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// What TLS reads is wiped as well: it decrypts in its buffer.
type Inner = Either<Way, Box<TlsStream<WipingIo<Way>>>>;

/// A plain or encrypted connection.
pub(crate) struct Stream {
    stream: TokioIo<WipingIo<Inner>>,
    answered: Answered,
}

impl Stream {
    fn new(stream: Inner) -> Self {
        Self { stream: TokioIo::new(WipingIo::new(stream)), answered: Answered::default() }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.answered.clone())
    }
}

/// Whether a connection has answered a request.
#[derive(Clone, Default)]
pub(crate) struct Answered(Arc<AtomicBool>);

impl Answered {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// An address that never answers: its accept queue is full and stays full.
    async fn black_hole() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(stream);
        }
        (address, listener, waiting)
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_leaves_time_to_the_others() {
        let (silent, _listener, _waiting) = black_hole().await;
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = server.local_addr().unwrap();
        let connected = async |addresses: &[SocketAddr]| {
            let deadline = Instant::now() + Duration::from_millis(900);
            let stream = tokio::time::timeout_at(deadline, first_that_answers(addresses, deadline)).await;
            stream.ok().flatten().map(|stream| stream.peer_addr().unwrap())
        };
        assert_eq!(connected(&[silent, good]).await, Some(good));
        assert_eq!(connected(&[silent, refusing, silent, good]).await, Some(good));
        assert_eq!(connected(&[good, silent]).await, Some(good));
        assert_eq!(connected(&[refusing, refusing]).await, None);
        assert_eq!(connected(&[]).await, None);
    }

    #[tokio::test]
    async fn an_address_is_tried_for_two_seconds_at_most_while_there_are_others() {
        let (silent, _listener, _waiting) = black_hole().await;
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let start = Instant::now();
        let stream = first_that_answers(&[silent, server.local_addr().unwrap()], start + Duration::from_secs(60)).await;
        assert!(stream.is_some() && start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}
