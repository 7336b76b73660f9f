//! The operator's network policy: where requests are really sent, through which proxy, which
//! private addresses are reachable and which certificate authorities are trusted.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;
use url::Host;

use super::address::{canonical, special};
use super::authorities::{Authorities, CaStore};
use super::destination::{ApprovedDestination, Scheme, parse_authority};
use super::proxy::{NoProxy, Proxy};

/// The operator's network policy. By default every request goes to its own host, and only public
/// addresses are reachable.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EgressPolicy {
    /// Requests to these hosts are sent elsewhere; the first match applies.
    pub connect_to: Vec<ConnectTo>,
    /// Destinations whose addresses may be loopback, private or link-local. They must also be
    /// approved for the connection.
    pub allow_private: Vec<ApprovedDestination>,
    /// Addresses that are reachable although they are loopback, private or reserved, for every
    /// approved destination.
    pub allow_ranges: Vec<AddressRange>,
    /// What requests over TLS go through, unless their host is in [`no_proxy`](Self::no_proxy) or
    /// in [`connect_to`](Self::connect_to). The proxy then resolves the host's name, so nothing
    /// checks the address.
    pub proxy: Option<Proxy>,
    /// The hosts that are reached without the proxy.
    pub no_proxy: NoProxy,
    /// The certificate authorities that are trusted.
    pub ca_store: CaStore,
    /// Further ones, for every connection.
    pub authorities: Authorities,
}

impl EgressPolicy {
    /// The same policy with one more redirection.
    #[must_use]
    pub fn with_connect_to(mut self, rule: ConnectTo) -> Self {
        self.connect_to.push(rule);
        self
    }

    /// The same policy with one more destination that may have a private address.
    #[must_use]
    pub fn with_private(mut self, destination: ApprovedDestination) -> Self {
        self.allow_private.push(destination);
        self
    }

    /// The same policy with one more range of addresses that are reachable.
    #[must_use]
    pub fn with_range(mut self, range: AddressRange) -> Self {
        self.allow_ranges.push(range);
        self
    }

    /// The same policy with a proxy.
    #[must_use]
    pub fn with_proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// The same policy with other hosts that are reached without the proxy.
    #[must_use]
    pub fn with_no_proxy(mut self, hosts: NoProxy) -> Self {
        self.no_proxy = hosts;
        self
    }

    /// The same policy with other certificate authorities.
    #[must_use]
    pub fn with_authorities(mut self, store: CaStore, further: Authorities) -> Self {
        self.ca_store = store;
        self.authorities = further;
        self
    }

    pub(crate) fn route(&self, scheme: Scheme, host: &Host<String>, port: u16) -> Route {
        if let Some(rule) = self.connect_to.iter().find(|rule| rule.matches(host, port)) {
            return Route {
                scheme: rule.to_scheme,
                host: rule.to_host.clone(),
                port: rule.to_port,
                any_address: true,
                by_proxy: false,
            };
        }
        let any_address = self.allow_private.iter().any(|allowed| allowed.covers(scheme, host, port));
        // The proxy's own loopback is nowhere that a destination means.
        let by_proxy =
            self.proxy.is_some() && scheme == Scheme::Https && !is_localhost(host) && !self.no_proxy.covers(host);
        Route { scheme, host: host.clone(), port, any_address, by_proxy }
    }

    /// Why this address may not be reached; `None` if it may.
    pub(crate) fn refuses(&self, address: IpAddr) -> Option<&'static str> {
        let kind = special(address)?;
        (!self.allow_ranges.iter().any(|range| range.contains(address))).then_some(kind)
    }
}

/// Names that always mean the own machine (RFC 6761, section 6.3).
fn is_localhost(host: &Host<String>) -> bool {
    matches!(host, Host::Domain(name) if name == "localhost" || name.ends_with(".localhost"))
}

/// A range of addresses, written `198.18.0.0/15`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange(IpNet);

/// The text is not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a range of addresses; write it as 198.18.0.0/15 or as a single address")]
pub struct AddressRangeError(String);

impl AddressRange {
    /// An IPv4 address inside of an IPv6 address is in the ranges of the IPv4 address.
    fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&canonical(address))
    }
}

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        range.map(|range| Self(range.trunc())).map_err(|_| AddressRangeError(text.to_owned()))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a request is really sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) scheme: Scheme,
    pub(crate) host: Host<String>,
    pub(crate) port: u16,
    /// Whether the operator vouches for the address, whatever it is.
    pub(crate) any_address: bool,
    /// Whether the connection goes through the proxy.
    pub(crate) by_proxy: bool,
}

/// A redirection of connections, written `host[:port]=scheme://host[:port]`, for example
/// `my.1password.com=http://127.0.0.1:9000`.
///
/// The request stays the same, including its `Host` header; only the connection goes elsewhere, as
/// with curl's `--connect-to`. With `http` on the right, the connection is not encrypted; with
/// `https`, the certificate must be valid for the host on the left. Meant for emulators, tests and
/// proxies. The host on the left must still be approved for the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectTo {
    from_host: Host<String>,
    from_port: Option<u16>,
    to_scheme: Scheme,
    to_host: Host<String>,
    to_port: u16,
}

/// The text is not a redirection.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a redirection; write it as host=http://host:port, for example vault.example.com=http://127.0.0.1:9000"
)]
pub struct ConnectToError(String);

impl ConnectTo {
    fn matches(&self, host: &Host<String>, port: u16) -> bool {
        self.from_host == *host && self.from_port.is_none_or(|own| own == port)
    }

    /// The rule, and the host and port that it leads to.
    pub(super) fn target(&self) -> (String, &Host<String>, u16) {
        (self.to_string(), &self.to_host, self.to_port)
    }
}

impl FromStr for ConnectTo {
    type Err = ConnectToError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (from, to) = text.split_once('=')?;
            let (from_host, from_port) = parse_authority(from)?;
            let (scheme, to) = to.split_once("://")?;
            let to_scheme = Scheme::parse(scheme)?;
            let (to_host, to_port) = parse_authority(to.strip_suffix('/').unwrap_or(to))?;
            Some(Self {
                from_host,
                from_port,
                to_scheme,
                to_host,
                to_port: to_port.unwrap_or(to_scheme.default_port()),
            })
        };
        parse().ok_or_else(|| ConnectToError(text.to_owned()))
    }
}

impl fmt::Display for ConnectTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.from_host)?;
        if let Some(port) = self.from_port {
            write!(f, ":{port}")?;
        }
        write!(f, "={}://{}:{}", self.to_scheme.as_str(), self.to_host, self.to_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_changes_only_the_connection_of_its_own_host() {
        let policy = EgressPolicy::default().with_connect_to("my.1password.com=http://127.0.0.1:9000".parse().unwrap());
        let host = |name: &str| Host::parse(name).unwrap();
        let route = policy.route(Scheme::Https, &host("MY.1password.com"), 443);
        let expected =
            Route { scheme: Scheme::Http, host: host("127.0.0.1"), port: 9000, any_address: true, by_proxy: false };
        assert_eq!(route, expected);
        let other = host("other.1password.com");
        let route = policy.route(Scheme::Https, &other, 443);
        assert_eq!(route, Route { scheme: Scheme::Https, host: other, port: 443, any_address: false, by_proxy: false });
    }

    #[test]
    fn the_proxy_is_for_requests_over_tls_to_other_machines() {
        let policy = EgressPolicy::default()
            .with_connect_to("my.1password.com=https://127.0.0.1:9000".parse().unwrap())
            .with_proxy("http://proxy.example:3128".parse().unwrap())
            .with_no_proxy(NoProxy::new("internal.example"));
        let by_proxy = |scheme, host: &str| policy.route(scheme, &Host::parse(host).unwrap(), 443).by_proxy;
        assert!(by_proxy(Scheme::Https, "eu.1password.com") && by_proxy(Scheme::Https, "10.1.2.3"));
        for (scheme, host) in [
            (Scheme::Http, "eu.1password.com"),
            (Scheme::Https, "my.1password.com"),
            (Scheme::Https, "vault.internal.example"),
            (Scheme::Https, "localhost"),
            (Scheme::Https, "a.localhost"),
        ] {
            assert!(!by_proxy(scheme, host), "{host}");
        }
    }

    #[test]
    fn an_allowed_range_covers_every_form_of_its_addresses_and_nothing_else() {
        let range = |text: &str| text.parse::<AddressRange>().unwrap();
        let policy = EgressPolicy::default().with_range(range("198.18.0.0/15")).with_range(range("100.64.3.7"));
        for allowed in ["198.18.0.42", "::ffff:198.19.0.1", "2002:c612:2a::", "64:ff9b::c612:2a", "100.64.3.7"] {
            assert_eq!(policy.refuses(allowed.parse().unwrap()), None, "{allowed}");
        }
        for refused in ["100.64.3.8", "10.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(policy.refuses(refused.parse().unwrap()).is_some(), "{refused}");
        }
        assert_eq!(range("198.19.1.2/15").to_string(), "198.18.0.0/15");
        for wrong in ["", "198.18.0.0/33", "198.18", "a/8"] {
            assert!(wrong.parse::<AddressRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_redirection_reads_back_and_nonsense_is_refused() {
        for text in ["my.1password.com=http://127.0.0.1:9000", "a.example:8443=https://[::1]:443"] {
            assert_eq!(text.parse::<ConnectTo>().unwrap().to_string(), text);
        }
        for text in ["", "a", "a=b", "=http://x", "a=ftp://x", "a=http://x/y"] {
            assert!(text.parse::<ConnectTo>().is_err(), "{text}");
        }
    }
}
