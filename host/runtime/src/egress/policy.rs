//! The operator's network policy: where requests are really sent, and which private addresses are
//! reachable.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use url::Host;

use super::destination::{ApprovedDestination, Scheme, parse_authority};

/// The operator's network policy. By default every request goes to its own host, and only public
/// addresses are reachable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EgressPolicy {
    /// Requests to these hosts are sent elsewhere; the first match applies.
    pub connect_to: Vec<ConnectTo>,
    /// Destinations whose addresses may be loopback, private or link-local. They must also be
    /// approved for the connection.
    pub allow_private: Vec<ApprovedDestination>,
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

    pub(crate) fn route(&self, scheme: Scheme, host: &Host<String>, port: u16) -> Route {
        if let Some(rule) = self.connect_to.iter().find(|rule| rule.matches(host, port)) {
            return Route { scheme: rule.to_scheme, host: rule.to_host.clone(), port: rule.to_port, any_address: true };
        }
        let any_address = self.allow_private.iter().any(|allowed| allowed.covers(scheme, host, port));
        Route { scheme, host: host.clone(), port, any_address }
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
        assert_eq!(route, Route { scheme: Scheme::Http, host: host("127.0.0.1"), port: 9000, any_address: true });
        let route = policy.route(Scheme::Https, &host("other.1password.com"), 443);
        assert_eq!(
            route,
            Route { scheme: Scheme::Https, host: host("other.1password.com"), port: 443, any_address: false }
        );
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
