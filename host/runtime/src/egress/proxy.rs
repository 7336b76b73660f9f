//! The proxy that requests over TLS leave through, and the hosts that are reached without it.
//!
//! The proxy is asked for a tunnel (`CONNECT`, RFC 9110, section 9.3.6), and TLS runs inside it to
//! the secret manager. The proxy sees the host's name and port, and no byte of a request.
//!
//! `Tunnel` of hyper-util does the same, but does not tell with which status a proxy refused, and
//! accepts no other success than 200.

use std::fmt;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;
use futures::future::{Either, select};
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Host;
use zeroize::Zeroizing;

use super::destination::{Scheme, parse_authority};

/// The head of a proxy's answer. Common servers send heads of up to 16 KiB.
const HEAD_BYTES: usize = 16 << 10;

/// An HTTP proxy, written `http://[user:password@]host[:port]`, or `https://` for one that is
/// itself reached over TLS.
///
/// Its text form and its debug form leave user and password out.
#[derive(Clone)]
pub struct Proxy {
    pub(super) scheme: Scheme,
    pub(super) host: Host<String>,
    pub(super) port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<SecretString>,
}

/// Why a text is not a proxy. The text is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Not of the form `http://host:port`.
    #[error("the proxy is not an address; write it as http://host:port, or http://user:password@host:port")]
    Malformed,
    /// A proxy for another protocol than HTTP.
    #[error("SOCKS proxies are not supported; name an HTTP proxy, as http://host:port")]
    Socks,
}

impl Proxy {
    /// Whether it has a user or a password.
    pub fn has_credentials(&self) -> bool {
        self.authorization.is_some()
    }

    /// Asks for a tunnel to a host, over a connection to the proxy.
    pub(super) async fn tunnel<S>(&self, stream: S, host: &Host<String>, port: u16) -> Result<S, ProxyFault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let request = self.connect(host, port).ok_or(ProxyFault::NotHttp)?;
        let broken = |_: hyper::Error| ProxyFault::NotHttp;
        let shaken = http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(broken)?;
        let exchange = async move {
            let answer = sender.send_request(request).await.map_err(broken)?;
            match answer.status() {
                status if status.is_success() => hyper::upgrade::on(answer).await.map_err(broken),
                status => Err(ProxyFault::Refused(status)),
            }
        };
        let (exchange, connection) = (pin!(exchange), pin!(connection.with_upgrades()));
        let upgraded = match select(exchange, connection).await {
            Either::Left((upgraded, _)) => upgraded,
            Either::Right((_, exchange)) => exchange.await,
        }?;
        match upgraded.downcast::<TokioIo<S>>() {
            // In TLS and in HTTP the client speaks first.
            Ok(parts) if parts.read_buf.is_empty() => Ok(parts.io.into_inner()),
            _ => Err(ProxyFault::NotHttp),
        }
    }

    fn connect(&self, host: &Host<String>, port: u16) -> Option<Request<Empty<Bytes>>> {
        let authority = format!("{host}:{port}");
        let mut request = Request::builder().method(Method::CONNECT).header(HOST, &authority);
        if let Some(authorization) = &self.authorization {
            let mut value = HeaderValue::from_str(authorization.expose_secret()).ok()?;
            value.set_sensitive(true);
            request = request.header(PROXY_AUTHORIZATION, value);
        }
        request.uri(Uri::try_from(authority).ok()?).body(Empty::new()).ok()
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // As with curl, a proxy without a scheme is an HTTP proxy.
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = scheme.to_ascii_lowercase();
        if scheme.starts_with("socks") {
            return Err(ProxyError::Socks);
        }
        let scheme = Scheme::parse(&scheme).ok_or(ProxyError::Malformed)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((credentials, authority)) => (Some(credentials), authority),
            None => (None, rest),
        };
        let (host, port) = parse_authority(authority).ok_or(ProxyError::Malformed)?;
        let authorization = credentials.map(basic);
        Ok(Self { scheme, host, port: port.unwrap_or(scheme.default_port()), authorization })
    }
}

/// `Basic`, for the user and password of a URL (RFC 7617, section 2).
fn basic(credentials: &str) -> SecretString {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    // Large enough, so that growing leaves no copies behind.
    let mut pair = Zeroizing::new(Vec::with_capacity(credentials.len() + 1));
    pair.extend(percent_decode_str(user));
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    let mut value = String::with_capacity("Basic ".len() + BASE64.encode_len(pair.len()));
    value.push_str("Basic ");
    BASE64.encode_append(&pair, &mut value);
    value.into()
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.as_str(), self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self}, credentials: {})", if self.has_credentials() { "[redacted]" } else { "none" })
    }
}

/// How a proxy failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProxyFault {
    /// Its name cannot be resolved.
    #[error("its name cannot be resolved")]
    NameNotFound,
    /// Nothing listens there, or the network is down.
    #[error("it cannot be reached")]
    Unreachable,
    /// No trustworthy TLS connection to the proxy itself.
    #[error("its certificate or TLS protocol is not acceptable")]
    Tls,
    /// It did not answer in time.
    #[error("it did not answer in time")]
    Timeout,
    /// It did not open the tunnel.
    #[error("{}", refused(*.0))]
    Refused(StatusCode),
    /// It does not speak HTTP, or broke off.
    #[error("it did not answer as an HTTP proxy")]
    NotHttp,
}

fn refused(status: StatusCode) -> String {
    let reason = match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => "asked for the right user and password",
        _ => "refused the connection",
    };
    format!("it {reason}, with status {}", status.as_u16())
}

/// The hosts that are reached without the proxy, as in the usual variable `NO_PROXY`: names that
/// also stand for all names below them, addresses, ranges of addresses, or `*` for everything.
#[derive(Clone, Default)]
pub struct NoProxy {
    entries: String,
    matcher: Option<Arc<Matcher>>,
}

impl NoProxy {
    /// A list separated by commas.
    pub fn new(entries: impl Into<String>) -> Self {
        let entries = entries.into();
        // It answers whether a host is excepted from its proxy, whatever that is.
        let matcher = Matcher::builder().https("http://proxy.invalid").no(&entries).build();
        Self { entries, matcher: Some(Arc::new(matcher)) }
    }

    pub(super) fn covers(&self, host: &Host<String>) -> bool {
        let Some(matcher) = &self.matcher else { return false };
        format!("https://{host}/").parse().is_ok_and(|uri: Uri| matcher.intercept(&uri).is_none())
    }
}

impl fmt::Display for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.entries)
    }
}

impl fmt::Debug for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoProxy({:?})", self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_keeps_its_credentials_to_itself() {
        let proxy: Proxy = "http://ann:hunter%402@proxy.example:3128/".parse().unwrap();
        assert_eq!(proxy.to_string(), "http://proxy.example:3128");
        let shown = format!("{proxy:?}");
        assert!(!shown.contains("ann") && !shown.contains("hunter") && shown.contains("redacted"), "{shown}");
        // base64 of `ann:hunter@2`
        assert_eq!(proxy.authorization.unwrap().expose_secret(), "Basic YW5uOmh1bnRlckAy");
    }

    #[test]
    fn a_proxy_may_be_written_as_other_programs_take_it() {
        for (text, shown) in [
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("HTTP://proxy.example", "http://proxy.example:80"),
            ("https://[::1]:3129/", "https://[::1]:3129"),
        ] {
            assert_eq!(text.parse::<Proxy>().unwrap().to_string(), shown);
        }
        for text in ["", "http://", "ftp://hunter2@a", "http://ann:hunter2@", "http://a:hunter2", "http://a/hunter2"] {
            let error = text.parse::<Proxy>().unwrap_err();
            assert!(error == ProxyError::Malformed && !error.to_string().contains("hunter2"), "{text}");
        }
        assert_eq!("socks5h://a:1080".parse::<Proxy>().unwrap_err(), ProxyError::Socks);
    }

    #[test]
    fn hosts_are_excepted_by_name_address_and_range() {
        let except = NoProxy::new("internal.example, .corp.example,10.0.0.0/8,::1");
        let covers = |host: &str| except.covers(&Host::parse(host).unwrap());
        for host in ["internal.example", "vault.INTERNAL.example", "a.corp.example", "10.1.2.3", "[::1]"] {
            assert!(covers(host), "{host}");
        }
        for host in ["notinternal.example", "example", "11.1.2.3", "my.1password.com"] {
            assert!(!covers(host), "{host}");
        }
        assert!(NoProxy::new("*").covers(&Host::parse("my.1password.com").unwrap()));
        assert!(!NoProxy::default().covers(&Host::parse("my.1password.com").unwrap()));
    }
}
