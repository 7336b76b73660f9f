//! The attributes of a vault entry in this API. Parsing, schema and serialization all use
//! [`ATTRIBUTES`].
//!
//! A value stays the exact text received; it is validated without being kept in any other form.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use keyway::InvalidInput;
use keyway::entries::{AttributeKind, Attributes};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::expiry;
use crate::http::body::{Field, Fields};
use crate::http::error::ApiError;

/// The longest text value except proxies' addresses, in characters.
const TEXT_LIMIT: usize = 2_048;

/// The longest address of a proxy, in characters. As for credentials, because clients may encrypt
/// it.
const PROXY_VALUE_LIMIT: usize = 64 * 1_024;

/// How deeply arrays and objects may nest; common JSON parsers stop at a little more than 100.
const DEPTH_LIMIT: usize = 64;

use AttributeKind::{BrowserState, Plain, Secret};

/// All attributes: name, type of value, and what the broker must know about it.
const ATTRIBUTES: [(&str, &Kind, AttributeKind); 23] = [
    (SEVERAL_SESSIONS, &FLAG, Plain),
    (MAX_CONCURRENCY, &COUNT, Plain),
    ("prevent_concurrency_during_login", &FLAG, Plain),
    ("persist_cookies", &FLAG, Plain),
    ("persist_local_storage", &FLAG, Plain),
    ("persist_session_storage", &FLAG, Plain),
    ("cookies", &COOKIES, BrowserState),
    ("local_storage", &BROWSER_STORAGE, BrowserState),
    ("session_storage", &BROWSER_STORAGE, BrowserState),
    ("cookie_domain_to_store", &TEXT, Plain),
    ("skip_csrf_cookies", &FLAG, Plain),
    (expiry::FROM_LAST_USE, &INTERVAL, Plain),
    (expiry::FROM_SESSION_DATA_SET, &INTERVAL, Plain),
    ("proxy", &PROXY, Plain),
    (PROXY_SETTING, &PROXY_CHOICE, Plain),
    (PROXY_VALUE, &LONG_TEXT, Secret),
    ("proxy_string", &TEXT, Secret),
    ("user_agent", &TEXT, Plain),
    ("location", &TEXT, Plain),
    ("ip_address", &TEXT, Plain),
    ("session_id", &TEXT, Secret),
    ("user_id", &TEXT, Plain),
    ("headers", &HEADERS, Secret),
];

const SEVERAL_SESSIONS: &str = "allow_multiple_sessions";
const MAX_CONCURRENCY: &str = "max_concurrency";
pub(crate) const PROXY_SETTING: &str = "proxy_setting";
pub(crate) const PROXY_VALUE: &str = "proxy_value";

/// The names of all attributes.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ATTRIBUTES.into_iter().map(|(name, ..)| name)
}

/// Whether an attribute of that name may grant access: a browser's state, or an address with a
/// password in it.
pub(crate) fn is_secret(name: &str) -> bool {
    ATTRIBUTES.into_iter().any(|(known, _, kind)| known == name && kind.is_secret())
}

/// All attributes in the document.
pub(super) fn schemas() -> impl Iterator<Item = (&'static str, Value)> {
    ATTRIBUTES.into_iter().map(|(name, kind, _)| (name, (kind.schema)()))
}

/// Parses a value of this type; `None` if it is not one.
pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    serde_json::from_str(json).ok()
}

/// Like [`read`], but only for objects: serde also accepts a list of values for a struct.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    json.starts_with('{').then(|| read(json))?
}

/// A list of objects.
fn objects<'a, T: Deserialize<'a>>(json: &'a str) -> Option<Vec<T>> {
    read::<Vec<&RawValue>>(json)?.into_iter().map(|raw| object(raw.get())).collect()
}

/// The nesting depth of arrays and objects.
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

const PROXY_SETTINGS: [&str; 4] = ["random", "static", "country", CUSTOM];
const CUSTOM: &str = "custom";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "parsed only to validate it; the original text is kept")]
struct Proxy {
    enable: bool,
    target_ip: Option<String>,
}

/// A browser sends these texts in headers, where a line end would begin another header.
#[derive(Deserialize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: String,
}

impl Header {
    /// Follows RFC 9110 (sections 5.1 and 5.5).
    fn is_valid(&self) -> bool {
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !self.name.is_empty()
            && self.name.bytes().all(of_name)
            && self.value.chars().all(|char| char == '\t' || !char.is_control())
    }
}

/// The type of an attribute's value: in words, in code, and in the document.
struct Kind {
    is: &'static str,
    check: Check,
    schema: fn() -> Value,
}

enum Check {
    /// Whether this JSON is such a value.
    Json(fn(&str) -> bool),
    /// Whether this text is such a value: without control characters, and within the length limit
    /// in characters.
    Text(usize, fn(&str) -> bool),
}

const FLAG: Kind = Kind {
    is: "true or false",
    check: Check::Json(|json| read::<bool>(json).is_some()),
    schema: || json!({"type": ["boolean", "null"]}),
};

const COUNT: Kind = Kind {
    is: "a positive integer",
    check: Check::Json(|json| read::<NonZeroU32>(json).is_some()),
    schema: || {
        let about = "Only with allow_multiple_sessions, and cleared with it; unlimited when null";
        json!({"type": ["integer", "null"], "description": about, "minimum": 1, "maximum": u32::MAX})
    },
};

const TEXT: Kind = Kind { is: "a string", check: Check::Text(TEXT_LIMIT, |_| true), schema: || plain_text(TEXT_LIMIT) };

const LONG_TEXT: Kind =
    Kind { is: "a string", check: Check::Text(PROXY_VALUE_LIMIT, |_| true), schema: || plain_text(PROXY_VALUE_LIMIT) };

/// PostgreSQL's notation, `7 days 00:00:00`.
const INTERVAL: Kind = Kind {
    is: "an interval such as 01:30:00 or 7 days 00:00:00",
    check: Check::Text(TEXT_LIMIT, |text| expiry::parse(text).is_some()),
    schema: || {
        let about = "An interval in PostgreSQL's notation, without negative parts";
        json!({"type": ["string", "null"], "description": about, "examples": ["01:30:00", "7 days 00:00:00"]})
    },
};

const PROXY_CHOICE: Kind = Kind {
    is: "random, static, country or custom",
    check: Check::Json(|json| read::<String>(json).is_some_and(|word| PROXY_SETTINGS.contains(&&*word))),
    schema: || {
        let words: Vec<_> = PROXY_SETTINGS.into_iter().map(Some).chain([None]).collect();
        json!({"type": ["string", "null"], "enum": words})
    },
};

const PROXY: Kind = Kind {
    is: "an object with enable (true or false) and maybe target_ip",
    check: Check::Json(|json| object::<Proxy>(json).is_some()),
    schema: || {
        json!({
            "type": ["object", "null"],
            "properties": {"enable": {"type": "boolean"}, "target_ip": {"type": ["string", "null"]}},
            "required": ["enable"],
            "additionalProperties": false,
        })
    },
};

const HEADERS: Kind = Kind {
    is: "a list of objects with the name and the value of an HTTP header",
    check: Check::Json(|json| objects::<Header>(json).is_some_and(|headers| headers.iter().all(Header::is_valid))),
    schema: || {
        json!({"type": ["array", "null"], "items": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
            "required": ["name", "value"],
            "additionalProperties": false,
        }})
    },
};

/// Cookies in the browser's form, `[{name, value, ...}]`.
const COOKIES: Kind = Kind {
    is: "a list of objects, nested up to 64 times",
    check: Check::Json(|json| depth(json) <= DEPTH_LIMIT && objects::<IgnoredAny>(json).is_some()),
    schema: || json!({"type": ["array", "null"], "items": {"type": "object"}, "description": KEPT}),
};

/// Local or session storage in the browser's form.
const BROWSER_STORAGE: Kind = Kind {
    is: "an object, nested up to 64 times",
    check: Check::Json(|json| depth(json) <= DEPTH_LIMIT && object::<IgnoredAny>(json).is_some()),
    schema: || json!({"type": ["object", "null"], "description": KEPT}),
};

const KEPT: &str = "Kept exactly as sent; nested up to 64 times";

/// A text without control characters, limited in characters.
fn plain_text(limit: usize) -> Value {
    json!({"type": ["string", "null"], "maxLength": limit, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"})
}

impl Kind {
    fn check(&self, field: &'static str, json: &str) -> Result<(), InvalidInput> {
        let wrong = || InvalidInput::Refused(format!("{field} must be {}", self.is));
        let fits = match self.check {
            Check::Json(fits) => fits(json),
            Check::Text(limit, fits) => {
                let text = Zeroizing::new(read::<String>(json).ok_or_else(wrong)?);
                if text.len() > limit && text.chars().count() > limit {
                    return Err(InvalidInput::TooLong { field, limit });
                }
                if text.chars().any(char::is_control) {
                    return Err(InvalidInput::ControlCharacter { field });
                }
                fits(&text)
            }
        };
        if fits { Ok(()) } else { Err(wrong()) }
    }
}

/// Changes of attributes. Each is checked here; whether they fit together is checked with the
/// entry. `null` clears.
#[derive(Default, PartialEq)]
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

    /// Applies the changes. Another proxy setting drops the value that the previous one was given.
    /// Disallowing concurrent sessions drops their number, which can only be set while they are
    /// allowed. An existing number may still be sent back, because some clients send back the whole
    /// entry.
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
            // The address of a custom proxy often contains a password, so clients encrypt it like a
            // credential.
            let kind = match to.get(PROXY_SETTING).and_then(read::<String>).as_deref() {
                Some(CUSTOM) => AttributeKind::Encrypted,
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

const PROXY_VALUE_ALONE: &str = "proxy_value requires proxy_setting: static, country, or custom for your own proxy, \
                                 whose address is encrypted like a password";
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
