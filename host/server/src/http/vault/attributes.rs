//! The attributes of a vault entry in this API: what parses them, describes them and writes them reads [`ATTRIBUTES`].
//!
//! A value stays the text that came; what it is, is looked at without keeping any of it.

use std::collections::BTreeMap;
use std::fmt;

use keyway::{AttributeKind, Attributes, InvalidInput};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::expiry;
use crate::http::body::{Field, Fields};
use crate::http::error::ApiError;
use crate::http::schema::{nullable, plain_text, text};

/// The longest text value other than proxies' addresses, in characters.
const TEXT_LIMIT: usize = 2_048;

/// The longest address of a proxy, in characters. As for credentials: it may be one that a client encrypted.
const PROXY_VALUE_LIMIT: usize = 64 * 1_024;

/// Arrays and objects within each other; common JSON parsers stop at a little more than 100.
const DEPTH_LIMIT: usize = 64;

/// What the value of an attribute is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flag,
    /// A positive number.
    Count,
    Text,
    /// PostgreSQL's notation, `7 days 00:00:00`.
    Interval,
    ProxySetting,
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

use AttributeKind::{BrowserState, Plain, Secret};

/// All attributes: name, value, and what the broker has to know of it.
const ATTRIBUTES: [(&str, Kind, AttributeKind); 23] = [
    (SEVERAL_SESSIONS, Kind::Flag, Plain),
    (MAX_CONCURRENCY, Kind::Count, Plain),
    ("prevent_concurrency_during_login", Kind::Flag, Plain),
    ("persist_cookies", Kind::Flag, Plain),
    ("persist_local_storage", Kind::Flag, Plain),
    ("persist_session_storage", Kind::Flag, Plain),
    ("cookies", Kind::Cookies, BrowserState),
    ("local_storage", Kind::BrowserStorage, BrowserState),
    ("session_storage", Kind::BrowserStorage, BrowserState),
    ("cookie_domain_to_store", Kind::Text, Plain),
    ("skip_csrf_cookies", Kind::Flag, Plain),
    (expiry::FROM_LAST_USE, Kind::Interval, Plain),
    (expiry::FROM_SESSION_DATA_SET, Kind::Interval, Plain),
    ("proxy", Kind::Proxy, Plain),
    (PROXY_SETTING, Kind::ProxySetting, Plain),
    (PROXY_VALUE, Kind::ProxyValue, Secret),
    ("proxy_string", Kind::Text, Secret),
    ("user_agent", Kind::Text, Plain),
    ("location", Kind::Text, Plain),
    ("ip_address", Kind::Text, Plain),
    ("session_id", Kind::Text, Secret),
    ("user_id", Kind::Text, Plain),
    ("headers", Kind::Headers, Secret),
];

const SEVERAL_SESSIONS: &str = "allow_multiple_sessions";
const MAX_CONCURRENCY: &str = "max_concurrency";
pub(crate) const PROXY_SETTING: &str = "proxy_setting";
pub(crate) const PROXY_VALUE: &str = "proxy_value";

/// The names of all attributes.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ATTRIBUTES.into_iter().map(|(name, ..)| name)
}

/// Whether an attribute of that name may let its holder in: a browser's state, or an address with a password in it.
pub(crate) fn is_secret(name: &str) -> bool {
    ATTRIBUTES.into_iter().any(|(known, _, kind)| known == name && kind.is_secret())
}

/// All attributes in the document.
pub(super) fn schemas() -> impl Iterator<Item = (&'static str, RefOr<Schema>)> {
    ATTRIBUTES.into_iter().map(|(name, kind, _)| (name, kind.schema()))
}

/// A value of this type; `None` if it is none.
pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    serde_json::from_str(json).ok()
}

/// As [`read`], of an object only: serde takes a list of its values for a struct, too.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    json.starts_with('{').then(|| read(json))?
}

/// A list of objects.
fn objects<'a, T: Deserialize<'a>>(json: &'a str) -> Option<Vec<T>> {
    read::<Vec<&RawValue>>(json)?.into_iter().map(|raw| object(raw.get())).collect()
}

/// How deeply arrays and objects are within each other.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

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

impl Kind {
    fn check(self, field: &'static str, json: &str) -> Result<(), InvalidInput> {
        let wrong = |expected| InvalidInput::Refused(format!("{field} must be {expected}"));
        let text = |expected, limit| {
            let text = Zeroizing::new(read::<String>(json).ok_or_else(|| wrong(expected))?);
            match text.chars().any(char::is_control) {
                _ if text.len() > limit && text.chars().count() > limit => Err(InvalidInput::TooLong { field, limit }),
                true => Err(InvalidInput::ControlCharacter { field }),
                false => Ok(text),
            }
        };
        let (fits, expected) = match self {
            Self::Flag => (read::<bool>(json).is_some(), "true or false"),
            Self::Count => (read::<u32>(json).is_some_and(|count| count > 0), "a positive integer"),
            Self::Text => return text("a string", TEXT_LIMIT).map(drop),
            Self::ProxyValue => return text("a string", PROXY_VALUE_LIMIT).map(drop),
            Self::Interval => {
                let expected = "an interval such as 01:30:00 or 7 days 00:00:00";
                (expiry::parse(&text(expected, TEXT_LIMIT)?).is_some(), expected)
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
        if fits { Ok(()) } else { Err(wrong(expected)) }
    }

    fn schema(self) -> RefOr<Schema> {
        let object = ObjectBuilder::new();
        let kept = "Kept as the very text that came; nested up to 64 times";
        let object = match self {
            Self::Flag => nullable(object, Type::Boolean),
            Self::Count => {
                let about = "Only with allow_multiple_sessions, and gone with it; unlimited when null";
                nullable(object.description(Some(about)).minimum(Some(1)).maximum(Some(u32::MAX)), Type::Integer)
            }
            Self::Text => nullable(plain_text(TEXT_LIMIT), Type::String),
            Self::ProxyValue => nullable(plain_text(PROXY_VALUE_LIMIT), Type::String),
            Self::Interval => {
                let about = "As PostgreSQL writes an interval, without negative parts";
                nullable(text().description(Some(about)).examples(["01:30:00", "7 days 00:00:00"]), Type::String)
            }
            Self::ProxySetting => {
                let words = ["random", "static", "country", "custom"].map(serde_json::Value::from);
                nullable(object.enum_values(Some(words.into_iter().chain([serde_json::Value::Null]))), Type::String)
            }
            Self::Proxy => nullable(
                object
                    .property("enable", ObjectBuilder::new().schema_type(Type::Boolean))
                    .property("target_ip", nullable(text(), Type::String))
                    .required("enable")
                    .additional_properties(Some(AdditionalProperties::FreeForm(false))),
                Type::Object,
            ),
            Self::Headers => {
                let header = ObjectBuilder::new()
                    .property("name", text())
                    .property("value", text())
                    .required("name")
                    .required("value")
                    .additional_properties(Some(AdditionalProperties::FreeForm(false)));
                let kinds = SchemaType::from_iter([Type::Array, Type::Null]);
                return Schema::from(ArrayBuilder::new().schema_type(kinds).items(header).build()).into();
            }
            Self::Cookies => {
                let cookie = ObjectBuilder::new().schema_type(Type::Object);
                let kinds = SchemaType::from_iter([Type::Array, Type::Null]);
                let cookies = ArrayBuilder::new().schema_type(kinds).items(cookie).description(Some(kept));
                return Schema::from(cookies.build()).into();
            }
            Self::BrowserStorage => nullable(object.description(Some(kept)), Type::Object),
        };
        Schema::from(object).into()
    }
}

/// Changes of attributes, checked one by one; whether they fit together is seen with the entry. `null` clears.
#[derive(Default)]
pub(crate) struct AttributeChanges(BTreeMap<&'static str, Option<Zeroizing<String>>>);

impl AttributeChanges {
    /// Sets an attribute to a value in JSON; `null` clears it.
    pub(crate) fn set(&mut self, name: &str, json: &str) -> Result<(), InvalidInput> {
        let known = ATTRIBUTES.into_iter().find(|(known, ..)| *known == name);
        let unknown = || InvalidInput::Refused(format!("there is no attribute `{name}`; check its spelling"));
        let (name, kind, _) = known.ok_or_else(unknown)?;
        let json = Some(json.trim()).filter(|json| *json != "null");
        json.map(|json| kind.check(name, json)).transpose()?;
        self.0.insert(name, json.map(|json| Zeroizing::new(json.to_owned())));
        Ok(())
    }

    /// Makes the changes. What a proxy setting was given for it alone goes with it, and so does the number of sessions with
    /// several of them being allowed; without that, no number can be set. One that is there already may be sent back, as
    /// clients do that send all of an entry back.
    pub(super) fn apply(&self, to: &mut Attributes) -> Result<(), InvalidInput> {
        let before = to.clone();
        for (name, _, kind) in ATTRIBUTES {
            match self.0.get(name) {
                Some(Some(json)) => to.set(name, kind, json)?,
                Some(None) => to.remove(name),
                None => {}
            }
        }
        if to.get(PROXY_SETTING) != before.get(PROXY_SETTING) && !self.0.contains_key(PROXY_VALUE) {
            to.remove(PROXY_VALUE);
        }
        if let Some(value) = to.get(PROXY_VALUE).map(|value| Zeroizing::new(value.to_owned())) {
            // A custom proxy's address, which often has a password in it, is encrypted by the client like a credential.
            let kind = match to.get(PROXY_SETTING).and_then(read) {
                Some(ProxySetting::Custom) => AttributeKind::Encrypted,
                Some(_) => Secret,
                None => return Err(InvalidInput::Refused(PROXY_VALUE_ALONE.to_owned())),
            };
            to.set(PROXY_VALUE, kind, &value)?;
        }
        let several = |attributes: &Attributes| attributes.get(SEVERAL_SESSIONS) == Some("true");
        if to.get(MAX_CONCURRENCY).is_some() && !several(to) {
            if to.get(MAX_CONCURRENCY) != before.get(MAX_CONCURRENCY) {
                return Err(InvalidInput::Refused(CONCURRENCY_ALONE.to_owned()));
            }
            if several(&before) {
                to.remove(MAX_CONCURRENCY);
            }
        }
        Ok(())
    }
}

const PROXY_VALUE_ALONE: &str = "proxy_value requires proxy_setting: custom for a proxy of your own, whose address is \
                                 encrypted like a password, or static or country";
const CONCURRENCY_ALONE: &str =
    "max_concurrency requires allow_multiple_sessions; without it a vault entry has one session at a time";

/// By their names beside the other fields.
impl Field for AttributeChanges {
    fn take(fields: &mut Fields, _: &'static str) -> Result<Self, ApiError> {
        let mut changes = Self::default();
        for name in names() {
            if let Some(json) = fields.raw(name) {
                changes.set(name, &json).map_err(|error| ApiError::invalid(error.to_string()))?;
            }
        }
        Ok(changes)
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
        let mut attributes = Attributes::default();
        change(&mut attributes, &[(name, json)])?;
        Ok(attributes)
    }

    fn change(attributes: &mut Attributes, values: &[(&str, &str)]) -> Result<(), InvalidInput> {
        let mut changes = AttributeChanges::default();
        for (name, json) in values {
            changes.set(name, json)?;
        }
        changes.apply(attributes)
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
        let mut changes = AttributeChanges::default();
        changes.set("cookies", r#"[{"value": "hunter2"}]"#).unwrap();
        assert!(!format!("{changes:?}").contains("hunter2"));
        change(&mut attributes, &[("cookies", "null")]).unwrap();
        assert_eq!(attributes, Attributes::default());
    }

    #[test]
    fn a_proxy_value_goes_with_the_setting_it_was_given_for() {
        let mut attributes = set("proxy_setting", "\"static\"").unwrap();
        change(&mut attributes, &[("proxy_value", "\"203.0.113.7\"")]).unwrap();
        change(&mut attributes, &[("proxy_setting", "\"static\"")]).unwrap();
        assert!(attributes.get("proxy_value").is_some(), "the same setting");
        change(&mut attributes, &[("proxy_setting", "\"random\"")]).unwrap();
        assert_eq!(attributes.get("proxy_value"), None);
    }

    #[test]
    fn depth_is_that_of_brackets_outside_of_texts() {
        assert_eq!(depth(r#"{"a": ["]]][[[{\"", [1]]}"#), 3);
    }
}
