//! Attributes: what an entry carries along for the code that drives the browser. The broker keeps
//! them, and knows of each only what its [`AttributeKind`] says; the code that embeds the broker
//! defines which ones there are.
//!
//! **Invariant:** the value of an attribute is JSON, kept as the exact text that was set: numbers,
//! the order of keys and inner nulls included. Many attributes grant access without a password; so
//! all are sealed at rest, wiped when dropped and never printed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use keyway_keys::ClientKey;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use super::json::{read, same_value};
use crate::codec::{self, CodecError};
use crate::error::{BrokerError, InvalidInput};

/// The limit for all attributes of an entry together. Cookies and storages of a large site take a
/// fraction of it.
const TOTAL_LIMIT: usize = 2 << 20;

/// What the broker has to know about an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttributeKind {
    /// It is not secret: every reader of the entry may see it.
    Plain,
    /// It may grant access, as an address with a password does. Reading it is a release and is
    /// recorded.
    Secret,
    /// Secret, and state of a browser such as cookies: cleared together
    /// ([`clear_browser_state`](crate::entries::Entries::clear_browser_state)), and its age is
    /// known ([`session_data_set_at`](crate::entries::VaultEntry::session_data_set_at)).
    BrowserState,
    /// Secret, and a string that the client encrypted like a credential ([`ClientKey`]).
    Encrypted,
}

impl AttributeKind {
    const ALL: [(Self, &str); 4] =
        [(Self::Plain, "plain"), (Self::Secret, "secret"), (Self::BrowserState, "state"), (Self::Encrypted, "client")];

    /// Whether it may grant access.
    pub fn is_secret(self) -> bool {
        self != Self::Plain
    }

    /// Its name as it is sealed beside the value.
    fn word(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, _)| *kind == self).map_or("secret", |(_, word)| word)
    }

    fn of_word(word: &str) -> Result<Self, CodecError> {
        Self::ALL.into_iter().find(|(_, known)| *known == word).map(|(kind, _)| kind).ok_or(CodecError)
    }

    /// The kind of an attribute that was stored before kinds were kept. `custom` is whether the
    /// entry had its own proxy.
    fn of_old(name: &str, custom: bool) -> Self {
        match name {
            "cookies" | "local_storage" | "session_storage" => Self::BrowserState,
            "proxy_value" if custom => Self::Encrypted,
            "proxy_value" | "proxy_string" | "headers" | "session_id" => Self::Secret,
            _ => Self::Plain,
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Attribute {
    kind: AttributeKind,
    /// Shared, so that an entry before and after a change holds unchanged values only once.
    json: Arc<Zeroizing<String>>,
}

/// The attributes of an entry that are set.
///
/// It can be cloned because an entry is a value of which callers keep copies; dropping the last one
/// wipes it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<String, Attribute>);

impl Attributes {
    /// Sets an attribute to a value in JSON.
    ///
    /// # Errors
    /// [`InvalidInput::NotJson`].
    pub fn set(&mut self, name: impl Into<String>, kind: AttributeKind, json: &str) -> Result<(), InvalidInput> {
        let (name, json) = (name.into(), json.trim());
        if read::<IgnoredAny>(json).is_none() {
            return Err(InvalidInput::NotJson { field: name });
        }
        self.0.insert(name, Attribute { kind, json: Arc::new(Zeroizing::new(json.to_owned())) });
        Ok(())
    }

    /// Clears an attribute.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The value of an attribute as JSON; `None` when it is not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|attribute| attribute.json.as_str())
    }

    /// The attributes that are set, with their kinds and their values as JSON.
    pub fn iter(&self) -> impl Iterator<Item = (&str, AttributeKind, &str)> {
        self.0.iter().map(|(name, Attribute { kind, json })| (name.as_str(), *kind, json.as_str()))
    }

    /// The names of the secret attributes that are set.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        self.iter().filter(|(_, kind, _)| kind.is_secret()).map(|(name, ..)| name)
    }

    fn browser_state(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter(|(_, kind, _)| *kind == AttributeKind::BrowserState).map(|(name, _, json)| (name, json))
    }

    pub(super) fn has_browser_state(&self) -> bool {
        self.browser_state().next().is_some()
    }

    pub(super) fn clear_browser_state(&mut self) {
        self.0.retain(|_, attribute| attribute.kind != AttributeKind::BrowserState);
    }

    /// Whether any browser state is new or differs from `before`. State that a client sends back
    /// unchanged with the whole entry keeps its age.
    pub(super) fn has_new_browser_state(&self, before: &Self) -> bool {
        self.browser_state().any(|(name, json)| !before.get(name).is_some_and(|before| same_value(before, json)))
    }

    /// Checks that encrypted values open, and that all together are within the limit. An encrypted
    /// `null` counts as no value.
    pub(super) fn check(&mut self, key: &ClientKey) -> Result<(), BrokerError> {
        let size: usize = self.iter().map(|(name, _, json)| name.len() + json.len()).sum();
        if size > TOTAL_LIMIT {
            return Err(InvalidInput::AttributesTooLarge { limit: TOTAL_LIMIT }.into());
        }
        let mut empty = Vec::new();
        for (name, _, json) in self.iter().filter(|(_, kind, _)| *kind == AttributeKind::Encrypted) {
            let ciphertext: String =
                read(json).ok_or_else(|| InvalidInput::EncryptedNotText { field: name.to_owned() })?;
            if key.decrypt(&ciphertext).map_err(|error| BrokerError::of_client_value(name, error))?.is_none() {
                empty.push(name.to_owned());
            }
        }
        empty.iter().for_each(|name| self.remove(name));
        Ok(())
    }

    /// Re-encrypts the values that clients encrypted, from `old` to `new`.
    pub(crate) fn reencrypt(&mut self, old: &ClientKey, new: &ClientKey) -> Result<(), CodecError> {
        for attribute in self.0.values_mut().filter(|attribute| attribute.kind == AttributeKind::Encrypted) {
            let ciphertext: String = read(&attribute.json).ok_or(CodecError)?;
            let ciphertext = old.reencrypt(&ciphertext, new).map_err(|_| CodecError)?;
            let json = serde_json::to_string(&ciphertext).map_err(|_| CodecError)?;
            attribute.json = Arc::new(Zeroizing::new(json));
        }
        Ok(())
    }

    /// The plaintext to seal: an absent field, then name, kind and value of each.
    pub(crate) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, CodecError> {
        let fields =
            self.iter().flat_map(|(name, kind, json)| [name, kind.word(), json].map(|text| Some(text.as_bytes())));
        codec::encode(&[None].into_iter().chain(fields).collect::<Vec<_>>())
    }

    /// Reads what [`encode`](Self::encode) has written, or the older format without kinds:
    /// alternating names and values.
    pub(crate) fn decode(plaintext: &[u8]) -> Result<Self, CodecError> {
        let texts = codec::decode_texts(plaintext)?;
        let attribute = |name: &str, kind, json: &str| {
            (name.to_owned(), Attribute { kind, json: Arc::new(Zeroizing::new(json.to_owned())) })
        };
        let read_old = |texts: &[Option<&str>]| {
            let is_custom = |pair: &[_]| matches!(pair, [Some("proxy_setting"), Some(json)] if read::<String>(json).as_deref() == Some("custom"));
            let custom = texts.chunks(2).any(is_custom);
            let pairs = texts.chunks(2).map(|pair| match pair {
                [Some(name), Some(json)] => Ok(attribute(name, AttributeKind::of_old(name, custom), json)),
                _ => Err(CodecError),
            });
            pairs.collect::<Result<_, _>>().map(Self)
        };
        let [None, rest @ ..] = texts.as_slice() else { return read_old(&texts) };
        let all = rest.chunks(3).map(|fields| match fields {
            [Some(name), Some(kind), Some(json)] => Ok(attribute(name, AttributeKind::of_word(kind)?, json)),
            _ => Err(CodecError),
        });
        all.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, kind: AttributeKind, json: &str) -> Attributes {
        let mut attributes = Attributes::default();
        attributes.set(name, kind, json).unwrap();
        attributes
    }

    #[test]
    fn a_value_is_kept_as_it_came() {
        let cookies = r#"[{"name": "s", "value": null, "expirationDate": 1767225600.1234567891, "b": 1, "a": 2}]"#;
        for json in [cookies, r#"{"a": null, "a": 1e400}"#] {
            let kept = Attributes::decode(&one("state", AttributeKind::BrowserState, json).encode().unwrap()).unwrap();
            assert_eq!(kept.get("state"), Some(json));
        }
    }

    #[test]
    fn what_is_no_json_is_refused_and_nothing_is_printed() {
        let mut attributes = one("cookies", AttributeKind::BrowserState, r#"[{"value": "hunter2"}]"#);
        assert!(!format!("{attributes:?}").contains("hunter2"));
        for bad in ["", "hunter2", "[{},]", r#"{"a": 1"#, &"[".repeat(200_000)] {
            let error = attributes.set("cookies", AttributeKind::BrowserState, bad).unwrap_err();
            assert_eq!(error, InvalidInput::NotJson { field: "cookies".into() });
        }
    }

    #[test]
    fn every_kind_comes_back_and_those_from_before_there_were_kinds_have_theirs() {
        let mut all = Attributes::default();
        for (kind, word) in AttributeKind::ALL {
            all.set(word, kind, "1").unwrap();
        }
        assert_eq!(Attributes::decode(&all.encode().unwrap()).unwrap(), all);
        assert_eq!(Attributes::decode(&Attributes::default().encode().unwrap()).unwrap(), Attributes::default());

        let old = |setting| {
            let pairs = ["cookies", "[]", "proxy_setting", setting, "proxy_value", "\"x\"", "user_agent", "\"y\""];
            let attributes =
                Attributes::decode(&codec::encode(&pairs.map(|text| Some(text.as_bytes()))).unwrap()).unwrap();
            attributes.iter().map(|(_, kind, _)| kind).collect::<Vec<_>>()
        };
        use AttributeKind::{BrowserState, Encrypted, Plain, Secret};
        assert_eq!(old(r#""cust\u006fm""#), [BrowserState, Plain, Encrypted, Plain]);
        assert_eq!(old(r#""static""#), [BrowserState, Plain, Secret, Plain]);
    }

    #[test]
    fn a_record_that_is_no_list_of_attributes_is_refused() {
        let texts = |texts: &[Option<&str>]| {
            let fields: Vec<_> = texts.iter().map(|text| text.map(str::as_bytes)).collect();
            Attributes::decode(&codec::encode(&fields).unwrap())
        };
        for bad in [
            &[Some("a")][..],
            &[Some("a"), None],
            &[None, Some("a"), Some("plain")],
            &[None, Some("a"), Some("x"), Some("1")],
        ] {
            assert_eq!(texts(bad), Err(CodecError), "{bad:?}");
        }
    }
}
