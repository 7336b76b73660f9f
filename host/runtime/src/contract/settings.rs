//! What a person enters to connect, and what a connection has of it.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::attribute::Attribute;

/// One setting to ask a person for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SettingSpec {
    /// Unique among the provider's settings, for example `token`.
    pub name: String,
    /// The label in a form.
    pub label: String,
    /// A sentence about where to find it; may be empty.
    pub help: String,
    /// What can be entered.
    pub kind: SettingKind,
    /// Whether the value is a secret.
    pub secret: bool,
    /// Whether the setting must be present.
    pub required: bool,
    /// A regular expression that the whole value must match.
    pub pattern: Option<String>,
    /// The value used when the setting is empty.
    pub default: Option<String>,
    /// Anything else worth showing in the form.
    pub attributes: Vec<Attribute>,
}

/// What can be entered into a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SettingKind {
    /// One line.
    #[default]
    Text,
    /// Any number of lines.
    MultiLineText,
    /// A URL, or a host name.
    Url,
    /// One of these.
    Choice(Vec<ChoiceOption>),
    /// `true` or `false`.
    Boolean,
    /// A JSON document.
    Json,
    /// A kind that this host does not know; treated as text.
    Other(String),
}

/// One option of a choice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ChoiceOption {
    /// What the component receives.
    pub value: String,
    /// What a person sees.
    pub label: String,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// Settings of which exactly one set is needed, for example a token, or a role and its secret id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SettingGroup {
    /// The label in a form.
    pub label: String,
    /// The sets.
    pub alternatives: Vec<Alternative>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

/// One set of settings. A set that requires nothing applies when nothing is entered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Alternative {
    /// The label in a form.
    pub label: String,
    /// Names of the settings that it needs.
    pub required: Vec<String>,
    /// Names of the settings that may be omitted.
    pub optional: Vec<String>,
    /// Anything else worth showing.
    pub attributes: Vec<Attribute>,
}

impl Alternative {
    /// The names of all its settings.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.required.iter().chain(&self.optional)
    }
}

/// The settings of one connection by name. All values are treated as secrets.
#[derive(Clone, Default)]
// Clone: a connection keeps its settings while calls that were started with them finish.
pub struct Settings(BTreeMap<String, SecretString>);

impl Settings {
    /// No settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a setting or replaces it.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<SecretString>) {
        self.0.insert(name.into(), value.into());
    }

    /// The same settings plus this one.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.set(name, value);
        self
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)
    }

    /// All settings, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// All of them in one text: each name and value after its length.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let parts = || self.iter().flat_map(|(name, value)| [name, value.expose_secret()]);
        let length = parts().map(|part| size_of::<u64>() + part.len()).sum();
        let mut encoded = Zeroizing::new(Vec::with_capacity(length));
        for part in parts() {
            encoded.extend_from_slice(&(part.len() as u64).to_be_bytes());
            encoded.extend_from_slice(part.as_bytes());
        }
        encoded
    }

    /// `None` for what [`encode`](Self::encode) has not made.
    pub(crate) fn decode(mut encoded: &[u8]) -> Option<Self> {
        let mut part = || {
            let (length, rest) = encoded.split_first_chunk()?;
            let (part, rest) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
            encoded = rest;
            Some(std::str::from_utf8(part).ok()?.to_owned())
        };
        let mut settings = Self::new();
        while let Some(name) = part() {
            settings.set(name, part()?);
        }
        encoded.is_empty().then_some(settings)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, "[REDACTED]"))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_were_encoded() {
        let settings = Settings::new().with("token", "a\"b\n").with("empty", "").with("url", "https://\u{e9}");
        for settings in [settings, Settings::new()] {
            let encoded = settings.encode();
            let decoded = Settings::decode(&encoded).unwrap();
            let values = |settings: &Settings| -> Vec<(String, String)> {
                settings.iter().map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned())).collect()
            };
            assert_eq!(values(&decoded), values(&settings));
            for cut in 1..encoded.len() {
                let whole = Settings::decode(&encoded[..cut]).is_some_and(|cut| values(&cut) == values(&settings));
                assert!(!whole, "{cut}");
            }
        }
    }
}
