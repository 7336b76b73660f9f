//! The outgoing proxy: the setting, or the variables that other programs use.
//!
//! **Invariant:** the proxy's user and password are in no message and in no list of settings. They
//! are accepted only from the environment: other users of the machine can see arguments, and the
//! configuration file holds no secrets.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use keyway_runtime::egress::{NoProxy, Proxy};
use secrecy::{ExposeSecret, SecretString};

use super::exit::CliError;
use super::secret_input;

/// The setting's own name, which messages use.
pub(super) const SETTING: &str = "proxy";

/// The usual variables, the first one that is set wins. Plain HTTP, for which there are others, is
/// never sent through a proxy.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The same for the hosts that are reached without a proxy.
const NO_PROXY_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Turns the usual variables off.
const NONE: &str = "none";

/// The setting as it was given. It is read later, because messages about arguments repeat them.
#[derive(Clone)]
pub(crate) struct ProxyText(SecretString);

impl FromStr for ProxyText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for ProxyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(self.0.expose_secret()))
    }
}

/// The text of a proxy without its user and password.
pub(super) fn shown(text: &str) -> String {
    match text.parse::<Proxy>() {
        _ if text == NONE => NONE.to_owned(),
        Ok(proxy) => proxy.to_string(),
        Err(_) => "[unreadable]".to_owned(),
    }
}

/// The proxy in force. `is_readable` says that others can read the setting.
pub(super) fn proxy(setting: Option<&ProxyText>, is_readable: bool) -> Result<Option<Proxy>, CliError> {
    let Some(ProxyText(text)) = setting else {
        let usual = VARIABLES.iter().find_map(|name| Some((name, secret_input::from_environment(name)?)));
        return usual.map(|(name, text)| read(name, &text)).transpose();
    };
    if text.expose_secret() == NONE {
        return Ok(None);
    }
    let proxy = read(SETTING, text)?;
    if proxy.has_credentials() && is_readable {
        let message = "the proxy's user and password must be neither an argument nor in the configuration file, where others can read them";
        let hint = "the variable KEYWAY_PROXY may hold them, as http://user:password@host:port";
        return Err(CliError::usage(message).hint(hint));
    }
    Ok(Some(proxy))
}

fn read(place: &str, text: &SecretString) -> Result<Proxy, CliError> {
    let wrong = |error| CliError::usage(format!("{place}: {error}")).hint("KEYWAY_PROXY=none uses no proxy");
    text.expose_secret().parse().map_err(wrong)
}

/// The hosts that are reached without the proxy.
pub(super) fn no_proxy(setting: &[String]) -> NoProxy {
    let usual =
        || NO_PROXY_VARIABLES.iter().find_map(|name| std::env::var(name).ok().filter(|hosts| !hosts.is_empty()));
    match setting {
        [] => usual().map(NoProxy::new).unwrap_or_default(),
        hosts => NoProxy::new(hosts.join(",")),
    }
}
