//! The settings of a connection, decoded.

use keyway_sdk::{Error, Result, Settings, url::Url};

pub(crate) const ADDRESS: &str = "address";
pub(crate) const NAMESPACE: &str = "namespace";
pub(crate) const TOKEN: &str = "token";
pub(crate) const ROLE_ID: &str = "role_id";
pub(crate) const SECRET_ID: &str = "secret_id";
pub(crate) const APPROLE_MOUNT: &str = "approle_mount";
pub(crate) const JWT: &str = "jwt";
pub(crate) const JWT_ROLE: &str = "jwt_role";
pub(crate) const JWT_MOUNT: &str = "jwt_mount";
pub(crate) const FOLDERS: &str = "folders";
pub(crate) const USERNAME_KEYS: &str = "username_keys";
pub(crate) const PASSWORD_KEYS: &str = "password_keys";
pub(crate) const OTP_KEYS: &str = "otp_keys";

/// The settings. Borrows the secrets.
pub(crate) struct Config<'a> {
    pub(crate) address: Url,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) login: Login<'a>,
    /// Where to list, without surrounding slashes; empty for everywhere.
    pub(crate) folders: Vec<&'a str>,
    pub(crate) keys: Keys<'a>,
}

/// How to get a token.
pub(crate) enum Login<'a> {
    Token(&'a str),
    AppRole { mount: &'a str, role_id: &'a str, secret_id: &'a str },
    Jwt { mount: &'a str, role: Option<&'a str>, jwt: &'a str },
}

/// The names of the keys with a meaning of their own, in the order in which they are looked for.
#[derive(Debug)]
pub(crate) struct Keys<'a> {
    pub(crate) username: Vec<&'a str>,
    pub(crate) password: Vec<&'a str>,
    pub(crate) otp: Vec<&'a str>,
}

impl Keys<'_> {
    /// Whether this key is one of them.
    pub(crate) fn includes(&self, key: &str) -> bool {
        [&self.username, &self.password, &self.otp].into_iter().flatten().any(|known| *known == key)
    }
}

impl<'a> Config<'a> {
    /// Decodes the settings; surrounding white space, which copying adds, does not count.
    pub(crate) fn read(settings: &'a Settings) -> Result<Self> {
        let text = |name| settings.get(name).map(str::trim).filter(|text| !text.is_empty());
        let path = |name, default| text(name).map_or(default, |path| path.trim_matches('/'));
        let required = |name: &'static str| {
            text(name).ok_or_else(|| {
                Error::invalid_setting(name, format!("The setting '{name}' is missing. Please enter it."))
            })
        };
        let login = if text(ROLE_ID).is_some() || text(SECRET_ID).is_some() {
            Login::AppRole {
                mount: path(APPROLE_MOUNT, "approle"),
                role_id: required(ROLE_ID)?,
                secret_id: required(SECRET_ID)?,
            }
        } else if text(JWT).is_some() {
            Login::Jwt { mount: path(JWT_MOUNT, "jwt"), role: text(JWT_ROLE), jwt: required(JWT)? }
        } else {
            Login::Token(visible(TOKEN, required(TOKEN)?)?)
        };
        let names = |name| list(text(name).unwrap_or_default()).collect();
        Ok(Self {
            address: settings.require_url(ADDRESS)?,
            namespace: match text(NAMESPACE) {
                Some(namespace) => Some(visible(NAMESPACE, namespace)?),
                None => None,
            },
            login,
            folders: list(text(FOLDERS).unwrap_or_default()).map(|folder| folder.trim_matches('/')).collect(),
            keys: Keys { username: names(USERNAME_KEYS), password: names(PASSWORD_KEYS), otp: names(OTP_KEYS) },
        })
    }

    /// The server's name, for messages.
    pub(crate) fn server(&self) -> &str {
        self.address.host_str().unwrap_or_default()
    }

    /// A secret that stays the same as long as the settings do, and that guesses do not find.
    pub(crate) fn stable_secret(&self) -> &[u8] {
        match self.login {
            Login::Token(secret) | Login::AppRole { secret_id: secret, .. } | Login::Jwt { jwt: secret, .. } => {
                secret.as_bytes()
            }
        }
    }
}

/// A value that goes into a header.
fn visible<'a>(setting: &str, value: &'a str) -> Result<&'a str> {
    if value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(value);
    }
    Err(Error::invalid_setting(
        setting,
        format!(
            "The setting '{setting}' has a space, a line break or another character that none has. Enter it again."
        ),
    ))
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty())
}
