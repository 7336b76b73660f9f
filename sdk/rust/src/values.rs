//! What goes into a call and what comes out of it.
//!
//! Every secret is a [`SecretString`]: wiped when dropped, a placeholder when printed. None of
//! these types can be cloned, so a secret has one owner at a time.

use std::fmt;

use secrecy::{ExposeSecret, SecretSlice, SecretString};
use url::Url;

use crate::{Attribute, Error, Result};

/// All settings of one connection, as the user entered them.
///
/// A setting that was left empty and has no default is absent. The host never trims or changes
/// values. All values are treated as secrets: wiped when dropped, never printed.
#[derive(Default)]
pub struct Settings(Vec<(String, SecretString)>);

impl Settings {
    /// No settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same settings plus this one, for tests; a host passes complete settings.
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

    /// The value of a setting that must be present and not empty.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidSettings`](crate::ErrorCode::InvalidSettings) that names the setting.
    pub fn require(&self, name: &str) -> Result<&str> {
        self.get(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Error::invalid_setting(name, format!("The setting '{name}' is missing. Please enter it.")))
    }

    /// The address in a setting that must be present; see [`Settings::url`].
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidSettings`](crate::ErrorCode::InvalidSettings) that names the setting.
    pub fn require_url(&self, name: &str) -> Result<Url> {
        self.require(name)?;
        self.url(name)?.ok_or_else(|| not_an_address(name))
    }

    /// The address in a setting, read as the host reads a [destination taken from a
    /// setting](crate::Description::destination): a URL with `https` or `http`, or a host name,
    /// optionally with a port, for which `https` is assumed. `None` if it was left empty.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidSettings`](crate::ErrorCode::InvalidSettings) that names the setting and
    /// does not repeat its value.
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

/// What the credentials of a connection can do: what [`verify`](crate::SecretProvider::verify)
/// returns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The account that the credentials belong to, to show to people, for example its address.
    /// Never secret. May be empty.
    pub account: String,
    /// The key by which the server counts requests: stable, and the same for all credentials of one
    /// account. Never secret. `None` if the provider cannot tell; then each credential counts as
    /// its own account.
    pub account_key: Option<String>,
    /// How many vaults (or other groups of items) can be read, at least 1. `None` where items are
    /// not grouped.
    pub vault_count: Option<u32>,
    /// How many of these can be written to, as far as the server says. 0 means read-only; `None`
    /// when it does not say.
    pub writable_vault_count: Option<u32>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// A page of items: what [`list_items`](crate::SecretProvider::list_items) returns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ItemPage {
    /// At most 10,000. May be empty even if a next page exists.
    pub items: Vec<Item>,
    /// The token that the host passes for the next page; opaque to it, at most 4,096 bytes. `None`
    /// on the last page.
    pub next: Option<String>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// An item, without its secrets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// The item's own id, as its server knows it.
    pub id: String,
    /// The title to show. Titles need not be unique.
    pub title: String,
    /// The id of the vault that holds it; `None` where items are not grouped.
    pub vault_id: Option<String>,
    /// The name of that vault, to show.
    pub vault_name: Option<String>,
    /// The item's reference for `resolve`, in its normal form. It uses ids if the server has them,
    /// so that it stays valid when names change.
    pub reference: String,
    /// What kind of item it is: `login`, or the provider's own word in lower case.
    pub category: String,
    /// The addresses of the sites that it is for, the main one first.
    pub urls: Vec<String>,
    /// Anything else worth showing, for example the subtitle.
    pub attributes: Vec<Attribute>,
}

/// Which fields [`resolve`](crate::SecretProvider::resolve) should return. An empty selection is
/// allowed and returns only the revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The built-in user name field.
    pub username: bool,
    /// The built-in password field.
    pub password: bool,
    /// The current one-time code.
    pub one_time_code: bool,
    /// Names of further fields, each once. Empty for providers without
    /// [`ItemFields`](crate::ItemFields).
    pub further: Vec<String>,
}

impl Selection {
    /// No field, just the revision.
    pub const NONE: Self = Self { username: false, password: false, one_time_code: false, further: Vec::new() };
    /// User name, password and one-time code.
    pub const ALL: Self = Self { username: true, password: true, one_time_code: true, further: Vec::new() };

    /// Whether only the revision is requested.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }
}

/// The current values of an item: what [`resolve`](crate::SecretProvider::resolve) returns. Only
/// requested fields are set. A field that the item lacks is `None`; one that is present and empty
/// is an empty string.
#[derive(Debug, Default)]
pub struct Resolved {
    /// The user name.
    pub username: Option<SecretString>,
    /// The password.
    pub password: Option<SecretString>,
    /// The current one-time code, or why there is none; `Some` if it was requested.
    /// [`totp::code_of`](crate::totp::code_of) creates it.
    pub one_time_code: Option<std::result::Result<OneTimeCode, NoCode>>,
    /// The requested further fields that the item has.
    pub further: Vec<Field>,
    /// Identifies this state of the item: opaque, at most 256 bytes, different after each change of
    /// the item, never secret, suitable for `write`.
    pub revision: String,
    /// The first second since 1970 at which the values are no longer valid, for values with a
    /// limited lifetime.
    pub valid_until: Option<u64>,
    /// The lease under which the values were created for this call; see [`Leases`](crate::Leases).
    pub lease: Option<Lease>,
    /// Anything else worth showing. Never secret. The attribute `not-a-login` says why an item of
    /// its kind has no login fields, also when no field was requested: a host then warns when the
    /// item is bound.
    pub attributes: Vec<Attribute>,
}

/// A one-time code (RFC 6238, or a variant of it) that is current.
#[derive(Debug)]
pub struct OneTimeCode {
    /// 1 to 16 ASCII letters and digits, usually 6 to 8 digits.
    pub code: SecretString,
    /// The first second since 1970 at which it is no longer the current code.
    pub expires_at: u64,
    /// How many seconds each code of this item is current, usually 30.
    pub period_seconds: u32,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

impl OneTimeCode {
    /// A code, the first second since 1970 at which it is no longer current, and how many seconds
    /// each code is current.
    pub fn new(code: impl Into<SecretString>, expires_at: u64, period_seconds: u32) -> Self {
        Self { code: code.into(), expires_at, period_seconds, attributes: Vec::new() }
    }
}

/// Why there is no one-time code. It never prevents user name and password from being returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoCode {
    /// The reason, for the host to match.
    pub reason: NoCodeReason,
    /// The reason as a message for a person. Never secret.
    pub message: String,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

impl NoCode {
    /// A reason, and a message for a person.
    pub fn new(reason: NoCodeReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), attributes: Vec::new() }
    }
}

/// The condition under which there is no one-time code.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoCodeReason {
    /// The item has no one-time password.
    Absent,
    /// Its one-time password is counter-based, not time-based (RFC 4226).
    CounterBased,
    /// Its secret or parameters are malformed and yield no code.
    Malformed,
    /// Anything else, by a name in lower case with words separated by `-`: `unsupported` for a
    /// one-time password that is understood and yields no code, `not-a-login` for an item of
    /// another kind.
    Other(String),
}

/// A further field of an item, without its value: what
/// [`list_fields`](crate::ItemFields::list_fields) returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldSpec {
    /// The name to request from `resolve`. Unique within the item, 1 to 256 bytes.
    pub name: String,
    /// The label to show.
    pub label: String,
    /// The kind of the field.
    pub kind: FieldKind,
    /// Anything else worth showing, for example its section.
    pub attributes: Vec<Attribute>,
}

/// The kind of a further field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldKind {
    /// Plain text.
    Text,
    /// A secret text, for example an API key.
    Secret,
    /// A URL.
    Url,
    /// A one-time password: its value is the current code.
    OneTimePassword,
    /// Bytes, for example an attached file.
    Binary,
    /// Another kind. A host treats it as a secret text.
    Other(String),
}

/// A further field of an item.
#[derive(Debug)]
pub struct Field {
    /// The requested name.
    pub name: String,
    /// The kind of the field.
    pub kind: FieldKind,
    /// The value of the field.
    pub value: FieldValue,
    /// Anything else worth showing. Never secret.
    pub attributes: Vec<Attribute>,
}

impl Field {
    /// A field with the requested name.
    pub fn new(name: impl Into<String>, kind: FieldKind, value: FieldValue) -> Self {
        Self { name: name.into(), kind, value, attributes: Vec::new() }
    }
}

/// The value of a further field.
#[derive(Debug)]
pub enum FieldValue {
    /// Of every kind but the following.
    Text(SecretString),
    /// Of kind [`FieldKind::Binary`].
    Binary(SecretSlice<u8>),
    /// Of kind [`FieldKind::OneTimePassword`].
    OneTimeCode(std::result::Result<OneTimeCode, NoCode>),
}

/// The server's promise to accept values until it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The server's id for it, at most 1,024 bytes.
    pub id: String,
    /// When it ends (seconds since 1970) unless it is renewed.
    pub expires_at: u64,
    /// Whether [`Leases::renew`](crate::Leases::renew) may be called for it.
    pub renewable: bool,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

impl Lease {
    /// A lease with its id and its end, in seconds since 1970.
    pub fn new(id: impl Into<String>, expires_at: u64, renewable: bool) -> Self {
        Self { id: id.into(), expires_at, renewable, attributes: Vec::new() }
    }
}

/// New values for [`write`](crate::SecretProvider::write). `None` means "leave as it is"; an empty
/// string empties the field. A field that the item lacks is added.
#[derive(Debug, Default)]
pub struct Changes {
    /// The new user name.
    pub username: Option<SecretString>,
    /// The new password.
    pub password: Option<SecretString>,
}

impl Changes {
    /// Whether there is nothing to change. `write` then writes nothing and returns the current
    /// revision.
    pub fn is_empty(&self) -> bool {
        self.username.is_none() && self.password.is_none()
    }
}

/// Whether `write` can be expected to work: what
/// [`check_write_access`](crate::SecretProvider::check_write_access) returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteAccess {
    /// Yes, as far as the server can say.
    Granted,
    /// No. A sentence for a person: why, and what would change it.
    Denied(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

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
            let Error { code: ErrorCode::InvalidSettings, setting, message, .. } = error else { panic!("{text}") };
            assert_eq!(setting.as_deref(), Some("address"));
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn a_missing_setting_is_named() {
        for settings in [Settings::new(), Settings::new().with("token", "")] {
            let Err(Error { setting, .. }) = settings.require("token") else { panic!() };
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
            one_time_code: Some(Ok(OneTimeCode::new("hunter2", 30, 30))),
            further: vec![
                Field::new("a", FieldKind::Secret, FieldValue::Text("hunter2".into())),
                Field::new("b", FieldKind::Binary, FieldValue::Binary(vec![104, 117].into())),
            ],
            revision: "1".into(),
            ..Resolved::default()
        };
        let changes = Changes { username: Some("hunter2".into()), password: Some("hunter2".into()) };
        let printed = format!("{settings:?} {resolved:#?} {changes:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("104"), "{printed}");
        assert!(printed.contains("token"), "names are not secret: {printed}");
    }
}
