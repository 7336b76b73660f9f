//! Attributes: what an entry carries along for whoever drives the browser. The broker keeps them and acts on none but
//! the expiries of session data.
//!
//! **Invariant:** an attribute is one of [`Attributes::names`], and its value is JSON of that attribute's kind, kept as
//! the very text that came: numbers, the order of keys and inner nulls included. Cookies and browser storages let
//! their holder in without a password, a proxy's address may carry one; so all attributes are sealed at rest, wiped when
//! dropped and never printed.

use std::collections::BTreeMap;
use std::fmt;

use keyway_keys::ClientKey;
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::expiry;
use super::json::{depth, object, objects, read, same_value};
use crate::error::{BrokerError, InvalidInput};
use crate::text::bounded;

/// All attributes of an entry together. Cookies and storages of a large site are a fraction of this.
const TOTAL_LIMIT: usize = 2 << 20;
/// Arrays and objects within each other; common JSON parsers stop at a little more than 100.
const DEPTH_LIMIT: usize = 64;

/// What the value of an attribute is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeKind {
    /// `true` or `false`.
    Flag,
    /// A positive number.
    Count,
    /// A text of at most [`Attributes::TEXT_LIMIT`] characters.
    Text,
    /// PostgreSQL's notation, `7 days 00:00:00`.
    Interval,
    /// `random`, `static`, `country` or `custom`.
    ProxySetting,
    /// A text of at most [`Attributes::PROXY_VALUE_LIMIT`] characters.
    ProxyValue,
    /// `{enable, target_ip?}`.
    Proxy,
    /// `[{name, value}]`.
    Headers,
    /// `[{name, value, ...}]`, as the browser has them.
    Cookies,
    /// An object, as the browser has it: local or session storage.
    BrowserStorage,
}

/// All attributes, named as in the HTTP API.
const KINDS: [(&str, AttributeKind); 23] = [
    (SEVERAL_SESSIONS, AttributeKind::Flag),
    (MAX_CONCURRENCY, AttributeKind::Count),
    ("prevent_concurrency_during_login", AttributeKind::Flag),
    ("persist_cookies", AttributeKind::Flag),
    ("persist_local_storage", AttributeKind::Flag),
    ("persist_session_storage", AttributeKind::Flag),
    ("cookies", AttributeKind::Cookies),
    ("local_storage", AttributeKind::BrowserStorage),
    ("session_storage", AttributeKind::BrowserStorage),
    ("cookie_domain_to_store", AttributeKind::Text),
    ("skip_csrf_cookies", AttributeKind::Flag),
    ("expiry_time_from_last_use", AttributeKind::Interval),
    ("expiry_time_from_session_data_set", AttributeKind::Interval),
    ("proxy", AttributeKind::Proxy),
    (PROXY_SETTING, AttributeKind::ProxySetting),
    (PROXY_VALUE, AttributeKind::ProxyValue),
    ("proxy_string", AttributeKind::Text),
    ("user_agent", AttributeKind::Text),
    ("location", AttributeKind::Text),
    ("ip_address", AttributeKind::Text),
    ("session_id", AttributeKind::Text),
    ("user_id", AttributeKind::Text),
    ("headers", AttributeKind::Headers),
];

const SEVERAL_SESSIONS: &str = "allow_multiple_sessions";
const MAX_CONCURRENCY: &str = "max_concurrency";
pub(crate) const PROXY_SETTING: &str = "proxy_setting";
pub(crate) const PROXY_VALUE: &str = "proxy_value";

/// The attributes that are a browser's state.
pub(super) const SESSION_DATA: [&str; 3] = ["cookies", "local_storage", "session_storage"];

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum ProxySetting {
    Random,
    Static,
    Country,
    Custom,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Proxy {
    #[serde(rename = "enable")]
    _enable: bool,
    #[serde(rename = "target_ip", default)]
    _target_ip: Option<String>,
}

/// Sent by a browser, where a line end would begin another one.
#[derive(Deserialize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: String,
}

impl Header {
    /// As RFC 9110 has it (sections 5.1 and 5.5).
    fn is_valid(&self) -> bool {
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !self.name.is_empty()
            && self.name.bytes().all(of_name)
            && self.value.chars().all(|char| char == '\t' || !char.is_control())
    }
}

impl AttributeKind {
    /// Of a name, which is returned with the life of the program.
    fn of(name: &str) -> Option<(&'static str, Self)> {
        KINDS.into_iter().find(|(known, _)| *known == name)
    }

    fn check(self, field: &'static str, json: &str) -> Result<(), InvalidInput> {
        let text = |expected, limit| {
            let text = Zeroizing::new(read::<String>(json).ok_or(InvalidInput::WrongType { field, expected })?);
            bounded(field, &text, limit).map(|()| text)
        };
        let (fits, expected) = match self {
            Self::Flag => (read::<bool>(json).is_some(), "true or false"),
            Self::Count => (read::<u32>(json).is_some_and(|count| count > 0), "a positive integer"),
            Self::Text => return text("a string", Attributes::TEXT_LIMIT).map(drop),
            Self::ProxyValue => return text("a string", Attributes::PROXY_VALUE_LIMIT).map(drop),
            Self::Interval => {
                let expected = "an interval such as 01:30:00 or 7 days 00:00:00";
                (expiry::parse(&text(expected, Attributes::TEXT_LIMIT)?).is_some(), expected)
            }
            Self::ProxySetting => (read::<ProxySetting>(json).is_some(), "random, static, country or custom"),
            Self::Proxy => {
                (object::<Proxy>(json).is_some(), "an object with enable (true or false) and maybe target_ip")
            }
            Self::Headers => (
                objects::<Header>(json).is_some_and(|headers| headers.iter().all(Header::is_valid)),
                "a list of objects with the name and the value of a header of HTTP",
            ),
            Self::Cookies => (
                depth(json) <= DEPTH_LIMIT && objects::<IgnoredAny>(json).is_some(),
                "a list of objects, nested up to 64 times",
            ),
            Self::BrowserStorage => {
                (depth(json) <= DEPTH_LIMIT && object::<IgnoredAny>(json).is_some(), "an object, nested up to 64 times")
            }
        };
        if fits { Ok(()) } else { Err(InvalidInput::WrongType { field, expected }) }
    }
}

/// The attributes of an entry that are set.
///
/// It can be cloned because an entry is a value of which callers keep copies; each of them wipes its own.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<&'static str, Zeroizing<String>>);

impl Attributes {
    /// The longest text value other than proxies' addresses, in characters.
    pub const TEXT_LIMIT: usize = 2_048;
    /// The longest address of a proxy, in characters. As for credentials: it may be one that a client encrypted.
    pub const PROXY_VALUE_LIMIT: usize = 64 * 1_024;

    /// All attributes that there are, with what their values are.
    pub fn kinds() -> impl Iterator<Item = (&'static str, AttributeKind)> {
        KINDS.into_iter()
    }

    /// The names of all attributes that there are.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KINDS.into_iter().map(|(name, _)| name)
    }

    /// Whether an attribute of that name may let its holder in: a browser's state, or an address with a password in it.
    pub fn is_secret(name: &str) -> bool {
        SESSION_DATA.contains(&name) || matches!(name, PROXY_VALUE | "proxy_string" | "headers" | "session_id")
    }

    /// The value of an attribute as JSON; `None` when it is not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|json| json.as_str())
    }

    /// The attributes that are set, with their values as JSON.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, json)| (*name, json.as_str()))
    }

    /// The names of those that are set and secret.
    pub(crate) fn secret_names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied().filter(|name| Self::is_secret(name))
    }

    /// The text value of an attribute.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        read(self.get(name)?)
    }

    pub(super) fn has_session_data(&self) -> bool {
        SESSION_DATA.iter().any(|name| self.0.contains_key(name))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// From what was stored. What this program does not know any more is dropped.
    pub(super) fn restore(&mut self, name: &str, json: &str) {
        if let Some((name, _)) = AttributeKind::of(name) {
            self.0.insert(name, Zeroizing::new(json.to_owned()));
        }
    }

    /// Makes the changes. What a proxy setting was given for it alone goes with it, and so does the number of sessions with several of them being allowed;
    /// without that, no number can be set. One that is there already may be sent back, as clients do that send all of an entry back.
    pub(super) fn apply(&mut self, changes: &AttributeChanges) -> Result<(), InvalidInput> {
        let setting = self.get(PROXY_SETTING).map(str::to_owned);
        let (several, concurrency) = (self.allows_several_sessions(), self.get(MAX_CONCURRENCY).map(str::to_owned));
        for (name, value) in &changes.0 {
            match value {
                Some(json) => self.0.insert(name, json.clone()),
                None => self.0.remove(name),
            };
        }
        if self.get(PROXY_SETTING) != setting.as_deref() && !changes.0.contains_key(PROXY_VALUE) {
            self.0.remove(PROXY_VALUE);
        }
        if self.0.contains_key(MAX_CONCURRENCY) && !self.allows_several_sessions() {
            if self.get(MAX_CONCURRENCY) != concurrency.as_deref() {
                return Err(InvalidInput::ConcurrencyWithoutSeveralSessions);
            }
            if several {
                self.0.remove(MAX_CONCURRENCY);
            }
        }
        Ok(())
    }

    fn allows_several_sessions(&self) -> bool {
        self.get(SEVERAL_SESSIONS) == Some("true")
    }

    /// The rules over several attributes. A custom proxy's address, which often has a password in it, is encrypted by
    /// the client like a credential, and must open.
    pub(super) fn check(&mut self, key: &ClientKey) -> Result<(), BrokerError> {
        let size: usize = self.iter().map(|(name, json)| name.len() + json.len()).sum();
        if size > TOTAL_LIMIT {
            return Err(InvalidInput::AttributesTooLarge { limit: TOTAL_LIMIT }.into());
        }
        let Some(value) = self.text(PROXY_VALUE).map(Zeroizing::new) else { return Ok(()) };
        let setting = self.get(PROXY_SETTING).and_then(read::<ProxySetting>);
        let setting = setting.ok_or(InvalidInput::ProxyValueWithoutSetting)?;
        if setting == ProxySetting::Custom {
            let opened = key.decrypt(&value).map_err(|error| BrokerError::of_client_value(PROXY_VALUE, error))?;
            if opened.is_none() {
                self.0.remove(PROXY_VALUE);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Changes of attributes, checked one by one; whether they fit together is seen with the entry.
///
/// It can be cloned because a change is made anew when another one came first.
#[derive(Clone, Default)]
pub struct AttributeChanges(BTreeMap<&'static str, Option<Zeroizing<String>>>);

impl AttributeChanges {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an attribute to a value in JSON; `null` clears it.
    ///
    /// # Errors
    /// [`InvalidInput::UnknownAttribute`], [`InvalidInput::WrongType`] and the like.
    pub fn set(&mut self, name: &str, json: &str) -> Result<(), InvalidInput> {
        let (name, kind) =
            AttributeKind::of(name).ok_or_else(|| InvalidInput::UnknownAttribute { name: name.to_owned() })?;
        let json = json.trim();
        if json == "null" {
            self.0.insert(name, None);
        } else {
            kind.check(name, json)?;
            self.0.insert(name, Some(Zeroizing::new(json.to_owned())));
        }
        Ok(())
    }

    /// No cookies, local storage and session storage any more.
    pub(super) fn clearing_session_data() -> Self {
        Self(SESSION_DATA.into_iter().map(|name| (name, None)).collect())
    }

    /// Whether there are cookies or a browser storage among them that are other ones than before. Those that come back as they are, with an
    /// entry that is sent back whole, are as old as they were.
    pub(super) fn bring_session_data(&self, before: &Attributes) -> bool {
        SESSION_DATA.iter().any(|name| match self.0.get(name) {
            Some(Some(json)) => !before.get(name).is_some_and(|before| same_value(before, json)),
            Some(None) | None => false,
        })
    }
}

impl fmt::Debug for AttributeChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, json: &str) -> Result<Attributes, InvalidInput> {
        let mut changes = AttributeChanges::new();
        changes.set(name, json)?;
        let mut attributes = Attributes::default();
        attributes.apply(&changes)?;
        Ok(attributes)
    }

    #[test]
    fn a_value_is_kept_as_it_came() {
        let cookies = r#"[{"name": "s", "value": null, "expirationDate": 1767225600.1234567891, "b": 1, "a": 2}]"#;
        assert_eq!(set("cookies", cookies).unwrap().get("cookies"), Some(cookies));
        assert_eq!(
            set("local_storage", r#"{"a": null, "a": 1e400}"#).unwrap().get("local_storage").unwrap(),
            r#"{"a": null, "a": 1e400}"#
        );
    }

    #[test]
    fn every_kind_takes_its_own_values_and_no_others() {
        let good = [
            ("persist_cookies", "true"),
            ("user_agent", r#""Mozilla/5.0""#),
            ("expiry_time_from_last_use", r#""01:30:00""#),
            ("expiry_time_from_session_data_set", r#""7 days 00:00:00""#),
            ("proxy_setting", r#""static""#),
            ("proxy_value", r#""203.0.113.7""#),
            ("proxy", r#"{"enable": true}"#),
            ("proxy", r#"{"enable": false, "target_ip": null}"#),
            ("headers", r#"[{"name": "X-A", "value": "1"}]"#),
            ("session_storage", "{}"),
        ];
        for (name, json) in good {
            assert!(set(name, json).is_ok(), "{name}: {json}");
        }
        let bad = [
            ("persist_cookies", "1"),
            ("max_concurrency", "true"),
            ("max_concurrency", "0"),
            ("max_concurrency", "1.5"),
            ("max_concurrency", r#""3""#),
            ("user_agent", "7"),
            ("user_agent", r#""a\nb""#),
            ("expiry_time_from_last_use", r#""soon""#),
            ("expiry_time_from_last_use", r#""-01:00:00""#),
            ("proxy_setting", r#""STATIC""#),
            ("proxy", "true"),
            ("proxy", "[true]"),
            ("headers", r#"[["X-A", "1"]]"#),
            ("cookies", "[[]]"),
            ("local_storage", "[]"),
            ("proxy", r#"{"target_ip": "203.0.113.7"}"#),
            ("headers", r#"{"X-A": "1"}"#),
            ("headers", r#"[{"name": "X-A"}]"#),
            ("headers", r#"[{"name": "X A", "value": "1"}]"#),
            ("headers", r#"[{"name": "", "value": "1"}]"#),
            ("headers", r#"[{"name": "X-A\r\nX-B", "value": "1"}]"#),
            ("headers", r#"[{"name": "X-A", "value": "1\r\nX-B: 2"}]"#),
            ("cookies", r#""a=b""#),
            ("cookies", "[{},]"),
            ("cookies", r#"["a=b"]"#),
            ("cookies", r#"{"s": "1"}"#),
            ("local_storage", r#"[{"a": "1"}]"#),
            ("session_storage", r#"{"a": 1"#),
            ("cookies", &format!("[{{\"a\": {}{}}}]", "[".repeat(63), "]".repeat(63))),
            ("nonsense", "1"),
        ];
        for (name, json) in bad {
            assert!(set(name, json).is_err(), "{name}: {json}");
        }
        assert!(set("user_agent", &format!("\"{}\"", "x".repeat(2_049))).is_err());
    }

    #[test]
    fn null_clears_and_nothing_is_printed() {
        let mut attributes = set("cookies", r#"[{"value": "hunter2"}]"#).unwrap();
        assert!(!format!("{attributes:?}").contains("hunter2"));
        let mut changes = AttributeChanges::new();
        changes.set("cookies", "null").unwrap();
        attributes.apply(&changes).unwrap();
        assert!(attributes.is_empty());
    }

    #[test]
    fn a_proxy_value_goes_with_the_setting_it_was_given_for() {
        let mut attributes = set("proxy_setting", "\"static\"").unwrap();
        let change = |attributes: &mut Attributes, values: &[(&str, &str)]| {
            let mut changes = AttributeChanges::new();
            for (name, json) in values {
                changes.set(name, json).unwrap();
            }
            attributes.apply(&changes).unwrap();
        };
        change(&mut attributes, &[("proxy_value", "\"203.0.113.7\"")]);
        change(&mut attributes, &[("proxy_setting", "\"static\"")]);
        assert!(attributes.get("proxy_value").is_some(), "the same setting");
        change(&mut attributes, &[("proxy_setting", "\"random\"")]);
        assert_eq!(attributes.get("proxy_value"), None);
    }

    #[test]
    fn depth_is_that_of_brackets_outside_of_texts() {
        assert_eq!(depth(r#"{"a": ["]]][[[{\"", [1]]}"#), 3);
    }
}
