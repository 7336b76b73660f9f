//! What goes into a call and what comes out of it.
//!
//! Everything secret is a [`SecretString`]: wiped when dropped, a placeholder when printed. None of these types can be
//! cloned, so a secret has one owner at a time.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::{Attribute, Error, Result};

/// All settings of one connection, as the person who connected entered them.
///
/// A setting that was left empty and has no default is not there. Values are never trimmed or changed by the host. All
/// of them are treated as secrets: wiped when dropped, not printed.
#[derive(Default)]
pub struct Settings(Vec<(String, SecretString)>);

impl Settings {
    /// No settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same settings and one more; for tests, since a host passes them ready-made.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        let name = name.into();
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value.into()));
        self
    }

    /// The value of a setting; `None` when it was left empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.expose_secret())
    }

    /// The value of a setting that must be there and not be empty.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSettings`] that names the setting.
    pub fn require(&self, name: &str) -> Result<&str> {
        self.get(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Error::invalid_setting(name, format!("The setting '{name}' is missing. Please enter it.")))
    }

    /// The address in a setting that must be there; see [`Settings::url`].
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSettings`] that names the setting.
    pub fn require_url(&self, name: &str) -> Result<Url> {
        self.require(name)?;
        self.url(name)?.ok_or_else(|| not_an_address(name))
    }

    /// The address in a setting, read as the host reads a [destination taken from a
    /// setting](crate::Destination::FromSetting): a URL with `https` or `http`, or a host name (with a port perhaps),
    /// and then `https` is meant. `None` when it was left empty.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSettings`] that names the setting and does not repeat its value.
    pub fn url(&self, name: &str) -> Result<Option<Url>> {
        let Some(text) = self.get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        let parsed = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("https://{text}")) };
        match parsed {
            Ok(url)
                if matches!(url.scheme(), "https" | "http")
                    && url.username().is_empty()
                    && url.password().is_none() =>
            {
                Ok(Some(url))
            }
            _ => Err(not_an_address(name)),
        }
    }
}

fn not_an_address(setting: &str) -> Error {
    let message = format!("The setting '{setting}' is not an address. Enter one like https://vault.example.com.");
    Error::invalid_setting(setting, message)
}

impl FromIterator<(String, SecretString)> for Settings {
    fn from_iter<I: IntoIterator<Item = (String, SecretString)>>(settings: I) -> Self {
        Self(settings.into_iter().collect())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, value)| (name, value))).finish()
    }
}

/// What the credentials of a connection can do: what [`verify`](crate::SecretProvider::verify) returns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Who the credentials belong to, for people, for example the account's address. Never secret. May be empty.
    pub account: String,
    /// How many vaults (or whatever the provider groups items in) can be read. At least 1.
    pub vault_count: u32,
    /// How many of these can be written to, as far as the server says. 0 means read-only; `None` when it does not say.
    pub writable_vault_count: Option<u32>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// A page of items: what [`list_items`](crate::SecretProvider::list_items) returns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ItemPage {
    /// At most 10,000. May be empty although a next page exists.
    pub items: Vec<Item>,
    /// What the host passes for the next page; opaque to it, at most 4,096 bytes. `None` on the last page.
    pub next: Option<String>,
}

/// An item, without its secrets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// The item's own id, as its server knows it.
    pub id: String,
    /// What people call it. Titles need not be unique.
    pub title: String,
    /// The id of the vault that holds it.
    pub vault_id: String,
    /// What people call that vault.
    pub vault_name: String,
    /// What to pass to `resolve`: made of ids, so that it stays right when things are renamed.
    pub reference: String,
    /// What kind of item it is: `login`, or the provider's own word in lower case.
    pub category: String,
    /// Anything else worth showing, for example the site's address as `url`.
    pub attributes: Vec<Attribute>,
}

/// Which fields [`resolve`](crate::SecretProvider::resolve) is asked for. None at all is allowed and asks for the revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fields {
    /// The built-in user name field.
    pub username: bool,
    /// The built-in password field.
    pub password: bool,
    /// The current one-time code.
    pub one_time_code: bool,
}

impl Fields {
    /// No field, just the revision.
    pub const NONE: Self = Self { username: false, password: false, one_time_code: false };
    /// Every field.
    pub const ALL: Self = Self { username: true, password: true, one_time_code: true };
}

/// What an item holds now: what [`resolve`](crate::SecretProvider::resolve) returns. Only fields that were asked for; one
/// that the item lacks is `None`, one that is there and empty is an empty string.
#[derive(Debug, Default)]
pub struct Resolved {
    /// The user name.
    pub username: Option<SecretString>,
    /// The password.
    pub password: Option<SecretString>,
    /// The one-time code that is good now. [`Totp`](crate::totp::Totp) makes it.
    pub one_time_code: Option<OneTimeCode>,
    /// Which state of the item this is: opaque, at most 256 bytes, different after each change of the item, never
    /// secret, suitable for `write`.
    pub revision: String,
}

/// A one-time code (RFC 6238) that is good now.
#[derive(Debug)]
pub struct OneTimeCode {
    /// 6 to 8 decimal digits.
    pub code: SecretString,
    /// The first second since 1970 at which it is no longer the current code.
    pub expires_at: u64,
    /// For how many seconds each code of this item is current, usually 30.
    pub period_seconds: u32,
}

/// New values for [`write`](crate::SecretProvider::write). `None` means "leave as it is"; an empty string empties the
/// field. A field that the item lacks is added.
#[derive(Debug, Default)]
pub struct Changes {
    /// The new user name.
    pub username: Option<SecretString>,
    /// The new password.
    pub password: Option<SecretString>,
}

impl Changes {
    /// Whether there is nothing to change. Then `write` writes nothing and returns the present revision.
    pub fn is_empty(&self) -> bool {
        self.username.is_none() && self.password.is_none()
    }
}

/// Whether `write` may be expected to work: what [`check_write_access`](crate::SecretProvider::check_write_access) returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteAccess {
    /// As far as the server says, yes.
    Granted,
    /// No. A sentence for a person: why, and what would change it.
    Denied(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_a_url_or_a_host_name() {
        for (text, url) in [
            ("https://vault.example.com", "https://vault.example.com/"),
            ("vault.example.com", "https://vault.example.com/"),
            ("vault.example.com:8200", "https://vault.example.com:8200/"),
            ("http://127.0.0.1:9000/path", "http://127.0.0.1:9000/path"),
        ] {
            assert_eq!(Settings::new().with("address", text).require_url("address").unwrap().as_str(), url);
        }
        assert_eq!(Settings::new().url("address"), Ok(None));
        assert_eq!(Settings::new().with("address", "").url("address"), Ok(None));
    }

    #[test]
    fn what_is_no_address_is_a_fault_of_that_setting_and_not_repeated() {
        for text in ["ftp://secret-host", "https://user:secret@host", "https://", "secret host", "://secret"] {
            let error = Settings::new().with("address", text).url("address").unwrap_err();
            let Error::InvalidSettings { setting, message } = error else { panic!("{text}") };
            assert_eq!(setting.as_deref(), Some("address"));
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn a_missing_setting_is_named() {
        for settings in [Settings::new(), Settings::new().with("token", "")] {
            let Err(Error::InvalidSettings { setting, .. }) = settings.require("token") else { panic!() };
            assert_eq!(setting.as_deref(), Some("token"));
        }
        assert_eq!(Settings::new().with("token", " t ").require("token"), Ok(" t "));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let settings = Settings::new().with("token", "hunter2");
        let resolved = Resolved {
            username: Some("hunter2".into()),
            password: Some("hunter2".into()),
            one_time_code: Some(OneTimeCode { code: "hunter2".into(), expires_at: 30, period_seconds: 30 }),
            revision: "1".into(),
        };
        let changes = Changes { username: Some("hunter2".into()), password: Some("hunter2".into()) };
        let printed = format!("{settings:?} {resolved:#?} {changes:?}");
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(printed.contains("token"), "names are not secret: {printed}");
    }
}
