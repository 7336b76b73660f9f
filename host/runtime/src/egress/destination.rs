//! Where a connection may connect to: a scheme, a host (or every name below a domain) and a port.
//!
//! Both sides of a comparison go through the same parser (the URL Standard's), so that an address
//! has one spelling: `0x7f.1`, `2130706433` and `127.0.0.1` are the same host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Host;

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain text. Only where a setting or the operator explicitly asks for it.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// The scheme's own port.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum HostPattern {
    Exactly(Host<String>),
    Below(String),
}

/// An approved destination of a connection, for example `https://*.1password.com`.
///
/// Written as `scheme://host[:port]`; a host that begins with `*.` stands for every name below that
/// domain, not for the domain itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApprovedDestination {
    scheme: Scheme,
    host: HostPattern,
    port: u16,
}

/// Why a text is not a destination.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// Not of the form `scheme://host[:port]`.
    #[error("`{0}` is not a destination; write it as https://host or https://host:port")]
    Malformed(String),
    /// `*.com` would be half the Internet.
    #[error("`{0}` is too wide; a wildcard needs at least two labels after it, as in https://*.example.com")]
    TooWide(String),
    /// The setting that should hold the address does not. (Its value is not repeated: it may be a
    /// secret in the wrong field.)
    #[error("the setting `{0}` is not an address; write it as https://host or https://host:port")]
    Setting(String),
    /// A value inserted into a host name has characters that labels cannot have. (It is not
    /// repeated either.)
    #[error("the setting `{0}` is part of a host name; use letters, digits and - only")]
    Label(String),
    /// A JSON setting lacks the member that should hold an address.
    #[error("the setting `{setting}` has no address in its member `{member}`; is it the whole file?")]
    Member {
        /// The setting.
        setting: String,
        /// The member.
        member: String,
    },
    /// The provider declares an invalid destination.
    #[error("the destination `{destination}` is wrong: {reason}")]
    Template {
        /// The destination as declared.
        destination: String,
        /// Why.
        reason: String,
    },
}

impl ApprovedDestination {
    /// Whether this destination covers a request to the scheme, host and port.
    pub(crate) fn covers(&self, scheme: Scheme, host: &Host<String>, port: u16) -> bool {
        self.scheme == scheme
            && self.port == port
            && match (&self.host, host) {
                (HostPattern::Exactly(own), host) => own == host,
                (HostPattern::Below(domain), Host::Domain(name)) => name
                    .strip_suffix(domain.as_str())
                    .and_then(|rest| rest.strip_suffix('.'))
                    .is_some_and(|rest| !rest.is_empty()),
                (HostPattern::Below(_), _) => false,
            }
    }
}

/// Splits `host[:port]`, where the host may be `[IPv6]`, and normalizes the host.
pub(crate) fn parse_authority(text: &str) -> Option<(Host<String>, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
        _ => (text, None),
    };
    // With a trailing dot, DNS sees the same host and comparisons another. It serves no purpose
    // here.
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.contains(['@', '/', '?', '#', '\\', ' ', '*']) {
        return None;
    }
    let host = Host::parse(host).ok()?;
    // The parser decodes: `%2a` must not become a wildcard when the destination is read again.
    let is_plain = !matches!(&host, Host::Domain(name) if name.contains('*') || name.ends_with('.'));
    is_plain.then_some((host, port))
}

impl FromStr for ApprovedDestination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || DestinationError::Malformed(text.to_owned());
        let (scheme, authority) = text.split_once("://").ok_or_else(malformed)?;
        let scheme = Scheme::parse(scheme).ok_or_else(malformed)?;
        let (wildcard, authority) = match authority.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, authority),
        };
        let (host, port) = parse_authority(authority).ok_or_else(malformed)?;
        let host = match (wildcard, host) {
            (false, host) => HostPattern::Exactly(host),
            (true, Host::Domain(domain)) if domain.contains('.') => HostPattern::Below(domain),
            (true, Host::Domain(_)) => return Err(DestinationError::TooWide(text.to_owned())),
            (true, _) => return Err(malformed()),
        };
        Ok(Self { scheme, host, port: port.unwrap_or(scheme.default_port()) })
    }
}

impl TryFrom<String> for ApprovedDestination {
    type Error = DestinationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ApprovedDestination> for String {
    fn from(destination: ApprovedDestination) -> Self {
        destination.to_string()
    }
}

impl fmt::Display for ApprovedDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.as_str())?;
        match &self.host {
            HostPattern::Exactly(host) => write!(f, "{host}")?,
            HostPattern::Below(domain) => write!(f, "*.{domain}")?,
        }
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

/// The destination that a setting's URL or host name means.
pub(crate) fn from_setting(value: &str) -> Option<ApprovedDestination> {
    let (scheme, rest) = match value.split_once("://") {
        Some((scheme, rest)) => (Scheme::parse(&scheme.to_ascii_lowercase())?, rest),
        None => (Scheme::Https, value),
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let (host, port) = parse_authority(authority)?;
    Some(ApprovedDestination { scheme, host: HostPattern::Exactly(host), port: port.unwrap_or(scheme.default_port()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, scheme: Scheme, authority: &str) -> bool {
        let (host, port) = parse_authority(authority).unwrap();
        pattern.parse::<ApprovedDestination>().unwrap().covers(scheme, &host, port.unwrap_or(scheme.default_port()))
    }

    #[test]
    fn a_wildcard_covers_names_below_the_domain_and_nothing_else() {
        let pattern = "https://*.1password.com";
        assert!(covers(pattern, Scheme::Https, "my.1password.com"));
        assert!(covers(pattern, Scheme::Https, "a.b.1PASSWORD.com"));
        assert!(covers(pattern, Scheme::Https, "my.1password.com."));
        for other in
            ["1password.com", "evil1password.com", "my.1password.com.evil.org", "my.1password.com:8443", "127.0.0.1"]
        {
            assert!(!covers(pattern, Scheme::Https, other), "{other}");
        }
        assert!(!covers(pattern, Scheme::Http, "my.1password.com:443"));
    }

    #[test]
    fn every_spelling_of_an_address_is_judged_as_that_address() {
        for spelling in ["127.0.0.1:80", "0x7f.1:80", "2130706433:80", "0177.0.0.1:80"] {
            assert!(covers("http://127.0.0.1", Scheme::Http, spelling), "{spelling}");
        }
        assert!(covers("http://[::1]:8080", Scheme::Http, "[0:0:0:0:0:0:0:1]:8080"));
    }

    #[test]
    fn texts_that_are_no_destinations_are_refused() {
        for text in [
            "",
            "example.com",
            "ftp://example.com",
            "https://",
            "https://a/b",
            "https://u@h",
            "https://a:99999",
            "https://*",
            "https://*.1.2.3.4",
            "https://%2a.example.com",
            "https://*.%2a.example.com",
            "https://a.example.com..",
            "https://a.example.com%2e",
        ] {
            assert!(text.parse::<ApprovedDestination>().is_err(), "{text}");
        }
        assert_eq!(
            "https://*.com".parse::<ApprovedDestination>(),
            Err(DestinationError::TooWide("https://*.com".into()))
        );
    }

    #[test]
    fn a_destination_reads_back_as_it_was_written() {
        for text in ["https://*.1password.com", "http://127.0.0.1:9000", "https://[::1]:8443"] {
            assert_eq!(text.parse::<ApprovedDestination>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_setting_holds_a_url_or_a_host_name() {
        let text = |value| from_setting(value).map(|d| d.to_string());
        assert_eq!(text("vault.example.com"), Some("https://vault.example.com".into()));
        assert_eq!(text("HTTP://vault.example.com:8200/v1?x#y"), Some("http://vault.example.com:8200".into()));
        assert_eq!(text("https://user:pass@vault.example.com"), None);
        assert_eq!(text("gopher://x"), None);
        assert_eq!(text("%2a.example.com"), None, "it would be read back as a wildcard");
    }
}
